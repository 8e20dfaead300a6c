"""A sandbox in process, with a clock that stands still until a test moves it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from meta_sync.sandbox.app import create_app
from meta_sync.sandbox.options import SandboxOptions
from tests.sandbox.support import World


class ManualClock:
    def __init__(self) -> None:
        self.instant = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.instant

    def forward(self, seconds: float) -> None:
        self.instant += timedelta(seconds=seconds)


@pytest.fixture
async def make_world() -> AsyncIterator[Callable[..., World]]:
    worlds: list[World] = []

    def make(**options: Any) -> World:
        clock = ManualClock()
        slept: list[float] = []

        async def sleep(seconds: float) -> None:
            slept.append(seconds)

        def lost(delivery: str) -> Exception:
            if delivery == "timeout":
                return httpx.ReadTimeout("The sandbox gave no answer")
            return httpx.RemoteProtocolError("The sandbox closed the connection")

        app = create_app(SandboxOptions(demo=True, **options), clock=clock, sleep=sleep, connection_lost=lost)
        client = httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://graph.test")
        worlds.append(World(app.state.sandbox, client, clock, slept))
        return worlds[-1]

    yield make
    for world in worlds:
        await world.client.aclose()


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    return make_world()
