"""What a check-up makes of the facts: for each thing looked at a name, a verdict, a sentence and what to do.

Pure: asks nothing and reads nothing; the facts come from ``checkup_facts``. Sentences for whoever runs the installation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from meta_sync.core.config import Settings
from meta_sync.sync.codes import entry_of

__all__ = [
    "Check",
    "Secret",
    "Verdict",
    "WorkerFact",
    "judge_clock",
    "judge_database",
    "judge_process_settings",
    "judge_redis",
    "judge_secrets",
    "judge_workers",
    "older",
    "said",
    "span",
]

Verdict = Literal["ok", "warning", "problem"]
"""``warning``: it works, but somebody should look. ``problem``: something does not work until somebody acts."""

_ALIVE = timedelta(seconds=10)
"""Five beats; after that others take over a worker's stores."""
_CLOCK_DIFFERS = timedelta(seconds=5)
_CLOCK_IS_WRONG = timedelta(minutes=2)
_META_WORKS_ON_A_CALL_SECONDS = 120
_HERE = ("//127.", "//localhost", "//[::1]")


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at.

    Attributes
    ----------
    name
        Stable, for machines.
    message, action
        A sentence, and the next step; ``None`` where there is none to take.
    code
        Its entry in the table of codes, where it has one.
    store_id
        The store it is about; ``None``: the whole installation.
    """

    name: str
    verdict: Verdict
    message: str
    action: str | None = None
    code: str | None = None
    store_id: str | None = None


@dataclass(frozen=True, slots=True)
class WorkerFact:
    """One worker that said that it is alive, and how long ago, by the database's clock."""

    worker_id: str
    version: str
    silent: timedelta


@dataclass(frozen=True, slots=True)
class Secret:
    """Something that is stored encrypted, by what it is for people, and whether it can be read."""

    store_id: str
    kind: str
    is_readable: bool


def judge_database(fault: str | None, revision: str) -> Check:
    """``fault``: why the database cannot be worked with, as a sentence."""
    if fault is None:
        return Check(
            "database", "ok", f"The database answers and has the schema of this version ({revision})."
        )
    action = "Nothing else can be looked at before that is put right."
    return Check("database", "problem", fault, action)


def judge_secrets(secrets: Sequence[Secret]) -> Check:
    """Whether the configured encryption keys open everything that is stored."""
    lost = [secret for secret in secrets if not secret.is_readable]
    if not lost:
        told = f"The encryption keys can read what is stored encrypted ({len(secrets):,})."
        return Check("encryption_keys", "ok", told if secrets else "Nothing is stored encrypted yet.")
    stores = sorted({secret.store_id for secret in lost})
    kinds = ", ".join(sorted({secret.kind for secret in lost}))
    shown = ", ".join(stores[:5]) + (f" and {len(stores) - 5:,} more" if len(stores) > 5 else "")
    return Check(
        "encryption_keys",
        "problem",
        f"{len(lost):,} of {len(secrets):,} stored secrets cannot be read with the encryption keys ({kinds}; of {shown}).",
        "Put the missing key back into META_SYNC_ENCRYPTION_KEYS, or set those secrets again.",
        "token_unreadable" if any(secret.kind == "token" for secret in lost) else None,
    )


def judge_redis(is_configured: bool, fault: str | None) -> Check:
    """Redis only wakes workers: without it everything works, a little later."""
    if not is_configured:
        return Check(
            "redis", "ok", "No Redis is configured: workers look for work by themselves, twice a second."
        )
    if fault is None:
        return Check("redis", "ok", "Redis answers.")
    return Check(
        "redis",
        "warning",
        f"Redis does not answer ({fault}). Nothing is lost: changes go out up to half a second later.",
        "Start it, or correct META_SYNC_REDIS_URL.",
    )


def judge_workers(workers: Sequence[WorkerFact]) -> list[Check]:
    """Whether any worker is alive, and whether they are of one version."""
    alive = [worker for worker in workers if worker.silent < _ALIVE]
    if not alive:
        last = min((worker.silent for worker in workers), default=None)
        seen = "No worker is alive" + (f"; the last one was seen {span(last)} ago" if last else "")
        return [
            Check(
                "workers",
                "problem",
                f"{seen}. Changes are kept, and nothing is sent.",
                "Start a worker with: meta-sync worker, or everything with: meta-sync up.",
            )
        ]
    one = len(alive) == 1
    checks = [Check("workers", "ok", f"{len(alive)} {'worker is' if one else 'workers are'} alive.")]
    versions = sorted({worker.version for worker in alive})
    if len(versions) > 1:
        checks.append(
            Check(
                "worker_versions",
                "warning",
                f"Workers of different versions are alive: {', '.join(versions)}.",
                "Right during an upgrade; afterwards stop the older ones.",
            )
        )
    return checks


def judge_clock(ahead: timedelta) -> Check:
    """How far the clock of this machine is ahead of the database's, which every deadline is read from."""
    apart = abs(ahead)
    if apart < _CLOCK_DIFFERS:
        return Check("clock", "ok", "The clocks of this machine and of the database agree.")
    side = "ahead of" if ahead > timedelta() else "behind"
    return Check(
        "clock",
        "warning" if apart < _CLOCK_IS_WRONG else "problem",
        f"The clock of this machine is {span(apart)} {side} the database's. Sales end by the clock of the workers' machines.",
        "Let both machines take their time from the network (NTP).",
    )


def judge_process_settings(settings: Settings, unknown: Sequence[str]) -> list[Check]:
    """What is odd about the settings of this process. ``unknown``: a sentence for every name that is no setting."""
    odd = [Check("settings", "warning", sentence, "Correct or remove the name.") for sentence in unknown]
    if settings.app_id is not None and settings.app_secret is None:
        odd.append(
            Check(
                "settings",
                "problem",
                "META_SYNC_APP_ID is set and META_SYNC_APP_SECRET is not: no call can be signed for stores without an app "
                "of their own.",
                "Set META_SYNC_APP_SECRET to the secret of that app.",
            )
        )
    is_here = any(mark in settings.graph_url for mark in _HERE)
    if settings.graph_url.startswith("http://") and not is_here:
        odd.append(
            Check(
                "settings",
                "problem",
                "META_SYNC_GRAPH_URL begins with http://, so tokens travel in the open.",
                "Use https://.",
            )
        )
    if settings.unknown_hold_seconds < _META_WORKS_ON_A_CALL_SECONDS and not is_here:
        odd.append(
            Check(
                "settings",
                "warning",
                f"META_SYNC_UNKNOWN_HOLD_SECONDS is {settings.unknown_hold_seconds}, and Meta may work on a call for two "
                "minutes: older content could overtake newer.",
                "Leave it at 180.",
            )
        )
    return odd or [Check("settings", "ok", "The settings of this process are in order.")]


def span(time: timedelta) -> str:
    """A length of time as people say it, in one unit."""
    seconds = int(time.total_seconds())
    for unit, size in (("day", 86_400), ("hour", 3_600), ("minute", 60)):
        if seconds >= 2 * size or (unit != "minute" and seconds >= size and seconds % size == 0):
            count = seconds // size
            return f"{count:,} {unit}{'' if count == 1 else 's'}"
    return f"{seconds} second{'' if seconds == 1 else 's'}"


def said(code: str) -> tuple[str, str]:
    """The sentence of a code, and what to do."""
    entry = entry_of(code)
    return entry.sentence, entry.action


def older(since: datetime | None, now: datetime, limit: timedelta) -> bool:
    """Whether something has lasted longer than it should."""
    return since is not None and now - since > limit
