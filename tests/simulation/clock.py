"""A loop on virtual time: waiting costs nothing, and the same seed runs the same way, to the microsecond.

Nothing here does any input or output; a run that waits for something that no timer brings ends with an error.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from typing_extensions import override

__all__ = ["EPOCH", "StalledError", "VirtualLoop", "run_virtual"]

EPOCH = datetime(2026, 10, 24, 20, 0, tzinfo=UTC)
"""Where virtual time begins: the evening before clocks go back in Europe."""

T = TypeVar("T")


class StalledError(Exception):
    """Every task waits and no timer is set: nobody will ever go on."""


class _Selector(selectors.BaseSelector):
    """Lets time pass instead of waiting for files."""

    def __init__(self) -> None:
        self.now = 0.0
        self._keys: dict[Any, selectors.SelectorKey] = {}

    @override
    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        key = selectors.SelectorKey(fileobj, 0, events, data)
        self._keys[fileobj] = key
        return key

    @override
    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._keys.pop(fileobj)

    @override
    def get_key(self, fileobj: Any) -> selectors.SelectorKey:
        return self._keys[fileobj]

    @override
    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise StalledError("Every task waits and no timer is set.")
        self.now += timeout
        return []

    @override
    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._keys


class VirtualLoop(asyncio.SelectorEventLoop):
    """Its time stands still while code runs and jumps to the next timer when nothing does."""

    def __init__(self) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)

    @override
    def time(self) -> float:
        return self._virtual.now

    def database_time(self) -> datetime:
        """The one clock that deadlines are read on."""
        return EPOCH + timedelta(seconds=round(self._virtual.now, 6))


def run_virtual(main: Coroutine[Any, Any, T], loop: VirtualLoop) -> T:
    """Run to the end on the given loop and close it; whatever is left running is cancelled."""
    try:
        return loop.run_until_complete(main)
    finally:
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        if left:
            loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        loop.close()
