"""Which addresses on the web may be asked: how they may be written, and where they may lead. Pure; nothing is resolved here.

Strict on purpose. Browsers and libraries read sloppy addresses in different ways, and every such difference has been
used to reach a machine that nobody meant; what can be read in two ways is refused.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from itertools import pairwise
from urllib.parse import unquote, urljoin, urlsplit

import idna

__all__ = [
    "WEB_PORTS",
    "AddressCheck",
    "AddressFaultError",
    "IpAddress",
    "WebAddress",
    "is_public_address",
    "read_web_address",
]

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
AddressCheck = Callable[[IpAddress], bool]
"""Whether a machine at this address may be asked."""

WEB_PORTS = frozenset({80, 443})
"""Databases, caches and control planes listen elsewhere."""

_DEFAULT_PORTS = {"http": 80, "https": 443}
_LONGEST_ADDRESS = 2_000
_LONGEST_HOST = 253
_HOST = re.compile(r"(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
"""A last label like this makes the whole host an IPv4 address to most libraries, however it is written."""
_LOCAL_ENDINGS = (".localhost", ".local", ".internal", ".localdomain", ".home.arpa")

_MASK = "***"
_KEY_NAME = re.compile(r"(?i)(?:api[_-]?)?key|token|secret|auth|password|signature|sig")
_LONG_RUN = re.compile(r"[A-Za-z0-9_-]{20,}")
"""In a segment of a path, with letters and digits, it is what no person would choose: shops put access keys there."""
_ENDING = re.compile(r"(?:\.[A-Za-z]{2,5}){1,2}$")

# Written out: what ``ipaddress`` calls global changes with the version of Python.
_CLOSED_V4 = [
    ipaddress.IPv4Network(network)
    for network in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        # A host service of Azure, at a public address.
        "168.63.129.16/32",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.31.196.0/24",
        "192.52.193.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "192.175.48.0/24",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
    )
]
_OPEN_V6 = ipaddress.IPv6Network("2000::/3")
_CLOSED_V6 = [
    ipaddress.IPv6Network(network)
    # Teredo and other protocols' own, documentation, 6to4, documentation.
    for network in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")
]
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


class AddressFaultError(Exception):
    """An address cannot be used.

    Attributes
    ----------
    fault
        Why, as a sentence without a subject: ``must begin with http:// or https://``.
    """

    def __init__(self, fault: str) -> None:
        super().__init__(fault)
        self.fault = fault


@dataclass(frozen=True, slots=True)
class WebAddress:
    """An address that was read and may be asked, as far as its writing goes."""

    scheme: str
    host: str
    """A name in lower case and ASCII without a dot at its end, or an IP address without brackets."""
    port: int
    target: str = field(repr=False)
    """Path and query as they are sent."""
    literal: IpAddress | None
    """The host, where it is no name."""

    @property
    def origin(self) -> tuple[str, str, int]:
        """Whom a password may be shown to."""
        return self.scheme, self.host, self.port

    @property
    def host_header(self) -> str:
        """The host as it stands in an address, with the port where it is not the usual one."""
        host = f"[{self.host}]" if isinstance(self.literal, ipaddress.IPv6Address) else self.host
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def shown(self) -> str:
        """What may be seen of it: the values of the query, and parts of the path that look like keys, are masked."""
        path, _, query = self.target.partition("?")
        shown = f"{self.scheme}://{self.host_header}{_shown_path(path)}"
        if query:
            parts = [part.partition("=") for part in query.split("&")]
            # A part without a name may be a key as a whole.
            shown += "?" + "&".join(f"{name}={_MASK}" if equals else _MASK for name, equals, _ in parts)
        return shown

    @property
    def file_name(self) -> str | None:
        """The last part of the path as it may be shown, where it looks like a file's name."""
        name = unquote(_shown_path(self.target.partition("?")[0]).rpartition("/")[2])
        return name if "." in name and len(name) <= 255 and name.isprintable() else None

    def url(self, host: str | None = None) -> str:
        """The whole address, or the same at another host such as the IP address that was checked."""
        shown = self.host if host is None else host
        bracketed = f"[{shown}]" if ":" in shown else shown
        return f"{self.scheme}://{bracketed}:{self.port}{self.target}"

    def redirected(self, location: str, *, ports: Collection[int], is_allowed: AddressCheck) -> WebAddress:
        """The address that a redirect leads to.

        Raises
        ------
        AddressFaultError
            It cannot be used, or leads from https to http.
        """
        try:
            joined = urljoin(self.url(), location.strip().replace(" ", "%20"))
        except ValueError:
            raise AddressFaultError("is not an address") from None
        target = read_web_address(joined, ports=ports, is_allowed=is_allowed)
        if self.scheme == "https" and target.scheme != "https":
            raise AddressFaultError("must stay with https")
        return target


