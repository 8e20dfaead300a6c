"""A bounded number of damaged files; many more run with ``python -m tests.fuzz_imports``."""

from __future__ import annotations

import pytest

from tests.fuzz_imports import damaged, read_case, sample_files

_CASES = 1_200
_AT_ONCE = 200


@pytest.mark.parametrize("first", range(0, _CASES, _AT_ONCE))
def test_damaged_files_are_read_or_refused(first: int) -> None:
    files = sample_files(shared=False)
    for number in range(first, first + _AT_ONCE):
        read_case(number, *damaged(number, files))
