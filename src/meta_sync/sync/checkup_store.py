"""What a check-up makes of one store. Pure, like ``checkup``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from meta_sync.catalog.models import Lane
from meta_sync.connection.token_check import REQUIRED_SCOPES
from meta_sync.sync.checkup import Check, Verdict, older, said, span
from meta_sync.sync.codes import entry_of, explain
from meta_sync.sync.models import Status
from meta_sync.sync.status import StoreStatus
from meta_sync.sync.status_rules import PREVIEW

__all__ = ["FeedFact", "StoreFacts", "WorkFact", "judge_store"]

_LONGEST_WAIT = {
    Lane.LIVE: timedelta(minutes=5),
    Lane.CONTENT: timedelta(minutes=15),
    # A whole catalog may take as long as the rate budget lets it.
    Lane.BULK: timedelta(hours=24),
}
_BATCH_IS_LATE = timedelta(hours=1)
_RETRY_IS_LATE = timedelta(minutes=5)
_WORK_IS_STUCK = timedelta(minutes=5)
_FEED_IS_LATE = timedelta(minutes=15)
_FEED_FAILURES = 3
"""In a row; fewer are an evening's trouble of somebody's server."""
_MANY_FAILED = 0.1
_SHOWN = 5
_TOLD_APART = frozenset({"not_connected", "needs_reconnect"})
"""Reasons to stand still that the check of the connection has told."""


@dataclass(frozen=True, slots=True)
class FeedFact:
    """One scheduled feed."""

    source: str
    failures: int
    last_message: str | None
    next_at: datetime | None
    is_leased: bool


@dataclass(frozen=True, slots=True)
class WorkFact:
    """A job or an import that is not over and that no worker holds, and since when."""

    id: str
    type: str
    since: datetime


@dataclass(frozen=True, slots=True)
class StoreFacts:
    """What was read of a store. Times are the database's.

    Attributes
    ----------
    waiting
        By lane, since when the oldest change waits that could go out.
    oldest_batch, given_up
        Of the batches that are followed, and how many Meta did not finish in time.
    failed_codes, is_failed_sample
        Codes of failed items with their number, most first; of a part of them where there are very many.
    retries, oldest_retry
        Items that wait for another try, and the oldest time that has come without one.
    is_newer_elsewhere
        A newer version of the service has taken the store over.
    """

    store_id: str
    name: str
    now: datetime
    status: StoreStatus
    waiting: dict[Lane, datetime]
    oldest_batch: datetime | None
    given_up: int
    failed_codes: Sequence[tuple[str, int]]
    is_failed_sample: bool
    retries: int
    oldest_retry: datetime | None
    feeds: Sequence[FeedFact]
    jobs: Sequence[WorkFact]
    imports: Sequence[WorkFact]
    is_newer_elsewhere: bool

    def check(
        self, name: str, verdict: Verdict, message: str, action: str | None = None, code: str | None = None
    ) -> Check:
        """A verdict about this store."""
        return Check(name, verdict, message, action, code, self.store_id)


def judge_store(facts: StoreFacts) -> list[Check]:
    """Every check of one store, in the order in which one thing depends on another."""
    return [
        _connection(facts),
        *_token(facts),
        _settings(facts),
        *_sending(facts),
        *_held(facts),
        *_waiting(facts),
        _batches(facts),
        *_retries(facts),
        _items(facts),
        *_drift(facts),
        *_feeds(facts),
        *_work(facts),
    ]


def _connection(facts: StoreFacts) -> Check:
    status = facts.status
    state = status.connection_state
    if state == "connected" and status.link is None:
        return facts.check(
            "connection", "warning", "A token is set and no catalog is selected.", "Select a catalog."
        )
    if state == "connected":
        assert status.link is not None
        name = status.link.catalog_name or status.link.catalog_id
        return facts.check("connection", "ok", f"Connected to the catalog {name}.")
    code = "needs_reconnect" if state == "needs_reconnect" else "not_connected"
    sentence, action = said(code)
    error = status.standstill_error
    if state == "needs_reconnect" and error is not None:
        sentence = f"{sentence.rstrip('.')}: {error.message}"
        action, code = error.entry.action, error.entry.code
    return facts.check(
        "connection", "problem" if state == "needs_reconnect" else "warning", sentence, action, code
    )


def _token(facts: StoreFacts) -> list[Check]:
    status = facts.status
    if status.scopes is None:
        return []
    checks = []
    missing = [scope for scope in REQUIRED_SCOPES if scope not in status.scopes]
    if missing:
        _, action = said("meta_permission_missing")
        checks.append(
            facts.check(
                "token_permissions",
                "problem",
                f"The token lacks {' and '.join(missing)}.",
                action,
                "meta_permission_missing",
            )
        )
    expires = status.token_expires_at
    if expires is None:
        checks.append(facts.check("token", "ok", "The token does not expire, as far as Meta said."))
    elif expires <= facts.now:
        sentence, action = said("token_expired")
        checks.append(facts.check("token", "problem", sentence, action, "token_expired"))
    else:
        left = expires - facts.now
        days = max(status.settings.token_expiry_alert_days, default=14)
        is_near = left <= timedelta(days=days)
        _, action = said("token_expired")
        checks.append(
            facts.check(
                "token",
                "warning" if is_near else "ok",
                f"The token expires in {span(left)}.",
                action if is_near else None,
            )
        )
    return checks


def _settings(facts: StoreFacts) -> Check:
    missing = facts.status.missing_keys
    if not missing:
        return facts.check("store_settings", "ok", "No setting is missing.")
    _, action = said("config_incomplete")
    return facts.check(
        "store_settings",
        "problem" if facts.status.connection_state == "connected" else "warning",
        f"Not set: {', '.join(missing)}.",
        action,
        "config_incomplete",
    )


def _sending(facts: StoreFacts) -> list[Check]:
    status = facts.status
    checks = []
    if facts.is_newer_elsewhere:
        checks.append(facts.check("version", "warning", *said("newer_mapper"), "newer_mapper"))
    reason = status.pause_reason
    if reason is None and status.settings.feed_mode == "preview":
        checks.append(facts.check("sending", "warning", *said(PREVIEW), PREVIEW))
    elif reason is None:
        checks.append(facts.check("sending", "ok", "Nothing keeps the store from sending."))
    elif reason not in _TOLD_APART and not (reason == "config_incomplete" and status.missing_keys):
        sentence, action = said(reason)
        error, code = status.standstill_error, str(reason)
        if error is not None:
            sentence = f"{sentence.rstrip('.')}: {error.message}"
            action, code = error.entry.action, error.entry.code
        if status.paused_until is not None:
            sentence = (
                f"{sentence.rstrip('.')}. It goes on by itself in {span(status.paused_until - facts.now)}."
            )
        is_problem = entry_of(reason).severity == "error"
        checks.append(facts.check("sending", "problem" if is_problem else "warning", sentence, action, code))
    return checks


def _held(facts: StoreFacts) -> list[Check]:
    held = facts.status.counts.held
    if not held:
        return []
    sentence = f"{held:,} items are held, because too much would change at once."
    return [facts.check("held", "warning", sentence, "Look at the holds, and release or discard them.")]


def _waiting(facts: StoreFacts) -> list[Check]:
    status = facts.status
    if status.pause_reason is not None or status.settings.feed_mode == "preview":
        waits = status.counts.intents
        if not waits:
            return []
        return [facts.check("waiting", "warning", f"{waits:,} items wait until sending goes on.")]
    late = {
        lane: since
        for lane, since in facts.waiting.items()
        if older(since, facts.now, _LONGEST_WAIT[lane]) and not facts.is_newer_elsewhere
    }
    if not late:
        return [facts.check("waiting", "ok", "No change waits longer than it should.")]
    longest = span(facts.now - min(late.values()))
    return [
        facts.check(
            "waiting",
            "problem",
            f"The oldest change has waited for {longest}, and nothing keeps the store from sending.",
            "See that a worker is alive and look at its log.",
        )
    ]


def _batches(facts: StoreFacts) -> Check:
    if older(facts.oldest_batch, facts.now, _BATCH_IS_LATE):
        assert facts.oldest_batch is not None
        return facts.check(
            "batches",
            "warning",
            f"Meta has not finished a batch that was sent {span(facts.now - facts.oldest_batch)} ago.",
            "Nothing to do: it is asked on. If a worker is alive and it stays so, look at Meta's status page.",
        )
    if facts.given_up:
        one = facts.given_up == 1
        return facts.check(
            "batches",
            "warning",
            f"Meta did not finish {facts.given_up:,} {'batch' if one else 'batches'} in time.",
            entry_of("poll_timeout").action,
            "poll_timeout",
        )
    return facts.check("batches", "ok", "Every batch that was sent is being followed, or is over.")


def _retries(facts: StoreFacts) -> list[Check]:
    if older(facts.oldest_retry, facts.now, _RETRY_IS_LATE):
        assert facts.oldest_retry is not None
        return [
            facts.check(
                "retries",
                "problem",
                f"An item should have been tried again {span(facts.now - facts.oldest_retry)} ago.",
                "See that a worker is alive and look at its log.",
            )
        ]
    if not facts.retries:
        return []
    one = facts.retries == 1
    return [
        facts.check(
            "retries",
            "warning",
            f"{facts.retries:,} {'item waits' if one else 'items wait'} for another try, because Meta gave no verdict.",
            "Nothing to do: they are sent again by themselves.",
        )
    ]


def _items(facts: StoreFacts) -> Check:
    counts = facts.status.counts
    failed = counts.by_status[Status.FAILED]
    if not failed:
        return facts.check("items", "ok", f"No item failed; {counts.by_status[Status.SYNCED]:,} are synced.")
    told = ", ".join(f"{count:,} {code}" for code, count in facts.failed_codes[:_SHOWN])
    part = " (of those looked at)" if facts.is_failed_sample else ""
    worst = facts.failed_codes[0][0] if facts.failed_codes else None
    is_many = failed >= _MANY_FAILED * max(1, counts.total) and failed > 1
    return facts.check(
        "items",
        "problem" if is_many else "warning",
        f"{failed:,} of {counts.total:,} items failed: {told}{part}.",
        f"See them with: meta-sync errors --store {facts.store_id}",
        explain(worst).code if worst else None,
    )


def _drift(facts: StoreFacts) -> list[Check]:
    last = facts.status.last_reconciliation
    if last is None:
        # Told by the connection, or the first day has not passed.
        return []
    ago = span(facts.now - last.at)
    if not last.drift_percent:
        said_so = f"Meta had every item as it confirmed it when it was read back {ago} ago."
        return [facts.check("drift", "ok", said_so)]
    return [
        facts.check(
            "drift",
            "warning",
            f"{last.drift_percent:g} % of the items were not at Meta as it confirmed them, {ago} ago.",
            f"See and repair them with: meta-sync reconcile --repair --store {facts.store_id}",
        )
    ]


def _feeds(facts: StoreFacts) -> list[Check]:
    checks = []
    for feed in facts.feeds:
        if feed.failures:
            reason = (feed.last_message or "no reason is known").rstrip(".")
            times = "once" if feed.failures == 1 else f"{feed.failures:,} times in a row"
            checks.append(
                facts.check(
                    "feeds",
                    "problem" if feed.failures >= _FEED_FAILURES else "warning",
                    f"The feed {feed.source} could not be fetched, {times}: {reason}.",
                    "See that its address answers and is the right one.",
                )
            )
        elif not feed.is_leased and older(feed.next_at, facts.now, _FEED_IS_LATE):
            assert feed.next_at is not None
            checks.append(
                facts.check(
                    "feeds",
                    "problem",
                    f"The feed {feed.source} should have been fetched {span(facts.now - feed.next_at)} ago.",
                    "See that a worker is alive and look at its log.",
                )
            )
    if facts.feeds and not checks:
        checks.append(facts.check("feeds", "ok", f"Feeds are fetched in time ({len(facts.feeds)})."))
    return checks


def _work(facts: StoreFacts) -> list[Check]:
    stuck = [
        ("jobs", one, f"The job {one.id} ({one.type})")
        for one in facts.jobs
        if older(one.since, facts.now, _WORK_IS_STUCK)
    ]
    stuck += [
        ("imports", one, f"The import {one.id}")
        for one in facts.imports
        if older(one.since, facts.now, _WORK_IS_STUCK)
    ]
    return [
        facts.check(
            name,
            "problem",
            f"{what} has not been worked on for {span(facts.now - one.since)}.",
            "See that a worker is alive and look at its log.",
        )
        for name, one, what in stuck
    ] or [facts.check("jobs", "ok", "No job and no import is stuck.")]
