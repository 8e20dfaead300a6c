"""What a check-up makes of facts: each judgement with what is in order, what is odd and what is wrong."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from meta_sync.catalog.models import Lane
from meta_sync.connection.models import ActiveLink
from meta_sync.core.config import Settings, load_settings
from meta_sync.stores.settings import StoreSettings
from meta_sync.sync.checkup import (
    Check,
    Secret,
    WorkerFact,
    judge_clock,
    judge_database,
    judge_process_settings,
    judge_redis,
    judge_secrets,
    judge_workers,
    span,
)
from meta_sync.sync.checkup_store import FeedFact, StoreFacts, WorkFact, judge_store
from meta_sync.sync.codes import CODES
from meta_sync.sync.item_queries import StateCounts
from meta_sync.sync.models import Status
from meta_sync.sync.reconcile_service import LastReconciliation
from meta_sync.sync.status import LastError, StoreStatus

NOW = datetime(2026, 5, 3, 12, tzinfo=UTC)
SCOPES = ("catalog_management", "business_management")
LINK = ActiveLink(
    1, "s", "graph.test", "77", "Shop window", "b", "Shop", None, "system_user", "cred", 1, was_empty=True
)


def counts(intents: int = 0, **of: int) -> StateCounts:
    by_status = {status: of.get(status.value, 0) for status in Status}
    return StateCounts(by_status, sum(by_status.values()), intents, 0, 0, 0)


HEALTHY = StoreStatus(
    connection_state="connected",
    account_id="1",
    connected_at=NOW,
    scopes=SCOPES,
    token_expires_at=None,
    is_app_configured=True,
    settings=StoreSettings(),
    missing_keys=(),
    link=LINK,
    counts=counts(synced=100),
    handles_pending=0,
    pause_reason=None,
    paused_until=None,
    last_sync_at=NOW,
    last_sync_status="success",
    last_error=None,
    standstill_error=None,
    error_count_24h=0,
    last_drain_at=NOW,
    last_poll_at=NOW,
    budget=None,
    catalog=None,
)
FACTS = StoreFacts(
    store_id="s",
    name="Shop",
    now=NOW,
    status=HEALTHY,
    waiting={},
    oldest_batch=None,
    given_up=0,
    failed_codes=(),
    is_failed_sample=False,
    retries=0,
    oldest_retry=None,
    feeds=(),
    jobs=(),
    imports=(),
    is_newer_elsewhere=False,
)


def ago(**span: float) -> datetime:
    return NOW - timedelta(**span)


def found(facts: StoreFacts) -> dict[str, str]:
    """Everything that is not in order, by name."""
    return {check.name: check.verdict for check in judge_store(facts) if check.verdict != "ok"}


def with_status(**changes: Any) -> StoreFacts:
    return replace(FACTS, status=replace(HEALTHY, **changes))


def settings(**values: Any) -> Settings:
    return load_settings({}, env_file=None, **values)


def test_a_store_in_order() -> None:
    checks = judge_store(FACTS)
    assert found(FACTS) == {}
    assert {check.store_id for check in checks} == {"s"}
    assert len({check.name for check in checks}) == len(checks) == 8
    assert all(check.action is None for check in checks)


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (with_status(connection_state="not_connected", scopes=None, link=None), {"connection": "warning"}),
        (with_status(connection_state="disconnected", scopes=None, link=None), {"connection": "warning"}),
        (with_status(link=None), {"connection": "warning"}),
        (
            with_status(connection_state="needs_reconnect", pause_reason="needs_reconnect"),
            {"connection": "problem"},
        ),
        (with_status(scopes=SCOPES[:1]), {"token_permissions": "problem"}),
        (with_status(token_expires_at=NOW + timedelta(days=15)), {}),
        (with_status(token_expires_at=NOW + timedelta(days=13)), {"token": "warning"}),
        (with_status(token_expires_at=NOW), {"token": "problem"}),
        (
            with_status(missing_keys=("currency",), pause_reason="config_incomplete"),
            {"store_settings": "problem"},
        ),
        (with_status(settings=StoreSettings(feed_mode="preview")), {"sending": "warning"}),
        (with_status(pause_reason="sync_disabled"), {"sending": "warning"}),
        (
            with_status(pause_reason="throttled", paused_until=NOW + timedelta(hours=1)),
            {"sending": "warning"},
        ),
        (with_status(pause_reason="meta_unreachable"), {"sending": "warning"}),
        (with_status(pause_reason="blocked_by_meta"), {"sending": "problem"}),
        (with_status(pause_reason="config_incomplete"), {"sending": "problem"}),
        (
            with_status(pause_reason="sync_disabled", counts=counts(7, synced=7)),
            {"sending": "warning", "waiting": "warning"},
        ),
        (replace(FACTS, is_newer_elsewhere=True), {"version": "warning"}),
        (replace(FACTS, waiting={Lane.LIVE: ago(minutes=4), Lane.BULK: ago(hours=23)}), {}),
        (replace(FACTS, waiting={Lane.LIVE: ago(minutes=6)}), {"waiting": "problem"}),
        (replace(FACTS, waiting={Lane.CONTENT: ago(minutes=14)}), {}),
        (replace(FACTS, waiting={Lane.CONTENT: ago(minutes=16)}), {"waiting": "problem"}),
        (replace(FACTS, waiting={Lane.BULK: ago(hours=25)}), {"waiting": "problem"}),
        (replace(FACTS, oldest_batch=ago(minutes=50)), {}),
        (replace(FACTS, oldest_batch=ago(minutes=70)), {"batches": "warning"}),
        (replace(FACTS, given_up=1), {"batches": "warning"}),
        (replace(FACTS, retries=3, oldest_retry=NOW + timedelta(hours=1)), {"retries": "warning"}),
        (replace(FACTS, retries=3, oldest_retry=ago(minutes=6)), {"retries": "problem"}),
        (with_status(counts=counts(synced=95, failed=5)), {"items": "warning"}),
        (with_status(counts=counts(synced=90, failed=10)), {"items": "problem"}),
        (with_status(counts=counts(failed=1)), {"items": "warning"}),
        (with_status(last_reconciliation=LastReconciliation("job", ago(hours=3), 0.0)), {}),
        (with_status(last_reconciliation=LastReconciliation("job", ago(hours=3), 0.2)), {"drift": "warning"}),
        (replace(FACTS, jobs=(WorkFact("j", "sync", ago(minutes=4)),)), {}),
        (replace(FACTS, jobs=(WorkFact("j", "sync", ago(minutes=6)),)), {"jobs": "problem"}),
        (replace(FACTS, imports=(WorkFact("i", "import", ago(minutes=6)),)), {"imports": "problem"}),
        (replace(FACTS, feeds=(FeedFact("f", 0, None, ago(minutes=10), False),)), {}),
        (replace(FACTS, feeds=(FeedFact("f", 0, None, ago(minutes=20), False),)), {"feeds": "problem"}),
        (replace(FACTS, feeds=(FeedFact("f", 0, None, ago(minutes=20), True),)), {}),
        (replace(FACTS, feeds=(FeedFact("f", 1, "404", NOW, False),)), {"feeds": "warning"}),
        (replace(FACTS, feeds=(FeedFact("f", 3, None, NOW, False),)), {"feeds": "problem"}),
    ],
)
def test_what_is_said_of_a_store(facts: StoreFacts, expected: dict[str, str]) -> None:
    assert found(facts) == expected
    for check in judge_store(facts):
        assert check.message.endswith("."), check
        assert check.action is None or check.action[-1] in ".s", check
        assert check.code is None or check.code in CODES
        if check.verdict == "problem":
            assert check.action


def test_what_is_no_reason_of_the_status_has_a_code_too() -> None:
    preview = with_status(settings=StoreSettings(feed_mode="preview"))
    for facts, name, code in (
        (preview, "sending", "preview"),
        (replace(FACTS, is_newer_elsewhere=True), "version", "newer_mapper"),
    ):
        check = next(one for one in judge_store(facts) if one.name == name)
        assert (check.code, check.message, check.action) == (code, CODES[code].sentence, CODES[code].action)


def test_what_is_known_of_the_reason_says_more_than_it() -> None:
    error = LastError.of("200", "Requires catalog_management permission", NOW, "needs_reconnect")
    later = LastError.of("rejected_by_meta", "The image is too small.", NOW)
    facts = with_status(
        connection_state="needs_reconnect",
        pause_reason="needs_reconnect",
        last_error=later,
        standstill_error=error,
    )
    check = next(one for one in judge_store(facts) if one.name == "connection")
    assert "Requires catalog_management permission" in check.message
    assert (check.action, check.code) == (error.entry.action, "meta_permission_missing")


def test_failed_items_are_told_by_their_codes() -> None:
    codes = [("rejected_by_meta", 900), ("cannot_clear", 30), ("not_saved", 20), ("too_large", 9)]
    codes += [("poll_timeout", 2), ("server_errors", 1)]
    facts = replace(with_status(counts=counts(synced=1, failed=962)), failed_codes=codes)
    check = next(one for one in judge_store(facts) if one.name == "items")
    assert "962 of 963 items failed: 900 rejected_by_meta, 30 cannot_clear" in check.message
    assert "poll_timeout" in check.message
    assert "server_errors" not in check.message
    assert check.code == "rejected_by_meta"
    assert check.action == "See them with: meta-sync errors --store s"


# --- The installation --------------------------------------------------------------------------------------------


def test_the_database() -> None:
    assert judge_database(None, "0005").verdict == "ok"
    assert judge_database("It is away.", "0005").verdict == "problem"


def test_secrets() -> None:
    assert judge_secrets([]).verdict == "ok"
    assert judge_secrets([Secret("a", "token", True)]).verdict == "ok"
    lost = judge_secrets([Secret("a", "token", False), Secret("b", "feed address", True)])
    assert (lost.verdict, lost.code) == ("problem", "token_unreadable")
    assert "1 of 2" in lost.message
    assert "of a)" in lost.message
    many = judge_secrets([Secret(f"s{number}", "app secret", False) for number in range(8)])
    assert "and 3 more" in many.message
    assert many.code is None


def test_redis_is_never_a_problem() -> None:
    assert judge_redis(False, None).verdict == "ok"
    assert judge_redis(True, None).verdict == "ok"
    assert judge_redis(True, "refused").verdict == "warning"


def worker(name: str, silent: float, version: str = "1") -> WorkerFact:
    return WorkerFact(name, version, timedelta(seconds=silent))


def test_workers() -> None:
    def verdicts(*workers: WorkerFact) -> list[tuple[str, str]]:
        return [(check.name, check.verdict) for check in judge_workers(workers)]

    assert verdicts() == [("workers", "problem")]
    assert verdicts(worker("a", 12)) == [("workers", "problem")]
    assert "12 seconds ago" in judge_workers([worker("a", 12), worker("b", 90)])[0].message
    assert verdicts(worker("a", 1), worker("b", 90, "0")) == [("workers", "ok")]
    assert verdicts(worker("a", 1), worker("b", 2, "0")) == [
        ("workers", "ok"),
        ("worker_versions", "warning"),
    ]


@pytest.mark.parametrize(
    ("seconds", "verdict", "word"),
    [
        (0, "ok", ""),
        (-4, "ok", ""),
        (6, "warning", "ahead"),
        (-6, "warning", "behind"),
        (121, "problem", "ahead"),
    ],
)
def test_the_clock(seconds: float, verdict: str, word: str) -> None:
    check = judge_clock(timedelta(seconds=seconds))
    assert check.verdict == verdict
    assert word in check.message


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        ({}, "ok"),
        ({"graph_url": "http://127.0.0.1:9000", "unknown_hold_seconds": 5}, "ok"),
        ({"graph_url": "http://graph.example"}, "problem"),
        ({"app_id": "1"}, "problem"),
        ({"unknown_hold_seconds": 60}, "warning"),
    ],
)
def test_the_settings_of_the_process(values: dict[str, Any], verdict: str) -> None:
    assert [check.verdict for check in judge_process_settings(settings(**values), ())] == [verdict]


def test_a_name_that_is_no_setting() -> None:
    assert judge_process_settings(settings(), ["META_SYNC_REDIS is not a setting."]) == [
        Check("settings", "warning", "META_SYNC_REDIS is not a setting.", "Correct or remove the name.")
    ]


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "0 seconds"),
        (1, "1 second"),
        (119, "119 seconds"),
        (120, "2 minutes"),
        (3600, "1 hour"),
        (3660, "61 minutes"),
        (86_400, "1 day"),
        (90_000, "25 hours"),
        (200_000, "2 days"),
    ],
)
def test_lengths_of_time(seconds: int, said: str) -> None:
    assert span(timedelta(seconds=seconds)) == said
