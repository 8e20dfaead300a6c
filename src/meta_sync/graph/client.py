"""The one place that sends to Meta's Graph API, and the only one that knows httpx.

It carries tokens, proves the app secret, bounds time and size, and turns every end of a call into an
``Answer``. What an answer means for the caller is decided by the endpoints. No token, secret or proof reaches
a log, an error or a repr.
"""

from __future__ import annotations

import asyncio
import logging
import random as random_module
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, Literal
from urllib.parse import quote, urlsplit

import httpx
from pydantic import SecretStr
from typing_extensions import override

from meta_sync.core.clock import monotonic_seconds
from meta_sync.graph.auth import GraphCredential, appsecret_proof
from meta_sync.graph.errors import (
    Advice,
    CredentialsError,
    ErrorFacts,
    GraphError,
    NoAnswerError,
    NotConnectedError,
    UnreadableAnswerError,
    classify_value,
)
from meta_sync.graph.retry import RetryPolicy, Sleep, repeat_read
from meta_sync.graph.tolerant import UNREADABLE, decode_json, header, scrub, text
from meta_sync.graph.usage import Usage, parse_usage
from meta_sync.graph.wire import Answer

__all__ = ["NORMAL_ANSWER_BYTES", "QUESTION_DEADLINE_SECONDS", "GraphClient", "make_http_client"]

QUESTION_DEADLINE_SECONDS = 30.0
"""For one read, from the first byte out to the last byte in."""

NORMAL_ANSWER_BYTES = 5_000_000
"""Ten times the largest ordinary page; what is longer is a fault, and is not read to its end."""

_CONNECT_SECONDS = 10.0
_SECRET_PARAMETERS = frozenset(
    {"access_token", "appsecret_proof", "client_secret", "code", "fb_exchange_token", "input_token"}
)
_SHORTEST_SECRET = 8
"""Shorter texts are not blotted out of answers: they could be ordinary words; Meta's secrets are longer."""

_logger = logging.getLogger(__name__)


def make_http_client(*, max_connections: int = 100) -> httpx.AsyncClient:
    """The HTTP client for Meta, one per process. Takes nothing from the environment, follows no redirects.

    It keeps no cookies: one set for one store must not travel with the calls of another.
    """
    return httpx.AsyncClient(
        trust_env=False,
        follow_redirects=False,
        cookies=CookieJar(policy=DefaultCookiePolicy(allowed_domains=[])),
        headers={"accept": "application/json", "accept-encoding": "gzip", "user-agent": "meta-sync"},
        timeout=httpx.Timeout(QUESTION_DEADLINE_SECONDS, connect=_CONNECT_SECONDS, pool=_CONNECT_SECONDS),
        limits=httpx.Limits(max_connections=max_connections, max_keepalive_connections=max_connections),
    )


class _DiscreetUrl(httpx.URL):
    """A URL that shows its secret parameters to the transport only.

    httpx writes the URL of every request into its log and its exceptions, by ``str()``; the transport reads
    the parts.
    """

    @override
    def __str__(self) -> str:
        params = [(k, "[secret]" if k in _SECRET_PARAMETERS else v) for k, v in self.params.multi_items()]
        return str(
            httpx.URL(scheme=self.scheme, host=self.host, port=self.port, path=self.path, params=params)
        )

    @override
    def __repr__(self) -> str:
        return f"URL({str(self)!r})"


class _Progress:
    """How far a request got, told by httpcore's trace events."""

    def __init__(self) -> None:
        self.is_connecting = False
        self.is_sending = False

    async def __call__(self, name: str, _info: Mapping[str, Any]) -> None:
        if name.endswith("connect_tcp.started"):
            self.is_connecting = True
        elif name.endswith("send_request_headers.started"):
            self.is_sending = True

    def nothing_sent(self, failure: BaseException) -> bool:
        """Whether the failure came before the first byte of the request.

        A time-out of ours carries no such knowledge, so the trace decides; a transport without a trace gets
        no benefit of the doubt.
        """
        if self.is_sending:
            return False
        early = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol)
        return self.is_connecting or isinstance(failure, early)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Call:
    """One request before it is built."""

    method: Literal["GET", "POST"]
    path: tuple[str, ...]
    credential: GraphCredential
    params: Mapping[str, str] = field(default_factory=dict)
    secret_params: Mapping[str, SecretStr] = field(default_factory=dict)
    body: bytes | None = field(default=None, repr=False)
    deadline_seconds: float = QUESTION_DEADLINE_SECONDS
    max_answer_bytes: int = NORMAL_ANSWER_BYTES

    def secrets(self) -> list[bytes]:
        """What must not survive in an answer."""
        known = [self.credential.access_token, self.credential.app_secret, *self.secret_params.values()]
        plain = [one.get_secret_value() for one in known if one is not None]
        return [
            form.encode()
            for one in plain
            for form in {one, quote(one, safe="")}
            if len(one) >= _SHORTEST_SECRET
        ]


