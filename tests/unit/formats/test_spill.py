from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from meta_sync.catalog.ingest.spill import SpilledLookup

_WORDS = st.text(alphabet="abc", max_size=2)


@given(st.lists(st.tuples(_WORDS, _WORDS), max_size=40), st.integers(0, 6))
def test_it_is_a_dictionary_that_keeps_the_first(pairs: list[tuple[str, str]], most: int) -> None:
    expected: dict[str, str] = {}
    with SpilledLookup(most) as lookup:
        for key, value in pairs:
            assert lookup.add(key, value) == (key not in expected)
            expected.setdefault(key, value)
        for key in ("", "a", "ab", "zz", *expected):
            assert lookup.get(key) == expected.get(key)
            assert (key in lookup) == (key in expected)


@given(st.lists(st.tuples(_WORDS, _WORDS), max_size=40), st.integers(0, 6))
def test_what_is_put_replaces_what_was_there(pairs: list[tuple[str, str]], most: int) -> None:
    with SpilledLookup(most) as lookup:
        for key, value in pairs:
            lookup.put(key, value)
        assert {key: lookup.get(key) for key, _ in pairs} == dict(pairs)
