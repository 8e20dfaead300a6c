"""Where the embedded servers put their Unix sockets: short, private, and the same for the same data directory."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

from meta_sync.core.errors import StartError

__all__ = ["private_socket_directory", "require_private"]


def private_socket_directory(directory: Path) -> Path:
    """The directory for the socket of a server over a data directory. Not made here.

    A socket's path may have 107 bytes; a data directory is often deeper than that.
    """
    digest = hashlib.sha256(str(directory.resolve()).encode()).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"meta-sync-{digest}"


def require_private(path: Path, owners: set[int]) -> None:
    """Refuse a directory in the shared temporary folder that somebody else made before us.

    Raises
    ------
    StartError
        It is no directory of ours, or others may enter it.
    """
    found = path.lstat()
    if not path.is_dir() or path.is_symlink() or found.st_uid not in owners | {os.geteuid()}:
        raise StartError(f"{path} belongs to another user; meta-sync needs that name for its sockets.")
    if found.st_mode & 0o077:
        path.chmod(0o700)
