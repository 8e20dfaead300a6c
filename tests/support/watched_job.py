"""A job as it is seen from outside: each sample is held against the others, and all of them make a line of a table."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

__all__ = ["OVER", "Watched", "table_of"]

_ENDED = ("unchanged", "synced", "failed", "skipped", "cancelled")
_OPEN = ("enqueued", "submitted")
OVER = frozenset({"success", "partial", "cancelled", "error"})


@dataclass
class Watched:
    """A job as it was seen from outside, sample by sample."""

    name: str
    job: dict[str, Any] = field(default_factory=dict)
    samples: int = 0
    statuses: int = 0
    events: int = 0
    began_at: float = field(default_factory=time.monotonic)
    seconds: float = 0.0
    calls: int = 0
    estimates: list[float] = field(default_factory=list)
    """Seconds that the estimated end lay ahead, with each sample that had one."""
    _last: dict[str, dict[str, Any]] = field(default_factory=dict)

    def saw(self, job: dict[str, Any], *, how: str) -> None:
        """Check one sample, by itself and against the one before that came the same way."""
        counts, before = job["counts"], self._last.get(how)
        assert min(counts.values()) >= 0, job
        told = sum(counts[name] for name in (*_ENDED, *_OPEN))
        assert told <= counts["total"], job
        if job["status"] in OVER:
            assert told == counts["total"], job
            assert not any(counts[name] for name in _OPEN), job
            assert (job["percent"], job["estimatedFinishAt"]) == (100, None), job
            assert job["finishedAt"] is not None, job
        else:
            assert job["percent"] < 100, job
        if job["stage"] == "syncing" and job["status"] == "running":
            assert told == counts["total"], job
        if before is not None:
            for name in _ENDED:
                assert counts[name] >= before["counts"][name], (name, before, job)
            assert job["percent"] >= before["percent"], (before, job)
            assert counts["total"] == before["counts"]["total"], (before, job)
            assert before["status"] not in OVER or job["counts"] == before["counts"], (before, job)
        self._last[how] = self.job = job


def table_of(phases: list[Watched]) -> str:
    names = ("total", "synced", "unchanged", "failed", "skipped", "cancelled")
    head = f"{'':<18}{'status':<11}{'seconds':>8}{'samples':>9}{'events':>8}{'calls':>7}"
    lines = [head + "".join(f"{name:>11}" for name in names)]
    lines += [
        f"{one.name:<18}{one.job['status']:<11}{one.seconds:>8.1f}{one.samples + one.statuses:>9}{one.events:>8}"
        f"{one.calls:>7}" + "".join(f"{one.job['counts'][name]:>11}" for name in names)
        for one in phases
    ]
    return "\n".join(lines)
