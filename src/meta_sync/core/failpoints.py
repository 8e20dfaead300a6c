"""Named points where tests kill, stall or fail the process. Free in production: nothing is armed, one dict look-up.

``META_SYNC_FAILPOINTS`` arms them: ``name=kill`` ends the process as ``kill -9`` would, ``name=raise`` raises,
``name=sleep:0.5`` stalls. ``name=kill@3`` acts on the third passage only. Several are separated by commas.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["FAILPOINTS", "FailpointError", "arm", "arm_from_environment", "disarm_all", "failpoint"]

FAILPOINTS = (
    "claim.before_commit",
    "claim.after_commit",
    "submit.before_call",
    "submit.after_call",
    "outcome.before_commit",
    "outcome.after_commit",
    "poll.before_ask",
    "poll.after_ask",
    "settle.before_commit",
    "settle.after_commit",
    "catalog.before_commit",
    "catalog.after_commit",
    "import.after_survey",
    "feed.after_fetch",
    "feed.after_chunk",
    "feed.before_finish",
    "feed.after_finish",
    "import.after_chunk",
    "import.before_deletion",
    "import.within_deletion",
    "job.after_page",
    "job.after_look",
    "read_job.after_page",
    "reconcile.after_page",
    "reconcile.after_second_read",
    "sale_windows.after_page",
    "guard.after_page",
)
"""Every boundary of the pipeline, in the order in which a change passes them."""


class FailpointError(Exception):
    """Raised by a failpoint armed with ``raise``."""


@dataclass(slots=True)
class _Armed:
    action: str
    passage: int | None
    passed: int = 0


_armed: dict[str, _Armed] = {}


def arm(name: str, action: str) -> None:
    """Arm one failpoint with ``kill``, ``raise`` or ``sleep:SECONDS``, each with an optional ``@N``."""
    if name not in FAILPOINTS:
        raise ValueError(f"no such failpoint: {name}")
    act, _, passage = action.partition("@")
    _armed[name] = _Armed(act, int(passage) if passage else None)


def arm_from_environment(environment: Mapping[str, str]) -> None:
    """Arm what ``META_SYNC_FAILPOINTS`` says."""
    for part in filter(None, environment.get("META_SYNC_FAILPOINTS", "").split(",")):
        name, _, action = part.strip().partition("=")
        arm(name, action)


def disarm_all() -> None:
    """Disarm every failpoint."""
    _armed.clear()


async def failpoint(name: str) -> None:
    """Pass a failpoint; does nothing unless it is armed."""
    if not _armed:
        return
    armed = _armed.get(name)
    if armed is None:
        return
    armed.passed += 1
    if armed.passage is not None and armed.passed != armed.passage:
        return
    if armed.action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif armed.action == "raise":
        raise FailpointError(name)
    elif armed.action.startswith("sleep:"):
        await asyncio.sleep(float(armed.action.removeprefix("sleep:")))
