"""Random histories of rollouts with crashes, partitions, supersedes, aborts and stale evidence: rules broken.

    python -m benchmarks.rollout_histories --histories 10000 --seed 7 --json histories.json

Every history is a small fleet in memory with the real planner (see ``storefleet.fleet_sim``); the rules are
checked at every step, and planning again right after a plan has to give nothing. Exits with 1 if one is
broken.
"""

import argparse
import json
import multiprocessing
import sys
import time
from collections import Counter
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from storefleet.fleet_sim.history import live

SHOWN = 10


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--histories", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=7, help="of the first history; each takes the next one")
    parser.add_argument("--looks", type=int, default=40, help="moments in each history, before it calms down")
    parser.add_argument("--workers", type=int, default=max(1, multiprocessing.cpu_count() // 2))
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    began = time.monotonic()
    ends, steps, broken, crashes = Counter[str](), Counter[str](), list[tuple[int, str]](), 0
    seeds = range(options.seed, options.seed + options.histories)
    with multiprocessing.Pool(options.workers) as pool, Progress(transient=True) as progress:
        task = progress.add_task("histories", total=len(seeds))
        jobs = pool.imap_unordered(partial(live, looks=options.looks), seeds, chunksize=20)
        for history in jobs:
            ends += history.ends
            steps += history.steps
            crashes += history.crashes
            broken += [(history.seed, words) for words in history.broken]
            progress.advance(task)
    figures = {
        "histories": options.histories,
        "seed": options.seed,
        "violations": len(broken),
        "broken_seeds": sorted({seed for seed, _ in broken}),
        "rollouts": sum(ends.values()),
        "ends": dict(sorted(ends.items())),
        "steps_checked": dict(sorted(steps.items())),
        "controller_crashes": crashes,
        "wall_s": round(time.monotonic() - began, 1),
    }
    table = Table("what", "count", title=f"{options.histories:,} random histories")
    table.add_row("violations", f"{len(broken):,}")
    table.add_row("controller crashes", f"{crashes:,}")
    for name, number in (*sorted(ends.items()), *sorted(steps.items())):
        table.add_row(name, f"{number:,}")
    Console().print(table)
    for seed, words in broken[:SHOWN]:
        print(f"seed {seed}: {words}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
