"""How badly the simulated Meta behaves, and the work that it has under way. Plain values."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Adversity", "Work"]


@dataclass(slots=True)
class Adversity:
    """How often what goes wrong: shares of all calls, questions or records."""

    not_connected: float = 0.0
    stuck: float = 0.0
    """The call arrives after the client gave up."""
    answer_lost: float = 0.0
    server_error: float = 0.0
    """500 or 503 without a Graph body, or codes 1 and 2: before or after the call was taken."""
    throttled: float = 0.0
    nothing_taken: float = 0.0
    refused_at_once: float = 0.0
    """Of items that Meta will not have: refused in the answer to the call instead of in the report."""
    only_warned: float = 0.0
    """Of refused items: named by a 'required field' warning and by nothing else."""
    slow: float = 0.0
    """The batch ends after minutes."""
    late: float = 0.0
    """The batch ends long after its handle was given up."""
    crossed: float = 0.0
    """What an older batch has under way takes effect right after a newer one's, and the newer one ends after it."""
    forgotten: float = 0.0
    """The handle is never known again."""
    young_unknown: float = 0.0
    broken_off: float = 0.0
    """The batch ends with ``error`` or ``canceled``, with some of its records saved."""
    capped: float = 0.0
    """The list of errors is shorter than its total."""
    mangled: float = 0.0
    """An id in the report is trimmed or in another case."""
    no_total: float = 0.0
    question_fails: float = 0.0
    read_lag_seconds: float = 0.0
    lost_cursor: float = 0.0
    """A walk over all items is asked to begin anew."""
    wavers: float = 0.0
    """Of the items of a walk: not shown, or shown as they once were."""
    slow_seconds: tuple[float, float] = (60.0, 1500.0)
    late_seconds: tuple[float, float] = (1900.0, 3 * 3600.0)

    @classmethod
    def drawn(cls, rng: random.Random) -> Adversity:
        """Some of it, never all: what is always there would hide the rest."""
        adversity = cls()
        for name in cls.__dataclass_fields__:
            if name.endswith("_seconds") or name in {"crossed", "lost_cursor", "wavers"}:
                continue
            if rng.random() < 0.45:
                setattr(adversity, name, rng.choice([0.05, 0.15, 0.35]))
        # Each costs a day of questions.
        adversity.forgotten = rng.choice([0.0, 0.0, 0.0, 0.0, 0.0, 0.04])
        adversity.read_lag_seconds = rng.choice([0.0, 5.0, 300.0])
        return adversity


@dataclass(slots=True)
class Work:
    """One call that Meta took: its records, and when each of them takes effect."""

    catalog_id: str
    handle: str
    records: list[tuple[str, dict[str, Any]]]
    taken_at: float
    ends_at: float
    status: str = "finished"
    is_forgotten: bool = False
    dropped: set[int] = field(default_factory=set)
    """Records that an end without a verdict left out."""
    refused: dict[str, str] = field(default_factory=dict)
    """Message per id that was not saved."""
    warned: dict[str, str] = field(default_factory=dict)
    timers: dict[int, asyncio.TimerHandle] = field(default_factory=dict)
    shown: int | None = None
    """Length of the shown list of errors; ``None``: all of it."""
    mangled: bool = False
    has_total: bool = True
    is_told: bool = False
    """Whether its end has been told."""
    is_bounded: bool = False
    """Nobody will know its handle: it ends within Meta's bound."""
    crosses: list[Work] = field(default_factory=list)
    """Older batches whose records take effect after this one's."""

    @property
    def is_finished(self) -> bool:
        return not self.timers