class GraphClient:
    """Sends to one Graph host in one API version.

    Parameters
    ----------
    http
        Made by ``make_http_client``, or one with the same properties; the caller closes it.
    base_url
        Scheme and host, such as ``https://graph.facebook.com``.
    version
        Such as ``v25.0``. A call without one would drift with the app's age.
    clock
        Seconds that never step back.
    sleep, random
        Wait between two reads, and its jitter.
    """

    def __init__(
        self,
        http: httpx.AsyncClient,
        *,
        base_url: str,
        version: str,
        clock: Callable[[], float] = monotonic_seconds,
        sleep: Sleep = asyncio.sleep,
        random: Callable[[], float] = random_module.random,
        retry_policy: RetryPolicy | None = None,
    ) -> None:
        parts = urlsplit(base_url)
        if parts.scheme not in {"http", "https"} or not parts.hostname or "@" in parts.netloc or parts.query:
            raise ValueError("The Graph URL must be http(s)://host without user name and query.")
        if not re.fullmatch(r"v[0-9]{1,3}\.[0-9]{1,2}", version):
            raise ValueError("The Graph API version must look like v25.0.")
        self._http = http
        self._base_url = base_url.rstrip("/")
        self._version = version
        self._clock = clock
        self._sleep = sleep
        self._random = random
        self._retry_policy = retry_policy
        self._warned = False

    def for_version(self, version: str) -> GraphClient:
        """The same client speaking another API version; the connections are shared."""
        if version == self._version:
            return self
        return GraphClient(
            self._http,
            base_url=self._base_url,
            version=version,
            clock=self._clock,
            sleep=self._sleep,
            random=self._random,
            retry_policy=self._retry_policy,
        )

    @override
    def __repr__(self) -> str:
        return f"GraphClient({self._base_url}/{self._version})"

    async def read(
        self,
        credential: GraphCredential,
        *path: str,
        params: Mapping[str, str] | None = None,
        secret_params: Mapping[str, SecretStr] | None = None,
        deadline_seconds: float = QUESTION_DEADLINE_SECONDS,
        max_answer_bytes: int = NORMAL_ANSWER_BYTES,
    ) -> Answer:
        """Ask for something; repeated by the retry policy. The deadline is that of each attempt."""
        call = _Call(
            method="GET",
            path=path,
            credential=credential,
            params=params or {},
            secret_params=secret_params or {},
            deadline_seconds=deadline_seconds,
            max_answer_bytes=max_answer_bytes,
        )
        return await repeat_read(
            lambda: self._send(call),
            sleep=self._sleep,
            clock=self._clock,
            random=self._random,
            policy=self._retry_policy,
        )

    async def write_json(
        self,
        credential: GraphCredential,
        *path: str,
        body: bytes,
        deadline_seconds: float,
        max_answer_bytes: int = NORMAL_ANSWER_BYTES,
    ) -> Answer:
        """Post a JSON body, once. Whether it may be sent again is not decided here."""
        call = _Call(
            method="POST",
            path=path,
            credential=credential,
            body=body,
            deadline_seconds=deadline_seconds,
            max_answer_bytes=max_answer_bytes,
        )
        return await self._send(call)

    async def _send(self, call: _Call) -> Answer:
        """Make one attempt. Never raises for anything the network or Meta does."""
        fault = _token_fault(call.credential)
        if fault is not None:
            return Answer(None, Usage(), fault)
        progress = _Progress()
        request = self._build(call, progress)
        try:
            async with asyncio.timeout(call.deadline_seconds):
                response = await self._http.send(request, stream=True, follow_redirects=False)
                try:
                    body = await _read_bounded(response, call.max_answer_bytes)
                finally:
                    await response.aclose()
        except (httpx.HTTPError, httpx.StreamError, httpx.InvalidURL, OSError) as failure:
            # OSError covers our own time-out and what anyio lets through. Nothing of the exception is kept:
            # its request holds the token.
            return Answer(None, Usage(), _transport_error(failure, progress, call))
        return self._judge(call, response, body)

    def _build(self, call: _Call, progress: _Progress) -> httpx.Request:
        params = {**call.params, "locale": "en_US"}
        params.update({name: value.get_secret_value() for name, value in call.secret_params.items()})
        token = call.credential.access_token.get_secret_value()
        if call.credential.app_secret is not None:
            params["appsecret_proof"] = appsecret_proof(token, call.credential.app_secret.get_secret_value())
        headers = {"authorization": f"Bearer {token}"}
        if call.body is not None:
            headers["content-type"] = "application/json"
        early = min(_CONNECT_SECONDS, call.deadline_seconds)
        request = self._http.build_request(
            call.method,
            "/".join((self._base_url, self._version, *map(_segment, call.path))),
            params=params,
            headers=headers,
            content=call.body,
            timeout=httpx.Timeout(call.deadline_seconds, connect=early, pool=early),
            extensions={"trace": progress},
        )
        request.url = _DiscreetUrl(request.url)
        return request

    def _judge(self, call: _Call, response: httpx.Response, body: bytes | None) -> Answer:
        """The answer of a complete response; ``body`` is ``None`` when it was longer than allowed."""
        usage = parse_usage(response.headers)
        trace_id = text(header(response.headers, "x-fb-trace-id"), 200)
        self._note_version_warning(response.headers)
        if body is None:
            value = UNREADABLE
        else:
            for secret in call.secrets():
                body = body.replace(secret, b"[secret]")
            value = decode_json(body)
        error = classify_value(response.status_code, response.headers, value)
        if body is None and isinstance(error, UnreadableAnswerError):
            error = _too_long(response.status_code, trace_id, usage, call.max_answer_bytes)
        return Answer(
            None if value is UNREADABLE else value,
            usage,
            error,
            status=response.status_code,
            trace_id=trace_id,
        )

    def _note_version_warning(self, headers: Mapping[str, str]) -> None:
        """Meta announces the end of a version by answering in the next one (observed). Said once."""
        warning = header(headers, "x-ad-api-version-warning")
        if warning and not self._warned:
            self._warned = True
            _logger.warning(
                "Meta is retiring the Graph API version in use; set a newer one",
                extra={"graph_version": self._version, "meta_says": scrub(text(warning, 300) or "")},
            )


async def _read_bounded(response: httpx.Response, limit: int) -> bytes | None:
    """The decoded body, or ``None`` as soon as it is longer than ``limit`` bytes."""
    chunks: list[bytes] = []
    size = 0
    async for chunk in response.aiter_bytes():
        size += len(chunk)
        if size > limit:
            return None
        chunks.append(chunk)
    return b"".join(chunks)


def _segment(part: str) -> str:
    """A path segment. Ids come from stores, and must not lead a call to another place."""
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.:=-]*", part):
        raise ValueError("An id for a Graph call may hold letters, digits and _ . : = - only.")
    return part


def _token_fault(credential: GraphCredential) -> GraphError | None:
    """An error for a token that cannot stand in a header; httpx would repeat it in its own message."""
    token = credential.access_token.get_secret_value()
    if re.fullmatch(r"[\x21-\x7e]+", token):
        return None
    facts = ErrorFacts(
        "The access token is empty or holds characters that no token has, such as spaces.", nothing_sent=True
    )
    return CredentialsError(facts, Advice.RECONNECT, "needs_reconnect")


def _transport_error(failure: BaseException, progress: _Progress, call: _Call) -> GraphError:
    kind = type(failure).__name__
    if progress.nothing_sent(failure):
        facts = ErrorFacts(f"No connection to Meta could be made ({kind}).", nothing_sent=True)
        return NotConnectedError(facts, Advice.CONNECT_LATER)
    if isinstance(failure, TimeoutError | httpx.TimeoutException):
        sentence = f"Meta did not answer completely within {call.deadline_seconds:g} seconds ({kind})."
    else:
        sentence = f"The connection to Meta broke before the answer was complete ({kind})."
    return NoAnswerError(ErrorFacts(sentence), Advice.FIND_OUT)


def _too_long(status: int, trace_id: str | None, usage: Usage, limit: int) -> GraphError:
    facts = ErrorFacts(
        f"Meta's answer was longer than {limit} bytes and was not read.",
        http_status=status,
        fb_trace_id=trace_id,
        usage=usage,
    )
    return UnreadableAnswerError(facts, Advice.REPORT_REPEATED)
