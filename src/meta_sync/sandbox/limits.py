"""Meta's rate budgets per catalog: rolling hours, refusals and the usage header. Time is passed in."""

from __future__ import annotations

import json
import math
from collections import deque
from dataclasses import dataclass, field
from enum import Enum

from meta_sync.sandbox.errors import GraphError

__all__ = ["Bucket", "Limiter", "throttled"]

_HOUR_SECONDS = 3600.0
_HEADER_AFTER_CALLS = 5
"""Meta sends usage headers only "once enough calls have been made"; how many is not documented."""


class Bucket(Enum):
    """A budget: its type word in the header, its error code, and what the error calls the calls."""

    BATCH = ("catalog_batch", 80014, "batch uploads to this catalog account")
    MANAGEMENT = ("catalog_management", 80009, "this catalog account")

    @property
    def code(self) -> int:
        """The error code when the budget is used up."""
        return self.value[1]


@dataclass(slots=True)
class _Window:
    budget: int
    calls: deque[float] = field(default_factory=deque)
    blocked_until: float = 0.0

    def count(self, now: float) -> int:
        while self.calls and self.calls[0] <= now - _HOUR_SECONDS:
            self.calls.popleft()
        return len(self.calls)

    def regain_minutes(self, now: float) -> int:
        """Minutes until a call is allowed again, rounded up; 0 when one is allowed now."""
        free_at = self.blocked_until
        must_end = self.count(now) - self.budget + 1
        if self.budget <= 0:
            free_at = max(free_at, now + _HOUR_SECONDS)
        elif must_end > 0:
            free_at = max(free_at, self.calls[must_end - 1] + _HOUR_SECONDS)
        return math.ceil(max(0.0, free_at - now) / 60)


class Limiter:
    """Counts calls per catalog and budget. A refused call counts too, which is why stopping is right."""

    def __init__(self, budgets: dict[Bucket, int]) -> None:
        self._budgets = budgets
        self._windows: dict[tuple[str, Bucket], _Window] = {}

    def spend(self, catalog_id: str, bucket: Bucket, now: float) -> bool:
        """Count one call; whether it is within the budget."""
        window = self._window(catalog_id, bucket)
        window.calls.append(now)
        return window.count(now) <= window.budget and window.blocked_until <= now

    def block(self, catalog_id: str, bucket: Bucket, until: float) -> None:
        """Refuse every call of the budget until the given instant, whatever was used."""
        self._window(catalog_id, bucket).blocked_until = until

    def used_percent(self, catalog_id: str, bucket: Bucket, now: float) -> int:
        """Share of the rolling hour's budget that is used, in percent; above 100 when over."""
        window = self._window(catalog_id, bucket)
        percent = window.count(now) * 100 // max(1, window.budget)
        return max(percent, 100) if window.blocked_until > now else percent

    def regain_minutes(self, catalog_id: str, bucket: Bucket, now: float) -> int:
        """Minutes until the budget allows a call again; 0 when it does now."""
        return self._window(catalog_id, bucket).regain_minutes(now)

    def headers(self, business_id: str, catalog_id: str, now: float) -> dict[str, str]:
        """The usage header for an answer about a catalog; empty while too little was called."""
        entries = []
        for bucket in Bucket:
            window = self._windows.get((catalog_id, bucket))
            if window is None or (window.count(now) < _HEADER_AFTER_CALLS and window.blocked_until <= now):
                continue
            percent = self.used_percent(catalog_id, bucket, now)
            entries.append(
                {
                    "type": bucket.value[0],
                    "call_count": percent,
                    # Meta also limits processor and wall time; here they follow the calls at a distance.
                    "total_cputime": percent // 2,
                    "total_time": percent // 2,
                    "estimated_time_to_regain_access": window.regain_minutes(now),
                }
            )
        return {"x-business-use-case-usage": json.dumps({business_id: entries})} if entries else {}

    def _window(self, catalog_id: str, bucket: Bucket) -> _Window:
        key = (catalog_id, bucket)
        if key not in self._windows:
            self._windows[key] = _Window(self._budgets[bucket])
        return self._windows[key]


def throttled(bucket: Bucket, status: int) -> GraphError:
    """The error of a used-up budget. The HTTP status is 400 or 403, never 429."""
    return GraphError(
        bucket.code,
        f"(#{bucket.code}) There have been too many calls for the {bucket.value[2]}. Wait a bit and try again. For "
        "more info, please refer to https://developers.facebook.com/docs/graph-api/overview/rate-limiting#catalog.",
        status=status,
    )
