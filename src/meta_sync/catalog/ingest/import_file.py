"""The uploaded file on local disk, read slice by slice in a thread. Blocking; called through ``asyncio.to_thread``."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from meta_sync.catalog.ingest.rows import FileRefusedError, FormatContext, ImportFormat, Parsed

__all__ = ["RowReader"]

_SLICE_SECONDS = 5.0
"""A slice ends early in a file whose rows take long, so that the lease can be renewed in between."""


class RowReader:
    """One pass over the file."""

    def __init__(self, path: Path, file_format: ImportFormat, context: FormatContext) -> None:
        self._is_cancelled = context.is_cancelled
        self._file = path.open("rb")
        self._entries: Iterator[Parsed] = iter(file_format.parse(self._file, context))
        self.finished = False
        self.refusal: FileRefusedError | None = None
        """Why the file cannot be read any further; ``finished`` is set with it."""
        self.bytes_read = 0

    def read(self, most: int) -> list[Parsed]:
        """The next entries, at most so many; ``finished`` is set once there are no more."""
        found: list[Parsed] = []
        deadline = time.monotonic() + _SLICE_SECONDS
        try:
            while len(found) < most and time.monotonic() < deadline and not self._is_cancelled():
                entry = next(self._entries, None)
                if entry is None:
                    self.finished = True
                    break
                found.append(entry)
        except FileRefusedError as refusal:
            self.finished, self.refusal = True, refusal
        if not self._file.closed:
            self.bytes_read = self._file.tell()
        return found

    def close(self) -> None:
        """Let go of the file, the format first: it may hold a reader of its own over it."""
        close = getattr(self._entries, "close", None)
        if close is not None:
            close()
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
