"""A small bootstrap under fire in every run; ``python -m tests.soak`` is the large one."""

from __future__ import annotations

import pytest

from tests.many_kills import kill_many
from tests.soak import soak

pytestmark = pytest.mark.kill


async def test_random_kills_during_a_bootstrap_with_edits_going_on(database_url: str) -> None:
    said = await soak(database_url, variants=1200, kills=4, seed=7)
    assert "all right" in said


async def test_kills_at_boundaries_and_at_random_with_an_adverse_sandbox(database_url: str) -> None:
    said = await kill_many(database_url, variants=60, kills=12, seed=3)
    assert "all right" in said
