"""A small store through dry runs, jobs that are called off and one that ends; ``python -m tests.job_at_scale`` is the large one."""

from __future__ import annotations

from tests.job_at_scale import run_at_scale


async def test_numbers_sampled_throughout_always_add_up(database_url: str) -> None:
    said = await run_at_scale(database_url, variants=1_200, batch_size=60)
    assert "1200 variants, all right" in said
