"""The search for a guilty item, played through against a Meta that is a function."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace

import pytest

from meta_sync.sync.splitting import (
    MOST_CALLS,
    End,
    OtherWorkFirst,
    Over,
    Part,
    PartState,
    Send,
    Split,
    SplitKind,
    Step,
    Wait,
    after_pass,
    after_refusal,
    halves,
    judge,
)

_EMPTY: frozenset[int] = frozenset()


@dataclass
class Search:
    """Plays the rows: parts with their items."""

    items: dict[int, list[int]]
    split: Split
    named: set[int] = field(default_factory=set)
    end: End | None = None
    sizes: list[int] = field(default_factory=list)

    @classmethod
    def of(cls, count: int, kind: SplitKind = SplitKind.BAD_PARAMETER) -> Search:
        whole = Part(1, None, 0, count, PartState.REFUSED)
        search = cls({1: list(range(count))}, Split(1, kind, True, 1, False, (whole,)))
        search.halve(1, PartState.DOUBTED if count == 1 else PartState.WAITING)
        return search

    def halve(self, part_id: int, state: PartState = PartState.WAITING) -> None:
        held, parent = self.items.pop(part_id), self.split.part(part_id)
        first = halves(len(held))[0]
        for half in (held[:first], held[first:]):
            if half:
                new = Part(len(self.split.parts) + 1, part_id, parent.level + 1, len(half), state)
                self.items[new.part_id] = half
                self.split = replace(self.split, parts=(*self.split.parts, new))

    def set(self, part_id: int, state: PartState) -> None:
        parts = tuple(
            replace(one, state=state) if one.part_id == part_id else one for one in self.split.parts
        )
        self.split = replace(self.split, parts=parts)

    def apply(self, step: Step) -> None:
        for part_id, state in step.states.items():
            self.set(part_id, state)
        for part_id in step.to_halve:
            self.halve(part_id)

    def prove(self) -> None:
        """Some other call was taken."""
        self.split = replace(self.split, has_proof=True, is_open=True)
        for part in self.split.parts:
            if part.state is PartState.DOUBTED:
                self.set(part.part_id, PartState.WAITING)

    def run(self, is_taken: Callable[[Collection[int]], bool]) -> object:
        """Send parts until there is nothing to send; what is to be done then."""
        for _ in range(1000):
            following = judge(self.split)
            if not isinstance(following, Send):
                return following
            part = following.part
            sent = self.items[part.part_id]
            self.sizes.append(len(sent))
            self.split = replace(self.split, calls=self.split.calls + 1)
            if is_taken(sent):
                self.prove()
                self.apply(after_pass(self.split, part.part_id))
            else:
                is_verdict = len(sent) == 1 and self.split.has_proof
                self.named |= set(sent) if is_verdict else _EMPTY
                self.apply(after_refusal(self.split, part.part_id, sent=len(sent), is_verdict=is_verdict))
        raise AssertionError("it does not end")


def _without(guilty: Collection[int]) -> Callable[[Collection[int]], bool]:
    """A Meta that takes every call without one of these items."""
    return lambda sent: not set(guilty) & set(sent)


@pytest.mark.parametrize("count", [2, 3, 4, 5, 7, 16, 33])
def test_one_guilty_item_is_found_wherever_it_is(count: int) -> None:
    for guilty in range(count):
        search = Search.of(count)
        assert search.run(_without({guilty})) == Over(End.DONE)
        assert search.named == {guilty}


@pytest.mark.parametrize(("count", "most"), [(2500, 16), (5000, 17)])
def test_it_is_found_within_the_limit(count: int, most: int) -> None:
    calls = []
    for guilty in range(0, count, 7):
        search = Search.of(count)
        assert search.run(_without({guilty})) == Over(End.DONE)
        assert search.named == {guilty}
        calls.append(search.split.calls)
    assert max(calls) <= most < MOST_CALLS


@pytest.mark.parametrize("count", [4, 5, 16, 2500])
def test_where_every_call_is_refused_it_is_the_store(count: int) -> None:
    search = Search.of(count)
    assert search.run(lambda sent: False) == Over(End.STORE)
    assert (search.split.calls, search.named) == (5, set())


@pytest.mark.parametrize("count", [1, 2])
def test_so_few_items_are_doubted_until_another_call_is_taken(count: int) -> None:
    search = Search.of(count)
    assert search.run(lambda sent: False) == OtherWorkFirst()
    assert (search.split.calls, search.named) == (1 if count == 1 else 3, set())
    search.prove()
    assert search.run(lambda sent: False) == Over(End.DONE)
    assert search.named == set(range(count))


def test_of_two_guilty_items_in_different_halves_at_least_one_is_named_and_the_store_goes_on() -> None:
    search = Search.of(2500)
    assert search.run(lambda sent: not {0, 2499} & set(sent)) == Over(End.DONE)
    assert search.named
    assert search.named <= {0, 2499}
    assert search.split.calls <= MOST_CALLS


def test_a_store_whose_limit_is_spent_without_a_name_pauses() -> None:
    search = Search.of(2500)
    search.prove()
    search.split = replace(search.split, calls=MOST_CALLS)
    assert judge(search.split) == Over(End.STORE)


def test_whatever_is_guilty_nobody_else_is_named_and_it_ends() -> None:
    for number in range(2**9):
        guilty = {place for place in range(9) if number >> place & 1}
        search = Search.of(9)
        end = search.run(_without(guilty))
        assert isinstance(end, Over), guilty
        assert search.named <= guilty
        assert search.named or not guilty or end == Over(End.STORE)
        assert search.split.calls <= MOST_CALLS


def test_too_large_is_over_after_three_calls() -> None:
    search = Search.of(2500, SplitKind.TOO_LARGE)
    assert search.run(lambda sent: len(sent) <= 1250) == Over(End.DONE)
    assert (search.split.calls, search.named) == (3, set())


def test_the_second_half_is_halved_without_a_call_and_alone_it_is_sent() -> None:
    search = Search.of(16)
    search.run(lambda sent: 15 not in sent)
    assert search.sizes == [8, 8, 4, 4, 2, 1, 1], "15 stands in each second half"
    search = Search.of(16)
    search.run(lambda sent: 0 not in sent)
    assert search.sizes == [8, 8, 4, 4, 2, 1]
    assert [part.state for part in search.split.parts if part.level > 2] == [
        PartState.REFUSED,
        PartState.CLEARED,
        PartState.REFUSED,
        PartState.CLEARED,
    ]


def test_a_part_without_an_answer_is_waited_for() -> None:
    search = Search.of(8)
    for part_id in (2, 3):
        assert judge(search.split) == Send(search.split.part(part_id))
        search.set(part_id, PartState.SENT)
    assert judge(search.split) == Wait()


def test_the_second_half_of_a_deep_pair_waits_for_the_first() -> None:
    search = Search.of(16)
    while isinstance(following := judge(search.split), Send) and following.part.level < 3:
        part = following.part
        if 0 in search.items[part.part_id]:
            search.apply(after_refusal(search.split, part.part_id, sent=part.items, is_verdict=False))
        else:
            search.prove()
            search.apply(after_pass(search.split, part.part_id))
    assert isinstance(following, Send)
    search.set(following.part.part_id, PartState.SENT)
    assert judge(search.split) == Wait(), "its answer decides whether the second is sent at all"


def test_a_store_that_is_proved_well_goes_on_when_both_halves_are_refused_twice() -> None:
    guilty = {0, 700, 1300, 2000}
    search = Search.of(2500)
    assert search.run(_without(guilty)) == Over(End.STORE)
    search = Search.of(2500)
    search.prove()
    assert search.run(_without(guilty)) == Over(End.DONE)
    assert search.named
    assert search.named <= guilty


def test_a_suspect_waits_for_other_work_and_a_whole_has_no_limit() -> None:
    search = Search.of(8, SplitKind.SUSPECT)
    search.split = replace(search.split, is_open=False)
    assert judge(search.split) == OtherWorkFirst()
    search.prove()
    assert isinstance(judge(search.split), Send)
    whole = Split(1, SplitKind.SUSPECT, True, 50, False, (Part(1, None, 0, 8, PartState.WAITING),))
    assert whole.is_whole
    assert judge(whole) == Send(whole.parts[0])
