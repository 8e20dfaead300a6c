from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meta_sync.graph.errors import ErrorFacts, GraphError, ThrottledError, TransientError
from meta_sync.graph.governor import (
    BucketState,
    BudgetState,
    Go,
    Purpose,
    WaitUntil,
    after_answer,
    decide_call,
    note_call,
)
from meta_sync.graph.usage import Usage, UsageEntry

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
_SPACING = timedelta(seconds=18)


def _calls(count: int, *, last: datetime = NOW) -> BudgetState:
    """A state with calls one second apart, the last one at ``last``."""
    return BudgetState(tuple(last - timedelta(seconds=count - 1 - n) for n in range(count)))


def _usage(percent: float, regain_seconds: int = 0, kind: str = "catalog_batch") -> Usage:
    return Usage(percent, regain_seconds, (UsageEntry(kind, percent, regain_seconds),))


def _throttled(code: int, regain_seconds: int | None = None) -> ThrottledError:
    return ThrottledError(ErrorFacts("x", code=code, regain_seconds=regain_seconds))


def _is_blocked(state: BudgetState, now: datetime, purpose: Purpose) -> bool:
    return isinstance(decide_call(state, now, purpose), WaitUntil)


@pytest.mark.parametrize("count", [0, 1, 99])
def test_a_burst_is_free_below_half(count: int) -> None:
    assert decide_call(_calls(count), NOW, "call") == Go()


@pytest.mark.parametrize("count", [100, 149])
def test_from_half_on_calls_are_spaced(count: int) -> None:
    state = _calls(count)
    assert state.last_call_at == NOW
    assert decide_call(state, NOW, "call") == WaitUntil(NOW + _SPACING, "spacing")
    assert decide_call(state, NOW + _SPACING, "call") == Go()


def test_the_last_quarter_lasts_until_the_window_moves() -> None:
    state = _calls(150)
    decision = decide_call(state, NOW, "call")
    assert isinstance(decision, WaitUntil)
    # 50 calls for the 3,451 seconds until the first one is forgotten.
    assert decision.at - NOW == timedelta(seconds=3451) / 50


def test_a_spent_allowance_waits_for_the_oldest_call() -> None:
    state = _calls(200)
    assert decide_call(state, NOW, "call") == WaitUntil(state.call_times[0] + timedelta(hours=1), "allowance")
    # With a smaller allowance one more has to be forgotten for each call above it.
    assert decide_call(state, NOW, "call", allowance=150) == WaitUntil(
        state.call_times[50] + timedelta(hours=1), "allowance"
    )


def test_calls_older_than_an_hour_count_no_more() -> None:
    later = NOW + timedelta(hours=1, seconds=1)
    assert decide_call(_calls(200), later, "call") == Go()
    assert note_call(_calls(200), later).call_times == (later,)


def test_questions_do_not_use_the_call_allowance() -> None:
    assert decide_call(_calls(200), NOW, "question") == Go()
    assert BudgetState().last_call_at is None


@settings(max_examples=20)
@given(st.integers(1, 40))
def test_no_hour_ever_sees_more_calls_than_allowed(step_seconds: int) -> None:
    state, now, made = BudgetState(), NOW, list[datetime]()
    while now < NOW + timedelta(hours=2):
        decision = decide_call(state, now, "call", allowance=40)
        if isinstance(decision, WaitUntil):
            assert decision.at > now
            now = decision.at
        else:
            state = note_call(state, now)
            made.append(now)
            now += timedelta(seconds=step_seconds)
    for at in made:
        assert sum(at <= other < at + timedelta(hours=1) for other in made) <= 40
    assert len(made) > 60, "the budget has to be spent, not only kept"
    gaps = [later - earlier for earlier, later in itertools.pairwise(made)]
    assert max(gaps) < timedelta(minutes=15), "an hour must not end in silence"


@pytest.mark.parametrize(("percent", "factor"), [(50, 1.0), (74, 1.0), (75, 1.0), (85, 2.5), (94.9, 3.985)])
def test_metas_own_count_spaces_and_slows(percent: float, factor: float) -> None:
    state = after_answer(note_call(BudgetState(), NOW), NOW, _usage(percent), None)
    decision = decide_call(state, NOW, "call")
    assert isinstance(decision, WaitUntil)
    assert (decision.at - NOW).total_seconds() == pytest.approx(18 * factor)


