"""The contract between memory and PostgreSQL: whole seeds run on both at once, statement by statement."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.simulation.clock import VirtualLoop
from tests.simulation.memory import MemoryDatabase
from tests.simulation.mirror import MirrorDatabase, mirroring
from tests.simulation.run import run_seed


@pytest.mark.parametrize("seed", [5, 8, 9, 10, 21, 44, 73, 98, 111])
def test_a_seed_on_both(seed: int, database_url: str) -> None:
    mirrors: list[MirrorDatabase] = []

    @contextmanager
    def make(tables: dict[str, Any], loop: VirtualLoop) -> Iterator[MemoryDatabase]:
        with mirroring(database_url, tables, loop.database_time) as mirror:
            mirrors.append(mirror)
            yield mirror
            mirror.compare_tables()

    assert run_seed(seed, make_database=make).wrong == []
    assert mirrors[0].statements > 200