def _shown_path(path: str) -> str:
    segments = path.split("/")
    shown = segments[:1]
    for before, segment in pairwise(segments):
        is_key = bool(segment) and (_KEY_NAME.fullmatch(before) is not None or _is_key_like(segment))
        ending = _ENDING.search(segment) if is_key else None
        shown.append(segment if not is_key else _MASK + (ending.group() if ending else ""))
    return "/".join(shown)


def _is_key_like(segment: str) -> bool:
    runs = _LONG_RUN.findall(unquote(segment))
    return any(re.search("[0-9]", run) and re.search("[A-Za-z]", run) for run in runs)


def is_public_address(address: IpAddress) -> bool:
    """Whether the address is a machine on the public internet: not our own, not a neighbour, not a cloud's inside.

    IPv6 addresses that stand for an IPv4 address are judged by that; those of tunnels nobody serves feeds through are
    refused.
    """
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return is_public_address(address.ipv4_mapped)
        if address in _NAT64:
            return is_public_address(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
        return (
            address.scope_id is None
            and address in _OPEN_V6
            and not any(address in network for network in _CLOSED_V6)
            and address.is_global
        )
    return address.is_global and not any(address in network for network in _CLOSED_V4)


def read_web_address(
    url: str, *, ports: Collection[int] = WEB_PORTS, is_allowed: AddressCheck = is_public_address
) -> WebAddress:
    """Read an address. A host that is an IP address is checked at once; names are for whoever resolves them.

    Raises
    ------
    AddressFaultError
        It is no address of the web, can be read in two ways, or leads where nobody may ask.
    """
    url = url.strip()
    if not url:
        raise AddressFaultError("must not be empty")
    if len(url) > _LONGEST_ADDRESS:
        raise AddressFaultError(f"must have at most {_LONGEST_ADDRESS:,} characters")
    if any(character.isspace() or not character.isprintable() for character in url):
        raise AddressFaultError("must not contain spaces or control characters; write a space as %20")
    scheme, separator, _ = url.partition("://")
    if not separator or scheme.lower() not in _DEFAULT_PORTS:
        raise AddressFaultError("must begin with http:// or https://")
    try:
        parts = urlsplit(url)
        _require_plain_authority(parts.netloc)
        port = parts.port
    except ValueError:
        raise AddressFaultError("is not an address") from None
    port = _DEFAULT_PORTS[parts.scheme] if port is None else port
    if port not in ports:
        raise AddressFaultError(f"must use one of the ports {' and '.join(map(str, sorted(ports)))}")
    host, literal = _host(parts.netloc)
    if literal is not None and not is_allowed(literal):
        raise AddressFaultError("must not lead into a private or reserved network")
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return WebAddress(parts.scheme, host, port, target, literal)


def _require_plain_authority(netloc: str) -> None:
    if "@" in netloc:
        raise AddressFaultError(
            "must not contain a user name or password; give them as username and password"
        )
    if "\\" in netloc or "%" in netloc:
        raise AddressFaultError("must name its host in plain letters")
    if not netloc or netloc.startswith(":"):
        raise AddressFaultError("must name a host")
    if netloc.endswith(":"):
        raise AddressFaultError("must not end its host with a colon")


def _host(netloc: str) -> tuple[str, IpAddress | None]:
    if netloc.startswith("["):
        inner, _, rest = netloc[1:].partition("]")
        if rest and not rest.startswith(":"):
            raise AddressFaultError("is not an address")
        try:
            address = ipaddress.IPv6Address(inner)
        except ValueError:
            raise AddressFaultError("must name its host as a name or as an IP address") from None
        return str(address), address
    host = _ascii(netloc.partition(":")[0])
    host = host.removesuffix(".")
    if len(host) > _LONGEST_HOST or not _HOST.fullmatch(host):
        raise AddressFaultError("must name its host as a name or as an IP address")
    if _NUMBER.fullmatch(host.rpartition(".")[2]):
        try:
            literal = ipaddress.IPv4Address(host)
        except ValueError:
            raise AddressFaultError("must write an IP address as four plain numbers") from None
        return host, literal
    if "." not in host or host.endswith(_LOCAL_ENDINGS):
        raise AddressFaultError("must name a host that can be reached from everywhere, such as shop.example")
    return host, None


def _ascii(host: str) -> str:
    """The host as DNS has it; names in other scripts by today's rules, which know no look-alike digits or letters."""
    if host.isascii():
        return host.lower()
    try:
        return idna.encode(host.lower(), std3_rules=True).decode("ascii").lower()
    except idna.IDNAError:
        raise AddressFaultError("has a host that is not a valid international name") from None
