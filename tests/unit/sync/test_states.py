"""The table of states and events, cell by cell, and the SQL that is made from it."""

from __future__ import annotations

import sqlite3

import pytest

from meta_sync.sync.models import Status
from meta_sync.sync.states import TRANSITIONS, Event, IllegalTransitionError, next_status, status_case

_COLUMNS = "never_synced pending   submitted synced  failed    skipped   deleted"
_TABLE = """
intended   pending   pending   submitted synced    failed    skipped   deleted
noop       synced    synced    synced    synced    synced    synced    synced
skip       skipped   skipped   skipped   skipped   skipped   skipped   skipped
drop       deleted   deleted   deleted   deleted   deleted   deleted   deleted
broken     failed    failed    failed    failed    failed    failed    failed
sent       submitted submitted submitted submitted submitted submitted submitted
confirmed  -         synced    synced    -         synced    -         synced
deleted    -         deleted   deleted   -         deleted   -         deleted
refused    -         failed    failed    -         failed    -         failed
unknown    -         pending   pending   -         pending   -         pending
given_up   -         failed    failed    -         failed    -         failed
disturbed  pending   pending   submitted pending   failed    pending   pending
withdrawn  never_synced never_synced submitted synced failed skipped   deleted
excluded   pending   pending   submitted pending   failed    skipped   deleted
kept       skipped   skipped   skipped   synced    skipped   skipped   skipped
held       never_synced pending submitted synced   failed    skipped   deleted
discarded  never_synced pending submitted synced   failed    skipped   deleted
"""
"""Written out once more by hand; ``-`` cannot happen."""

_CELLS = [
    (Event(event), Status(status), None if target == "-" else Status(target))
    for event, *targets in (line.split() for line in _TABLE.strip().splitlines())
    for status, target in zip(_COLUMNS.split(), targets, strict=True)
]


def test_the_table_is_whole() -> None:
    assert {(event, status) for event, status, _ in _CELLS} == {(e, s) for e in Event for s in Status}
    assert {(e, s) for e, row in TRANSITIONS.items() for s in row} == {(e, s) for e in Event for s in Status}


@pytest.mark.parametrize(("event", "status", "target"), _CELLS)
def test_every_cell(event: Event, status: Status, target: Status | None) -> None:
    if target is None:
        with pytest.raises(
            IllegalTransitionError, match=f"{event} cannot happen to an item that is {status}"
        ):
            next_status(status, event)
    else:
        assert next_status(status, event) is target


@pytest.mark.parametrize("event", Event)
def test_the_sql_says_what_the_table_says(event: Event) -> None:
    """A cell that cannot happen keeps the state, or is decided by the rest of the row; it never invents one."""
    database = sqlite3.connect(":memory:")
    try:
        for status in Status:
            sql = status_case(event, "s.status")
            found = database.execute(
                f"SELECT {sql} FROM (SELECT ? AS status) AS s", (status.value,)
            ).fetchone()
            target = TRANSITIONS[event][status]
            if target is None:
                assert found[0] in {status.value, *filter(None, TRANSITIONS[event].values())}
            else:
                assert found[0] == target.value
    finally:
        database.close()


def test_an_event_that_changes_nothing_is_the_column_itself() -> None:
    assert status_case(Event.HELD, "s.status") == "s.status"
    assert status_case(Event.SENT) == "'submitted'"
    assert status_case(Event.INTENDED) == "CASE status WHEN 'never_synced' THEN 'pending' ELSE status END"


def test_meta_s_word_ends_in_a_state_that_says_so() -> None:
    """Synced and deleted come only from a confirmation, or from finding that nothing differs."""
    to_synced = {
        event for event, row in TRANSITIONS.items() for s, t in row.items() if t is Status.SYNCED != s
    }
    assert to_synced == {Event.CONFIRMED, Event.NOOP}
    to_deleted = {
        event for event, row in TRANSITIONS.items() for s, t in row.items() if t is Status.DELETED != s
    }
    assert to_deleted == {Event.DELETED, Event.DROP}
