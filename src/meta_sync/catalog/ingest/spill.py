"""A lookup from text to text that a file of any size may fill: small ones stay in memory, large ones go to disk.

For formats whose rows name each other across the file. Blocking; used in the thread that reads the file.
"""

from __future__ import annotations

import sqlite3
from types import TracebackType
from typing import Self

__all__ = ["SpilledLookup"]

_MOST_IN_MEMORY = 50_000
_ROWS_AT_ONCE = 5_000


class SpilledLookup:
    """Keys to values; a value that is added stays the key's first, a value that is put replaces it.

    Holds at most 50,000 pairs in memory; beyond, all of them stand in a temporary file that is gone with the object.
    """

    def __init__(self, most_in_memory: int = _MOST_IN_MEMORY) -> None:
        self._most = most_in_memory
        self._memory: dict[str, str] = {}
        self._disk: sqlite3.Connection | None = None

    def add(self, key: str, value: str) -> bool:
        """Keep a pair unless the key is known; whether it was new."""
        if self._disk is None:
            if key in self._memory:
                return False
            self._memory[key] = value
            if len(self._memory) > self._most:
                self._spill()
            return True
        return self._disk.execute("INSERT OR IGNORE INTO pairs VALUES (?, ?)", (key, value)).rowcount == 1

    def put(self, key: str, value: str) -> None:
        """Keep a pair in place of the one that the key may have."""
        if not self.add(key, value):
            if self._disk is None:
                self._memory[key] = value
            else:
                self._disk.execute("UPDATE pairs SET value = ? WHERE key = ?", (value, key))

    def get(self, key: str) -> str | None:
        """The value of the key, if there is one."""
        if self._disk is None:
            return self._memory.get(key)
        row = self._disk.execute("SELECT value FROM pairs WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    def __contains__(self, key: str) -> bool:
        return self.get(key) is not None

    def close(self) -> None:
        """Drop everything."""
        self._memory.clear()
        if self._disk is not None:
            self._disk.close()
            self._disk = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _spill(self) -> None:
        # A name of its own kind: SQLite makes a temporary file that it removes with the connection. The generator that
        # holds us may be read by one thread after the other, never by two at once.
        disk = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        disk.execute("PRAGMA journal_mode = OFF")
        disk.execute("PRAGMA synchronous = OFF")
        disk.execute("CREATE TABLE pairs (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID")
        pairs = list(self._memory.items())
        disk.execute("BEGIN")
        for start in range(0, len(pairs), _ROWS_AT_ONCE):
            disk.executemany("INSERT INTO pairs VALUES (?, ?)", pairs[start : start + _ROWS_AT_ONCE])
        self._memory.clear()
        self._disk = disk
