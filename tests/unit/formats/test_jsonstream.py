"""The stream gives what the standard module gives, in constant memory, and names the place of every fault."""

from __future__ import annotations

import contextlib
import io
import json
import tracemalloc
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typing_extensions import override

from meta_sync.catalog.ingest.jsonstream import (
    MAX_DEPTH,
    MAX_ELEMENT_BYTES,
    MAX_NUMBER_CHARS,
    check_array,
    read_array,
    read_text,
)
from meta_sync.catalog.ingest.rows import FileRefusedError


class Dripping(io.BytesIO):
    """A file that gives no more than so many bytes at once."""

    def __init__(self, data: bytes, most: int) -> None:
        super().__init__(data)
        self._most = most

    @override
    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(self._most if size is None or size < 0 else min(size, self._most))


def read(data: bytes | str, *path: str, most: int = 1 << 30) -> list[object]:
    content = data.encode() if isinstance(data, str) else data
    elements = list(read_array(Dripping(content, most), lambda: False, path))
    assert [number for number, _ in elements] == list(range(1, len(elements) + 1))
    return [element for _, element in elements]


def refused(data: bytes | str, *path: str) -> FileRefusedError:
    with pytest.raises(FileRefusedError) as error:
        read(data, *path)
    assert error.value.message.endswith(".")
    return error.value


scalars = st.none() | st.booleans() | st.integers() | st.text()
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5), inner, max_size=5),
    max_leaves=20,
)


@given(
    st.lists(values, max_size=8),
    st.sampled_from([None, 0, 3]),
    st.booleans(),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"]),
    st.integers(1, 40),
)
@settings(max_examples=200, deadline=None)
def test_what_the_standard_module_writes_comes_back(
    rows: list[Any], indent: int | None, is_ascii: bool, codec: str, most: int
) -> None:
    data = json.dumps(rows, indent=indent, ensure_ascii=is_ascii).encode(codec)
    assert read(data, most=most) == rows
    wrapped = json.dumps({"before": rows, "data": {"items": rows, "x": 1}, "after": {"items": rows}}).encode()
    assert read(wrapped, "data", "items", most=most) == rows


@given(st.lists(values, min_size=1, max_size=5), st.data())
@settings(max_examples=200, deadline=None)
def test_damage_is_refused_exactly_where_the_standard_module_refuses_it(
    rows: list[Any], data: st.DataObject
) -> None:
    text = json.dumps(rows, ensure_ascii=data.draw(st.booleans()))
    place = data.draw(st.integers(0, len(text)))
    text = text[:place] + data.draw(st.text('[]{},:"\\ \n1.-eEuNt\x00é', max_size=3)) + text[place + 1 :]
    most = data.draw(st.integers(1, 40))
    try:
        expected = json.loads(text, parse_float=Decimal)
    except ValueError:
        expected = None
    try:
        found = read(text, most=most)
    except FileRefusedError as fault:
        assert not isinstance(expected, list) or "Infinity" in text or "NaN" in text
        assert (fault.line, fault.column) >= (1, 1)
    else:
        assert found == expected


@given(st.binary(max_size=200), st.integers(1, 40))
@settings(max_examples=100, deadline=None)
def test_any_bytes_are_read_or_refused(data: bytes, most: int) -> None:
    with contextlib.suppress(FileRefusedError):
        read(data, most=most)


def test_money_stays_exact() -> None:
    [number, exponent, whole] = read("[0.10, 1e2, 12345678901234567890]")
    assert isinstance(number, Decimal)
    assert (str(number), exponent, whole) == ("0.10", Decimal(100), 12345678901234567890)


def test_of_a_repeated_key_the_last_counts_and_halves_of_characters_stay() -> None:
    assert read(r'[{"a": 1, "a": 2}, "\ud800\u0000"]') == [{"a": 2}, "\ud800\x00"]


