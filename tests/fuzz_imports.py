"""Damages real and made-up files in every way that files get damaged, and reads them: rows and findings, or a sentence.

Not part of the suite by its length; the suite runs a bounded number. By hand::

    python -m tests.fuzz_imports --mutations 100000 --processes 2

Each case has a limit of time and the whole process one of memory. A case is its number: it happens again the same way.
"""

from __future__ import annotations

import argparse
import codecs
import io
import random
import resource
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

from meta_sync.catalog.ingest.detect import FORMATS, detect
from meta_sync.catalog.ingest.encoding import HEAD_BYTES
from meta_sync.catalog.ingest.rows import (
    FileRefusedError,
    FormatContext,
    ImportedParent,
    ImportedVariant,
    ImportFormat,
    Parsed,
)
from meta_sync.catalog.validation import validate_product

__all__ = ["Damage", "damaged", "read_case", "sample_files"]

_ROOT = Path(__file__).resolve().parents[1]
_SAMPLES = _ROOT / "tests" / "data" / "formats"
_SHARED = _ROOT.parent / "shared" / "data"
_MOST_BYTES = 12_000
"""Of a real file, its beginning: what follows is more of the same, and costs time."""
_MOST_SECONDS = 10
_MOST_MEMORY_BYTES = 2 * 1024**3
_CHUNK = 250
_SAY_EVERY = 5_000
_NOW = datetime(2026, 1, 1, tzinfo=UTC)
_CURRENCIES = ("EUR", "USD", "JPY", "TND")

_TOKENS: tuple[bytes, ...] = (
    b"\x00",
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    b"\xed\xa0\x80",
    b'"',
    b'""',
    b"'",
    b",",
    b";",
    b"\t",
    b"|",
    b"\r",
    b"\n",
    b"\r\n\r\n",
    b"<",
    b">",
    b"&",
    b"&amp;",
    b"&#0;",
    b"&#x110000;",
    b"&nbsp;",
    b"<![CDATA[",
    b"]]>",
    b"<!--",
    b"-->",
    b"<?xml version='1.0' encoding='utf-16'?>",
    b"<!DOCTYPE a [<!ENTITY b 'c'>]>",
    b"<g:id>",
    b"</item>",
    b"{",
    b"}",
    b"[",
    b"]",
    b":",
    b"\\u0000",
    b"\\ud800",
    b"\\n",
    b"NaN",
    b"Infinity",
    b"1e400",
    b"-0",
    b"9" * 400,
    b"1.58E+15",
    b"1.234,56",
    b"-1",
    b"EUR",
    b"0x10",
    b"2026-02-30",
    b"0000-00-00 00:00:00",
    b"9999-12-31T23:59:59-12:00",
    b"=cmd|' /C calc'!A0",
    b"\xe2\x80\xae",
    b"\xcc\x81" * 50,
    b" " * 500,
    b"null",
    b"true",
    b"(" * 200,
    b"[" * 3000,
    b"<a>" * 3000,
)

Damage = Callable[[random.Random, bytes, Sequence[bytes]], bytes]


def _place(dice: random.Random, data: bytes) -> int:
    return dice.randrange(len(data) + 1)


