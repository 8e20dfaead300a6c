"""How much of the rate budget is used, read from Meta's headers. Decisions about it are in ``governor``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from meta_sync.graph.tolerant import decode_json, header, items, mapping, number

__all__ = ["Usage", "UsageEntry", "merge_usage", "parse_usage"]

_LONGEST_REGAIN_SECONDS = 24 * 3600
"""Windows are rolling hours; a header that asks for more than a day is a fault and must not stop a store."""

_MOST_ENTRIES = 32
"""The documented maximum of entries in the business use case header."""


@dataclass(frozen=True, slots=True)
class UsageEntry:
    """One counter: its kind (``app``, ``ad_account`` or Meta's own word), percent used, seconds to wait."""

    kind: str
    percent: float
    regain_seconds: int


@dataclass(frozen=True, slots=True)
class Usage:
    """What one answer's headers say of the budget.

    Attributes
    ----------
    percent
        The highest share of any allowance that is used; may exceed 100. Meta leaves the headers out while
        little is used (documented), so 0 also means "not said".
    regain_seconds
        How long to stay silent; 0 when nothing is throttled.
    entries
        The counters one by one.
    """

    percent: float = 0.0
    regain_seconds: int = 0
    entries: tuple[UsageEntry, ...] = ()


def parse_usage(headers: Mapping[str, str]) -> Usage:
    """Usage from the three documented headers. Junk counts as absent; nothing raises."""
    return _sum_up((*_business_entries(headers), *_app_entries(headers), *_ad_account_entries(headers)))


def merge_usage(first: Usage, second: Usage) -> Usage:
    """The usage after two answers, ``second`` being the later one: its counters replace those of the same
    kind.
    """
    newer = {entry.kind for entry in second.entries}
    return _sum_up((*(entry for entry in first.entries if entry.kind not in newer), *second.entries))


def _sum_up(entries: tuple[UsageEntry, ...]) -> Usage:
    return Usage(
        percent=max((entry.percent for entry in entries), default=0.0),
        regain_seconds=max((entry.regain_seconds for entry in entries), default=0),
        entries=entries,
    )


def _header_object(headers: Mapping[str, str], name: str) -> dict[str, Any]:
    value = header(headers, name)
    return mapping(decode_json(value.encode("utf-8", "replace"))) if value else {}


def _business_entries(headers: Mapping[str, str]) -> Iterator[UsageEntry]:
    """A JSON text: an object keyed by business object, each with a list of counters. Regain time is in
    minutes.
    """
    left = _MOST_ENTRIES
    for counters in _header_object(headers, "x-business-use-case-usage").values():
        for counter in items(counters)[:left]:
            fields = mapping(counter)
            kind = fields.get("type")
            minutes = _at_least_zero(fields.get("estimated_time_to_regain_access"))
            left -= 1
            yield UsageEntry(
                kind=kind[:64] if isinstance(kind, str) else "",
                percent=_highest(fields),
                regain_seconds=min(int(minutes * 60), _LONGEST_REGAIN_SECONDS),
            )


def _app_entries(headers: Mapping[str, str]) -> Iterator[UsageEntry]:
    fields = _header_object(headers, "x-app-usage")
    if fields:
        yield UsageEntry(kind="app", percent=_highest(fields), regain_seconds=0)


def _ad_account_entries(headers: Mapping[str, str]) -> Iterator[UsageEntry]:
    """Here the time is in seconds, and it is a wait only once the allowance is used up."""
    fields = _header_object(headers, "x-ad-account-usage")
    if fields:
        percent = _at_least_zero(fields.get("acc_id_util_pct"))
        reset = _at_least_zero(fields.get("reset_time_duration")) if percent >= 100 else 0.0
        yield UsageEntry("ad_account", percent, min(int(reset), _LONGEST_REGAIN_SECONDS))


def _highest(fields: Mapping[str, Any]) -> float:
    """Calls, CPU time and wall time are limited separately; the fullest counts."""
    return max(_at_least_zero(fields.get(name)) for name in ("call_count", "total_cputime", "total_time"))


def _at_least_zero(value: Any) -> float:
    """Capped so that arithmetic on it stays finite and an integer of it stays printable."""
    return min(max(number(value) or 0.0, 0.0), 1e6)
