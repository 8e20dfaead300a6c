"""The one way out to addresses that other people name: feeds, and whatever else is not Meta's Graph API.

A name is resolved once, every address it has is checked, and the connection goes to a checked address while the Host
header, the name in TLS and the check of the certificate keep the name. Redirects go through the same gate. Nothing is
taken from the environment. No password and no key in an address reaches a log, an error or a repr.
"""

from __future__ import annotations

import asyncio
import base64
import ipaddress
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeVar

import httpx
from pydantic import SecretStr

from meta_sync.core.outbound_address import (
    WEB_PORTS,
    AddressCheck,
    AddressFaultError,
    IpAddress,
    WebAddress,
    is_public_address,
    read_web_address,
)

__all__ = [
    "MAX_REDIRECTS",
    "BasicCredentials",
    "OutboundAnswer",
    "OutboundClient",
    "OutboundError",
    "OutboundTiming",
    "OversizedBodyError",
    "RefusedAddressError",
    "Resolver",
    "resolve_with_system",
]

MAX_REDIRECTS = 5

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MOST_ADDRESSES_TRIED = 3
"""Of a name that has several. A machine that is away should not use up the time for the others."""
_LONGEST_HEADER = 1_000
_CODINGS = frozenset({"", "identity", "gzip", "x-gzip"})

T = TypeVar("T")

Resolver = Callable[[str, int], Awaitable[Sequence[str]]]
"""Gives the IP addresses of a name, for a port; raises ``OSError`` when it has none."""


@dataclass(frozen=True, slots=True)
class OutboundTiming:
    """The longest waits, in seconds. The time for the whole answer is the caller's to give."""

    connect_seconds: float = 10.0
    read_seconds: float = 30.0
    """Between two pieces of the answer."""
    head_seconds: float = 60.0
    """From the first look-up to the head of the last answer, redirects included."""
    slow_start_seconds: float = 60.0
    """Of waiting for the body, in which its rate does not count."""
    least_bytes_per_second: float = 1_000.0
    """Of the body on average, after that. Whoever trickles keeps a place that others wait for."""


@dataclass(frozen=True, slots=True)
class BasicCredentials:
    """User name and password for one origin; they are not taken along to another one."""

    username: str
    password: SecretStr

    def header(self) -> str:
        """The value of the Authorization header."""
        pair = f"{self.username}:{self.password.get_secret_value()}".encode()
        return f"Basic {base64.b64encode(pair).decode()}"


class OutboundError(Exception):
    """An address could not be fetched.

    Attributes
    ----------
    message
        A sentence for the owner of the address. Carries no secret.
    is_passing
        Whether the same may succeed a little later.
    """

    def __init__(self, message: str, *, is_passing: bool = True) -> None:
        super().__init__(message)
        self.message = message
        self.is_passing = is_passing


class RefusedAddressError(OutboundError):
    """We do not ask there, now or later.

    Attributes
    ----------
    fault
        Why, as a sentence without a subject.
    """

    def __init__(self, message: str, fault: str) -> None:
        super().__init__(message, is_passing=False)
        self.fault = fault


class OversizedBodyError(OutboundError):
    """The answer is larger than the caller takes."""

    def __init__(self, most_bytes: int) -> None:
        super().__init__(
            f"The file is larger than {most_bytes:,} bytes, which is the most that is taken here.",
            is_passing=False,
        )


@dataclass(slots=True)
class OutboundAnswer:
    """The head of an answer, and its body to be read once."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case; those that are long or not plain ASCII are left out."""
    shown_url: str
    """Where the answer came from, after redirects, as it may be shown."""
    is_end_proved: bool
    """Whether the body tells its own end: by a length or a final chunk, not by the connection's end."""
    _pieces: AsyncIterator[bytes] = field(repr=False)
    _deadline: float = field(repr=False)
    _most_bytes: int = field(repr=False)
    _timing: OutboundTiming = field(repr=False)

    async def body(self) -> AsyncIterator[bytes]:
        """The body in pieces, as it was sent.

        Raises
        ------
        OversizedBodyError
            It is larger than the caller takes.
        OutboundError
            It broke off before its end, took too long, or trickles. Only the time spent waiting for it counts for that.
        """
        declared = self.headers.get("content-length", "")
        if declared.isdigit() and int(declared) > self._most_bytes:
            raise OversizedBodyError(self._most_bytes)
        received, waited_seconds = 0, 0.0
        clock = asyncio.get_running_loop().time
        while True:
            began = clock()
            piece = await self._next_piece(began - waited_seconds, received)
            waited_seconds += clock() - began
            if piece is None:
                return
            received += len(piece)
            if received > self._most_bytes:
                raise OversizedBodyError(self._most_bytes)
            yield piece

    async def _next_piece(self, waiting_since: float, received: int) -> bytes | None:
        """The next piece, or ``None`` after the last; no later than the moment from which on the rate is too low."""
        least = self._timing.least_bytes_per_second
        too_slow_at = waiting_since + max(self._timing.slow_start_seconds, received / least)
        try:
            return await _within(min(self._deadline, too_slow_at), anext(self._pieces, None))
        except OutboundError:
            if too_slow_at <= asyncio.get_running_loop().time() and too_slow_at < self._deadline:
                raise OutboundError(
                    f"The server sends less than {least:,.0f} bytes a second, which is too slow."
                ) from None
            raise


