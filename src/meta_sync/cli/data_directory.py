"""The data directory of an installation: who uses it, what runs over it, and the encryption key kept in it.

One process holds the lock: a ``meta-sync up``, or a command that started the embedded database for itself.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import orjson
from pydantic import SecretStr

from meta_sync.core.crypto import Cipher, generate_encryption_key
from meta_sync.core.errors import StartError

__all__ = ["DataDirectory", "DirectoryInUseError", "Runtime"]


class DirectoryInUseError(StartError):
    """Another process holds the data directory.

    Attributes
    ----------
    role
        What it is: ``up``, ``demo`` or ``command``.
    pid
        Its process id, 0 when it could not be read.
    """

    def __init__(self, role: str, pid: int, path: Path) -> None:
        super().__init__(
            f"Another meta-sync {role} (process {pid or '?'}) uses the data directory {path}. "
            "Stop it first, or set META_SYNC_DATA_DIR to another directory."
        )
        self.role = role
        self.pid = pid


@dataclass(frozen=True, slots=True)
class Runtime:
    """What a running ``up`` tells other commands of the same machine. Addresses it was given itself are not repeated."""

    pid: int
    database_url: str | None = None
    redis_url: str | None = None
    api_url: str | None = None
    graph_url: str | None = None
    app_id: str | None = None
    app_secret: str | None = None


class DataDirectory:
    """One data directory.

    Parameters
    ----------
    path
        Made when it is missing, readable by its owner only.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.expanduser().absolute()

    @property
    def postgres(self) -> Path:
        """Where the embedded PostgreSQL keeps its cluster."""
        return self.path / "postgres"

    @property
    def redis(self) -> Path:
        """Where the embedded Redis keeps its log."""
        return self.path / "redis"

    def prepare(self) -> None:
        """Make the directory, or check that it is ours and can be written.

        Raises
        ------
        StartError
            It is no directory, belongs to another user, or cannot be written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
            owner = self.path.stat().st_uid
            if os.geteuid() not in {0, owner}:
                raise StartError(
                    f"The data directory {self.path} belongs to another user (uid {owner}). "
                    "Run as that user or set META_SYNC_DATA_DIR to a directory of your own."
                )
            with tempfile.TemporaryFile(dir=self.path):
                pass
        except OSError as error:
            reason = "is not a directory" if isinstance(error, FileExistsError | NotADirectoryError) else None
            raise StartError(
                f"The data directory {self.path} {reason or 'cannot be written'}"
                f"{'' if reason else f' ({error.strerror})'}. Set META_SYNC_DATA_DIR to one that can."
            ) from error

    @contextmanager
    def lock(self, role: str) -> Iterator[None]:
        """Hold the directory; the lock ends with the process, however that ends.

        Raises
        ------
        DirectoryInUseError
            Another process holds it.
        """
        file = os.open(self.path / "up.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno not in {errno.EAGAIN, errno.EACCES}:
                    raise StartError(f"{self.path} cannot be locked: {error.strerror}.") from error
                holder, _, pid = os.pread(file, 64, 0).decode(errors="replace").strip().partition(" ")
                raise DirectoryInUseError(
                    holder or "up", int(pid) if pid.isdigit() else 0, self.path
                ) from None
            os.ftruncate(file, 0)
            os.pwrite(file, f"{role} {os.getpid()}\n".encode(), 0)
            self._runtime_file.unlink(missing_ok=True)
            yield
        finally:
            os.close(file)

    @property
    def _runtime_file(self) -> Path:
        return self.path / "runtime.json"

    def write_runtime(self, runtime: Runtime) -> None:
        """Tell other commands what runs. For the holder of the lock."""
        self._write_private(self._runtime_file, orjson.dumps(asdict(runtime)))

    def clear_runtime(self) -> None:
        """Say that nothing runs any more."""
        self._runtime_file.unlink(missing_ok=True)

    def read_runtime(self) -> Runtime | None:
        """What the holder of the lock runs, or ``None`` while it has not said so."""
        with contextlib.suppress(OSError, ValueError, TypeError):
            return Runtime(**orjson.loads(self._runtime_file.read_bytes()))
        return None

    def encryption_key(self, *, create: bool) -> SecretStr | None:
        """The key kept here.

        Parameters
        ----------
        create
            Make one when there is none yet.

        Raises
        ------
        StartError
            The file holds no key, cannot be read, or is gone although there is data that may need it.
        """
        path = self.path / "encryption.key"
        try:
            if not path.exists():
                if not create:
                    return None
                if (self.postgres / "PG_VERSION").exists():
                    raise StartError(
                        f"{path} is missing, and the data beside it may hold tokens that only it can read. Put the file "
                        "back, or set META_SYNC_ENCRYPTION_KEYS. If the key is lost, set a new one there and store every "
                        "token again."
                    )
                self._write_private(path, f"{generate_encryption_key()}\n".encode())
            key = SecretStr(path.read_text().strip())
            Cipher([key])
        except OSError as error:
            raise StartError(f"{path} cannot be read: {error.strerror}.") from error
        except ValueError:
            raise StartError(
                f"{path} does not hold an encryption key. Put the original file back: "
                "without it the stored tokens cannot be read."
            ) from None
        return key

    def _write_private(self, path: Path, content: bytes) -> None:
        """Write a file as a whole, readable by its owner only."""
        handle, name = tempfile.mkstemp(dir=self.path)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
