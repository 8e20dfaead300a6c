"""Halving a refused call until the guilty item is found: what to send next, and what an answer means. Pure.

A *split* is the search that begins with a call that Meta refused as a whole without naming an item. Its *parts* are sets
of items; each goes out in a call of its own. A part that Meta takes is innocent; one that it refuses is halved.

* Level 1 and 2: both halves are sent. If both are refused, twice over, it is no item's fault but the store's.
* Deeper: only the first half is sent. Is it taken, the second half is known to be guilty and is halved without a call;
  is it refused, the second half is presumed good (*cleared*) and goes with other work when the split is over.
* One item alone gets Meta's verdict, but only when Meta took some other call since the split began. Without that proof
  a refusal may be the store's fault, so the item is *doubted*: other work goes first. Is it taken, the item is sent once
  more and named; is there none, or is it refused as well, the store pauses and nobody is named. A pause is not for ever:
  the next change of any other item brings the proof.

Nothing here knows rows, calls or clocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

__all__ = [
    "FRUITLESS_CALLS",
    "MOST_CALLS",
    "WHOLE_LEVEL",
    "End",
    "Judgement",
    "OtherWorkFirst",
    "Over",
    "Part",
    "PartState",
    "Refusal",
    "Send",
    "Split",
    "SplitKind",
    "SplitWork",
    "Step",
    "Wait",
    "after_pass",
    "after_refusal",
    "halves",
    "judge",
]

MOST_CALLS = 20
"""Calls of one split, the refused call that began it included. One item among 5,000 is found in at most 17."""

FRUITLESS_CALLS = 8
"""Refused calls of all splits of a link, while nothing at all is taken, after which it is the store's fault.

Splits of very small batches never reach the second level, so the calls of all of them are counted together.
"""

WHOLE_LEVEL = 0
"""The level of the part that holds the whole; every other one comes from halving it."""

_LAST_LEVEL_OF_PAIRS = 2


class SplitKind(StrEnum):
    """What Meta said of the whole call."""

    TOO_LARGE = "too_large"
    BAD_PARAMETER = "bad_parameter"
    NOTHING_TAKEN = "nothing_taken"
    SUSPECT = "suspect"
    """Nothing but server errors, again and again, while the catalog itself answers."""


class PartState(StrEnum):
    """Where a part stands."""

    WAITING = "waiting"
    SENT = "sent"
    PASSED = "passed"
    """Taken by Meta, or nothing of it was left to send."""
    REFUSED = "refused"
    """Halved since, or one item with Meta's verdict."""
    DOUBTED = "doubted"
    """One item, refused while nothing else was taken."""
    CLEARED = "cleared"
    """Presumed good without a call; held back until the split is over."""


@dataclass(frozen=True, slots=True)
class Part:
    """A set of items that is sent together and apart from all others."""

    part_id: int
    parent_id: int | None
    level: int
    items: int
    state: PartState


@dataclass(frozen=True, slots=True)
class Split:
    """A search with everything a decision needs.

    Attributes
    ----------
    is_open
        Other work need not go first any more.
    calls
        Those made so far, the one that began the split included.
    has_proof
        Meta took some call of the link that was made since the split began.
    """

    split_id: int
    kind: SplitKind
    is_open: bool
    calls: int
    has_proof: bool
    parts: tuple[Part, ...]

    @property
    def is_whole(self) -> bool:
        """Whether the items only stay together, with no search begun: a batch without an answer, to be sent again."""
        return len(self.parts) == 1 and self.parts[0].state is not PartState.REFUSED

    @property
    def has_named(self) -> bool:
        """Whether some item has Meta's verdict."""
        parents = {part.parent_id for part in self.parts}
        return any(part.state is PartState.REFUSED and part.part_id not in parents for part in self.parts)

    def part(self, part_id: int) -> Part:
        """The part with this id."""
        return next(part for part in self.parts if part.part_id == part_id)


@dataclass(frozen=True, slots=True)
class Send:
    """Send this part next."""

    part: Part


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to send until an answer is in."""


@dataclass(frozen=True, slots=True)
class OtherWorkFirst:
    """Nothing to send until other work of the store was tried."""


class End(StrEnum):
    """Why a split is over."""

    DONE = "done"
    """Every part has its answer, or enough of them for now."""
    STORE = "store"
    """It is no item's fault: every call would be refused."""


@dataclass(frozen=True, slots=True)
class Over:
    """The split ends; all its items are free."""

    end: End


