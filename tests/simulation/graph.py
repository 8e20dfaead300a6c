"""Stands where the client for Meta stands, for one simulated process: the transport is replaced and nothing else."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from typing import Any

from meta_sync.graph.auth import GraphCredential
from meta_sync.graph.retry import repeat_read
from meta_sync.graph.wire import Answer
from tests.simulation.meta import SimulatedMeta

__all__ = ["SimulatedGraph"]


class SimulatedGraph:
    """Stands where ``GraphClient`` stands, for one process."""

    def __init__(
        self, meta: SimulatedMeta, pause: Callable[[str], Any], rng: random.Random, clock: Callable[[], float]
    ) -> None:
        self._meta = meta
        self._pause = pause
        self._rng = rng
        self._clock = clock

    def for_version(self, _version: str) -> SimulatedGraph:
        return self

    async def write_json(
        self,
        credential: GraphCredential,
        *path: str,
        body: bytes,
        deadline_seconds: float,
        max_answer_bytes: int = 0,
    ) -> Answer:
        del max_answer_bytes
        answer = await self._meta.submit(credential, path[0], body, deadline_seconds)
        await self._pause("after the call")
        return answer

    async def read(
        self,
        credential: GraphCredential,
        *path: str,
        params: Mapping[str, str] | None = None,
        deadline_seconds: float = 30,
        max_answer_bytes: int = 0,
    ) -> Answer:
        del deadline_seconds, max_answer_bytes
        answer = await repeat_read(
            lambda: self._meta.ask(credential, path, params or {}),
            sleep=asyncio.sleep,
            clock=self._clock,
            random=self._rng.random,
        )
        await self._pause("after the question")
        return answer
