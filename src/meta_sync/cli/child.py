"""A process of ours that the supervisor starts, watches, starts again and stops."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from meta_sync.core.errors import StartError

__all__ = ["Child"]

_STOP_SECONDS = 28.0
"""What a worker takes at most, from the 20 s for its running ticks to the row that says it is gone."""
_FIRST_PAUSE_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 30.0
_STEADY_SECONDS = 60.0
"""A child that ran this long died of something new."""

REFUSED = 2
"""Exit code of a process that said in one sentence why it cannot start; starting it again would say the same."""


class Child:
    """One child process, in a session of its own: Ctrl-C reaches the supervisor alone, which stops things in order.

    Parameters
    ----------
    name
        Said to the person: ``API``, ``worker``.
    arguments
        Of the ``meta-sync`` command.
    environment
        The child's whole environment.
    directory
        Its working directory.
    log
        Where its output goes; ``None``: where ours goes.
    pass_descriptors
        Open files the child inherits, such as a listening socket.
    say
        Takes sentences for the person.
    """

    def __init__(
        self,
        name: str,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        *,
        directory: Path,
        log: Path | None,
        pass_descriptors: Sequence[int] = (),
        say: Callable[[str], None],
    ) -> None:
        self.name = name
        self._arguments = [*arguments, "--supervised"]
        self._environment = dict(environment)
        self._directory = directory
        self._log = log
        self._pass_descriptors = tuple(pass_descriptors)
        self._say = say
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start the process."""
        log = os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600) if self._log else None
        try:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                # Without the working directory on the module path.
                "-P",
                "-m",
                "meta_sync",
                *self._arguments,
                # Where there is no .env: every setting is in the environment.
                cwd=self._directory,
                env=self._environment,
                # The child ends when this pipe closes, that is: when we are gone, in whatever way.
                stdin=subprocess.PIPE,
                stdout=log if log is not None else None,
                stderr=log if log is not None else None,
                start_new_session=True,
                pass_fds=self._pass_descriptors,
            )
        finally:
            if log is not None:
                os.close(log)

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        return self._process.pid if self._process and self._process.returncode is None else None

    @property
    def has_ended(self) -> bool:
        """Whether it was started and is no longer there."""
        return self._process is not None and self._process.returncode is not None

    def last_words(self) -> str:
        """The end of its log, for a sentence about why it did not start."""
        if self._log is None or not self._log.exists():
            return ""
        return self._log.read_text(errors="replace").strip()[-600:]

    async def keep_running(self) -> None:
        """Wait for its end and start it again, with a pause that grows. Ends only by cancellation.

        Raises
        ------
        StartError
            It refused to start.
        """
        loop = asyncio.get_running_loop()
        pause = _FIRST_PAUSE_SECONDS
        while True:
            assert self._process is not None
            began = loop.time()
            code = await self._process.wait()
            if code == REFUSED:
                raise StartError(f"The {self.name} refused to start. {self.last_words()}".strip())
            if loop.time() - began > _STEADY_SECONDS:
                pause = _FIRST_PAUSE_SECONDS
            self._say(
                f"The {self.name} ended unexpectedly ({_how(code)}). Starting it again in {pause:.0f} s."
            )
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)
            await self.start()

    async def stop(self) -> None:
        """Ask it to end, and kill it when it does not."""
        if self._process is None or self._process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(_STOP_SECONDS):
                await self._process.wait()
        except TimeoutError:
            self._say(f"The {self.name} did not stop in time and was killed.")
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()


def _how(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    with contextlib.suppress(ValueError):
        return f"signal {signal.Signals(-code).name}"
    return f"signal {-code}"
