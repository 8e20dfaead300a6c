"""schemathesis for as long as one likes, with every kind of credential. Not part of the test suite by its length.

By hand::

    python -m tests.schemathesis_long --max-examples 300 --seed 7

Prints what was called and what came, and ends with an error where something is not as the document says.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import structlog

from meta_sync.core.db import Database
from tests.support.conformance import Outcome, open_service, run_schemathesis
from tests.support.postgres import fresh_database, running_postgres

__all__ = ["conform"]

KINDS = ("platform", "store", "reader", "nobody")


def _told(who: str, outcome: Outcome, seconds: float) -> str:
    phases: dict[str, Counter[int]] = {}
    for (phase, _, status), number in outcome.calls.items():
        phases.setdefault(phase, Counter())[status] += number
    lines = [f"{who}: {sum(outcome.calls.values())} calls in {seconds:.0f} s"]
    lines += [
        f"  {phase}: {', '.join(f'{status}: {number}' for status, number in sorted(statuses.items()))}"
        for phase, statuses in phases.items()
    ]
    wrong = {check: number for (check, ended), number in outcome.checks.items() if ended != "success"}
    lines.append(f"  wrong: {wrong or 'nothing'}")
    return "\n".join(lines)


async def conform(
    database_url: str, directory: Path, kinds: list[str], arguments: list[str], examples: int
) -> bool:
    """Run every kind one after the other; whether all was right."""
    database = Database.connect(database_url, pool_size=8)
    try:
        all_right = True
        async with open_service(database, database_url) as service:
            for who in kinds:
                began = time.monotonic()
                outcome = await run_schemathesis(
                    service, who, directory, *arguments, examples=examples, sequences=examples
                )
                (directory / f"{who}.txt").write_text(outcome.text)
                print(_told(who, outcome, time.monotonic() - began), flush=True)
                if not outcome.passed:
                    print(outcome.findings, flush=True)
                all_right = all_right and outcome.passed and await service.is_whole()
        return all_right
    finally:
        await database.dispose()


def main() -> int:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--max-examples", type=int, default=100, help="per operation and phase")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--who", nargs="+", choices=KINDS, default=list(KINDS), help="kinds of credentials")
    parser.add_argument("--phases", default="examples,coverage,fuzzing,stateful")
    parser.add_argument("--directory", type=Path, help="where reports are kept; nowhere by default")
    given = parser.parse_args()
    logging.disable(logging.CRITICAL)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    arguments = ["--seed", str(given.seed), "--phases", given.phases]
    with tempfile.TemporaryDirectory() as made, running_postgres() as server, fresh_database(server) as url:
        directory = given.directory or Path(made)
        directory.mkdir(parents=True, exist_ok=True)
        return 0 if asyncio.run(conform(url, directory, given.who, arguments, given.max_examples)) else 1


if __name__ == "__main__":
    sys.exit(main())
