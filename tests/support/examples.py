"""Records what the service answers as the examples of its document, with names and times that stay the same.

Ids, secrets, hashes and times are replaced by stand-ins of the same form, in the order in which they come up, so that
one example speaks of the same things as the next.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from meta_sync.api.documentation import STATUSES
from tests.support.api import Caller

_FIRST = datetime(2026, 5, 3, 10, 5, tzinfo=UTC)
_A_WHILE = timedelta(minutes=10)
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_OWN_ID = re.compile(r"\b(store|pub|key|cred|feed|import|job)_[0-9a-hjkmnp-tv-z]{20}\b")
_HASH = re.compile(r"\b[0-9a-f]{64}\b")
_EVENT_ID = re.compile(r"(?<=\nid: )[0-9a-f]{16}\b")
_TIME = re.compile(r"\b20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)")
_HANDLE = re.compile(r"\bAc[A-Za-z0-9_-]{80,100}(?=\")")
_TRACE_ID = re.compile(r'(?<="fbTraceId": ")[^"]+')
_CURSOR = re.compile(r'(?<="nextCursor": ")[^"]+')
_PORT = re.compile(r"(?<=\.example):\d{4,5}\b")
_VARYING = frozenset(
    {"bodyBytes", "estimatedFinishAt", "minutes", "ratePerMinute", "polls", "version", "nextCallAt", "nextAt"}
)
"""Fields whose values differ from run to run, and are right in all of them."""


@dataclass
class Recorder:
    """What was sent and answered, by operation."""

    examples: dict[str, dict[str, Any]] = field(default_factory=dict)
    common: dict[str, Any] = field(default_factory=dict)
    request_ids: dict[str, str] = field(default_factory=dict)
    """Of one request that succeeded, by operation."""
    began: datetime = field(default_factory=lambda: datetime.now(UTC))

    async def success(
        self, operation: str, caller: Caller, method: str, path: str, *, sent_as: Any = None, **arguments: Any
    ) -> Any:
        """One call that succeeds, kept as the operation's example; its data."""
        response = await caller(method, path, **arguments)
        assert response.is_success, (operation, response.text)
        self.request_ids[operation] = response.headers["x-request-id"]
        example = self.examples.setdefault(operation, {})
        if "json" in arguments or sent_as is not None:
            kind = response.request.headers["content-type"].partition(";")[0]
            example.setdefault("requests", {})[kind] = arguments["json"] if sent_as is None else sent_as
        if response.headers["content-type"].startswith("application/json"):
            body = response.json()
            example["answer"] = body
            return body["data"]
        example["answer"] = response.text
        return response.text

    async def failure(
        self, operation: str | None, code: str, caller: Caller, method: str, path: str, **arguments: Any
    ) -> None:
        """One call that fails, kept as the operation's example of the code, or as that of all operations."""
        self.keep(operation, code, await caller(method, path, **arguments))

    def keep(self, operation: str | None, code: str, response: httpx.Response) -> None:
        """An answer as an example."""
        body = response.json()
        assert (body["errorCode"], response.status_code) == (code, STATUSES[code]), (operation, body)
        body["requestId"] = f"req_{hashlib.sha256(f'{operation} {code}'.encode()).hexdigest()[:24]}"
        if operation is None:
            assert code not in self.common
            self.common[code] = body
        else:
            self.examples.setdefault(operation, {}).setdefault("errors", {})[code] = body

    def document(self, secrets: dict[str, str]) -> dict[str, Any]:
        """Everything recorded, with stand-ins; ``secrets`` are replaced as they are told."""
        text = json.dumps({"common": self.common, "operations": self.examples}, ensure_ascii=False)
        for secret, shown in secrets.items():
            text = text.replace(secret, shown)
        text = _CURSOR.sub("c2hpcnQtYmx1ZS1s", _PORT.sub("", text)).replace(
            "http://loomleaf", "https://loomleaf"
        )
        for pattern, stand_in in ((_OWN_ID, _id), (_HASH, _hash), (_HANDLE, _handle), (_TRACE_ID, _trace_id)):
            text = _replaced(text, pattern, stand_in)
        return dict(_with_times(json.loads(text), self.began))


def without_what_varies(value: Any) -> Any:
    """The examples without what no two runs have alike."""
    if isinstance(value, dict):
        return {
            key: "varies" if key in _VARYING and one is not None else without_what_varies(one)
            for key, one in value.items()
        }
    if isinstance(value, list):
        return [without_what_varies(one) for one in value]
    if isinstance(value, str):
        if value.startswith("retry: "):
            return "events"
        return _EVENT_ID.sub("digest", _TIME.sub("time", value))
    return value


def _replaced(text: str, pattern: re.Pattern[str], stand_in: Callable[[str, int], str]) -> str:
    seen: dict[str, str] = {}

    def replace(match: re.Match[str]) -> str:
        found = match[0]
        if found not in seen:
            seen[found] = stand_in(found, len(seen))
        return seen[found]

    return pattern.sub(replace, text)


def _digest(number: int, salt: str) -> bytes:
    return hashlib.sha256(f"{salt}{number}".encode()).digest()


def _id(found: str, number: int) -> str:
    return f"{found.partition('_')[0]}_{''.join(_ALPHABET[byte % 32] for byte in _digest(number, 'id')[:20])}"


def _hash(_: str, number: int) -> str:
    return _digest(number, "hash").hex()


def _handle(_: str, number: int) -> str:
    return f"Ac{base64.urlsafe_b64encode(_digest(number, 'handle')).decode().rstrip('=')}"


def _trace_id(_: str, number: int) -> str:
    return f"A{base64.urlsafe_b64encode(_digest(number, 'trace')[:16]).decode().rstrip('=')}"


def _with_times(value: Any, began: datetime) -> Any:
    """The times of this run as a second apart, from one May morning on; later ones keep their distance to its start."""
    found = sorted({datetime.fromisoformat(one) for one in _TIME.findall(json.dumps(value))})
    lately = [one for one in found if abs(one - began) < _A_WHILE]
    shown = {one: _FIRST + timedelta(seconds=number) for number, one in enumerate(lately)}
    shown |= {one: _FIRST + (one - began) for one in found if one - began >= _A_WHILE}

    def replace(match: re.Match[str]) -> str:
        moment = shown.get(datetime.fromisoformat(match[0]))
        if moment is None:
            # One that was sent, not made.
            return match[0]
        return moment.replace(microsecond=0).isoformat().replace("+00:00", "Z")

    def walk(part: Any) -> Any:
        if isinstance(part, dict):
            return {key: walk(one) for key, one in part.items()}
        if isinstance(part, list):
            return [walk(one) for one in part]
        return _TIME.sub(replace, part) if isinstance(part, str) else part

    return walk(value)
