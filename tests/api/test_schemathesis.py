"""The whole document against the real service, by a program that was told nothing else.

Short and always the same here; ``python -m tests.schemathesis_long`` goes on for as long as one likes.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from meta_sync.api.app import openapi_document
from meta_sync.core.db import Database
from tests.support.conformance import Outcome, Service, open_service, run_schemathesis

DOCUMENT: dict[str, Any] = json.loads(openapi_document())
OPERATIONS = {
    f"{method.upper()} {path}": operation
    for path, operations in DOCUMENT["paths"].items()
    for method, operation in operations.items()
}
CHECKS = {
    "allow_header_conformance", "content_type_conformance", "ensure_resource_availability", "ignored_auth",
    "missing_required_header", "negative_data_rejection", "not_a_server_error", "positive_data_acceptance",
    "response_headers_conformance", "response_schema_conformance", "status_code_conformance", "unsupported_method",
    "use_after_free",
}  # fmt: skip


@pytest.fixture
async def service(database_url: str) -> AsyncIterator[Service]:
    database = Database.connect(database_url, pool_size=8)
    async with open_service(database, database_url) as service:
        yield service
    await database.dispose()


def documented(outcome: Outcome) -> None:
    """Every status that came stands in the document, and no call was left without an answer."""
    assert outcome.passed, outcome.findings
    assert not [check for check in outcome.checks if check[1] != "success"]
    for operation, kept in OPERATIONS.items():
        assert {str(status) for status in outcome.statuses(operation)} <= set(kept["responses"]), operation


async def test_every_operation_does_what_the_document_says(service: Service, tmp_path: Path) -> None:
    outcome = await run_schemathesis(
        service, "platform", tmp_path, "--seed", "1", share=8, sequences=10, examples=2
    )
    documented(outcome)
    assert {check for check, _ in outcome.checks} >= CHECKS
    called = {operation for _, operation, _ in outcome.calls}
    assert set(OPERATIONS) <= called
    # Most of them found something to do; the others want a state that only chance or another person brings about.
    successful = {operation for _, operation, status in outcome.calls if 200 <= status < 300}
    assert len(successful & set(OPERATIONS)) > 0.8 * len(OPERATIONS), set(OPERATIONS) - successful
    assert "GET /admin/meta/handles/{id}" in successful
    # Sequences of calls go through the whole of the service, not round and round in a part of it.
    in_sequences = {operation for phase, operation, _ in outcome.calls if phase == "stateful"}
    assert len(in_sequences) > 0.5 * len(OPERATIONS), in_sequences
    assert await service.is_whole()


async def test_what_another_job_kept_from_starting_starts_without_it(
    service: Service, tmp_path: Path
) -> None:
    """Among all the others the bulk resyncs keep each other from starting, as long as the worker takes."""
    arguments = ("--seed", "1", "--phases", "coverage", "--mode", "positive")
    outcome = await run_schemathesis(
        service, "platform", tmp_path, *arguments, "--include-operation-id", "resyncSkippedItems"
    )
    documented(outcome)
    assert 202 in outcome.statuses("POST /admin/meta/items/bulk/resync-skipped")


async def test_what_a_key_may_not_is_documented(service: Service, tmp_path: Path) -> None:
    # One valid call of every operation.
    arguments = ("--seed", "1", "--phases", "coverage", "--mode", "positive")
    runs = [run_schemathesis(service, who, tmp_path, *arguments, share=10**6) for who in ("store", "reader")]
    of_store, of_reader = await asyncio.gather(*runs)
    documented(of_store)
    documented(of_reader)
    assert of_store.statuses("GET /platform/stores") <= {401, 403}
    assert of_store.statuses("POST /admin/meta/bootstrap") <= {202, 401, 409}
    assert of_reader.statuses("POST /admin/meta/bootstrap") <= {401, 403}
    assert 200 in of_reader.statuses("GET /admin/meta/status")
    assert await service.is_whole()
