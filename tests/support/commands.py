"""Runs the real command as a process and looks for what it leaves behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

__all__ = ["Command", "environment", "left_over", "run_command", "running_command", "wait_for"]


def environment(data_directory: Path, **settings: str) -> dict[str, str]:
    """An environment without any setting of ours but the given ones."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("META_SYNC_")}
    given = {"DATA_DIR": str(data_directory), **settings}
    return kept | {f"META_SYNC_{name}": value for name, value in given.items()}


def wait_for(condition: Callable[[], bool], what: str, seconds: float = 60.0) -> None:
    """Poll until a condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s in vain for {what}"
        time.sleep(0.05)


def left_over(data_directory: Path) -> list[str]:
    """Processes that have anything to do with a data directory: servers by command line, children by environment."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid == os.getpid() or process.status() == psutil.STATUS_ZOMBIE:
                continue
            words = [*process.cmdline(), process.environ().get("META_SYNC_DATA_DIR", ""), process.cwd()]
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
        if any(str(data_directory) in word for word in words):
            found.append(" ".join(process.cmdline()))
    return found


class Command:
    """One running command with its output in files."""

    def __init__(self, process: subprocess.Popen[bytes], directory: Path) -> None:
        self.process = process
        self._directory = directory

    @property
    def output(self) -> str:
        return (self._directory / "output").read_text()

    @property
    def errors(self) -> str:
        return (self._directory / "errors").read_text()

    def wait_for_output(self, text: str, seconds: float = 90.0) -> None:
        wait_for(
            lambda: text in self.output or self.process.poll() is not None, f"the output {text!r}", seconds
        )
        assert text in self.output, f"{self.output}\n{self.errors}"

    def stop(self, number: signal.Signals = signal.SIGTERM, seconds: float = 60.0) -> int:
        self.process.send_signal(number)
        return self.process.wait(seconds)


@contextmanager
def running_command(directory: Path, arguments: list[str], variables: dict[str, str]) -> Iterator[Command]:
    """A command in a session of its own; stopped at the end if it still runs."""
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "output").open("wb") as output, (directory / "errors").open("wb") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "meta_sync", *arguments],
            env=variables,
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
            start_new_session=True,
        )
    try:
        yield Command(process, directory)
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(45)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def run_command(
    directory: Path, arguments: list[str], variables: dict[str, str], seconds: float = 120.0
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    directory.mkdir(parents=True, exist_ok=True)
    return subprocess.run(
        [sys.executable, "-m", "meta_sync", *arguments],
        env=variables,
        cwd=directory,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
