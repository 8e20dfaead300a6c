"""Reads instants and sale windows as shops write them. Local times are read in the store's zone, results are in UTC."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo

from meta_sync.catalog.ingest.values import UnreadableValueError, quoted

__all__ = ["read_instant", "read_window"]

_STAMP = re.compile(
    r"(?P<year>[0-9]{4})-(?P<month>[0-9]{1,2})-(?P<day>[0-9]{1,2})"
    r"(?:(?:\s*T\s*|\s+)(?P<hour>[0-9]{1,2}):(?P<minute>[0-9]{2})(?::(?P<second>[0-9]{2})(?:[.,][0-9]+)?)?"
    r"\s*(?P<offset>Z|UTC|GMT|[+-][0-9]{2}(?::?[0-9]{2})?)?)?",
    re.IGNORECASE,
)
_UNITS = ("year", "month", "day", "hour", "minute", "second")


def read_window(text: str, zone: ZoneInfo) -> tuple[datetime | None, datetime | None]:
    """Read ``start/end``; either side may be missing. A text without a slash is a start.

    Raises
    ------
    UnreadableValueError
        A side is no ISO 8601 date or time.
    """
    start, _, end = text.partition("/")
    return (
        read_instant(start, zone, end_of_day=False) if start.strip() else None,
        read_instant(end, zone, end_of_day=True) if end.strip() else None,
    )


def read_instant(text: str, zone: ZoneInfo, *, end_of_day: bool) -> datetime:
    """Read ``YYYY-MM-DD``, with or without a time, with or without an offset. Fractions of a second are dropped.

    A date alone is 00:00 of that day, or 23:59 where it ends something. Without an offset the time is local to the
    zone: one that the clocks skip moves forward, one that comes twice is the first.

    Raises
    ------
    UnreadableValueError
        The text is no such date or time, or the date does not exist.
    """
    match = _STAMP.fullmatch(text.strip())
    if match is None:
        raise UnreadableValueError(
            f"The date {quoted(text)} cannot be read; write it as 2026-05-30T23:59+00:00 or 2026-05-30."
        )
    parts = match.groupdict()
    if parts["hour"] is None and end_of_day:
        parts["hour"], parts["minute"] = "23", "59"
    offset: tzinfo = _offset(parts["offset"]) if parts["offset"] else zone
    try:
        # With fold=0 a skipped local time takes the offset before the gap, which moves it forward.
        year, month, day, hour, minute, second = (int(parts[unit] or 0) for unit in _UNITS)
        return datetime(year, month, day, hour, minute, second, tzinfo=offset).astimezone(UTC)
    except (ValueError, OverflowError):
        raise UnreadableValueError(f"The date {quoted(text)} does not exist.") from None


def _offset(text: str) -> tzinfo:
    if text[0] not in "+-":
        return UTC
    digits = text[1:].replace(":", "").ljust(4, "0")
    minutes = int(digits[:2]) * 60 + int(digits[2:])
    if minutes >= 24 * 60:
        raise UnreadableValueError(f"The offset {quoted(text)} does not exist.")
    return timezone(timedelta(minutes=-minutes if text[0] == "-" else minutes))
