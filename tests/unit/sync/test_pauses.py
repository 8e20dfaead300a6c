"""Which failure stops a store, for how long, and who has to act."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meta_sync.graph.errors import (
    AssetLostError,
    BlockedError,
    CredentialsError,
    ErrorFacts,
    GraphError,
    InvalidRequestError,
    NoAnswerError,
    PermissionMissingError,
    ThrottledError,
    TransientError,
    UnknownGraphError,
    VersionRetiredError,
)
from meta_sync.sync.pauses import Pause, PauseReason, pause_for, retry_delay

_NOW = datetime(2026, 10, 1, tzinfo=UTC)


def _pause(error: type[GraphError], code: int | None = None, subcode: int | None = None) -> Pause | None:
    facts = ErrorFacts("Meta's words.", code=code, subcode=subcode)
    return pause_for(error(facts, "What to do."), _NOW, failures=0, jitter=0.0)


@pytest.mark.parametrize("error", [CredentialsError, AssetLostError, PermissionMissingError])
def test_a_lost_connection_waits_for_a_person(error: type[GraphError]) -> None:
    pause = _pause(error, 190, 463)
    assert pause == Pause(PauseReason.NEEDS_RECONNECT, None, "190/463", "Meta's words. What to do.")


@pytest.mark.parametrize(
    ("error", "wait"),
    [
        (BlockedError, timedelta(hours=1)),
        (VersionRetiredError, timedelta(hours=1)),
        (InvalidRequestError, timedelta(minutes=15)),
    ],
)
def test_what_meta_refuses_as_a_whole_is_tried_again_after_a_while(
    error: type[GraphError], wait: timedelta
) -> None:
    pause = _pause(error, 368)
    assert pause is not None
    assert (pause.reason, pause.until, pause.code) == (PauseReason.BLOCKED_BY_META, _NOW + wait, "368")


@pytest.mark.parametrize("error", [NoAnswerError, TransientError, UnknownGraphError])
def test_an_outage_is_tried_again_after_seconds(error: type[GraphError]) -> None:
    pause = _pause(error)
    assert pause is not None
    assert (pause.reason, pause.code) == (PauseReason.META_UNREACHABLE, None)
    assert pause.until == _NOW + timedelta(seconds=2.5)


def test_throttling_is_the_budget_s_matter() -> None:
    assert _pause(ThrottledError, 80014) is None


def test_waits_double_up_to_five_minutes() -> None:
    waits = [retry_delay(failures, 1.0).total_seconds() for failures in range(9)]
    assert waits == [5, 10, 20, 40, 80, 160, 300, 300, 300]


@given(st.integers(0, 10**6), st.floats(0, 1), st.floats(0.01, 10))
def test_jitter_spreads_the_upper_half(failures: int, jitter: float, factor: float) -> None:
    longest = retry_delay(failures, 1.0, factor)
    rounding = timedelta(microseconds=1)
    assert longest / 2 - rounding <= retry_delay(failures, jitter, factor) <= longest
    assert longest <= retry_delay(failures + 1, 1.0, factor) <= timedelta(seconds=300 * factor)
