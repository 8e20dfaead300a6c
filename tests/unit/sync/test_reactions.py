"""Which failure stops a store, for how long, who has to act, and what becomes of the batch and the budget."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meta_sync.graph.errors import (
    AccountState,
    Advice,
    AssetLostError,
    BlockedError,
    CredentialsError,
    ErrorFacts,
    GraphError,
    InvalidRequestError,
    NoAnswerError,
    NotConnectedError,
    PermissionMissingError,
    ThrottledError,
    TooLargeError,
    TransientError,
    UnknownGraphError,
    UnreadableAnswerError,
    VersionRetiredError,
)
from meta_sync.sync.reactions import (
    REACTIONS,
    Pause,
    PauseReason,
    pause_for,
    reaction_to,
    retry_delay,
)

_NOW = datetime(2026, 10, 1, tzinfo=UTC)
_OUTAGES = [NotConnectedError, NoAnswerError, TransientError, UnreadableAnswerError]


def _error(
    error: type[GraphError],
    code: int | None = None,
    subcode: int | None = None,
    *,
    message: str = "Meta's words.",
    account_state: AccountState = "unchanged",
) -> GraphError:
    facts = ErrorFacts(message, code=code, subcode=subcode, has_envelope=code is not None)
    return error(facts, Advice.REPORT, account_state)


def _pause(error: type[GraphError], code: int | None = None, *, failures: int = 0) -> Pause | None:
    return pause_for(_error(error, code), _NOW, failures=failures, jitter=0.0)


def _all_kinds() -> list[type[GraphError]]:
    kinds, todo = [], [GraphError]
    while todo:
        kind = todo.pop()
        kinds.append(kind)
        todo.extend(kind.__subclasses__())
    return sorted(kinds, key=lambda kind: kind.__name__)


@pytest.mark.parametrize("error", [CredentialsError, AssetLostError, PermissionMissingError])
def test_a_lost_connection_waits_for_a_person(error: type[GraphError]) -> None:
    pause = pause_for(_error(error, 190, 463), _NOW, failures=0, jitter=0.0)
    assert pause == Pause(PauseReason.NEEDS_RECONNECT, None, "190/463", "Meta's words.")


def test_only_a_token_that_is_refused_as_such_is_dead() -> None:
    assert reaction_to(_error(CredentialsError, 190, account_state="needs_reconnect")).token_is_dead
    assert not reaction_to(_error(CredentialsError, 104, account_state="needs_attention")).token_is_dead
    for kind in _all_kinds():
        if kind is not CredentialsError:
            assert not reaction_to(_error(kind, 1, account_state="needs_reconnect")).token_is_dead


@pytest.mark.parametrize(
    ("error", "waits"),
    [
        (BlockedError, [1, 2, 4, 6, 6]),
        (VersionRetiredError, [1, 2, 4, 6, 6]),
        (InvalidRequestError, [0.25, 0.25]),
        (TooLargeError, [0.25, 0.25]),
        (UnknownGraphError, [0.25, 0.25]),
    ],
)
def test_what_meta_refuses_as_a_whole_is_tried_again_after_a_while(
    error: type[GraphError], waits: list[float]
) -> None:
    """In hours. No two tries come close together, however often it fails."""
    for failures, hours in enumerate(waits):
        pause = _pause(error, 368, failures=failures)
        assert pause is not None
        assert (pause.reason, pause.code) == (PauseReason.BLOCKED_BY_META, "368")
        assert pause.until == _NOW + timedelta(hours=hours)


@pytest.mark.parametrize("error", _OUTAGES)
def test_an_outage_is_tried_again_after_seconds(error: type[GraphError]) -> None:
    pause = _pause(error)
    assert pause is not None
    assert (pause.reason, pause.code) == (PauseReason.META_UNREACHABLE, "meta_unknown_error")
    assert pause.until == _NOW + timedelta(seconds=2.5)


@pytest.mark.parametrize(("code", "bucket"), [(80014, "calls"), (80009, "questions"), (4, "both")])
def test_throttling_is_the_budget_s_matter(code: int, bucket: str) -> None:
    assert _pause(ThrottledError, code) is None
    assert reaction_to(_error(ThrottledError, code)).blocks == bucket


def test_every_kind_of_error_is_in_the_table_and_does_one_thing_to_the_store() -> None:
    for kind in _all_kinds():
        reaction = reaction_to(_error(kind, 5))
        assert (reaction.pause is None) is (reaction.blocks is not None), kind
        assert reaction.wait is None or reaction.pause is not None, kind
        assert reaction.split is (kind in {InvalidRequestError, TooLargeError}), kind
    assert REACTIONS[-1].errors == (GraphError,)


def test_a_call_is_refused_only_where_that_is_certain() -> None:
    assert reaction_to(_error(TransientError)).call == "unknown"
    assert reaction_to(_error(TransientError, 2)).call == "unknown"
    assert reaction_to(_error(InvalidRequestError, 100)).call == "refused"
    assert reaction_to(_error(TooLargeError, 1)).call == "refused"
    assert reaction_to(NotConnectedError(ErrorFacts("x", nothing_sent=True))).call == "refused"


def test_a_pause_keeps_metas_words_as_they_are_and_always_has_a_code() -> None:
    for said in ("No", "No! "):
        pause = pause_for(_error(CredentialsError, message=said), _NOW, failures=0, jitter=0.0)
        assert pause is not None
        assert (pause.message, pause.code) == (said, "meta_unknown_error")
    unreached = NotConnectedError(ErrorFacts("x", nothing_sent=True), Advice.CONNECT_LATER)
    pause = pause_for(unreached, _NOW, failures=0, jitter=0.0)
    assert pause is not None
    assert pause.code == "meta_not_reached"


def test_waits_double_up_to_five_minutes() -> None:
    waits = [retry_delay(failures, 1.0).total_seconds() for failures in range(9)]
    assert waits == [5, 10, 20, 40, 80, 160, 300, 300, 300]


@given(st.integers(0, 10**6), st.floats(0, 1), st.floats(0.01, 10))
def test_the_whole_wait_is_chance_above_a_floor(failures: int, jitter: float, factor: float) -> None:
    longest = retry_delay(failures, 1.0, factor)
    rounding = timedelta(microseconds=10)
    assert retry_delay(failures, 0.0, factor) == timedelta(seconds=2.5) * factor
    assert timedelta(seconds=2.5) * factor - rounding <= retry_delay(failures, jitter, factor)
    assert retry_delay(failures, jitter, factor) <= longest + rounding
    assert longest <= retry_delay(failures + 1, 1.0, factor) <= timedelta(seconds=300 * factor) + rounding
