"""An adverse Meta on virtual time: what it promises, it keeps; what it does not promise, it does as badly as it may.

It keeps items per catalog, works on calls side by side and applies their records in any order, loses answers, ends late,
shortens its lists, refuses some items, throttles, forgets tokens and handles, and shows items with a lag. It talks through
the product's own parsing (``graph.errors``, ``graph.wire``); only the transport is replaced.

One bound keeps the protocol possible at all, and is Meta's documented one: a call whose handle nobody knows has no effect
later than about two minutes after it became unknown.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable, Mapping
from typing import Any

import orjson

from meta_sync.graph.auth import GraphCredential
from meta_sync.graph.errors import ErrorFacts, NoAnswerError, NotConnectedError, classify_value
from meta_sync.graph.tolerant import UNREADABLE
from meta_sync.graph.usage import Usage, parse_usage
from meta_sync.graph.wire import Answer
from meta_sync.sync.reconcile_compare import READ_NAMES
from tests.simulation.adversity import Adversity, Work

__all__ = ["SimulatedMeta", "readable"]

_LOST_ENDS_WITHIN_SECONDS = 165.0
"""The latest effect of a call whose handle nobody knows; the hold is 180 seconds."""

_CROSSES_FOR_SECONDS = 570.0
"""A batch waits for the end of an older one no longer than its handle is asked for, which is ten minutes at least."""

_ITEMS_PER_PAGE = 2
"""Of a walk; short, so that there are several pages."""


class SimulatedMeta:
    """Meta's side: catalogs, work under way, tokens, and what it saw of us.

    Parameters
    ----------
    rng
        Draws every accident.
    handles
        Which handles our side has stored; what it has not is bounded as said above.
    """

    def __init__(self, rng: random.Random, adversity: Adversity, handles: Callable[[], set[str]]) -> None:
        self.rng = rng
        self.adversity = adversity
        self.calm = False
        self._handles = handles
        self.items: dict[str, dict[str, dict[str, Any]]] = {}
        self._history: dict[tuple[str, str], list[tuple[float, dict[str, Any] | None]]] = {}
        self.work: dict[str, Work] = {}
        self.tokens: set[str] = set()
        self.blocked_until: dict[str, float] = {}
        self.throttled_at = 0.0
        self.refused: dict[tuple[str, str], dict[str, Any]] = {}
        """The last content of each item, by catalog and id, where Meta refused it."""
        self.unwanted: Callable[[Mapping[str, Any]], str | None] = lambda _: None
        """Meta's verdict on an item: why it is not saved, or nothing."""
        self.poisonous: Callable[[Mapping[str, Any]], bool] = lambda _: False
        """Whether a record makes Meta refuse the whole call."""
        self.on_call: Callable[[str, list[tuple[str, dict[str, Any]]]], None] = lambda *_: None
        self.calls = 0
        self.questions = 0
        self.posted = 0
        self.log: Callable[..., None] = lambda *_: None

    def put(self, catalog_id: str, retailer_id: str, item: dict[str, Any] | None) -> None:
        """Somebody at Meta's own screens makes an item be like this, or be no more."""
        items = self.items.setdefault(catalog_id, {})
        if item is None:
            items.pop(retailer_id, None)
        else:
            items[retailer_id] = item
        self._remember(catalog_id, retailer_id)
        self.log("by hand", catalog_id, retailer_id, item)

    def shown_since(self, catalog_id: str, retailer_id: str, at: float) -> list[dict[str, Any] | None]:
        """What Meta had of an item at that time, and everything that it had since."""
        versions = self._history.get((catalog_id, retailer_id), [])
        before = [data for when, data in versions if when <= at]
        return [before[-1] if before else None, *(data for when, data in versions if when > at)]

    # --- what happens on our side -----------------------------------------------------------------------------------

    def forget_unknown(self) -> None:
        """Somebody died or lost what it knew: calls whose handle is not stored end within Meta's bound."""
        known = self._handles()
        loop = asyncio.get_running_loop()
        latest = loop.time() + _LOST_ENDS_WITHIN_SECONDS
        for work in self.work.values():
            if work.handle not in known and not work.is_finished and work.ends_at > latest:
                self._hurry(work, latest)

    def _hurry(self, work: Work, latest: float) -> None:
        loop = asyncio.get_running_loop()
        for index, timer in list(work.timers.items()):
            if timer.when() > latest:
                timer.cancel()
                when = loop.time() + self.rng.random() * (latest - loop.time())
                work.timers[index] = loop.call_at(when, self._apply, work, index)
        work.ends_at = latest
        work.is_bounded = True

    def is_unfinished(self, catalog_id: str) -> bool:
        return any(not work.is_finished for work in self.work.values() if work.catalog_id == catalog_id)

    # --- calls ------------------------------------------------------------------------------------------------------

    async def submit(
        self, credential: GraphCredential, catalog_id: str, body: bytes, deadline_seconds: float
    ) -> Answer:
        """``POST /{catalog}/items_batch``."""
        self.calls += 1
        records = [(one["method"], one["data"]) for one in orjson.loads(body)["requests"]]
        self.posted += len(records)
        self.on_call(catalog_id, records)
        loop = asyncio.get_running_loop()
        rng, odds = self.rng, self.adversity
        fate = self._fate(
            ("not_connected", odds.not_connected),
            ("stuck", odds.stuck),
            ("answer_lost", odds.answer_lost),
            ("server_error", odds.server_error),
        )
        self.log("call", catalog_id, fate, [data["id"] for _, data in records])
        if fate == "not_connected":
            await asyncio.sleep(rng.random())
            return Answer(None, Usage(), NotConnectedError(ErrorFacts("No connection.", nothing_sent=True)))
        answered: asyncio.Future[Answer] = loop.create_future()

        bound: list[float] = []

        def arrive(latest: float | None) -> None:
            # Who made the call may have died since: then nobody will know the handle.
            answer = self._take(credential, catalog_id, records, bound[0] if bound else latest)
            if not answered.done():
                answered.set_result(answer)

        if fate == "stuck":
            gives_up = loop.time() + deadline_seconds
            loop.call_at(gives_up + rng.random() * 100, arrive, gives_up + _LOST_ENDS_WITHIN_SECONDS)
            await asyncio.sleep(deadline_seconds)
            return _no_answer()
        if fate == "answer_lost":
            cut = loop.time() + min(deadline_seconds, rng.choice([1.0, 5.0, deadline_seconds]))
            arrives = loop.time() + rng.choice([0.1, 0.5, 20.0])
            loop.call_at(arrives, arrive, cut + _LOST_ENDS_WITHIN_SECONDS)
            await asyncio.sleep(cut - loop.time())
            return _no_answer()
        if fate == "server_error" and rng.random() < 0.5:
            # It was taken all the same.
            failed = loop.time() + 1
            loop.call_at(loop.time() + 0.3, arrive, failed + _LOST_ENDS_WITHIN_SECONDS)
        elif fate != "server_error":
            loop.call_later(0.05 + rng.random(), arrive, None)
        if fate == "server_error":
            await asyncio.sleep(1)
            return self._server_error()
        try:
            answer = await asyncio.wait_for(asyncio.shield(answered), deadline_seconds)
        except TimeoutError:
            return _no_answer()
        except asyncio.CancelledError:
            bound.append(loop.time() + _LOST_ENDS_WITHIN_SECONDS)
            raise
        await asyncio.sleep(0.01 + rng.random())
        return answer

    def _fate(self, *odds: tuple[str, float]) -> str:
        if self.calm:
            return ""
        roll = self.rng.random()
        for name, share in odds:
            if roll < share:
                return name
            roll -= share
        return ""

    def _server_error(self) -> Answer:
        kind = self.rng.choice(["html", "code 1", "code 2"])
        if kind == "html":
            return _answer(self.rng.choice([500, 502, 503]), UNREADABLE)
        code = int(kind[-1])
        return _answer(500, _envelope(code, "An unknown error has occurred."))

    def _take(
        self,
        credential: GraphCredential,
        catalog_id: str,
        records: list[tuple[str, dict[str, Any]]],
        latest: float | None,
    ) -> Answer:
        """The call has arrived: refuse it or take it. ``latest`` bounds its effects when nobody will know its handle."""
        loop = asyncio.get_running_loop()
        rng, odds = self.rng, self.adversity
        refused = self._refusal(credential, catalog_id, "throttled", 80014)
        if refused is not None:
            return refused
        if any(self.poisonous(data) for _, data in records):
            return _answer(400, _envelope(100, "(#100) Invalid parameter"))
        status: dict[str, Any] = {}
        verdicts = {data["id"]: self.unwanted(data) for method, data in records if method == "UPDATE"}
        if self._fate(("nothing_taken", odds.nothing_taken)):
            named = [one for one, verdict in verdicts.items() if verdict and rng.random() < 0.7]
            if named:
                status["validation_status"] = [
                    {"retailer_id": one, "errors": [{"message": verdicts[one]}]} for one in named
                ]
            return _answer(200, {"handles": [], **status})
        at_once = {
            one: verdict
            for one, verdict in verdicts.items()
            if verdict and rng.random() < odds.refused_at_once
        }
        if at_once:
            status["validation_status"] = [
                {"retailer_id": one, "errors": [{"message": verdict}]} for one, verdict in at_once.items()
            ]
        self.refused |= {(catalog_id, data["id"]): data for _, data in records if data["id"] in at_once}
        kept = [one for one in records if one[1]["id"] not in at_once]
        handle = f"Ac{len(self.work)}x{rng.randrange(10**9)}"
        work = Work(catalog_id, handle, kept, loop.time(), loop.time())
        self._schedule(work, latest)
        self.work[handle] = work
        self.log("taken", handle, work.status, f"ends in {work.ends_at - loop.time():.0f} s")
        return _answer(200, {"handles": [handle], **status})

    def _schedule(self, work: Work, latest: float | None) -> None:
        loop = asyncio.get_running_loop()
        rng, odds = self.rng, self.adversity
        pace = self._fate(("late", odds.late), ("slow", odds.slow), ("forgotten", odds.forgotten))
        if pace == "late":
            lasts = rng.uniform(*odds.late_seconds)
        elif pace == "slow":
            lasts = rng.uniform(*odds.slow_seconds)
        else:
            lasts = rng.uniform(0.5, 15)
        work.is_forgotten = pace == "forgotten"
        work.ends_at = loop.time() + lasts
        if latest is not None:
            work.ends_at = max(loop.time() + 0.1, min(work.ends_at, latest))
            work.is_bounded = True
        if self._fate(("broken_off", odds.broken_off)):
            work.status = rng.choice(["error", "canceled"])
            work.dropped = {index for index in range(len(work.records)) if rng.random() < 0.5}
        work.mangled = bool(self._fate(("mangled", odds.mangled)))
        work.has_total = not self._fate(("no_total", odds.no_total))
        if work.has_total and self._fate(("capped", odds.capped)):
            work.shown = rng.randrange(2)
        for index in range(len(work.records)):
            when = loop.time() + rng.random() * (work.ends_at - loop.time())
            work.timers[index] = loop.call_at(when, self._apply, work, index)
        if not work.records:
            work.timers[-1] = loop.call_at(work.ends_at, work.timers.clear)
        if latest is None and odds.crossed and self._fate(("crossed", odds.crossed)):
            self._cross(work)

    def _cross(self, work: Work) -> None:
        """Let what is still under way of the same items take effect just after this batch's, and be told before it."""
        mine = {data["id"]: work.timers[index].when() for index, (_, data) in enumerate(work.records)}
        loop = asyncio.get_running_loop()
        for older in self.work.values():
            if older.catalog_id != work.catalog_id or older.is_bounded:
                continue
            crossing = [one for one in older.timers if one >= 0 and older.records[one][1]["id"] in mine]
            for index in crossing:
                older.timers.pop(index).cancel()
                when = mine[older.records[index][1]["id"]] + 1.0
                older.timers[index] = loop.call_at(when, self._apply, older, index)
                older.ends_at = max(when, loop.time() + 1.0)
            if crossing:
                work.crosses.append(older)

    def _apply(self, work: Work, index: int) -> None:
        """One record takes effect."""
        del work.timers[index]
        if index in work.dropped:
            return
        method, data = work.records[index]
        retailer_id = data["id"]
        items = self.items.setdefault(work.catalog_id, {})
        if method == "DELETE":
            items.pop(retailer_id, None)
            self._remember(work.catalog_id, retailer_id)
            self.log("applied", work.handle, "DELETE", retailer_id)
            return
        verdict = self.unwanted(data)
        if verdict is not None:
            self.refused[work.catalog_id, retailer_id] = data
            if self.rng.random() < self.adversity.only_warned:
                work.warned[retailer_id] = "A required field is missing: " + verdict
            else:
                work.refused[retailer_id] = verdict
            return
        self.refused.pop((work.catalog_id, retailer_id), None)
        merged = {**items.get(retailer_id, {}), **data}
        items[retailer_id] = {name: value for name, value in merged.items() if value not in ("", [], None)}
        self._remember(work.catalog_id, retailer_id)
        self.log("applied", work.handle, items[retailer_id])

    def _remember(self, catalog_id: str, retailer_id: str) -> None:
        shown = self.items[catalog_id].get(retailer_id)
        self._history.setdefault((catalog_id, retailer_id), []).append(
            (asyncio.get_running_loop().time(), None if shown is None else dict(shown))
        )

    # --- questions --------------------------------------------------------------------------------------------------

    async def ask(
        self, credential: GraphCredential, path: tuple[str, ...], params: Mapping[str, str]
    ) -> Answer:
        """Any GET."""
        self.questions += 1
        await asyncio.sleep(0.02 + self.rng.random() * 0.5)
        if self._fate(("fails", self.adversity.question_fails)):
            return self.rng.choice([_no_answer, self._server_error])()
        refused = self._refusal(credential, path[0] + "?", "throttled", 80009)
        if refused is not None:
            return refused
        if path[-1] == "check_batch_request_status":
            return self._status(path[0], params)
        if path[-1] == "products":
            if "filter" in params:
                return self._products(path[0], json.loads(params["filter"])["retailer_id"]["is_any"])
            return self._walk(path[0], int(params.get("after", "0")))
        return _answer(200, {"id": path[0], "name": "Catalog", "vertical": "commerce", "product_count": 1})

    def _refusal(
        self, credential: GraphCredential, bucket: str, kind: str, throttle_code: int
    ) -> Answer | None:
        loop = asyncio.get_running_loop()
        if credential.access_token.get_secret_value() not in self.tokens:
            return _answer(400, _envelope(190, "Error validating access token.", error_subcode=460))
        if self.calm:
            return None
        if loop.time() < self.blocked_until.get(bucket, 0) or self._fate((kind, self.adversity.throttled)):
            self.blocked_until.setdefault(bucket, 0)
            if loop.time() >= self.blocked_until[bucket]:
                self.blocked_until[bucket] = loop.time() + self.rng.choice([60, 120, 300])
            self.throttled_at = loop.time()
            minutes = -(-(self.blocked_until[bucket] - loop.time()) // 60)
            usage = {
                "1": [
                    {"type": "catalog_batch", "call_count": 100, "estimated_time_to_regain_access": minutes}
                ]
            }
            if throttle_code == 80009:
                usage["1"][0]["type"] = "catalog_management"
            headers = {"x-business-use-case-usage": json.dumps(usage)} if self.rng.random() < 0.7 else {}
            return _answer(
                400, _envelope(throttle_code, f"(#{throttle_code}) There have been too many calls."), headers
            )
        return None

    def _status(self, catalog_id: str, params: Mapping[str, str]) -> Answer:
        loop = asyncio.get_running_loop()
        handle = params["handle"]
        work = self.work.get(handle)
        if work is None or work.catalog_id != catalog_id or work.is_forgotten:
            return _answer(400, _envelope(100, "(#100) Invalid handle"))
        if loop.time() - work.taken_at < 60 and self._fate(("young", self.adversity.young_unknown)):
            return _answer(400, _envelope(100, "(#100) Invalid handle"))
        is_crossing = loop.time() - work.taken_at < _CROSSES_FOR_SECONDS and any(
            not one.is_told for one in work.crosses
        )
        if not work.is_finished or loop.time() < work.ends_at or is_crossing:
            word = self.rng.choice(["scheduled", "dispatched", "started", "in_progress", "Started"])
            return _answer(200, {"data": [{"handle": handle, "status": word}]})
        work.is_told = True
        if work.status != "finished":
            return _answer(200, {"data": [{"handle": handle, "status": work.status}]})
        return _answer(200, self._report(work, int(params.get("after", "0"))))

    def _report(self, work: Work, after: int) -> dict[str, Any]:
        shown_id = (lambda one: f" {one.upper()}") if work.mangled else (lambda one: one)
        lines = [
            {"line": 1, "id": shown_id(one), "message": text} for one, text in sorted(work.refused.items())
        ]
        total = len(lines)
        if work.shown is not None:
            lines = lines[: work.shown]
        page = lines[after : after + 2]
        node: dict[str, Any] = {
            "handle": work.handle,
            "status": "finished",
            "errors": page,
            "warnings": [
                {"line": 1, "id": one, "message": text} for one, text in sorted(work.warned.items())
            ],
            "ids_of_invalid_requests": [],
        }
        if work.has_total:
            node["errors_total_count"] = total
        answer: dict[str, Any] = {"data": [node]}
        if after + 2 < len(lines):
            answer["paging"] = {"cursors": {"after": str(after + 2)}, "next": "there is more"}
        return answer

    def _products(self, catalog_id: str, retailer_ids: list[str]) -> Answer:
        seen_at = asyncio.get_running_loop().time() - self.adversity.read_lag_seconds * (not self.calm)
        found = []
        for retailer_id in retailer_ids:
            # Meta's filters ignore case.
            for catalog, one in self._history:
                if catalog == catalog_id and one.lower() == retailer_id.lower():
                    shown = self._as_of(catalog_id, one, seen_at)
                    if shown is not None:
                        found.append(readable(one, shown))
        return _answer(200, {"data": found})

    def _walk(self, catalog_id: str, start: int) -> Answer:
        """A page of all items, from a copy that may be older and may waver: an item is not there, or is as it once was."""
        if start and self._fate(("lost_cursor", self.adversity.lost_cursor)):
            return _answer(400, _envelope(100, "(#100) Invalid cursor"))
        seen_at = asyncio.get_running_loop().time() - self.adversity.read_lag_seconds * (not self.calm)
        shown = []
        for catalog, one in sorted(self._history):
            if catalog != catalog_id:
                continue
            item = self._as_of(catalog_id, one, seen_at)
            if self._fate(("wavers", self.adversity.wavers)):
                older = [data for when, data in self._history[catalog, one] if when <= seen_at]
                item = self.rng.choice([None, *older])
            if item is not None:
                shown.append(readable(one, item))
        page = shown[start : start + _ITEMS_PER_PAGE]
        answer: dict[str, Any] = {"data": page, "summary": {"total_count": len(shown)}}
        if start + _ITEMS_PER_PAGE < len(shown):
            answer["paging"] = {
                "cursors": {"after": str(start + _ITEMS_PER_PAGE)},
                "next": "there is more",
            }
        return _answer(200, answer)

    def _as_of(self, catalog_id: str, retailer_id: str, at: float) -> dict[str, Any] | None:
        shown = None
        for when, data in self._history[catalog_id, retailer_id]:
            if when <= at:
                shown = data
        return shown


def readable(retailer_id: str, shown: Mapping[str, Any]) -> dict[str, Any]:
    """An item under the names that Meta reads with."""
    start, _, end = (shown.get("sale_price_effective_date") or "").partition("/")
    attributes = (one.partition(":") for one in (shown.get("additional_variant_attribute") or "").split(","))
    return {
        "id": f"7{retailer_id}",
        "retailer_id": retailer_id,
        **{read: shown.get(written) for written, read in READ_NAMES.items()},
        "price": _formatted(shown.get("price")),
        "sale_price": _formatted(shown.get("sale_price")),
        "sale_price_start_date": start or None,
        "sale_price_end_date": end or None,
        "additional_variant_attributes": [
            {"key": key, "value": value} for key, _, value in attributes if key
        ],
        "currency": "EUR",
        "visibility": "published",
    }


def _formatted(price: str | None) -> str | None:
    return None if price is None else "€" + price.removesuffix(" EUR").replace(".", ",")


def _no_answer() -> Answer:
    return Answer(None, Usage(), NoAnswerError(ErrorFacts("No answer.")))


def _envelope(code: int, message: str, **more: Any) -> dict[str, Any]:
    return {"error": {"message": message, "type": "OAuthException", "code": code, "fbtrace_id": "A1", **more}}


def _answer(status: int, value: Any, headers: Mapping[str, str] | None = None) -> Answer:
    headers = headers or {}
    error = classify_value(status, headers, value)
    return Answer(None if value is UNREADABLE else value, parse_usage(headers), error, status=status)