Judgement = Send | Wait | OtherWorkFirst | Over


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why Meta refused a whole call, in Meta's words; empty where it gave none."""

    kind: SplitKind
    code: str | None
    message: str


@dataclass(frozen=True, slots=True)
class SplitWork:
    """What the splits of a link want of the next turn."""

    part: Part | None = None
    """To be sent in a call of its own."""
    waits_for_others: bool = False
    """Some split goes on only when other work was tried."""
    holds_items: bool = False
    """There are splits at all: some items wait for their end."""


@dataclass(slots=True)
class Step:
    """What an answer changes: new states by part, and the parts to halve."""

    states: dict[int, PartState] = field(default_factory=dict)
    to_halve: list[int] = field(default_factory=list)


def halves(count: int) -> tuple[int, int]:
    """The sizes of the two halves of so many items; the first is never the smaller one."""
    return (count + 1) // 2, count // 2


def judge(split: Split) -> Judgement:
    """What is to be done next about a split."""
    if all(part.state not in _UNDECIDED for part in split.parts):
        return Over(End.DONE)
    if _is_the_store(split):
        return Over(End.STORE)
    under_way = any(part.state is PartState.SENT for part in split.parts)
    if split.calls >= MOST_CALLS and not split.is_whole:
        if under_way:
            return Wait()
        # A split that has found somebody has shown that it is not the store; the rest begins a new one.
        return Over(End.DONE if split.has_named else End.STORE)
    following = _next_part(split)
    if following is not None:
        return Send(following) if split.is_open else OtherWorkFirst()
    return Wait() if under_way else OtherWorkFirst()


def after_pass(split: Split, part_id: int) -> Step:
    """Meta took the part, or nothing of it was left to send."""
    part = split.part(part_id)
    step = Step({part_id: PartState.PASSED})
    second = _second_of(split, part)
    if second is not None and second.state is PartState.WAITING and second.items > 1:
        step.states[second.part_id] = PartState.REFUSED
        step.to_halve.append(second.part_id)
    return step


def after_refusal(split: Split, part_id: int, *, sent: int, is_verdict: bool) -> Step:
    """Meta refused the part, of which so many items went out.

    ``is_verdict``: a single item has been given Meta's verdict.
    """
    part = split.part(part_id)
    step = Step({part_id: PartState.REFUSED if is_verdict or sent > 1 else PartState.DOUBTED})
    if sent > 1:
        step.to_halve.append(part_id)
    second = _second_of(split, part)
    if second is not None and second.state is PartState.WAITING:
        step.states[second.part_id] = PartState.CLEARED
    return step


_UNDECIDED = frozenset({PartState.WAITING, PartState.SENT, PartState.DOUBTED})
_FAILED = frozenset({PartState.REFUSED, PartState.DOUBTED})


def _next_part(split: Split) -> Part | None:
    """The first two levels row by row, because they tell most; then to the bottom of one branch after the other."""
    waiting = [part for part in split.parts if part.state is PartState.WAITING and _may_go(split, part)]

    def order(part: Part) -> tuple[bool, int, int]:
        is_deep = part.level > _LAST_LEVEL_OF_PAIRS
        return is_deep, -part.level if is_deep else part.level, part.part_id

    return min(waiting, key=order, default=None)


def _may_go(split: Split, part: Part) -> bool:
    if part.level <= _LAST_LEVEL_OF_PAIRS:
        return True
    first = _siblings(split, part)[0]
    return first is part or first.state is PartState.PASSED


def _second_of(split: Split, part: Part) -> Part | None:
    """The other half of a part that is the first of a deep pair."""
    if part.level <= _LAST_LEVEL_OF_PAIRS:
        return None
    pair = _siblings(split, part)
    return pair[1] if len(pair) > 1 and pair[0] is part else None


def _siblings(split: Split, part: Part) -> Sequence[Part]:
    return sorted(
        (one for one in split.parts if one.parent_id == part.parent_id and one.level == part.level),
        key=lambda one: one.part_id,
    )


def _is_the_store(split: Split) -> bool:
    """Whether both halves of the first level and both of some pair of the second were refused, and nothing passed."""
    if split.has_proof:
        return False
    pairs: dict[tuple[int, int | None], list[bool]] = {}
    for part in split.parts:
        if 1 <= part.level <= _LAST_LEVEL_OF_PAIRS:
            pairs.setdefault((part.level, part.parent_id), []).append(part.state in _FAILED)
    refused = {level for (level, _), failed in pairs.items() if len(failed) > 1 and all(failed)}
    return len(refused) == _LAST_LEVEL_OF_PAIRS
