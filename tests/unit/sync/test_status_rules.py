"""What the last sync is called, by what waits, what is held and what failed."""

from __future__ import annotations

import pytest

from meta_sync.sync.item_queries import StateCounts
from meta_sync.sync.models import Status
from meta_sync.sync.status_rules import sync_outcome


@pytest.mark.parametrize(
    ("statuses", "intents", "held", "is_working", "said"),
    [
        ({}, 0, 0, True, "never"),
        ({"synced": 5}, 0, 0, True, "success"),
        ({"synced": 5}, 3, 0, True, "syncing"),
        ({"synced": 5}, 3, 0, False, "success"),
        ({"synced": 5}, 3, 3, True, "partial"),
        ({"synced": 5}, 4, 3, True, "syncing"),
        ({"synced": 5}, 3, 4, True, "partial"),
        ({"synced": 5, "pending": 4}, 3, 3, True, "syncing"),
        ({"synced": 5, "submitted": 1}, 3, 3, True, "syncing"),
        ({"synced": 5, "failed": 1}, 0, 0, True, "partial"),
        ({"failed": 1}, 0, 0, True, "error"),
    ],
)
def test_what_a_person_has_to_decide_about_is_not_under_way(
    statuses: dict[str, int], intents: int, held: int, is_working: bool, said: str
) -> None:
    by_status = {status: statuses.get(status.value, 0) for status in Status}
    total = sum(by_status.values())
    counts = StateCounts(by_status, total, intents, total, total, 0, held)
    assert sync_outcome(counts, 0, None, is_working=is_working) == said
