"""How long one look at a rollout takes, by the number of its stores.

    python -m benchmarks.planner --json planner.json

Three moments are planned: the first look at a fresh rollout, one in the middle of the last wave (most stores
ready, some out of reach, some failed, a place free here and there), and a rollback of all of them. No I/O is
part of it. Each figure is processor time, and the best of several runs, as other work on the machine only
adds to it; Python's garbage collector rests meanwhile, as in ``timeit``.
"""

import argparse
import gc
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from rich.console import Console
from rich.table import Table

from controller.domain.rollout.plan import plan
from controller.domain.rollout.rank import claims
from controller.domain.rollout.selection import Selected, StoreFacts, select
from controller.domain.rollout.spec import RolloutSpec
from controller.domain.rollout.state import Rollout, Status, StoreNow, StoreRecord, WaveState

SIZES = (1_000, 2_000, 5_000, 10_000, 20_000, 40_000)
ZONES = ("Europe/Berlin", "Asia/Tokyo", "America/New_York", "America/Los_Angeles", "Asia/Kolkata")
NOW = datetime(2026, 3, 3, 23, tzinfo=UTC)
SPEC: dict[str, Any] = {
    "name": "bench",
    "release": "v2",
    "strata": ["hardware", "region"],
    "waves": [
        {"name": "canary", "size": "2%", "soak": "1h"},
        {"name": "half", "size": "50%", "soak": "30m"},
        {"name": "rest"},
    ],
    "limits": {"failures": "5%", "offline": "20%"},
    "windows": [{"start": "22:00", "end": "05:00"}],
}


@dataclass(frozen=True, slots=True)
class Fleet:
    fresh: Rollout
    facts: tuple[StoreFacts, ...]
    untouched: dict[str, StoreNow]
    middle: Rollout
    records: dict[str, StoreRecord]
    now_of: dict[str, StoreNow]


def fleet(size: int) -> Fleet:
    """``size`` stores in five time zones, with two labels."""
    facts = tuple(
        StoreFacts(
            f"store-{i:05d}", {"hardware": f"hw{i % 4}", "region": f"region{i % 11}"}, ZONES[i % len(ZONES)]
        )
        for i in range(size)
    )
    spec = RolloutSpec.model_validate(SPEC)
    selected = select(spec, facts)
    assert isinstance(selected, Selected), selected
    since = NOW - timedelta(days=2)
    waves = tuple(WaveState(stores) for stores in selected.waves)
    fresh = Rollout(spec, Status.RUNNING, since, "bench", started_at=since, status_since=since, waves=waves)
    old = NOW - timedelta(days=9)
    untouched = {
        s.name: StoreNow(
            s.name,
            True,
            timezone=s.timezone,
            labels=s.labels,
            deployment=UUID(int=i),
            release="v1",
            state="ready",
            created_at=old,
            applied_at=old,
            ready_at=old,
        )
        for i, s in enumerate(facts)
    }
    half = tuple(
        replace(wave, opened_at=since, passed_at=since if number < 2 else None)
        for number, wave in enumerate(waves)
    )
    records, now_of = dict[str, StoreRecord](), dict(untouched)
    done = NOW - timedelta(hours=3)
    for number, wave in enumerate(waves):
        for i, store in enumerate(wave.stores):
            if number == 2 and i % 3 == 0:  # still to come; every ninth out of reach
                records[store] = StoreRecord(store, number)
                now_of[store] = replace(untouched[store], reachable=i % 9 != 0)
                continue
            broken, own = i % 50 == 7, UUID(int=size + len(records))
            records[store] = StoreRecord(
                store,
                number,
                own,
                "v1",
                done,
                None if broken else done,
                done if broken else None,
                "not ready within 30 minutes" if broken else "",
            )
            now_of[store] = replace(
                untouched[store],
                deployment=own,
                release="v2",
                state="failed" if broken else "ready",
                created_at=done,
                applied_at=done,
                ready_at=None if broken else done,
            )
    return Fleet(fresh, facts, untouched, replace(fresh, waves=half), records, now_of)


def best_of(runs: int, work: Callable[[], object]) -> float:
    """Seconds."""
    took = []
    gc.collect()
    gc.disable()
    for _ in range(runs):
        began = time.process_time()
        work()
        took.append(time.process_time() - began)
    gc.enable()
    return min(took)


def measure(size: int, runs: int) -> dict[str, Any]:
    made = fleet(size)
    spec, back = made.fresh.spec, replace(made.middle, status=Status.ROLLING_BACK)
    times = {
        "select_s": best_of(runs, lambda: select(spec, made.facts)),
        "claims_s": best_of(runs, lambda: claims([(made.middle, made.records)])),
        "first_s": best_of(runs, lambda: plan(made.fresh, {}, made.untouched, now=NOW)),
        "middle_s": best_of(runs, lambda: plan(made.middle, made.records, made.now_of, now=NOW)),
        "rollback_s": best_of(runs, lambda: plan(back, made.records, made.now_of, now=NOW)),
    }
    planned = max(times["first_s"], times["middle_s"], times["rollback_s"])
    steps = len(plan(made.middle, made.records, made.now_of, now=NOW).steps)
    return {"stores": size, **times, "plan_s": planned, "us_per_store": planned / size * 1e6, "steps": steps}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)), help="numbers of stores, with commas")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    rows = [measure(int(size), options.runs) for size in options.sizes.split(",")]
    table = Table(
        "stores", "select ms", "first ms", "middle ms", "rollback ms", "µs a store", title="Planner"
    )
    for row in rows:
        shown = (row[key] * 1000 for key in ("select_s", "first_s", "middle_s", "rollback_s"))
        table.add_row(f"{row['stores']:,}", *(f"{ms:.1f}" for ms in shown), f"{row['us_per_store']:.2f}")
    Console().print(table)
    at = {row["stores"]: row for row in rows}
    figures = {
        "planner_10000_s": at[10_000]["plan_s"] if 10_000 in at else None,
        "growth": rows[-1]["us_per_store"] / rows[0]["us_per_store"],
        "rows": rows,
    }
    print(f"cost of a store in the largest fleet, of that in the smallest: {figures['growth']:.2f}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