class OutboundClient:
    """Fetches from the web, guarded. One per process; it keeps no connection.

    Parameters
    ----------
    resolve
        Names to addresses.
    is_allowed
        Which addresses may be asked. Tests let their own machine in here; nothing else may.
    ports
        Which ports may be asked.
    timing
        The longest waits.
    tls
        What certificates are checked against; the usual authorities when not given.
    """

    def __init__(
        self,
        *,
        resolve: Resolver | None = None,
        is_allowed: AddressCheck = is_public_address,
        ports: Collection[int] = WEB_PORTS,
        timing: OutboundTiming = OutboundTiming(),
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._resolve = resolve or resolve_with_system
        self._is_allowed = is_allowed
        self._ports = frozenset(ports)
        self._timing = timing
        self._given_tls = tls

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        return self._given_tls or httpx.create_ssl_context(trust_env=False)

    def read(self, url: str) -> WebAddress:
        """Read an address as far as that goes without asking anybody.

        Raises
        ------
        RefusedAddressError
            It cannot be used; ``fault`` says why.
        """
        try:
            return read_web_address(url, ports=self._ports, is_allowed=self._is_allowed)
        except AddressFaultError as error:
            raise RefusedAddressError(f"The address {error.fault}.", error.fault) from None

    @asynccontextmanager
    async def get(
        self,
        address: WebAddress,
        *,
        most_bytes: int,
        total_seconds: float,
        headers: Mapping[str, str] | None = None,
        credentials: BasicCredentials | None = None,
    ) -> AsyncIterator[OutboundAnswer]:
        """Ask an address, following redirects. Whatever status comes in the end is an answer.

        Parameters
        ----------
        most_bytes
            The largest body.
        total_seconds
            For everything, the body included.
        headers
            Beside the usual ones.
        credentials
            For the origin of ``address`` only.

        Raises
        ------
        RefusedAddressError
            The address, or one it redirects to, may not be asked.
        OutboundError
            Nobody answered, or not in time, or what came is no HTTP.
        """
        now = asyncio.get_running_loop().time()
        deadline = now + total_seconds
        head_deadline = min(deadline, now + self._timing.head_seconds)
        asked = address
        for _ in range(MAX_REDIRECTS + 1):
            async with AsyncExitStack() as stack:
                sent = dict(headers or {})
                if credentials is not None:
                    sent["Authorization"] = credentials.header()
                response = await self._ask(stack, asked, sent, head_deadline)
                location = _location(response)
                if response.status_code not in _REDIRECTS or location is None:
                    _require_plain_coding(response)
                    yield _answer(response, asked, deadline, most_bytes, self._timing)
                    return
                target = self._redirected(asked, location)
                if target.origin != address.origin:
                    # And not on the way back either: whoever redirects may choose where that leads.
                    credentials = None
                asked = target
        raise OutboundError(f"The address redirects more than {MAX_REDIRECTS} times.", is_passing=False)

    def _redirected(self, asked: WebAddress, location: str) -> WebAddress:
        try:
            return asked.redirected(location, ports=self._ports, is_allowed=self._is_allowed)
        except AddressFaultError as error:
            raise RefusedAddressError(
                f"The address redirects to one that cannot be used: it {error.fault}.", error.fault
            ) from None

    async def _ask(
        self, stack: AsyncExitStack, asked: WebAddress, headers: Mapping[str, str], deadline: float
    ) -> httpx.Response:
        addresses = await self._checked(asked, deadline)
        failure: OutboundError | None = None
        for address in addresses[:_MOST_ADDRESSES_TRIED]:
            # A transport of its own for every request: a pool would hand a connection whose certificate was checked
            # for one name to another name at the same IP address.
            transport = httpx.AsyncHTTPTransport(
                verify=self._tls, trust_env=False, limits=httpx.Limits(max_keepalive_connections=0)
            )
            stack.push_async_callback(transport.aclose)
            request = self._request(asked, address, headers)
            try:
                response = await _within(deadline, transport.handle_async_request(request))
            except _NoConnectionError as error:
                failure = error
                continue
            stack.push_async_callback(response.aclose)
            return response
        raise failure or OutboundError(f"{asked.host} has no address in DNS.")

    def _request(self, asked: WebAddress, address: IpAddress, headers: Mapping[str, str]) -> httpx.Request:
        timing = self._timing
        extensions: dict[str, object] = {
            "timeout": {
                "connect": timing.connect_seconds,
                "read": timing.read_seconds,
                "write": timing.read_seconds,
                "pool": timing.connect_seconds,
            }
        }
        if asked.literal is None:
            extensions["sni_hostname"] = asked.host
        sent = {
            "Host": asked.host_header,
            "User-Agent": "meta-sync",
            "Accept": "*/*",
            "Accept-Encoding": "identity",
            "Connection": "close",
            **headers,
        }
        return httpx.Request("GET", asked.url(str(address)), headers=sent, extensions=extensions)

    async def _checked(self, asked: WebAddress, deadline: float) -> list[IpAddress]:
        """Every address of the host, all of them allowed; asked for once."""
        if asked.literal is not None:
            return [asked.literal]
        try:
            found = await _within(deadline, self._resolve(asked.host, asked.port))
            addresses = list(dict.fromkeys(ipaddress.ip_address(one) for one in found))
        except (OSError, ValueError):
            raise OutboundError(f"The name {asked.host} cannot be found in DNS.") from None
        if not all(map(self._is_allowed, addresses)):
            raise RefusedAddressError(
                f"The name {asked.host} leads into a private or reserved network, where nothing is fetched from.",
                "must not lead into a private or reserved network",
            )
        return addresses


async def resolve_with_system(host: str, port: int) -> list[str]:
    """The addresses of a name as this machine's resolver has them.

    Raises
    ------
    OSError
        There are none.
    """
    # The dot keeps search domains out: the name is meant as it was written.
    found = await asyncio.get_running_loop().getaddrinfo(f"{host}.", port, type=socket.SOCK_STREAM)
    return [str(entry[4][0]) for entry in found]


class _NoConnectionError(OutboundError):
    """Nothing was sent: the next address may be tried."""


async def _within(deadline: float, waiting: Awaitable[T]) -> T:
    """Wait for the network until the deadline, and turn every failure of it into ours."""
    try:
        async with asyncio.timeout_at(deadline):
            return await waiting
    except (TimeoutError, httpx.TimeoutException) as error:
        if isinstance(error, httpx.ConnectTimeout):
            raise _NoConnectionError("The server does not take connections.") from None
        raise OutboundError("The server took too long to answer.") from None
    except httpx.ConnectError as error:
        certificate = _certificate_fault(error)
        if certificate is not None:
            raise OutboundError(
                f"The server's certificate is not valid: {certificate}.", is_passing=False
            ) from None
        raise _NoConnectionError("The server cannot be connected to.") from None
    except httpx.RemoteProtocolError:
        raise OutboundError("The answer broke off before its end, or is no HTTP.") from None
    except httpx.TransportError:
        raise OutboundError("The connection to the server broke.") from None


def _certificate_fault(error: BaseException) -> str | None:
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, ssl.SSLCertVerificationError):
            return (seen.verify_message or "it cannot be verified").rstrip(".")
        seen = seen.__cause__ or seen.__context__
    return None


def _location(response: httpx.Response) -> str | None:
    for name, value in response.headers.raw:
        if name.lower() == b"location":
            return value.decode("utf-8", "replace")
    return None


def _require_plain_coding(response: httpx.Response) -> None:
    coding = response.headers.get("content-encoding", "").strip().lower()
    if coding not in _CODINGS:
        raise OutboundError(
            "The server sends the file in a coding that was not asked for and is not read here.",
            is_passing=False,
        )


def _answer(
    response: httpx.Response, asked: WebAddress, deadline: float, most_bytes: int, timing: OutboundTiming
) -> OutboundAnswer:
    headers = {
        name: value
        for name, value in response.headers.items()
        if len(value) <= _LONGEST_HEADER and value.isascii() and value.isprintable()
    }
    coding = headers.get("transfer-encoding", "").lower()
    assert isinstance(response.stream, httpx.AsyncByteStream)
    return OutboundAnswer(
        status=response.status_code,
        headers=headers,
        shown_url=asked.shown,
        is_end_proved="content-length" in headers or "chunked" in coding,
        _pieces=aiter(response.stream),
        _deadline=deadline,
        _most_bytes=most_bytes,
        _timing=timing,
    )
