"""What a command says: results on standard output, notes and errors on standard error, JSON where a machine reads."""

from __future__ import annotations

import contextlib
import sys
from typing import Any

import orjson
from rich.console import Console

__all__ = ["note", "print_json", "say", "screen"]


_PLAIN_WIDTH = 140


def screen() -> Console:
    """For tables and progress; plain text when standard output is no terminal."""
    # A log file has no width of its own; tables should not be folded into it.
    width = None if sys.stdout.isatty() else _PLAIN_WIDTH
    return Console(file=sys.stdout, highlight=False, width=width)


def say(text: str = "") -> None:
    """Print a line to standard output at once."""
    print(text, flush=True)


def note(text: str) -> None:
    """Print a line to standard error at once. A terminal that is gone must not stop what is being put away."""
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr, flush=True)


def print_json(value: Any) -> None:
    """Print one JSON document to standard output."""
    print(orjson.dumps(value, option=orjson.OPT_INDENT_2, default=str).decode(), flush=True)
