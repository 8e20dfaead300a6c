"""Reads a price as shops write it into integer minor units. No floats, no guess that could cost a factor of a thousand.

Must not round to what Meta accepts: this gives the store's own price, the mapping does the rest.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal

from meta_sync.catalog.ingest.values import UnreadableValueError, quoted
from meta_sync.core.currency import is_currency, minor_unit_exponent

__all__ = ["MAX_MINOR_UNITS", "Price", "read_price"]

MAX_MINOR_UNITS = 2**53 - 1
"""Largest amount taken: the largest integer every JSON reader keeps exact."""

_MAX_DIGITS = 24
"""More digits than any price has, and fewer than the 28 that decimal arithmetic keeps exact by default."""
_LONGEST_PRICE = 200
"""Characters with each run of spaces counted as one. A longer text is no price, and is not looked at closely."""

_DOLLARS = (
    "USD CAD AUD NZD SGD HKD TWD MXN ARS CLP COP UYU DOP BSD BBD BMD BND BZD FJD GYD JMD KYD LRD NAD SBD SRD TTD "
    "XCD CVE CUP NIO"
)
_SYMBOLS: dict[str, frozenset[str]] = {
    symbol: frozenset(codes.split())
    for symbol, codes in {
        "$": _DOLLARS,
        "€": "EUR",
        "£": "GBP EGP LBP SYP FKP GIP SHP",
        "¥": "JPY CNY",
        "円": "JPY",
        "元": "CNY",
        "₹": "INR",
        "rs": "INR PKR LKR NPR MUR SCR",
        "৳": "BDT",
        "tk": "BDT",
        "₽": "RUB",
        "руб": "RUB",
        "р": "RUB",
        "₺": "TRY",
        "tl": "TRY",
        "zł": "PLN",
        "kr": "SEK NOK DKK ISK",
        "fr": "CHF",
        "r$": "BRL",
        "r": "ZAR",
        "us$": "USD",
        "a$": "AUD",
        "au$": "AUD",
        "c$": "CAD NIO",
        "ca$": "CAD",
        "nz$": "NZD",
        "hk$": "HKD",
        "nt$": "TWD",
        "s$": "SGD",
        "mx$": "MXN",
        "₩": "KRW",
        "원": "KRW",
        "₫": "VND",
        "đ": "VND",
        "฿": "THB",
        "บาท": "THB",
        "₱": "PHP CUP",
        "₪": "ILS",
        "₴": "UAH",
        "грн": "UAH",
        "₸": "KZT",
        "тг": "KZT",
        "₦": "NGN",
        "₵": "GHS",
        "gh₵": "GHS",
        "₡": "CRC",
        "₲": "PYG",
        "₼": "AZN",
        "₾": "GEL",
        "֏": "AMD",
        "kč": "CZK",
        "ft": "HUF",
        "lei": "RON MDL",
        "rp": "IDR",
        "rm": "MYR",
        "s/": "PEN",
        "ksh": "KES",
        "dt": "TND",
        "dh": "MAD AED",
        "dhs": "MAD AED",
        "د.إ": "AED",
        "ر.س": "SAR",
        "د.ت": "TND",
        "د.ك": "KWD",
        "ج.م": "EGP",
    }.items()
}

_SPACES = re.compile(r"[\s\u00a0\u2000-\u200b\u202f\u205f\u2060\u3000_]+")
_NUMBER = re.compile(r"(?:(?<!\w)\.(?=[0-9]))?[0-9](?:[0-9.,' ]*[0-9])?")
_WHOLE_MARK = re.compile(r"[.,]\s*[-–—]{1,2}(?=\D*$)")
"""The "10,-" of a price without cents."""
_SPACED = re.compile(r"[0-9]{1,3}(?:[ '][0-9]{3})+(?:[.,][0-9]+)?")
_GROUPED = re.compile(r"[0-9]{1,3}(?:[.,][0-9]{3})+|[0-9]{1,2}(?:[.,][0-9]{2})*[.,][0-9]{3}")
"""Groups of three, or the Indian way: three, then twos."""
_TRANSLATED = str.maketrans(
    {"٫": ".", "٬": ",", "’": "'", "ʼ": "'", "`": "'", "´": "'", "−": "-", "．": ".", "，": ","}
)


@dataclass(frozen=True, slots=True)
class Price:
    """A price in the store's currency."""

    minor_units: int
    names_currency: bool
    """Whether the text said which currency it is in."""
    note: str | None
    """A sentence for the merchant where reading lost or guessed something."""
    amount: Decimal
    """The exact amount in units of the currency, for formats that calculate with it before rounding."""


