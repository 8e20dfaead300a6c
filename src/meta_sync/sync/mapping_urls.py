"""Addresses of pages and images: absolute, http or https, without credentials, encoded. Nothing is fetched here.

Meta refuses an address with a user name or password in it ("is not supported" in its own error text), and such an
address would publish the credential; it is therefore treated as unusable.
"""

from __future__ import annotations

import re
import unicodedata
from urllib.parse import quote

from meta_sync.catalog.models import CatalogItem

__all__ = ["LinkTemplate", "MediaBase", "absolute_url", "is_local", "with_version"]

_SAFE = "-._~:/?#[]@!$&'()*+,;=%"
"""What RFC 3986 allows unescaped, and the percent sign of what is escaped already."""
_TAIL = r"[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=]*+"
_HOST = r"[A-Za-z0-9_\-]++(?:\.[A-Za-z0-9_\-]++)*+\.?+"
_CLEAN_URL = re.compile(rf"https?://{_HOST}(?:[/?#]{_TAIL}(?:%[0-9A-Fa-f]{{2}}{_TAIL})*+)?")
_ANY_HOST = re.compile(rf"({_HOST}|\[[0-9A-Fa-f:.]+\])(?::([0-9]{{1,5}}))?")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*:")
_LONE_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_SURROGATE = re.compile("[\ud800-\udfff]")
_NOT_IN_URL = re.compile(r"[\t\r\n]")
_MAX_LABEL_CHARS = 63
_MAX_HOST_CHARS = 270
"""A name of 253 characters (RFC 1035) and a port, with some room."""
_UNRESERVED = re.compile(r"[A-Za-z0-9._~\-]+")
_VERSION_PARAMETER = "meta_sync_version"

is_clean_url = _CLEAN_URL.fullmatch
"""Matches an address that can be sent as it stands."""


def absolute_url(text: str) -> str | None:
    """The address ready to be sent, or ``None`` when it is not an absolute http or https one.

    Spaces and other characters that do not belong into an address are percent-encoded, what is encoded stays. An
    address without a scheme (``//host/path``) gets https.
    """
    if is_clean_url(text):
        return text
    text = _NOT_IN_URL.sub("", text).strip()
    if text.startswith("//"):
        text = f"https:{text}"
    scheme, separator, rest = text.partition("://")
    scheme = scheme.lower()
    if not separator or scheme not in ("http", "https"):
        return None
    boundary = next((place for place, char in enumerate(rest) if char in "/?#\\"), len(rest))
    host = _host(rest[:boundary])
    return None if host is None else f"{scheme}://{host}{_encoded(rest[boundary:], _SAFE)}"


def _encoded(text: str, safe: str) -> str:
    return quote(_SURROGATE.sub("\ufffd", _LONE_PERCENT.sub("%25", text)), safe=safe)


def _host(text: str) -> str | None:
    if len(text) > _MAX_HOST_CHARS:
        return None
    if not text.isascii():
        if not text.isprintable():
            return None
        labels = [_label(label) for label in text.split(".")]
        text = ".".join(labels)
    match = _ANY_HOST.fullmatch(text)
    if match is None or (match[2] is not None and not 0 < int(match[2]) <= 65_535):
        return None
    return text if all(len(label) <= _MAX_LABEL_CHARS for label in match[1].split(".")) else None


def _label(label: str) -> str:
    """A label in the form name servers know, after the present rules of IDNA, which keep ß (Python's codec does not)."""
    label = unicodedata.normalize("NFKC", label.lower())
    return label if label.isascii() else "xn--" + label.encode("punycode").decode("ascii")


def is_local(url: str) -> bool:
    """Whether the address means the machine itself, which Meta cannot reach."""
    return "://localhost" in url or "://127." in url or "://[::1]" in url


def with_version(url: str, version: int) -> str:
    """The address with a version in its query, so that Meta fetches an image again that it knows under its address."""
    address, hash_sign, fragment = url.partition("#")
    joint = "&" if "?" in address else "?"
    return f"{address}{joint}{_VERSION_PARAMETER}={version}{hash_sign}{fragment}"


class MediaBase:
    """Turns what a store has for an image into an address."""

    __slots__ = ("_base",)

    def __init__(self, media_base_url: str | None) -> None:
        base = absolute_url(media_base_url) if media_base_url else None
        self._base = base.rstrip("/") if base else None

    def resolve(self, text: str) -> str | None:
        """The address of an image, or ``None`` when there is none to be had.

        A bare key (no scheme, no host) is put behind the media base; a ``#`` in it is part of the name.
        """
        if is_clean_url(text):
            return text
        text = text.strip()
        if not text:
            return None
        if text.startswith("//") or _SCHEME.match(text):
            return absolute_url(text)
        if self._base is None:
            return None
        return f"{self._base}/{_encoded(text.lstrip('/'), _SAFE.replace('#', ''))}"


class LinkTemplate:
    """Builds product pages from the storefront's address and path."""

    __slots__ = ("_origin", "_pieces")

    def __init__(self, base_url: str | None, path: str) -> None:
        base = absolute_url(base_url) if base_url else None
        self._origin = None if base is None else "/".join(base.split("/", 3)[:3])
        joint = "" if path.startswith(("/", "?")) else "/"
        self._pieces: tuple[str, ...] = ()
        if base is not None:
            literal_or_name = re.split(
                r"\{(slug|productId|variantId|sku)\}", f"{base.rstrip('/')}{joint}{path}"
            )
            self._pieces = tuple(
                piece if place % 2 else _encoded(piece, _SAFE) for place, piece in enumerate(literal_or_name)
            )

    def build(self, item: CatalogItem) -> str | None:
        """The page of an item, or ``None`` without a storefront address or when a value the path needs is missing."""
        pieces = self._pieces
        if not pieces:
            return None
        url = pieces[0]
        for place in range(1, len(pieces), 2):
            name = pieces[place]
            if name == "slug":
                value = item.slug
            elif name == "productId":
                value = item.product_id
            elif name == "variantId":
                value = item.variant_id
            else:
                value = item.sku
            value = value.strip() if value else None
            if not value:
                return None
            if not _UNRESERVED.fullmatch(value):
                value = quote(_SURROGATE.sub("\ufffd", value), safe="")
            url += value + pieces[place + 1]
        return url

    def given(self, link: str) -> str | None:
        """The address of a link the store gave; one that begins at the root of the storefront is completed."""
        if is_clean_url(link):
            return link
        link = link.strip()
        if self._origin is not None and link.startswith("/") and not link.startswith("//"):
            link = self._origin + link
        return absolute_url(link)
