"""One kind of tick, run again and again until it is told to stop.

A loop runs a tick at once while there is work, waits a moment when there is none, and backs off when it fails. It is
never cancelled in the middle of a tick: a tick that was begun is finished. It knows nothing about what a tick does.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

from meta_sync.core.logging import get_logger, redact
from meta_sync.core.outages import is_contention, is_outage, outage_reason

__all__ = ["Tick", "TickLoop", "backoff_seconds"]

_logger = get_logger(__name__)

Tick = Callable[[], Awaitable[int | None]]
"""Does one portion of work and returns how much it was; nothing or 0 means that there was none."""

_FIRST_BACKOFF_SECONDS = 0.5
_LONGEST_BACKOFF_SECONDS = 15.0
"""A database that comes back is noticed within this time."""

_HELPER_IDLE_SECONDS = 30.0
"""Slots beyond the first are woken by the slot before them; this is only for a wake-up that got lost."""


def backoff_seconds(failures: int, draw: Callable[[], float] = random.random) -> float:
    """How long to wait after a number of failures in a row: doubling, capped, with jitter of half its length."""
    full = min(_LONGEST_BACKOFF_SECONDS, _FIRST_BACKOFF_SECONDS * 2.0 ** min(failures - 1, 10))
    return full * (0.5 + 0.5 * draw())


class TickLoop:
    """Runs one kind of tick in a number of slots.

    Only the first slot looks for work on its own. A slot that found some wakes the next one, so that an idle loop asks
    once per interval however many slots it has, and a busy one uses all of them.

    Parameters
    ----------
    name
        Said in the log.
    tick
        The work; must be safe to run at any time and in several slots at once.
    slots
        How many ticks may run at the same time.
    idle_seconds
        How long the first slot waits after a tick that found nothing, unless it is woken.
    backoff
        Seconds to wait after the given number of failures in a row.
    """

    def __init__(
        self,
        name: str,
        tick: Tick,
        *,
        slots: int = 1,
        idle_seconds: float,
        backoff: Callable[[int], float] = backoff_seconds,
    ) -> None:
        self.name = name
        self._tick = tick
        self._idle_seconds = idle_seconds
        self._backoff = backoff
        self._wake = [asyncio.Event() for _ in range(slots)]
        self._stop = asyncio.Event()

    def wake(self) -> None:
        """Look for work now. A wake-up during a tick makes the slot look once more after it."""
        self._wake[0].set()

    def stop(self) -> None:
        """Begin no further tick."""
        self._stop.set()
        for event in self._wake:
            event.set()

    async def run(self) -> None:
        """Run until ``stop`` was called and every running tick has ended."""
        async with asyncio.TaskGroup() as group:
            for slot in range(len(self._wake)):
                group.create_task(self._run_slot(slot), name=f"{self.name}-{slot}")

    async def _run_slot(self, slot: int) -> None:
        failures = 0
        while not self._stop.is_set():
            self._wake[slot].clear()
            try:
                done = await self._tick()
            except Exception as error:  # noqa: BLE001 - a worker outlives whatever a tick meets
                failures += 1
                await self._after_failure(error, failures)
                continue
            if failures:
                _logger.info("A tick that had failed works again.", tick=self.name, failures=failures)
                failures = 0
            if done:
                self._wake[(slot + 1) % len(self._wake)].set()
                # A tick that never waits must not starve the other loops of the process.
                await asyncio.sleep(0)
            else:
                await _wait(self._wake[slot], self._idle_seconds if slot == 0 else _HELPER_IDLE_SECONDS)

    async def _after_failure(self, error: Exception, failures: int) -> None:
        seconds = self._backoff(failures)
        # An outage is one line when it begins, and one more each time its length has doubled.
        if failures & (failures - 1) == 0:
            expected = is_outage(error) or is_contention(error)
            _logger.log(
                30 if expected else 40,
                "A tick failed and will be tried again.",
                tick=self.name,
                error=type(error).__name__,
                reason=redact(outage_reason(error)),
                failures=failures,
                retry_seconds=round(seconds, 1),
                exc_info=None if expected else error,
            )
        # Wake-ups do not cut a back-off short: they would turn an outage into a storm.
        await _wait(self._stop, seconds)


async def _wait(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass
