"""Bodies of the health endpoints."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from meta_sync.api.schemas.base import Answer, View

__all__ = ["Liveness", "LivenessAnswer", "Readiness", "ReadinessAnswer"]


class Liveness(View):
    """The process answers."""

    status: Literal["live"]
    version: str


class Readiness(View):
    """The process can do its work."""

    status: Literal["ready"]
    database: Literal["ok"]
    queue: Literal["redis", "in-process"] = Field(
        description="`in-process`: no Redis is configured; wake-ups stay within one process."
    )


class LivenessAnswer(Answer):
    data: Liveness


class ReadinessAnswer(Answer):
    data: Readiness
