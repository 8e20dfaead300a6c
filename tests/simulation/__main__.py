"""The command line of the simulator."""

from __future__ import annotations

import argparse
import logging
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext

import structlog

from tests.simulation.rules import RULES, without
from tests.simulation.run import Result, run_seed

_SAY_EVERY = 10_000
_CHUNK = 50


def _quiet() -> None:
    logging.disable(logging.CRITICAL)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


def _run(first: int, count: int, rule: str | None) -> list[Result]:
    _quiet()
    results = []
    with without(rule) if rule else nullcontext():
        for seed in range(first, first + count):
            try:
                results.append(run_seed(seed))
            except Exception as error:  # noqa: BLE001 - a run that breaks is a finding
                results.append(Result(seed, [f"{type(error).__name__}: {error}"], 0, 0, 0, 0, 0))
    return results


def _try_rules(first: int, seeds: int) -> int:
    """Switch each rule off alone and say which seed notices; 1 when some rule is not missed."""
    unmissed = 0
    print("| switched off | noticed by seed | what is wrong then |\n|---|---|---|")
    for name in RULES:
        noticed = next(
            (one for seed in range(first, first + seeds) if (one := _run(seed, 1, name)[0]).wrong), None
        )
        if noticed is None:
            unmissed += 1
            print(f"| {name} | none of {seeds} seeds; 2000 are enough | |", flush=True)
        else:
            print(f"| {name} | {noticed.seed} | {noticed.wrong[0][:110]} |", flush=True)
    return int(unmissed > 0)


def main() -> int:
    """Run the seeds and say what was wrong."""
    parser = argparse.ArgumentParser(description="Whole histories of a store on virtual time.")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--trace", action="store_true")
    parser.add_argument("--without", choices=sorted(RULES), help="switch a protective rule off")
    parser.add_argument(
        "--rules", action="store_true", help="switch each rule off alone; --seeds bounds the search for each"
    )
    parser.add_argument("--stop-at", type=int, default=10, help="end after so many wrong seeds")
    arguments = parser.parse_args()
    _quiet()
    if arguments.trace:
        with without(arguments.without) if arguments.without else nullcontext():
            result = run_seed(arguments.first, trace=True)
        print("\n".join(result.trace))
        print("\n".join(result.wrong) or "right")
        return bool(result.wrong)
    if arguments.rules:
        return _try_rules(arguments.first, arguments.seeds)
    began = time.monotonic()
    wrong: list[Result] = []
    done = calls = kills = freezes = 0
    hours = 0.0
    chunks = [
        (first, min(_CHUNK, arguments.first + arguments.seeds - first), arguments.without)
        for first in range(arguments.first, arguments.first + arguments.seeds, _CHUNK)
    ]
    with ProcessPoolExecutor(arguments.processes) as pool:
        for results in pool.map(_run, *zip(*chunks, strict=True)):
            before, done = done, done + len(results)
            if done // _SAY_EVERY > before // _SAY_EVERY:
                print(f"{done} seeds after {time.monotonic() - began:.0f} s", flush=True)
            calls += sum(one.calls for one in results)
            kills += sum(one.kills for one in results)
            freezes += sum(one.freezes for one in results)
            hours += sum(one.seconds for one in results) / 3600
            for one in results:
                if one.wrong:
                    wrong.append(one)
                    print(
                        f"seed {one.seed}: {one.wrong[0]}"
                        + (f" (and {len(one.wrong) - 1} more)" if len(one.wrong) > 1 else ""),
                        flush=True,
                    )
            if len(wrong) >= arguments.stop_at:
                pool.shutdown(cancel_futures=True)
                break
    seconds = time.monotonic() - began
    print(
        f"{done} seeds, {len(wrong)} wrong; {calls} calls, {kills} kills, {freezes} freezes, "
        f"{hours:.0f} simulated hours in {seconds:.0f} s ({1000 * seconds / max(1, done):.0f} ms per seed)"
    )
    return bool(wrong)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
