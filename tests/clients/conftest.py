"""One running service for all generated clients: API and worker as processes, a real PostgreSQL, the sandbox for Meta."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from meta_sync.access.models import Permission
from meta_sync.access.service import AccessService
from meta_sync.cli.embedded_postgres import EmbeddedPostgres
from meta_sync.core.crypto import generate_encryption_key
from meta_sync.core.db import Database
from meta_sync.sandbox.options import DEMO_APP_ID, DEMO_APP_SECRET, DEMO_BUSINESS_ID, SandboxOptions
from tests.support.commands import environment, running_command, wait_for
from tests.support.postgres import fresh_database
from tests.support.processes import serving_sandbox

ROOT = Path(__file__).resolve().parents[2]
CLIENTS = ROOT / ".venv-clients"
NODE_MODULES = ROOT / "tests" / "clients" / "node_modules"

CATALOGS = {"python": "7100195296750001", "typescript": "7100195296750002"}
"""A catalog at Meta for each client, since one belongs to one store."""


@dataclass(frozen=True)
class Service:
    """Where the service is, and a key of the platform with all permissions."""

    address: str
    platform_key: str


@pytest.fixture(scope="session")
def tools() -> Path:
    """The directory of the generators' commands."""
    if not (CLIENTS / "installed.stamp").is_file() or not NODE_MODULES.is_dir():
        pytest.skip("the generators of clients are not installed; run `make clients` (make test does)")
    return CLIENTS / "bin"


@pytest.fixture(scope="session")
def service(
    tools: Path, postgres_server: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    directory = tmp_path_factory.mktemp("service")
    options = SandboxOptions(processing_delay_seconds=0.2, demo=True)
    with fresh_database(postgres_server) as database_url, serving_sandbox(options) as (graph_url, sandbox):
        for name, catalog_id in CATALOGS.items():
            sandbox.add_catalog(DEMO_BUSINESS_ID, name, catalog_id=catalog_id)
        variables = environment(
            directory / "data",
            DATABASE_URL=database_url,
            ENCRYPTION_KEYS=generate_encryption_key(),
            GRAPH_URL=graph_url,
            APP_ID=DEMO_APP_ID,
            APP_SECRET=DEMO_APP_SECRET,
            LOG_FORMAT="json",
        )
        # Not measured: it would double the start of both.
        variables = {
            name: value for name, value in variables.items() if not name.startswith(("COV_", "COVERAGE_"))
        }
        with (
            running_command(directory / "api", ["api", "--port", "0"], variables) as api,
            running_command(directory / "worker", ["worker"], variables),
        ):
            wait_for(lambda: "listens on" in api.errors or api.process.poll() is not None, "the API")
            found = re.search(r"listens on (http://\S+)", api.errors)
            assert found is not None, api.errors
            platform_key = asyncio.run(_platform_key(database_url))
            yield Service(found[1], platform_key)


async def _platform_key(database_url: str) -> str:
    database = Database.connect(database_url, pool_size=1)
    try:
        made = await AccessService(database).create_key(None, [one.value for one in Permission])
        return made.api_key
    finally:
        await database.dispose()
