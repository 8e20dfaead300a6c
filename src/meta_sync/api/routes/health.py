"""Whether the process lives, and whether it can work. Touches nothing outside but the database."""

from __future__ import annotations

from typing import Literal

from sqlalchemy import text

from meta_sync import __version__
from meta_sync.api.context import Context
from meta_sync.api.routing import router
from meta_sync.api.schemas.base import answer
from meta_sync.api.schemas.health import Liveness, LivenessAnswer, Readiness, ReadinessAnswer
from meta_sync.api.security import open_to_all
from meta_sync.core.queue import MemoryJobQueue

__all__ = ["routes"]

routes = router("Health")


@routes.get(
    "/health/live",
    operation_id="getLiveness",
    summary="Is the process alive",
    description="Answers as long as the process does; looks at nothing else.",
)
@open_to_all()
async def get_liveness() -> LivenessAnswer:
    return answer(LivenessAnswer, Liveness(status="live", version=__version__))


@routes.get(
    "/health/ready",
    operation_id="getReadiness",
    summary="Can the process work",
    description="503 while the database does not answer.",
)
@open_to_all()
async def get_readiness(context: Context) -> ReadinessAnswer:
    async with context.process.database.platform() as connection:
        await connection.execute(text("SELECT 1"))
    queue: Literal["redis", "in-process"] = "redis"
    if isinstance(context.process.queue, MemoryJobQueue):
        queue = "in-process"
    return answer(ReadinessAnswer, Readiness(status="ready", database="ok", queue=queue))
