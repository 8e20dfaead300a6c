"""The record of who did what. Nothing of the pipeline reads it, so the memory keeps none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from meta_sync.stores import audit
from tests.simulation.memory import Rows, Transaction, twin


@twin(audit._INSERT)
def record(t: Transaction, p: Mapping[str, Any]) -> Rows:
    return Rows(rowcount=1)
