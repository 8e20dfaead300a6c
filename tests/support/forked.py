"""Workers that start in a moment, in processes of their own, forked from one that has everything imported.

They are what ``WorkerProcess`` starts, but for what a test wants changed in them: waits, the local clock, the mapper.
Nothing else of the service may be replaced here.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, tzinfo
from multiprocessing.process import BaseProcess
from typing import Any

from typing_extensions import override

from meta_sync.cli import main as command
from meta_sync.factory import Factory
from meta_sync.graph import governor
from meta_sync.sync import context, job_runner, lease, listener, mapping, ticks
from meta_sync.sync.drain import Timing
from meta_sync.worker import pump
from tests.support.processes import Running, WorkerProcess
from tests.support.world import FAST, World

__all__ = ["Changes", "ForkedWorker", "new_mapper"]

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["tests.support.forked", "meta_sync.cli.serve", "pytest"])

_START_SECONDS = 30


@dataclass(frozen=True)
class Changes:
    """What is different in a forked worker.

    Attributes
    ----------
    timing
        Waits of the pipeline; those of the tests unless given.
    finish_seconds
        How long running ticks get after a stop.
    clock_seconds
        How far its local clock is ahead of the truth.
    mapper_version
        A newer mapper, whose titles say so.
    calls_per_hour
        The governor's allowance instead of Meta's: hundreds of lives make more calls in minutes than a shop in hours.
    job_page
        Items per page of a job: a small store takes many pages with it, too.
    idle_seconds
        How long an idle worker waits for a wake-up, which none of the other processes can give it.
    """

    timing: Timing = FAST
    finish_seconds: float | None = None
    clock_seconds: float = 0.0
    mapper_version: int | None = None
    calls_per_hour: int | None = None
    job_page: int | None = None
    idle_seconds: float | None = None


class ForkedWorker(WorkerProcess):
    """A worker with changes."""

    def __init__(self, world: World, *, changes: Changes = Changes(), **settings: str) -> None:
        self._changes = changes
        super().__init__(world, **settings)

    @override
    def _start(self, arguments: list[str], environment: dict[str, str]) -> Running:
        child = _context.Process(
            target=_live, args=(arguments, environment, self._log.name, self._changes), daemon=True
        )
        child.start()
        return _Child(child)

    @override
    def stop(self) -> int:
        """SIGTERM once it runs, and the exit code. Before, it would end as any process does that knows no signal."""
        deadline = time.monotonic() + _START_SECONDS
        while "The worker runs" not in self.log() and self.process.poll() is None:
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.02)
        return super().stop()


class _Child:
    """A child of the fork server, as ``subprocess`` would show it."""

    def __init__(self, child: BaseProcess) -> None:
        self._child = child
        assert child.pid is not None
        self.pid = child.pid

    @property
    def returncode(self) -> int | None:
        return self._child.exitcode

    def poll(self) -> int | None:
        return self._child.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._child.join(timeout)
        if self._child.exitcode is None:
            raise TimeoutError(f"the worker did not end in {timeout} s")
        return self._child.exitcode

    def send_signal(self, sig: int, /) -> None:
        if self.poll() is None:
            os.kill(self.pid, sig)

    def kill(self) -> None:
        self._child.kill()


def new_mapper(version: int, patch: Callable[[Any, str, Any], None] = setattr) -> None:
    """Make the mapper of this process that of another version, with titles that say which."""
    patch(mapping, "MAPPER_VERSION", version)
    patch(mapping, "_HASH_PREFIX", b"%d\n" % version)
    for module in (context, lease, listener):
        patch(module, "MAPPER_VERSION", version)
    patch(ticks, "_MAPPER_SCHEDULE", f"mapper_version_{version}")
    evaluate = mapping.Mapper.evaluate

    def titled(self: mapping.Mapper, item: Any, **rest: Any) -> Any:
        return evaluate(self, replace(item, title=f"{item.title} (mapper {version})"), **rest)

    patch(mapping.Mapper, "evaluate", titled)


def _live(arguments: list[str], environment: dict[str, str], log: str, changes: Changes) -> None:
    os.environ.clear()
    os.environ.update(environment)
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND)
    for standard in (1, 2):
        os.dup2(descriptor, standard)
    make = Factory.pipeline
    Factory.pipeline = (  # type: ignore[method-assign]  # waits are no setting
        lambda self, *, owner=None, timing=None: make(self, owner=owner, timing=changes.timing)
    )
    if changes.finish_seconds is not None:
        _shorten_stop(changes.finish_seconds)
    if changes.mapper_version is not None:
        new_mapper(changes.mapper_version)
    if changes.calls_per_hour is not None:
        _allow(changes.calls_per_hour)
    if changes.job_page is not None:
        job_runner._PAGE = changes.job_page
    if changes.idle_seconds is not None:
        pump._LOOK_SECONDS = pump._JOBS_SECONDS = changes.idle_seconds
    if changes.clock_seconds:
        _move_clock(changes.clock_seconds)
    sys.argv = ["meta-sync", *arguments]
    command.main()


def _shorten_stop(seconds: float) -> None:
    defaults = pump.Pump.__init__.__kwdefaults__
    assert defaults is not None
    defaults["finish_seconds"] = seconds


def _allow(calls_per_hour: int) -> None:
    defaults = governor.decide_call.__kwdefaults__
    assert defaults is not None
    defaults["allowance"] = calls_per_hour


def _move_clock(seconds: float) -> None:
    """Move what Python code of the service and of arq reads as the local time. Monotonic time is no wall clock."""
    true_time, ahead = time.time, timedelta(seconds=seconds)

    class _SameClass(type):
        @override
        def __instancecheck__(cls, instance: object) -> bool:
            return isinstance(instance, datetime)

    class _Moved(datetime, metaclass=_SameClass):
        @classmethod
        @override
        def now(cls, tz: tzinfo | None = None) -> Any:
            return datetime.now(tz) + ahead

    time.time = lambda: true_time() + seconds
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] in {"meta_sync", "arq"}:
            if getattr(module, "datetime", None) is datetime:
                module.datetime = _Moved  # type: ignore[attr-defined]  # whoever reads the clock imported the class
            if getattr(module, "time", None) is true_time:
                module.time = time.time  # type: ignore[attr-defined]  # a clock of its own
