"""Where the database's time goes in one pass of the service: its costliest statements, each with one real plan.

Plans come from auto_explain, so they are those of the pass itself, with its parameters and its prepared statements.
Watching costs time; nothing is compared here.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from bench import data

if TYPE_CHECKING:
    from bench.run import Bench

__all__ = ["SERVER_SETTINGS", "explain"]

SERVER_SETTINGS = {
    "shared_preload_libraries": "auto_explain,pg_stat_statements",
    "auto_explain.log_analyze": "on",
    "auto_explain.log_buffers": "on",
    "auto_explain.log_triggers": "on",
    "auto_explain.log_nested_statements": "off",
    "auto_explain.log_timing": "off",
    "pg_stat_statements.track": "top",
    "log_line_prefix": "",
}

_MOST = 16
_LONGEST_STATEMENT = 110
_SAME_STATEMENT = 160
_TOP = """
SELECT queryid, calls, total_exec_time, rows, shared_blks_hit + shared_blks_read, wal_bytes, query
FROM pg_stat_statements AS s JOIN pg_roles AS r ON r.oid = s.userid
WHERE r.rolname = 'meta_sync_worker' ORDER BY total_exec_time DESC LIMIT $1
"""


async def explain(bench: Bench, log: Path) -> None:
    """Run the service once warm and once watched, and print what its statements cost, pass by pass."""
    await bench.owner.execute("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
    await data.reset_service(bench.owner, bench.place.link_id)
    await bench.service.do("drain")
    await bench.service.do("settle")
    await data.reset_service(bench.owner, bench.place.link_id)
    for title, work in (
        ("first send", "drain"),
        ("asking and settling", "settle"),
        ("no-op resync", "drain"),
    ):
        if title == "no-op resync":
            await data.queue_service(bench.owner)
        await bench.owner.execute("SELECT pg_stat_statements_reset()")
        timed = await bench.service.do(work)
        print(f"\n== {title}: {timed.seconds:.2f} s, {timed.cpu_seconds:.2f} s of them in the program ==")
        for row in await bench.owner.fetch(_TOP, _MOST):
            _, calls, milliseconds, rows, blocks, wal, query = row
            statement = " ".join(query.split())[:_LONGEST_STATEMENT]
            print(
                f"{milliseconds:9.1f} ms {calls:5} calls {rows:7} rows {blocks:9} blocks {float(wal) / 1e6:7.1f} MB WAL  {statement}"
            )
    print("\n== plans ==")
    await data.reset_service(bench.owner, bench.place.link_id)
    mark = log.stat().st_size
    await bench.owner.execute("ALTER SYSTEM SET auto_explain.log_min_duration = 2")
    await bench.owner.execute("SELECT pg_reload_conf()")
    await bench.service.do("drain")
    await bench.service.do("settle")
    await data.queue_service(bench.owner)
    await bench.service.do("drain")
    _print_plans(log.read_bytes()[mark:].decode(errors="replace"))


def _print_plans(logged: str) -> None:
    """The slowest plan of each statement, cut to what fits on a screen."""
    slowest: dict[str, tuple[float, str]] = {}
    for part in re.split(r"^(?=\S*LOG:  )", logged, flags=re.MULTILINE):
        found = re.search(r"duration: ([0-9.]+) ms  plan:\s*\n(.*)", part, flags=re.DOTALL)
        if found is None:
            continue
        milliseconds, plan = float(found[1]), found[2]
        statement = " ".join(plan.split())[:_SAME_STATEMENT]
        if milliseconds > slowest.get(statement, (0.0, ""))[0]:
            slowest[statement] = (milliseconds, plan)
    for milliseconds, plan in sorted(slowest.values(), reverse=True)[:_MOST]:
        lines = [line[:200] for line in plan.splitlines()]
        print(f"\n-- {milliseconds:.1f} ms")
        print("\n".join(lines))