@pytest.mark.parametrize(
    ("data", "line", "column", "words"),
    [
        ("", 1, 1, "an array is expected"),
        ("{}", 1, 1, "an array is expected"),
        ("[1,\n 2\n 3]", 3, 2, "a comma or ]"),
        ('[1,\n {"a": tru}]', 2, 8, "expecting value"),
        ('[\n"abc', 2, 1, "unterminated string"),
        ('["\\x"]', 1, 3, "invalid \\escape."),
        ("[1", 1, 3, "a comma or ]"),
        ("[1,]", 1, 4, "expecting value"),
        ("[1] x", 1, 5, "after the end"),
        ("[1,\n[NaN]]", 2, 2, "NaN is no JSON number"),
        ('["-Infinity", -Infinity]', 1, 15, "-Infinity is no JSON number"),
        ("[1e1001]", 1, 2, "1,000 digits"),
        ("[0.5, 1e99999999999999999999]", 1, 7, "1,000 digits"),
        (b'[1,\n"a\xff"]', 2, 3, "bytes that are not text"),
        (b"\xff\xfe[\x00\x00", 1, 2, "bytes that are not text"),
    ],
)  # fmt: skip
def test_faults_name_their_place(data: bytes | str, line: int, column: int, words: str) -> None:
    fault = refused(data)
    assert words in fault.message
    assert f"line {line}, column {column}" in fault.message
    assert (fault.line, fault.column) == (line, column)


def test_numbers_are_bounded() -> None:
    longest = "9" * MAX_NUMBER_CHARS
    assert read(f"[{longest}, 1]") == [int(longest), 1]
    assert "1,000 digits" in refused(f"[0, {longest}9]").message
    assert "1,000 digits" in refused(f'[{{"a": {longest[2:]}.123}}]').message


@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_nesting_is_bounded(opening: str) -> None:
    closing = "]" if opening == "[" else "}"
    deepest = opening * MAX_DEPTH + "1" + closing * MAX_DEPTH
    assert len(read(f'[{deepest}, "{"[" * 200}"]')) == 2
    for depth in (MAX_DEPTH + 1, 5_000, 500_000):
        fault = refused(f"[{opening * depth}1{closing * depth}]")
        assert "nested more than 100 deep" in fault.message
        assert fault.column == 2 + MAX_DEPTH * len(opening)
    assert "nested more than" in refused(f"[{opening * 500_000}").message


def test_elements_are_bounded_by_their_bytes() -> None:
    longest = '"' + "é" * (MAX_ELEMENT_BYTES // 2 - 1) + '"'
    assert len(read(f"[{longest}]", most=300_000)) == 1
    assert "more than 4,000,000 bytes" in refused(f'[{longest[:-1]}e"]').message
    assert "more than 4,000,000 bytes" in refused('["' + "x" * 20_000_000).message


def test_the_path_has_to_be_there_once() -> None:
    assert read('{"a": 1, "items": [1, 2], "b": [[3], {"c": 4}]}', "items") == [1, 2]
    assert 'no key "items"' in refused('{"a": {"items": []}}', "items").message
    assert "second time" in refused('{"items": [], "items": []}', "items").message
    assert "an array is expected" in refused('{"items": 5}', "items").message
    assert 'object with the key "items"' in refused("[]", "items").message
    assert "colon" in refused('{"items" []}', "items").message


def test_one_text_in_memory() -> None:
    assert read_text(' {"a": 1.50} ') == {"a": Decimal("1.50")}
    with pytest.raises(FileRefusedError, match="line 7, column 6") as fault:
        read_text('{"a":', line=7)
    assert (fault.value.line, fault.value.column) == (7, 6)
    with pytest.raises(FileRefusedError, match="more after the end"):
        read_text("1 2")
    for text in ("", "[" * 500_000, "NaN", "9" * 2_000):
        with pytest.raises(FileRefusedError):
            read_text(text)


def test_a_cancelled_reading_ends() -> None:
    assert list(read_array(io.BytesIO(b"[1, 2"), lambda: True)) == []


def test_memory_does_not_grow_with_the_file() -> None:
    data = b"[" + b",".join(b'{"id": %d, "title": "Item"}' % number for number in range(100_000)) + b"]"
    beside = b'{"skipped": ' + data + b', "items": [1]}'
    file = io.BytesIO(data)
    tracemalloc.start()
    try:
        assert check_array(file, lambda: False) == 100_000
        assert tracemalloc.get_traced_memory()[1] < 3_000_000
        assert check_array(io.BytesIO(beside), lambda: False, ["items"]) == 1
    finally:
        tracemalloc.stop()
