"""Whatever the bytes: rows and findings, or the file is refused. Never another error."""

from __future__ import annotations

import io

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from meta_sync.catalog.ingest.detect import FORMATS, detect
from meta_sync.catalog.ingest.encoding import HEAD_BYTES
from meta_sync.catalog.ingest.rows import FileRefusedError, FormatContext, ImportedVariant, Parsed
from meta_sync.core.text import text_fault
from tests.unit.formats.reading import SAMPLES

SAMPLE_BYTES = [path.read_bytes() for path in sorted(SAMPLES.iterdir())]


def exercise(data: bytes) -> None:
    """Detect and parse in every format; check what holds of any outcome."""
    try:
        detect(data[:HEAD_BYTES], "file.csv")
    except FileRefusedError as refused:
        assert refused.message.endswith(".")
    for format_ in FORMATS.values():
        rows: list[Parsed] = []
        try:
            context = FormatContext("USD", max_cell_chars=2_000)
            rows.extend(format_.parse(io.BytesIO(data), context))
        except FileRefusedError as refused:
            assert not rows, "a file is refused before its first row"
            assert text_fault(refused.message) is None
        for parsed in rows:
            if isinstance(parsed, ImportedVariant):
                assert parsed.variant.id
                assert text_fault(parsed.variant.id) is None
                assert text_fault(parsed.product.title or "") is None
            else:
                assert parsed.row >= 0


@given(st.binary(max_size=400))
@settings(max_examples=60, deadline=None)
def test_random_bytes(data: bytes) -> None:
    exercise(data)


@st.composite
def mutated_samples(draw: st.DrawFn) -> bytes:
    data = bytearray(draw(st.sampled_from(SAMPLE_BYTES)))
    for _ in range(draw(st.integers(1, 6))):
        place = draw(st.integers(0, len(data)))
        length = draw(st.integers(0, 12))
        data[place : place + length] = draw(
            st.one_of(
                st.binary(max_size=6),
                st.sampled_from(
                    [b"&", b"<", b"]]>", b"<![CDATA[", b'"', b",", b"\n", b"\x00", b"\xff", b"&#0;", b"<!--"]
                ),
            )
        )
    return bytes(data[: draw(st.integers(0, len(data)))] if draw(st.booleans()) else data)


@pytest.mark.no_cover  # what counts lines of code makes it twice as slow
@given(mutated_samples())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_mutated_samples(data: bytes) -> None:
    exercise(data)
