"""When to ask Meta the same question again. Only for reads, which may be repeated without harm.

Writes are never repeated in here: whether an ``items_batch`` call may go again is decided by who knows its
items.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from meta_sync.graph.errors import GraphError, ThrottledError

__all__ = ["RetryPolicy", "Sleep", "repeat_read", "retry_delay_seconds"]

Sleep = Callable[[float], Awaitable[None]]
"""Waits the given number of seconds."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how far apart.

    Attributes
    ----------
    attempts
        Calls in all, the first included. Three outlast a dropped connection or a restart of one of Meta's
        servers; longer outages are the pipeline's to wait out, with the reason on show.
    base_seconds, cap_seconds
        The longest wait before the second call, doubled for each further one up to the cap.
    total_seconds
        No call is begun that would start later than this after the first one.
    """

    attempts: int = 3
    base_seconds: float = 0.5
    cap_seconds: float = 8.0
    total_seconds: float = 30.0


def retry_delay_seconds(
    attempt: int, error: GraphError, random: Callable[[], float], policy: RetryPolicy | None = None
) -> float | None:
    """Seconds until the next call after the ``attempt``-th one (from 1) failed, or ``None`` to stop.

    Full jitter: anything between zero and the exponential limit, so that many clients do not come back
    together. Throttling stops at once: calling on makes Meta's block longer, and the governor knows when it
    ends. ``random`` gives numbers from 0 to 1.
    """
    policy = policy or RetryPolicy()
    if attempt >= policy.attempts or not error.retryable or isinstance(error, ThrottledError):
        return None
    longest = min(policy.cap_seconds, policy.base_seconds * 2.0 ** min(max(0, attempt - 1), 30))
    return random() * longest


class _Failable(Protocol):
    @property
    def error(self) -> GraphError | None: ...


FailableT = TypeVar("FailableT", bound=_Failable)


async def repeat_read(
    read: Callable[[], Awaitable[FailableT]],
    *,
    sleep: Sleep,
    clock: Callable[[], float],
    random: Callable[[], float],
    policy: RetryPolicy | None = None,
) -> FailableT:
    """Make the read, again where the policy says so, and return the last answer, failed or not.

    ``clock`` gives seconds that never step back.
    """
    policy = policy or RetryPolicy()
    started_at = clock()
    attempt = 1
    while True:
        answer = await read()
        if answer.error is None:
            return answer
        delay = retry_delay_seconds(attempt, answer.error, random, policy)
        if delay is None or clock() - started_at + delay > policy.total_seconds:
            return answer
        await sleep(delay)
        attempt += 1
