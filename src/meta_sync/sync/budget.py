"""The governor's state in PostgreSQL: calls are counted from the calls table, the rest stands with the link."""

from __future__ import annotations

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from meta_sync.graph.governor import BucketState, BudgetState

__all__ = ["load_budget", "save_budget"]

_MOST_CALLS_READ = 500
"""More than any allowance that a decision is made from."""

_CALL_TIMES = text(
    f"""
    SELECT started_at FROM (
        SELECT started_at FROM batch_calls
        WHERE link_id = :link_id AND started_at > now() - interval '1 hour'
        ORDER BY started_at DESC LIMIT {_MOST_CALLS_READ}
    ) AS newest ORDER BY started_at
    """
)
_BUCKETS = text(
    """
    SELECT calls_blocked_until, throttle_count, usage_percent, usage_at,
           questions_blocked_until, questions_throttle_count, questions_usage_percent, questions_usage_at
    FROM catalog_links WHERE link_id = :link_id
    """
)
# A block is only ever made longer: two workers may answer for the same link.
_SAVE = text(
    """
    UPDATE catalog_links SET
        calls_blocked_until = GREATEST(calls_blocked_until, CAST(:calls_blocked_until AS timestamptz)),
        throttle_count = :throttle_count, usage_percent = :usage_percent, usage_at = CAST(:usage_at AS timestamptz),
        questions_blocked_until = GREATEST(questions_blocked_until, CAST(:questions_blocked_until AS timestamptz)),
        questions_throttle_count = :questions_throttle_count,
        questions_usage_percent = :questions_usage_percent,
        questions_usage_at = CAST(:questions_usage_at AS timestamptz)
    WHERE link_id = :link_id
    """
)


async def load_budget(connection: AsyncConnection, link_id: int, *, with_calls: bool = True) -> BudgetState:
    """The budget of one link as the governor reads it."""
    row = (await connection.execute(_BUCKETS, {"link_id": link_id})).one()
    times = (
        (await connection.execute(_CALL_TIMES, {"link_id": link_id})).scalars().all() if with_calls else []
    )
    return BudgetState(call_times=tuple(times), calls=BucketState(*row[:4]), questions=BucketState(*row[4:]))


async def save_budget(
    connection: AsyncConnection, link_id: int, before: BudgetState, after: BudgetState
) -> None:
    """Write what an answer changed; most answers change nothing."""
    if before.calls == after.calls and before.questions == after.questions:
        return
    await connection.execute(
        _SAVE,
        {
            "link_id": link_id,
            "calls_blocked_until": after.calls.blocked_until,
            "throttle_count": after.calls.throttled_in_a_row,
            "usage_percent": after.calls.usage_percent,
            "usage_at": after.calls.usage_at,
            "questions_blocked_until": after.questions.blocked_until,
            "questions_throttle_count": after.questions.throttled_in_a_row,
            "questions_usage_percent": after.questions.usage_percent,
            "questions_usage_at": after.questions.usage_at,
        },
    )
