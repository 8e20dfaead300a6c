"""One store with a currency, not connected, and the app on it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from meta_sync.core.db import Database
from tests.support.api import Api, Caller, open_api
from tests.support.world import World, open_world


@pytest.fixture
async def world(database: Database, database_url: str) -> AsyncIterator[World]:
    async with open_world(database, database_url) as world:
        yield world


@pytest.fixture
async def api(world: World) -> AsyncIterator[Api]:
    async with open_api(world) as api:
        yield api


@pytest.fixture
async def store(api: Api) -> Caller:
    return await api.caller()
