"""``audit`` on the command line: who did what, for people and for machines."""

from __future__ import annotations

import json
from pathlib import Path

from tests.service.test_cli_commands import Run, feed, run, store

__all__ = ["run", "store"]


def test_who_did_what(run: Run, store: str, tmp_path: Path) -> None:
    made = run("keys", "create", "--store", store, "--permission", "catalog:read", "--name", "till", "--json")
    key = json.loads(made.output)
    file = str(feed(tmp_path / "feed.tsv", 1))
    assert run("import", file, "--store", store, "--mode", "replace", "--allow-mass-delete").code == 0
    shown = run("audit", "--store", store)
    assert (shown.code, shown.errors) == (0, "")
    header, newest, *_, oldest = shown.output.splitlines()
    assert header == "at (UTC)\twho\taction\ttarget\tchanges"
    assert "\tcommand line\timport_started\timport import_" in newest
    assert "allowMassDelete: True" in newest
    assert f"\tcommand line\tstore_created\tstore {store}\tname: Shop, currency: EUR" in oldest
    assert key["apiKey"] not in shown.output
    found = json.loads(run("audit", "--store", store, "--action", "api_key_created", "--json").output)
    assert (found["total"], found["totalIsExact"]) == (1, True)
    [entry] = found["entries"]
    assert (entry["actor"], entry["targetId"], entry["requestId"]) == ("command line", key["keyId"], None)
    assert entry["after"] == {"name": "till", "permissions": ["catalog:read"]}


def test_filters_limits_and_times(run: Run, store: str) -> None:
    for name in ("one", "two"):
        made = run("keys", "create", "--store", store, "--permission", "catalog:read", "--name", name)
        assert made.code == 0
    assert (
        run("audit", "--store", store, "--limit", "2").errors
        == "These are the newest 2; --limit shows more.\n"
    )
    for since, count in (
        ("1h", 3),
        ("2020-01-01", 3),
        ("2999-01-01T00:00Z", 0),
        ("2999-01-01T00:00+02:00", 0),
    ):
        found = json.loads(run("audit", "--store", store, "--since", since, "--json").output)
        assert len(found["entries"]) == count, since
    assert run("audit", "--store", store, "--target", store).output.count("store_created") == 1
    assert run("audit", "--store", store, "--actor", "nobody").output == "There is no such entry.\n"
    wrong = run("audit", "--store", store, "--since", "yesterday")
    assert wrong.code == 2
    assert "such as 24h" in wrong.errors
    assert run("audit", "--store", store, "--action", "nothing").code == 2
    assert run("audit", "--store", "nowhere").code == 1
    assert run("audit").code == 2


def test_what_belongs_to_no_store(run: Run, store: str) -> None:
    made = run("keys", "create", "--platform", "--permission", "platform:admin", "--json")
    key_id = json.loads(made.output)["keyId"]
    [entry] = json.loads(run("audit", "--platform", "--json").output)["entries"]
    assert (entry["action"], entry["targetId"]) == ("api_key_created", key_id)
    assert key_id not in run("audit", "--store", store).output
