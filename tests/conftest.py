"""Fixtures that every kind of test shares: a real PostgreSQL with a fresh migrated database per test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from meta_sync.cli.embedded_postgres import EmbeddedPostgres
from meta_sync.core.db import Database
from tests.support.database_faults import OwnPostgres
from tests.support.postgres import fresh_database, running_postgres

SHARED = Path(__file__).resolve().parents[2] / "shared"

_LONG = ("tests/clients/", "tests/worker/", "tests/api/test_schemathesis", "tests/simulation/")
"""Files of few tests that take long each: begun first, so that no process of the suite works on alone at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: not item.nodeid.startswith(_LONG))


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[EmbeddedPostgres]:
    with running_postgres() as server:
        yield server


@pytest.fixture(scope="session")
def own_postgres_server() -> Iterator[OwnPostgres]:
    # A server that is crashed keeps what it said was committed; fsync is for machines that crash.
    with running_postgres({"synchronous_commit": "on", "shared_buffers": "32MB"}) as server:
        yield OwnPostgres(server)


@pytest.fixture
def own_postgres(own_postgres_server: OwnPostgres) -> Iterator[OwnPostgres]:
    """A server of its own for tests that stop it or change its settings."""
    own_postgres_server.mend()
    with own_postgres_server.database():
        yield own_postgres_server
        own_postgres_server.mend()


@pytest.fixture
def database_url(postgres_server: EmbeddedPostgres) -> Iterator[str]:
    with fresh_database(postgres_server) as url:
        yield url


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database.connect(database_url, pool_size=4)
    yield database
    await database.dispose()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real files beside the project; tests that need them are skipped where they are absent."""
    if not (SHARED / "data").is_dir():
        pytest.skip("the shared data folder is not beside the project")
    return SHARED / "data"
