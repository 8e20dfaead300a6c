"""The table of states and events, as data. Every write of a status goes through it; a test walks it cell by cell."""

from __future__ import annotations

from enum import StrEnum

from meta_sync.sync.models import Status

__all__ = ["TRANSITIONS", "Event", "IllegalTransitionError", "next_status", "status_case"]


class Event(StrEnum):
    """What can happen to an item."""

    INTENDED = "intended"
    """An intent was written."""
    NOOP = "noop"
    SKIP = "skip"
    DROP = "drop"
    BROKEN = "broken"
    """The mapping broke on the row."""
    SENT = "sent"
    CONFIRMED = "confirmed"
    """A complete report did not name an UPDATE."""
    DELETED = "deleted"
    """A complete report did not name a DELETE."""
    REFUSED = "refused"
    """Meta's verdict on the item."""
    UNKNOWN = "unknown"
    """The batch is over and what became of the item is not known."""
    GIVEN_UP = "given_up"
    DISTURBED = "disturbed"
    """What was known of Meta's side no longer holds."""
    WITHDRAWN = "withdrawn"
    """The intent went with the job that was its only reason, and the item was never sent."""
    EXCLUDED = "excluded"
    KEPT = "kept"
    """Left at Meta as it is, for a reason of its own: adopted, or within its grace."""
    HELD = "held"
    DISCARDED = "discarded"


class IllegalTransitionError(Exception):
    """An event that cannot happen in this state: a fault in the code, never in data."""


_S = Status
_ALL = tuple(Status)


def _same() -> dict[Status, Status | None]:
    return {status: status for status in _ALL}


def _to(target: Status, *, illegal: tuple[Status, ...] = ()) -> dict[Status, Status | None]:
    return {status: None if status in illegal else target for status in _ALL}


_NOT_IN_FLIGHT = (_S.NEVER_SYNCED, _S.SYNCED, _S.SKIPPED)
"""States no item in flight is in; a late event of a batch cannot find them."""

TRANSITIONS: dict[Event, dict[Status, Status | None]] = {
    # pending = an intent waits and Meta has confirmed nothing; a synced item with an intent stays synced.
    Event.INTENDED: {**_same(), _S.NEVER_SYNCED: _S.PENDING},
    Event.NOOP: _to(_S.SYNCED),
    Event.SKIP: _to(_S.SKIPPED),
    Event.DROP: _to(_S.DELETED),
    Event.BROKEN: _to(_S.FAILED),
    Event.SENT: _to(_S.SUBMITTED),
    Event.CONFIRMED: _to(_S.SYNCED, illegal=_NOT_IN_FLIGHT),
    Event.DELETED: _to(_S.DELETED, illegal=_NOT_IN_FLIGHT),
    Event.REFUSED: _to(_S.FAILED, illegal=_NOT_IN_FLIGHT),
    Event.UNKNOWN: _to(_S.PENDING, illegal=_NOT_IN_FLIGHT),
    Event.GIVEN_UP: _to(_S.FAILED, illegal=_NOT_IN_FLIGHT),
    Event.DISTURBED: {
        _S.NEVER_SYNCED: _S.PENDING,
        _S.PENDING: _S.PENDING,
        _S.SUBMITTED: _S.SUBMITTED,
        _S.SYNCED: _S.PENDING,
        _S.FAILED: _S.FAILED,
        _S.SKIPPED: _S.PENDING,
        _S.DELETED: _S.PENDING,
    },
    Event.WITHDRAWN: {**_same(), _S.PENDING: _S.NEVER_SYNCED},
    Event.EXCLUDED: {**_same(), _S.NEVER_SYNCED: _S.PENDING, _S.SYNCED: _S.PENDING},
    Event.KEPT: {**_to(_S.SKIPPED), _S.SYNCED: _S.SYNCED},
    Event.HELD: _same(),
    Event.DISCARDED: _same(),
}


def next_status(status: Status, event: Event) -> Status:
    """The state after an event.

    Raises
    ------
    IllegalTransitionError
        The event cannot happen in this state.
    """
    target = TRANSITIONS[event][status]
    if target is None:
        raise IllegalTransitionError(f"{event} cannot happen to an item that is {status}")
    return target


def status_case(event: Event, column: str = "status") -> str:
    """The table's row for an event as a SQL expression; a cell that cannot happen keeps the state."""
    cells = {status: target for status, target in TRANSITIONS[event].items() if target not in {None, status}}
    if not cells:
        return column
    targets = set(cells.values())
    if len(targets) == 1 and len(cells) >= len(_ALL) - 1:
        return f"'{targets.pop()}'"
    when = " ".join(f"WHEN '{status}' THEN '{target}'" for status, target in cells.items())
    return f"CASE {column} {when} ELSE {column} END"
