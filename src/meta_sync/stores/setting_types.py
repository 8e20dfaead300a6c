"""Kinds of setting values and what makes one valid. Pure; the messages complete a sentence that begins with the key."""

from __future__ import annotations

import functools
import re
import zoneinfo
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    GetJsonSchemaHandler,
    StrictBool,
    StrictFloat,
    StrictInt,
    StringConstraints,
)
from pydantic_core import CoreSchema

from meta_sync.core.currency import is_currency
from meta_sync.core.text import text_fault

__all__ = [
    "BaseUrl",
    "CurrencyCode",
    "Days",
    "EmailAddress",
    "Flag",
    "GraphVersion",
    "MetaId",
    "OptionalText",
    "ProductPath",
    "RetailerIdTemplate",
    "Share",
    "Text",
    "TimeZoneName",
    "Told",
    "Url",
    "WholeNumber",
]

_LONGEST_URL = 2000
"""Browsers and feeds agree on about two thousand characters."""

_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_ID_PLACEHOLDERS = ("variantId", "productId", "sku")
_PATH_PLACEHOLDERS = ("slug", "productId", "variantId", "sku")
_URL_PATTERN = r"^(https?://[^\s@\\<>\x22{}|^`]+)?$"
_BASE_URL_PATTERN = r"^(https?://[^\s@\\<>\x22{}|^`?#]+)?$"
_LONGEST_TEMPLATE = 100
"""An id at Meta has at most 100 characters, so a longer template could never make one."""


def _blank_as_none(value: object) -> object:
    """A form sends an empty text for a field that nobody filled in."""
    return None if isinstance(value, str) and not value.strip() else value


def _storable(text: str) -> str:
    fault = text_fault(text)
    if fault is not None:
        raise ValueError(fault)
    if any(ord(character) < 32 or ord(character) == 127 for character in text):
        raise ValueError("must not contain control characters")
    return text


def _url(text: str) -> str:
    try:
        parts = urlsplit(text)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
        parts = urlsplit("")
    if not usable or re.search(r"\s|[\\<>\"{}|^`]", text):
        raise ValueError("must be an http or https address such as https://shop.example")
    if "@" in parts.netloc:
        raise ValueError("must not contain a user name or password")
    return text


def _base_url(text: str) -> str:
    if "?" in text or "#" in text:
        raise ValueError("must be an address without a query or fragment")
    return _url(text)


def _currency(code: str) -> str:
    code = code.upper()
    if not is_currency(code):
        raise ValueError("must be an active ISO 4217 currency code such as EUR")
    return code


@functools.cache
def _time_zone_names() -> frozenset[str]:
    # Looked at instead of trying ZoneInfo, which opens files by whatever name it is given.
    return frozenset(zoneinfo.available_timezones())


def _time_zone(name: str) -> str:
    if name not in _time_zone_names():
        raise ValueError("must be an IANA time zone such as Europe/Berlin")
    return name


def _require_placeholders(text: str, known: tuple[str, ...]) -> list[str]:
    used: list[str] = _PLACEHOLDER.findall(text)
    listed = ", ".join(f"{{{name}}}" for name in known)
    for name in used:
        if name not in known:
            raise ValueError(f"has the unknown placeholder {{{name[:40]}}}; known are {listed}")
    if "{" in _PLACEHOLDER.sub("", text) or "}" in _PLACEHOLDER.sub("", text):
        raise ValueError(f"has a brace without its counterpart; placeholders are {listed}")
    if not used:
        raise ValueError(f"must contain a placeholder: {listed}")
    return used


def _product_path(path: str) -> str:
    if not path.startswith("/"):
        raise ValueError("must begin with /")
    if re.search(r"\s", path):
        raise ValueError("must not contain spaces")
    _require_placeholders(path, _PATH_PLACEHOLDERS)
    return path


def _retailer_id_template(template: str) -> str:
    used = _require_placeholders(template, _ID_PLACEHOLDERS)
    if "variantId" not in used and "sku" not in used:
        raise ValueError("must contain {variantId} or {sku}: the variants of a product would share one id")
    return template


def _graph_version(version: str) -> str:
    if not re.fullmatch(r"v[1-9][0-9]{0,2}\.[0-9]{1,2}", version):
        raise ValueError("must be a Graph API version such as v25.0")
    return version


def _meta_id(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,100}", text):
        raise ValueError("must be an id as Meta shows it: digits, without spaces")
    return text


def _email(text: str) -> str:
    if not re.fullmatch(r"[^\s@,;<>\"]{1,64}@[^\s@,;<>\"]{1,190}\.[^\s@,;<>\".]{2,}", text):
        raise ValueError("must be an e-mail address")
    return text


_Stripped = StringConstraints(strict=True, strip_whitespace=True, max_length=_LONGEST_URL)


@dataclass(frozen=True, slots=True)
class Told:
    """A keyword of JSON Schema that says in documents what a validator sees to; it checks nothing by itself."""

    keyword: str
    value: object

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {**handler(schema), self.keyword: self.value}


def _told(pattern: str) -> Told:
    """A pattern. Where a value may be empty it lets that through; spaces around a value are forgiven in silence."""
    return Told("pattern", pattern)


Flag = StrictBool
WholeNumber = StrictInt
Days = Annotated[StrictInt, Field(ge=1, le=3650)]
Share = Annotated[StrictFloat, Field(gt=0, le=1, allow_inf_nan=False)]
Text = Annotated[
    str,
    StringConstraints(strict=True, strip_whitespace=True, min_length=1, max_length=200),
    AfterValidator(_storable),
]
OptionalText = Annotated[Text | None, BeforeValidator(_blank_as_none)]
Url = Annotated[
    Annotated[str, _Stripped, AfterValidator(_storable), AfterValidator(_url), _told(_URL_PATTERN)] | None,
    BeforeValidator(_blank_as_none),
]
BaseUrl = Annotated[
    Annotated[str, _Stripped, AfterValidator(_storable), AfterValidator(_base_url), _told(_BASE_URL_PATTERN)]
    | None,
    BeforeValidator(_blank_as_none),
]
MetaId = Annotated[
    Annotated[str, _Stripped, AfterValidator(_meta_id), _told("^[A-Za-z0-9_-]{0,100}$")] | None,
    BeforeValidator(_blank_as_none),
]
CurrencyCode = Annotated[
    Annotated[str, _Stripped, AfterValidator(_currency), _told("^([A-Za-z]{3})?$")] | None,
    BeforeValidator(_blank_as_none),
]
TimeZoneName = Annotated[str, _Stripped, AfterValidator(_time_zone), _told("^[A-Za-z0-9_+/-]+$")]
GraphVersion = Annotated[
    str, _Stripped, AfterValidator(_graph_version), _told(r"^v[1-9][0-9]{0,2}\.[0-9]{1,2}$")
]
ProductPath = Annotated[
    str,
    _Stripped,
    AfterValidator(_storable),
    AfterValidator(_product_path),
    _told(r"^/\S*\{(slug|productId|variantId|sku)\}\S*$"),
]
RetailerIdTemplate = Annotated[
    str,
    StringConstraints(strict=True, max_length=_LONGEST_TEMPLATE),
    AfterValidator(_storable),
    AfterValidator(_retailer_id_template),
    _told(r"\{(variantId|sku)\}"),
]
EmailAddress = Annotated[
    str,
    _Stripped,
    AfterValidator(_storable),
    AfterValidator(_email),
    _told(r'^[^\s@,;<>"]{1,64}@[^\s@,;<>"]{1,190}\.[^\s@,;<>".]{2,}$'),
]