def _insert(dice: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    at = _place(dice, data)
    return data[:at] + dice.choice(_TOKENS) + data[at:]


def _overwrite(dice: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    at = _place(dice, data)
    token = dice.choice(_TOKENS)
    return data[:at] + token + data[at + len(token) :]


def _flip(dice: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    changed = bytearray(data)
    for _number in range(dice.choice([1, 1, 5, 40])):
        if changed:
            changed[dice.randrange(len(changed))] ^= 1 << dice.randrange(8)
    return bytes(changed)


def _cut_out(dice: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    at = _place(dice, data)
    return data[:at] + data[at + dice.choice([1, 2, 10, 100, 3000]) :]


def _cut_off(dice: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    return data[: _place(dice, data)]


def _repeat(dice: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    at = _place(dice, data)
    piece = data[at : at + dice.choice([1, 10, 300, 3000])]
    return data[:at] + piece * dice.choice([2, 3, 20]) + data[at:]


def _move_line(dice: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    lines = data.split(b"\n")
    lines.insert(dice.randrange(len(lines) + 1), lines.pop(dice.randrange(len(lines))))
    return b"\n".join(lines)


def _drop_line(dice: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    lines = data.split(b"\n")
    del lines[dice.randrange(len(lines))]
    return b"\n".join(lines)


def _splice(dice: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    other = dice.choice(others)
    return data[: _place(dice, data)] + other[_place(dice, other) :]


def _delimit(dice: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    old, new = dice.sample([b",", b";", b"\t", b"|"], 2)
    return data.replace(old, new)


def _encode(dice: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    text = data.decode("utf-8", "replace")
    codec = dice.choice(
        ["utf-16", "utf-16-le", "utf-32", "cp1251", "cp1252", "latin-1", "shift_jis", "utf-7"]
    )
    bom = dice.choice([b"", b"", codecs.BOM_UTF8])
    return bom + text.encode(codec, "replace")


def _shout(dice: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    return data.upper() if dice.random() < 0.5 else data.lower()


_DAMAGES: tuple[Damage, ...] = (
    _insert,
    _insert,
    _overwrite,
    _flip,
    _flip,
    _cut_out,
    _cut_off,
    _repeat,
    _move_line,
    _drop_line,
    _splice,
    _delimit,
    _encode,
    _shout,
)


def sample_files(*, shared: bool = True) -> list[tuple[str, bytes]]:
    """The project's own samples, and the beginnings of the real files where they lie beside it."""
    paths = sorted(_SAMPLES.iterdir())
    if shared and _SHARED.is_dir():
        paths += sorted(
            path for path in _SHARED.rglob("*.*") if path.suffix != ".md" and "reference" not in path.parts
        )
    found = []
    for path in paths:
        with path.open("rb") as file:
            found.append((path.name, file.read(_MOST_BYTES)))
    return found


def damaged(number: int, files: Sequence[tuple[str, bytes]]) -> tuple[str, bytes]:
    """The case of this number: the name of the file it began as, and its damaged content."""
    dice = random.Random(number)
    name, data = files[number % len(files)]
    others = [content for _, content in files]
    for _ in range(dice.choice([1, 1, 2, 3, 6])):
        data = dice.choice(_DAMAGES)(dice, data, others)
    return name, data


def read_case(number: int, name: str, data: bytes) -> str:
    """Detect and read one case as an import does, and one more time in a format that was forced.

    Returns
    -------
    str
        What came of it, for the summary.

    Raises
    ------
    Exception
        Anything that is not a refusal with a sentence: a fault of ours.
    """
    try:
        chosen = detect(data[:HEAD_BYTES], name)
    except FileRefusedError as refusal:
        _require_sentence(refusal)
        ended = "not recognised"
    else:
        ended = _read(chosen, data, number)
    forced = list(FORMATS.values())[number % len(FORMATS)]
    _read(forced, data, number)
    return ended


def _read(chosen: ImportFormat, data: bytes, number: int) -> str:
    context = FormatContext(_CURRENCIES[number % len(_CURRENCIES)])
    count = 0
    try:
        for entry in chosen.parse(io.BytesIO(data), context):
            _check(entry)
            count += 1
    except FileRefusedError as refusal:
        _require_sentence(refusal)
        return "refused" if not count else "refused half-way"
    return "read"


def _check(entry: Parsed) -> None:
    """What the import does with an entry before it writes."""
    if isinstance(entry, ImportedVariant):
        validate_product(replace(entry.product, variants=[entry.variant]), now=_NOW)
    elif isinstance(entry, ImportedParent):
        validate_product(entry.product, now=_NOW)
    else:
        assert entry.message.endswith((".", "…")), entry
        assert entry.rule
        assert entry.rule == entry.rule.lower()
    assert entry.row >= 0


def _require_sentence(refusal: FileRefusedError) -> None:
    assert refusal.message.endswith("."), refusal.message
    assert "Traceback" not in refusal.message


def _too_long(_signal: int, _frame: FrameType | None) -> None:
    raise TimeoutError(f"A case took longer than {_MOST_SECONDS} s.")


def _run_chunk(first: int, count: int) -> tuple[Counter[str], list[str]]:
    resource.setrlimit(resource.RLIMIT_AS, (_MOST_MEMORY_BYTES, _MOST_MEMORY_BYTES))
    signal.signal(signal.SIGALRM, _too_long)
    files = sample_files()
    ends: Counter[str] = Counter()
    faults = []
    for number in range(first, first + count):
        name, data = damaged(number, files)
        signal.alarm(_MOST_SECONDS)
        try:
            ends[read_case(number, name, data)] += 1
        except Exception:  # noqa: BLE001 - any error at all is what is looked for
            faults.append(f"case {number} ({name}):\n{traceback.format_exc(limit=-4)}")
        finally:
            signal.alarm(0)
    return ends, faults


def main() -> int:
    """Read the arguments, run, and say what came of it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--mutations", type=int, default=10_000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--show", type=int, default=10, help="faults to show")
    arguments = parser.parse_args()
    began = time.monotonic()
    starts = range(arguments.first, arguments.first + arguments.mutations, _CHUNK)
    counts = [min(_CHUNK, arguments.first + arguments.mutations - start) for start in starts]
    ends: Counter[str] = Counter()
    faults: list[str] = []
    with ProcessPoolExecutor(arguments.processes) as pool:
        for some_ends, some_faults in pool.map(_run_chunk, starts, counts):
            before = sum(ends.values())
            ends += some_ends
            if sum(ends.values()) // _SAY_EVERY > before // _SAY_EVERY:
                print(f"{sum(ends.values())} cases after {time.monotonic() - began:.0f} s", flush=True)
            for fault in some_faults:
                if len(faults) < arguments.show:
                    print(fault, flush=True)
                faults.append(fault)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024
    shown = ", ".join(f"{count} {name}" for name, count in sorted(ends.items()))
    seconds = time.monotonic() - began
    print(f"{sum(ends.values())} cases: {shown}; {len(faults)} faults; {peak} MB at most; {seconds:.0f} s")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