def read_price(text: str, currency: str, *, label: str = "price", grouped: bool = True) -> Price:
    """Read a price such as ``10.50 USD``, ``$10``, ``1.299,00 EUR`` or ``1 299,00 €``.

    With both separators the last one is the decimal mark. A single separator before three digits: a comma groups
    thousands, a dot is the decimal mark that Google's and Meta's feed specifications ask for (with a note), save in
    currencies without decimals, where it groups. A comma before three digits in a currency with three decimals could
    be either and is refused. ``grouped=False`` says that thousands are never grouped by a single separator.

    Raises
    ------
    UnreadableValueError
        The text is no price, is negative, too large, ambiguous by a factor of a thousand, or in another currency
        than the store's.
    """
    plain = _plain(text)
    found = _NUMBER.search(plain)
    if found is None or any(char.isdigit() for char in plain[found.end() :]):
        raise _unreadable(label, text)
    before, after = plain[: found.start()].strip(), plain[found.end() :].strip()
    if "-" in before or before.startswith("("):
        raise UnreadableValueError(f"The {label} {quoted(text)} is negative.")
    names_currency = _check_currency(text, before, after, currency, label)
    exponent = minor_unit_exponent(currency)
    number, guessed = _decimal_text(found.group(), exponent, text, label, grouped=grouped)
    if len(number) > _MAX_DIGITS:
        raise UnreadableValueError(f"The {label} {quoted(text)} is too large.")
    exact = Decimal(number).scaleb(exponent)
    minor_units = int(exact.to_integral_value(ROUND_HALF_UP))
    if minor_units > MAX_MINOR_UNITS:
        raise UnreadableValueError(f"The {label} {quoted(text)} is too large.")
    shown = f"{Decimal(minor_units).scaleb(-exponent):f} {currency}"
    note = None
    if guessed:
        note = (
            f"The {label} {quoted(text)} was read as {shown}; if the dot separates thousands, leave it out."
        )
    elif exact != minor_units:
        note = f"The {label} {quoted(text)} was rounded to {shown}, the smallest unit of the currency."
    return Price(minor_units, names_currency, note, exact.scaleb(-exponent))


def _plain(text: str) -> str:
    text = _SPACES.sub(" ", text.translate(_TRANSLATED)).strip()
    if not text.isascii():
        text = "".join(str(unicodedata.decimal(char)) if char.isdecimal() else char for char in text)
    return _WHOLE_MARK.sub("", text) if len(text) <= _LONGEST_PRICE else text


def _unreadable(label: str, text: str) -> UnreadableValueError:
    return UnreadableValueError(
        f"The {label} {quoted(text)} cannot be read; write a number and the currency code, such as 10.50 USD."
    )


def _check_currency(text: str, before: str, after: str, currency: str, label: str) -> bool:
    """Whether a currency is named; refuses any but the store's."""
    tokens = [token for token in (*before.split(), *after.split()) if token.strip(".,:")]
    for token in tokens:
        codes = _codes(token.casefold().strip(".,:"))
        if codes is None:
            raise _unreadable(label, text)
        if currency in codes:
            continue
        code = next(iter(codes)) if len(codes) == 1 else token
        if len(codes) == 1 and not is_currency(code):
            raise UnreadableValueError(
                f"The {label} {quoted(text)} cannot be read: {code} is not the code of a currency in use."
            )
        raise UnreadableValueError(
            f"The {label} is in {code}, but the store sells in {currency}.", rule="wrong_currency"
        )
    return bool(tokens)


def _codes(token: str) -> frozenset[str] | None:
    """Currencies that a sign or code may stand for, ``None`` when it is neither."""
    known = _SYMBOLS.get(token)
    if known is not None:
        return known
    if len(token) == 3 and token.isascii() and token.isalpha():
        return frozenset((token.upper(),))
    code, sign = token[:3], token[3:]
    if sign not in _SYMBOLS:
        code, sign = token[-3:], token[:-3]
    if sign in _SYMBOLS and code.isascii() and code.isalpha():  # "USD$", "$USD"
        return _SYMBOLS[sign] & {code.upper()} or frozenset((code.upper(),))
    return None


def _decimal_text(number: str, exponent: int, text: str, label: str, *, grouped: bool) -> tuple[str, bool]:
    """The number with a dot as decimal mark and no grouping, and whether that was a guess."""
    if " " in number or "'" in number:
        if not _SPACED.fullmatch(number):
            raise _unreadable(label, text)
        return number.replace(" ", "").replace("'", "").replace(",", "."), False
    last = max(number.rfind("."), number.rfind(","))
    if last < 0:
        return number, False
    mark, whole, fraction = number[last], number[:last], number[last + 1 :]
    if mark in whole:  # one separator several times
        if not _GROUPED.fullmatch(number) or len({char for char in number if not char.isdigit()}) > 1:
            raise _unreadable(label, text)
        return number.replace(mark, ""), False
    if not whole.isdigit() and whole:  # both separators
        if not _GROUPED.fullmatch(whole):
            raise _unreadable(label, text)
        return f"{whole.replace('.', '').replace(',', '')}.{fraction}", False
    may_group = grouped and len(fraction) == 3 and len(whole) <= 3 and whole.strip("0") != ""
    if may_group and mark == "," and exponent == 3:
        raise UnreadableValueError(
            f"The {label} {quoted(text)} can be read in two ways; write {whole}.{fraction} or {whole}{fraction}.000."
        )
    if may_group and (mark == "," or exponent == 0):
        return whole + fraction, False
    return f"{whole or '0'}.{fraction}", may_group and exponent != 3
