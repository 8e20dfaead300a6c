"""What came out, as a table: ratios of paired passes, and what each pass cost the program and the database."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from typing_extensions import override

__all__ = ["GATE", "Pair", "Pass", "report"]

GATE = 1.5
"""The service may take this many times as long as the limit, first send and no-op each."""


@dataclass(frozen=True)
class Pass:
    """One pass of one program: wall time, and the processor time of the program and of the database's processes."""

    seconds: float
    program_seconds: float
    database_seconds: float

    def __add__(self, other: Pass) -> Pass:
        return Pass(
            self.seconds + other.seconds,
            self.program_seconds + other.program_seconds,
            self.database_seconds + other.database_seconds,
        )


@dataclass(frozen=True)
class Pair:
    """One round of both programs."""

    limit_first: Pass
    service_first: Pass
    service_settle: Pass
    limit_noop: Pass
    service_noop: Pass

    @override
    def __str__(self) -> str:
        return (
            f"first send L {self.limit_first.seconds:.2f} s, S {self.service_first.seconds:.2f} s "
            f"and {self.service_settle.seconds:.2f} s to settle; "
            f"no-op L {self.limit_noop.seconds:.2f} s, S {self.service_noop.seconds:.2f} s"
        )


Choice = Callable[[Pair], Pass]


@dataclass(frozen=True)
class _Line:
    name: str
    limit: Choice
    service: Choice


_FIRST = _Line(
    "first send: intents to submitted", lambda pair: pair.limit_first, lambda pair: pair.service_first
)
_CYCLE = _Line(
    "  with the questions and settling",
    lambda pair: pair.limit_first,
    lambda pair: pair.service_first + pair.service_settle,
)
_NOOP = _Line("no-op resync", lambda pair: pair.limit_noop, lambda pair: pair.service_noop)


def report(pairs: Sequence[Pair], rows: int, batch_size: int) -> bool:
    """Print the table; whether the gates are kept."""
    print(f"\n{rows} rows in batches of {batch_size}, median of {len(pairs)} pairs")
    print(f"{'':34}{'L rows/s':>10}{'S rows/s':>10}{'S/L':>7}   pairs")
    ratios = {}
    for line in (_FIRST, _CYCLE, _NOOP):
        each = [line.service(pair).seconds / line.limit(pair).seconds for pair in pairs]
        ratios[line.name] = median(each)
        by_limit = median(rows / line.limit(pair).seconds for pair in pairs)
        by_service = median(rows / line.service(pair).seconds for pair in pairs)
        shown = " ".join(f"{ratio:.2f}" for ratio in each)
        print(f"{line.name:34}{by_limit:10,.0f}{by_service:10,.0f}{ratios[line.name]:7.2f}   {shown}")
    print(f"\n{'processor, µs per row':34}{'L':>10}{'S':>10}{'S/L':>7}   program + database")
    for line in (_FIRST, _CYCLE, _NOOP):
        limit, limit_parts = _processor(pairs, line.limit, rows)
        service, service_parts = _processor(pairs, line.service, rows)
        print(
            f"{line.name:34}{limit:10.1f}{service:10.1f}{service / limit:7.2f}   L {limit_parts}, S {service_parts}"
        )
    passed = ratios[_FIRST.name] <= GATE and ratios[_NOOP.name] <= GATE
    print(f"\ngates, first send and no-op at most {GATE}: {'kept' if passed else 'NOT KEPT'}\n")
    return passed


def _processor(pairs: Sequence[Pair], choice: Choice, rows: int) -> tuple[float, str]:
    program = median(choice(pair).program_seconds for pair in pairs) / rows * 1e6
    database = median(choice(pair).database_seconds for pair in pairs) / rows * 1e6
    return program + database, f"{program:.1f} + {database:.1f}"
