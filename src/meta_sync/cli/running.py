"""How a command runs: an event loop, what signals and a closed standard input do to it, and threads that end."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

import uvloop

from meta_sync.cli import console

__all__ = ["in_thread", "run", "stop_event", "to_the_end"]

T = TypeVar("T")
P = ParamSpec("P")


def _stop_signals() -> list[signal.Signals]:
    """What asks a process to end: Ctrl-C, a service manager, a terminal that is closed unless ``nohup`` says otherwise."""
    return [
        number
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN
    ]


def run(main: Coroutine[Any, Any, T], *, fast_loop: bool = False, ends_by_signal: bool = False) -> T:
    """Run a command. SIGINT, SIGTERM and SIGHUP cancel it once, so that it cleans up; later ones change nothing.

    Parameters
    ----------
    main
        The command.
    fast_loop
        Run on uvloop. Not for what starts processes.
    ends_by_signal
        A signal is the usual end of the command: exit code 0.

    Raises
    ------
    SystemExit
        A signal ended the command: 0 where that is its usual end, else 128 and its number, as shells say it.
    """
    received: list[signal.Signals] = []

    async def guarded() -> T:
        task = asyncio.current_task()
        assert task is not None

        def on_signal(number: signal.Signals) -> None:
            if not received:
                console.note("Stopping …")
                task.cancel()
            received.append(number)

        loop = asyncio.get_running_loop()
        for number in _stop_signals():
            loop.add_signal_handler(number, on_signal, number)
        return await main

    with asyncio.Runner(loop_factory=uvloop.new_event_loop if fast_loop else None) as runner:
        try:
            return runner.run(guarded())
        except asyncio.CancelledError:
            if received:
                raise SystemExit(0 if ends_by_signal else 128 + received[0]) from None
            raise


def stop_event(*, supervised: bool) -> asyncio.Event:
    """An event that SIGINT, SIGTERM and SIGHUP set instead of cancelling anything.

    Parameters
    ----------
    supervised
        Also set it when standard input closes: the supervisor holds the other end, and only its death, even by
        ``kill -9``, closes that.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in _stop_signals():
        loop.add_signal_handler(number, stop.set)
    if supervised:
        descriptor = sys.stdin.fileno()

        def on_input() -> None:
            if not os.read(descriptor, 1024):
                loop.remove_reader(descriptor)
                stop.set()

        loop.add_reader(descriptor, on_input)
    return stop


async def in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run something that blocks, such as the start of a server, in a thread, and to its end."""
    return await to_the_end(asyncio.to_thread(function, *args, **kwargs))


async def to_the_end(work: Coroutine[Any, Any, T]) -> T:
    """Run something that must not be left half done. A cancellation meanwhile is raised when it has ended."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        while not task.done():
            try:
                await asyncio.wait([task])
            except asyncio.CancelledError:
                continue
        if not task.cancelled():
            task.exception()
        raise
