from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meta_sync.graph.errors import (
    CredentialsError,
    ErrorFacts,
    GraphError,
    InvalidRequestError,
    NoAnswerError,
    NotConnectedError,
    ThrottledError,
    TransientError,
    UnreadableAnswerError,
    classify,
)
from meta_sync.graph.retry import RetryPolicy, repeat_read, retry_delay_seconds

_POLICY = RetryPolicy(attempts=5, base_seconds=1.0, cap_seconds=5.0, total_seconds=30.0)
_TROUBLE = TransientError(ErrorFacts("trouble"))


@pytest.mark.parametrize(("attempt", "longest"), [(1, 1.0), (2, 2.0), (3, 4.0), (4, 5.0)])
def test_the_wait_is_anything_up_to_a_doubling_limit(attempt: int, longest: float) -> None:
    assert retry_delay_seconds(attempt, _TROUBLE, lambda: 0.0, _POLICY) == 0
    assert retry_delay_seconds(attempt, _TROUBLE, lambda: 0.5, _POLICY) == longest / 2
    assert retry_delay_seconds(attempt, _TROUBLE, lambda: 1.0, _POLICY) == longest


@given(st.integers(-5, 10_000), st.floats(0, 1))
def test_the_wait_is_bounded_for_any_attempt(attempt: int, jitter: float) -> None:
    delay = retry_delay_seconds(attempt, _TROUBLE, lambda: jitter, RetryPolicy(attempts=20_000))
    assert delay is not None
    assert 0 <= delay <= 8.0


def test_it_stops_after_the_last_attempt() -> None:
    assert retry_delay_seconds(5, _TROUBLE, lambda: 0.5, _POLICY) is None
    assert retry_delay_seconds(3, _TROUBLE, lambda: 0.5) is None


@pytest.mark.parametrize("kind", [NotConnectedError, NoAnswerError, TransientError, UnreadableAnswerError])
def test_trouble_on_the_way_is_tried_again(kind: type[GraphError]) -> None:
    assert retry_delay_seconds(1, kind(ErrorFacts("x")), lambda: 0.5) == 0.25


@pytest.mark.parametrize("kind", [CredentialsError, InvalidRequestError, ThrottledError])
def test_a_verdict_is_not_asked_for_twice(kind: type[GraphError]) -> None:
    assert retry_delay_seconds(1, kind(ErrorFacts("x")), lambda: 0.5) is None


@pytest.mark.parametrize(
    "code", [None, 1, 2, 4, 10, 17, 100, 190, 200, 368, 613, 803, 2500, 2635, 80009, 80014, 99999]
)
@pytest.mark.parametrize("status", range(400, 600))
def test_every_status_with_every_code(status: int, code: int | None) -> None:
    body = b"oops" if code is None else b'{"error":{"message":"m","code":%d}}' % code
    error = classify(status, {}, body)
    assert error is not None
    again = retry_delay_seconds(1, error, lambda: 0.5) is not None
    if code is None:
        assert again is (status not in {401, 413, 429})
    elif code in {1, 2}:
        assert again is (status != 413)
    elif code == 99999:
        assert again is (status >= 500 or status == 408)
    else:
        assert not again


@dataclass
class _Ended:
    error: GraphError | None


@dataclass
class _Script:
    """A read that fails as told, on a clock that only the script and the sleeps move."""

    ends: list[GraphError | None]
    seconds_each: float = 0.0
    now: float = 100.0
    slept: list[float] = field(default_factory=list)
    reads: int = 0

    async def read(self) -> _Ended:
        self.now += self.seconds_each
        self.reads += 1
        return _Ended(self.ends.pop(0))

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    async def run(self, policy: RetryPolicy | None = _POLICY) -> _Ended:
        return await repeat_read(
            self.read, sleep=self.sleep, clock=lambda: self.now, random=lambda: 1.0, policy=policy
        )


async def test_success_is_returned_at_once() -> None:
    script = _Script([None])
    assert (await script.run()).error is None
    assert script.slept == []


async def test_trouble_is_outlasted() -> None:
    script = _Script([_TROUBLE, _TROUBLE, None])
    assert (await script.run()).error is None
    assert script.slept == [1.0, 2.0]


async def test_the_last_failure_is_returned() -> None:
    script = _Script([_TROUBLE] * 5)
    assert (await script.run()).error is _TROUBLE
    assert script.reads == 5


async def test_a_verdict_ends_it() -> None:
    verdict = InvalidRequestError(ErrorFacts("x"))
    script = _Script([_TROUBLE, verdict])
    assert (await script.run()).error is verdict


async def test_slow_failures_use_up_the_total() -> None:
    script = _Script([_TROUBLE] * 5, seconds_each=14.0)
    assert (await script.run()).error is _TROUBLE
    assert script.reads == 2


async def test_the_default_policy_makes_three_attempts() -> None:
    script = _Script([_TROUBLE] * 3)
    assert (await script.run(None)).error is _TROUBLE
    assert script.slept == [0.5, 1.0]
