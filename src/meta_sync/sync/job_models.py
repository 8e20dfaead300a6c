"""What a job is, to those who start one, watch one, or work on one. Holds values only."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

__all__ = ["JobView", "LeasedJob", "StartedJob"]


@dataclass(frozen=True, slots=True)
class StartedJob:
    """A job that was started, and how many rows are in its scope."""

    job_id: str
    total: int


@dataclass(frozen=True, slots=True)
class JobView:
    """A job as a person sees it."""

    job_id: str
    type: str
    status: str
    stage: str
    message: str | None
    total: int
    looked_at: int
    enqueued: int
    unchanged: int
    error: str | None
    requested_by: str | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


@dataclass(frozen=True, slots=True)
class LeasedJob:
    """A job that this worker has, until its lease ends or somebody raises the fence."""

    job_id: str
    store_id: str
    link_id: int
    type: str
    cursor: str | None
    mapping_epoch: int | None
    fence: int
    stage: str
