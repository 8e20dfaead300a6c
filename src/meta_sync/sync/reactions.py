"""What the pipeline does about a failed call, as one table. Pure: it decides and neither stores nor asks anything.

``graph.errors.RULES`` says what an answer means; ``REACTIONS`` says what follows for the store, its token, the batch and
the rate budget. An outage, throttling or a dead token concerns the store, never an item.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Literal

from meta_sync.graph.errors import (
    AccountState,
    AssetLostError,
    BlockedError,
    CredentialsError,
    GraphError,
    InvalidRequestError,
    PermissionMissingError,
    ThrottledError,
    ThrottleScope,
    TooLargeError,
    UnknownGraphError,
    VersionRetiredError,
)
from meta_sync.sync.codes import family_of

__all__ = [
    "REACTIONS",
    "Pause",
    "PauseReason",
    "Reaction",
    "ReactionRow",
    "Wait",
    "pause_for",
    "reaction_to",
    "retry_delay",
]


class PauseReason(StrEnum):
    """Reasons that are stored; throttling stands with the link, the rest follows from settings."""

    NEEDS_RECONNECT = "needs_reconnect"
    META_UNREACHABLE = "meta_unreachable"
    BLOCKED_BY_META = "blocked_by_meta"
    HELD = "held"


@dataclass(frozen=True, slots=True)
class Pause:
    """One reason, with when it ends by itself (``None``: when somebody acts).

    ``code`` is Meta's number, with the subcode after a slash, or one of ours; ``message`` is what Meta said, word for word.
    What to do is the code's matter (``codes``).
    """

    reason: PauseReason
    until: datetime | None
    code: str | None = None
    message: str | None = None


@dataclass(frozen=True, slots=True)
class Wait:
    """How long a pause lasts: doubled with each failure in a row, spread at random between shortest and longest.

    Without a shortest time nothing is left to chance.
    """

    first_seconds: float
    cap_seconds: float
    shortest_seconds: float | None = None

    def duration(self, failures: int, jitter: float) -> timedelta:
        """The wait after so many failures in a row; ``jitter`` is between 0 and 1."""
        longest = min(self.cap_seconds, self.first_seconds * 2 ** min(failures, 20))
        if self.shortest_seconds is None:
            return timedelta(seconds=longest)
        return timedelta(seconds=self.shortest_seconds + jitter * (longest - self.shortest_seconds))


@dataclass(frozen=True, slots=True)
class Reaction:
    """What follows from one failed call.

    Attributes
    ----------
    pause, wait
        Why the store stands still, and for how long; without a wait until somebody acts. No pause at all: the rate
        budget holds the store back.
    token_is_dead
        The token is not used again, by any link, until another one is stored.
    split
        Parts of the batch may pass. The pause then holds only where splitting shows that it is no item's fault.
    blocks
        The bucket of the rate budget that stays silent.
    call
        ``refused``: certainly not carried out, everything is given back. ``unknown``: it may have been.
    """

    pause: PauseReason | None = None
    wait: Wait | None = None
    token_is_dead: bool = False
    split: bool = False
    blocks: ThrottleScope | None = None
    call: Literal["refused", "unknown"] = "refused"


@dataclass(frozen=True, slots=True)
class ReactionRow:
    """One row of the table: kinds of errors, perhaps only with one account state, and what follows."""

    errors: tuple[type[GraphError], ...]
    reaction: Reaction
    account_state: AccountState | None = None

    def fits(self, error: GraphError) -> bool:
        """Whether this row is about the error."""
        return isinstance(error, self.errors) and self.account_state in (None, error.account_state)


_OUTAGE = Wait(first_seconds=5, cap_seconds=300, shortest_seconds=2.5)
"""Five minutes: long enough not to hammer a Meta that is down, short enough to notice when it is back. All the rest is
chance, so that stores that fell silent together do not come back together."""
_REFUSAL = Wait(first_seconds=900, cap_seconds=900)
_BLOCK = Wait(first_seconds=3600, cap_seconds=6 * 3600)
"""A block for policy is no matter of seconds, and each further try may prolong it."""

REACTIONS: tuple[ReactionRow, ...] = (
    ReactionRow((ThrottledError,), Reaction(blocks="both")),
    ReactionRow(
        (CredentialsError,),
        Reaction(PauseReason.NEEDS_RECONNECT, token_is_dead=True),
        account_state="needs_reconnect",
    ),
    # The app secret, the grant or the catalog is what is wrong: the same token may be good again.
    ReactionRow(
        (CredentialsError, PermissionMissingError, AssetLostError), Reaction(PauseReason.NEEDS_RECONNECT)
    ),
    ReactionRow((BlockedError, VersionRetiredError), Reaction(PauseReason.BLOCKED_BY_META, _BLOCK)),
    ReactionRow(
        (InvalidRequestError, TooLargeError), Reaction(PauseReason.BLOCKED_BY_META, _REFUSAL, split=True)
    ),
    ReactionRow((UnknownGraphError,), Reaction(PauseReason.BLOCKED_BY_META, _REFUSAL)),
    ReactionRow((GraphError,), Reaction(PauseReason.META_UNREACHABLE, _OUTAGE)),
)
"""Walked from the top; the first row that fits decides. The last one always does."""


def reaction_to(error: GraphError) -> Reaction:
    """What follows from a failed call."""
    reaction = next(row.reaction for row in REACTIONS if row.fits(error))
    blocks = error.scope if isinstance(error, ThrottledError) else None
    # A refusal for size is one whatever its code is.
    is_refused = error.is_definite or isinstance(error, TooLargeError)
    return replace(reaction, blocks=blocks, call="refused" if is_refused else "unknown")


def retry_delay(failures: int, jitter: float, factor: float = 1.0) -> timedelta:
    """How long to wait for an unreachable Meta after so many failures in a row; ``jitter`` is between 0 and 1."""
    return factor * _OUTAGE.duration(failures, jitter)


def pause_for(
    error: GraphError, now: datetime, *, failures: int, jitter: float, factor: float = 1.0
) -> Pause | None:
    """The pause that a failed call calls for; ``None`` for throttling, which the link's budget remembers.

    ``failures`` counts those in a row with the same reason; ``factor`` scales the waits for an unreachable Meta.
    """
    reaction = reaction_to(error)
    if reaction.pause is None:
        return None
    until = None
    if reaction.wait is not None:
        scale = factor if reaction.pause is PauseReason.META_UNREACHABLE else 1.0
        until = now + scale * reaction.wait.duration(failures, jitter)
    code = None if error.code is None else str(error.code) + (f"/{error.subcode}" if error.subcode else "")
    return Pause(reaction.pause, until, code or family_of(error).code, error.message)