def test_from_95_percent_on_nothing_goes_until_a_new_reading_is_worth_it() -> None:
    state = after_answer(note_call(BudgetState(), NOW), NOW, _usage(95), None)
    assert decide_call(state, NOW, "call") == WaitUntil(NOW + timedelta(minutes=5), "usage")
    assert decide_call(state, NOW + timedelta(minutes=5), "call") == Go()
    assert decide_call(state, NOW, "question") == Go(), "the batch counter is not the questions' one"


def test_a_reading_is_forgotten_after_the_window() -> None:
    state = after_answer(note_call(BudgetState(), NOW), NOW, _usage(90), None)
    later = NOW + timedelta(minutes=59)
    state = note_call(state, later)
    assert _is_blocked(state, later, "call")
    assert decide_call(state, NOW + timedelta(hours=1), "call") == Go()


@pytest.mark.parametrize(
    ("kind", "calls", "questions"),
    [
        ("catalog_batch", True, False),
        ("catalog_management", False, True),
        ("app", True, True),
        ("", True, True),
    ],
)
def test_a_regain_time_in_a_success_blocks_what_its_counter_concerns(
    kind: str, calls: bool, questions: bool
) -> None:
    state = after_answer(BudgetState(), NOW, _usage(100, 1140, kind), None)
    expected: list[tuple[Purpose, bool]] = [("call", calls), ("question", questions)]
    for purpose, blocked in expected:
        decision = decide_call(state, NOW, purpose)
        assert decision == (WaitUntil(NOW + timedelta(seconds=1140), "throttled") if blocked else Go())


@pytest.mark.parametrize(
    ("code", "calls", "questions"),
    [
        (80014, True, False),
        (80009, False, True),
        *((code, True, True) for code in (4, 17, 32, 341, 613, 80004)),
    ],
)
def test_a_throttle_code_blocks_its_bucket_until_the_regain_time(
    code: int, calls: bool, questions: bool
) -> None:
    state = after_answer(BudgetState(), NOW, Usage(), _throttled(code, 300))
    just_before = NOW + timedelta(seconds=299)
    assert _is_blocked(state, just_before, "call") is calls
    assert _is_blocked(state, just_before, "question") is questions
    assert not _is_blocked(state, NOW + timedelta(seconds=300), "call")
    assert not _is_blocked(state, NOW + timedelta(seconds=300), "question")


def test_without_a_regain_time_the_wait_doubles_from_one_to_fifteen_minutes() -> None:
    state, now, waits = BudgetState(), NOW, []
    for _ in range(7):
        state = after_answer(state, now, Usage(), _throttled(80014))
        assert state.calls.blocked_until is not None
        waits.append((state.calls.blocked_until - now).total_seconds())
        now = state.calls.blocked_until
    assert waits == [60, 120, 240, 480, 900, 900, 900]
    assert state.questions == BucketState()


def test_a_success_of_the_same_kind_starts_the_doubling_over() -> None:
    state = after_answer(BudgetState(), NOW, Usage(), _throttled(4))
    assert (state.calls.throttled_in_a_row, state.questions.throttled_in_a_row) == (1, 1)
    state = after_answer(state, NOW, Usage(), None, purpose="question")
    assert (state.calls.throttled_in_a_row, state.questions.throttled_in_a_row) == (1, 0)
    state = after_answer(state, NOW, Usage(), None)
    assert (state.calls.throttled_in_a_row, state.questions.throttled_in_a_row) == (0, 0)


def test_answers_to_calls_under_way_do_not_lengthen_a_block() -> None:
    first = after_answer(BudgetState(), NOW, Usage(), _throttled(80014))
    assert after_answer(first, NOW + timedelta(seconds=1), Usage(), _throttled(80014)) == first


def test_a_block_is_never_made_shorter() -> None:
    state = after_answer(BudgetState(), NOW, Usage(), _throttled(80014, 600))
    state = after_answer(state, NOW, Usage(), _throttled(80014, 60))
    assert state.calls.blocked_until == NOW + timedelta(seconds=600)


def test_other_failures_say_nothing_of_the_budget() -> None:
    error: GraphError = TransientError(ErrorFacts("x"))
    state = after_answer(BudgetState(), NOW, Usage(), _throttled(80014))
    assert after_answer(state, NOW, Usage(), error) == state
