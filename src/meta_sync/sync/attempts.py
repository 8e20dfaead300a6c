"""What became of one record of a batch, in a word. Pure."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["OUTCOME", "AttemptOutcome"]


class AttemptOutcome(StrEnum):
    """What became of an item in one batch."""

    UNDER_WAY = "under_way"
    ACCEPTED = "accepted"
    REJECTED = "rejected"
    UNKNOWN = "unknown"
    RETURNED = "returned"


# Only refusals and doubts are written with the record: what a settled batch does not name was accepted, and of a batch
# that ended with nothing accepted it was given back, because Meta refused the whole call.
OUTCOME = """
    COALESCE(a.outcome, CASE WHEN b.state IS NULL OR b.state <> 'over' THEN 'under_way'
                             WHEN b.accepted > 0 THEN 'accepted' ELSE 'returned' END)
"""
"""The outcome of the record ``a`` of the batch ``b``, as SQL."""
