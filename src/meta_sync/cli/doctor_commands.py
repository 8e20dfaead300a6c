"""``doctor``: whether this installation and its stores are in order, and what to do where they are not."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from itertools import groupby
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from meta_sync.cli import console
from meta_sync.cli.options import JsonOutput, read_settings
from meta_sync.cli.running import run, to_the_end
from meta_sync.cli.session import located_database
from meta_sync.cli.tables import as_it_is
from meta_sync.core.clock import utc_now
from meta_sync.core.config import Settings, unknown_names
from meta_sync.core.errors import StartError
from meta_sync.core.migrations import expected_revision, require_ready
from meta_sync.core.queue import redis_fault
from meta_sync.factory import Factory, ProcessContext
from meta_sync.sync.checkup import (
    Check,
    judge_clock,
    judge_database,
    judge_process_settings,
    judge_redis,
    judge_secrets,
    judge_workers,
)
from meta_sync.sync.checkup_store import judge_store

__all__ = ["add_to"]

_FOUND_SOME = 3
_NOT_CHECKED = (
    "Not looked at: whether Meta accepts the tokens and shows the catalogs. No call to Meta is made."
)
_STYLES = {"ok": "green", "warning": "yellow", "problem": "bold red"}


def add_to(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("doctor")(_doctor)


def _doctor(
    *,
    store: Annotated[
        str | None, typer.Option("--store", metavar="ID", help="One store; all without it.")
    ] = None,
    json: JsonOutput = False,
) -> None:
    """Look for what is wrong with the installation and its stores, and say what to do. Asks Meta nothing.

    Exit code 0: no problem, perhaps warnings. 3: problems were found. 1: it could not be found out. 2: a setting is
    broken, so that nothing can start.
    """
    settings = read_settings(say_unknown=False)
    names: dict[str, str] = {}

    async def examine() -> list[Check]:
        return [check async for check in _checks(settings, store, names)]

    checks = run(examine())
    if json:
        console.print_json(_as_json(checks))
    else:
        _show(checks, names, in_full=store is not None)
    if any(check.verdict == "problem" for check in checks):
        raise typer.Exit(_FOUND_SOME)


async def _checks(settings: Settings, store_id: str | None, names: dict[str, str]) -> AsyncIterator[Check]:
    """Every check; ``names`` gets those of the stores."""
    for check in judge_process_settings(settings, unknown_names(os.environ)):
        yield check
    async with AsyncExitStack() as stack:
        try:
            located = await stack.enter_async_context(located_database(settings))
            context = await ProcessContext.open(located)
        except StartError as error:
            yield judge_database(str(error), expected_revision())
            return
        stack.push_async_callback(lambda: to_the_end(context.close()))
        try:
            await require_ready(context.database)
        except StartError as error:
            yield judge_database(str(error), expected_revision())
            return
        yield judge_database(None, expected_revision())
        factory = Factory(context)
        if store_id is not None:
            await factory.stores().get(store_id)
        reader = factory.checkup()
        facts = await reader.installation(store_id)
        yield judge_clock(utc_now() - facts.now)
        yield judge_secrets(facts.secrets)
        address = located.redis_url
        fault = None if address is None else await redis_fault(address.get_secret_value())
        yield judge_redis(address is not None, fault)
        for check in judge_workers(facts.workers):
            yield check
        async for found in reader.stores(store_id):
            names[found.store_id] = found.name
            for check in judge_store(found):
                yield check


def _as_json(checks: Sequence[Check]) -> dict[str, Any]:
    count = _counted(checks)
    return {
        "status": next((verdict for verdict in ("problem", "warning") if count[verdict]), "ok"),
        "problems": count["problem"],
        "warnings": count["warning"],
        "checks": [
            {
                "storeId": check.store_id,
                "name": check.name,
                "status": check.verdict,
                "message": check.message,
                "action": check.action,
                "code": check.code,
            }
            for check in checks
        ],
        "notLookedAt": [_NOT_CHECKED],
    }


def _counted(checks: Sequence[Check]) -> dict[str, int]:
    return {
        verdict: sum(check.verdict == verdict for check in checks) for verdict in ("ok", "warning", "problem")
    }


def _show(checks: Sequence[Check], names: dict[str, str], *, in_full: bool) -> None:
    """What was found, store by store. Of several stores only what is not in order."""
    for store_id, found in groupby(checks, key=lambda check: check.store_id):
        of_store = list(found)
        if store_id is None:
            _lines(of_store)
            continue
        console.say()
        console.say(f"{as_it_is(names[store_id])} ({store_id})")
        shown = of_store if in_full else [check for check in of_store if check.verdict != "ok"]
        if shown:
            _lines(shown)
        else:
            console.say("  Everything is in order.")
    count = _counted(checks)
    console.say()
    told = [
        f"{count[verdict]} {verdict}{'' if count[verdict] == 1 else 's'}"
        for verdict in ("problem", "warning")
        if count[verdict]
    ]
    console.say(f"{' and '.join(told) or 'No problem'} found. {_NOT_CHECKED}")


def _lines(checks: Sequence[Check]) -> None:
    """One line for each; on a terminal folded beside its verdict."""
    screen = console.screen()
    if not screen.is_terminal:
        for check in checks:
            console.say(f"  {check.verdict:8} {check.name}: {_words(check)}")
        return
    table = Table.grid(padding=(0, 2))
    for check in checks:
        verdict = f"[{_STYLES[check.verdict]}]{check.verdict}[/]"
        table.add_row(f"  {verdict}", check.name.replace("_", " "), escape(_words(check)))
    screen.print(table)


def _words(check: Check) -> str:
    """Sentence and next step. What a shop or Meta wrote neither styles the line nor steers the terminal."""
    said = f"{check.message} {check.action}" if check.action is not None else check.message
    return as_it_is(said)
