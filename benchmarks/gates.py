"""How often the gates stop a bad release in its canary, and how often they stop a good one.

Each seed is a fleet of its own with two weeks of history (``storefleet.fleet_sim.telemetry``). The same
canary gets each release in turn. The gates are asked every five minutes, as the controller would, until one
fails, or the soak of an hour is over and all pass, or three hours are gone.

    python -m benchmarks.gates --seeds 50 --json gates.json

``caught`` is the share of seeds in which some gate failed; time to detect counts from the moment the canary
was ready. A release that is blind to a product that no store of the canary sells cannot be caught there, and
counts as missed all the same; ``caught_where_visible`` leaves those seeds out.
"""

import argparse
import json
import multiprocessing
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from statistics import fmean, median
from typing import Any
from uuid import UUID

import numpy as np
from rich.console import Console
from rich.table import Table

from controller.domain.deployment import State
from controller.domain.quality import BUCKET
from controller.domain.rollout.evidence import CameraNow, Cluster, Evidence, Heartbeat, StoreEvidence
from controller.domain.rollout.gates import judge
from controller.domain.rollout.hours import LATE, LOOK_BACK, MAX_CONTROLS, MOST
from controller.domain.rollout.spec import RolloutSpec
from controller.domain.rollout.state import GateVerdict, Rollout, Status, Verdict, WaveState
from storefleet.fleet_sim.telemetry import (
    DAYS,
    FPS,
    HARDWARE,
    INFERENCE_MS,
    SKUS,
    STEPS_A_DAY,
    Effect,
    Fleet,
    step_of,
    time_of,
)

NEW_MODEL = "sha256:" + "1" * 64
TARGET = UUID(int=2)
LOOK_EVERY = timedelta(minutes=5)
LOOKS = 36
SOAK = timedelta(hours=1)
GATES = [{"kind": "health"}, {"kind": "performance"}, {"kind": "quality"}]


@dataclass(frozen=True, slots=True)
class Outcome:
    seed: int
    release: str
    verdict: str
    """``caught``, ``passed`` or ``inconclusive``."""
    gate: str
    minutes: float
    reason: str
    visible: bool
    """Whether the canary could have shown what is wrong with the release."""
    judge_ms: float
    """Of one look at all gates, on average."""


def releases(fleet: Fleet) -> dict[str, Effect]:
    sku = int(fleet.random.integers(len(SKUS)))
    return {
        "fine": Effect(),
        "blind to one SKU": Effect(recall=0.0, sku=sku),
        "20% lower recall of one class": Effect(recall=0.8, sku=sku),
        "3x slower": Effect(inference=3.0),
        "leaks memory": Effect(leak_mb_per_h=150.0),
        "crashes on one stratum": Effect(crashes_on=str(fleet.random.choice(HARDWARE))),
    }


class Trial:
    """One fleet, one canary, one moment."""

    def __init__(self, seed: int, stores: int, canary: int) -> None:
        self.fleet = fleet = Fleet(seed, stores)
        draw = fleet.random
        self.seed = seed
        order = [int(i) for i in draw.permutation(stores)]
        first = [next(i for i in order if fleet.hardware[i] == kind) for kind in HARDWARE]
        chosen = (first + [i for i in order if i not in first])[:canary]
        self.canary = tuple(chosen)
        controls = [i for i in order if i not in chosen][:MAX_CONTROLS]
        today = (DAYS - 1) * STEPS_A_DAY
        self.ready = time_of(today) + timedelta(minutes=float(draw.uniform(9 * 60, 17 * 60)))
        around = MOST + 2
        last = step_of(self.ready) + LOOKS // 3 + 1
        steps = [
            step - back * STEPS_A_DAY
            for back in range(DAYS)
            for step in range(step_of(self.ready) - around, last)
            if step - back * STEPS_A_DAY >= 0
        ]
        self.controls = {
            fleet.names[i]: StoreEvidence(fleet.names[i], fleet.labels(i), quality=fleet.buckets(i, steps))
            for i in controls
        }
        until = step_of(self.ready)
        older = [step for step in steps if step < until]
        day = range(until - int(LOOK_BACK / timedelta(minutes=15)), until)
        self.history = {i: fleet.buckets(i, sorted({*older, *day})) for i in self.canary}
        spec = RolloutSpec.model_validate(
            {
                "name": "bench",
                "release": "new",
                "strata": ["hardware", "camera_model"],
                "waves": [{"name": "canary", "size": canary, "soak": "1h"}, {"name": "rest"}],
                "gates": GATES,
            }
        )
        names = tuple(fleet.names[i] for i in self.canary)
        waves = (WaveState(names, opened_at=self.ready), WaveState(()))
        self.rollout = Rollout(spec, Status.RUNNING, self.ready, "bench", started_at=self.ready, waves=waves)
        self.quick = replace(self.rollout, spec=spec.model_copy(update={"gates": spec.gates[:-1]}))

    def run(self, release: str, effect: Effect) -> Outcome:
        draw = np.random.default_rng([self.seed, *release.encode()])
        nodes = {i: Node(self.fleet, i, self.ready, effect, draw) for i in self.canary}
        after = range(step_of(self.ready), step_of(self.ready) + LOOKS // 3 + 1)
        new = {i: self.fleet.buckets(i, after, TARGET, NEW_MODEL, effect) for i in self.canary}
        visible = self._visible(effect)
        spent: list[float] = []
        found: tuple[GateVerdict, ...] = ()
        key: tuple[int, bool] | None = None
        verdict = Verdict.INCONCLUSIVE, "", "", 0.0
        for look in range(1, LOOKS + 1):
            now = self.ready + look * LOOK_EVERY
            minutes = look * LOOK_EVERY.total_seconds() / 60
            stores = dict(self.controls)
            for i in self.canary:
                name = self.fleet.names[i]
                quality = self.history[i] + [bucket for bucket in new[i] if bucket.start <= now]
                stores[name] = replace(nodes[i].evidence(now), quality=quality)
            # The quality gate says the same until a quarter of an hour or the soak is over.
            same = (sum(bucket_at + BUCKET + LATE <= now for bucket_at in map(time_of, after)), minutes > 60)
            started = time.perf_counter()
            if same == key:
                found = (*judge(self.quick, 0, Evidence(NEW_MODEL, stores), (), now), found[-1])
            else:
                found = judge(self.rollout, 0, Evidence(NEW_MODEL, stores), (), now)
                spent.append(time.perf_counter() - started)
            key = same
            bad = [gate for gate in found if gate.verdict is Verdict.FAIL]
            open_ = [gate for gate in found if gate.verdict is Verdict.INCONCLUSIVE]
            shown = (bad or open_ or found)[0]
            verdict = shown.verdict, shown.kind, shown.reason, minutes
            if bad or not open_:
                break
        said = {Verdict.FAIL: "caught", Verdict.PASS: "passed"}.get(verdict[0], "inconclusive")
        return Outcome(
            self.seed, release, said, *verdict[1:2], verdict[3], verdict[2], visible, 1000 * fmean(spent)
        )

    def _visible(self, effect: Effect) -> bool:
        fleet = self.fleet
        if effect.sku is not None:
            sold = fleet.zone_sku == effect.sku
            return any(bool((sold & (fleet.zone_store == i)).any()) for i in self.canary)
        return not effect.crashes_on or any(fleet.hardware[i] == effect.crashes_on for i in self.canary)


class Node:
    """How the agent of one canary store runs."""

    def __init__(self, fleet: Fleet, store: int, ready: datetime, effect: Effect, draw: Any) -> None:
        self.name, self.labels, self.ready = fleet.names[store], fleet.labels(store), ready
        self._draw = draw
        self._cameras = int(fleet.cameras[store])
        hardware = str(fleet.hardware[store])
        self._before_ms = INFERENCE_MS[hardware]
        self._ms = self._before_ms * effect.inference * draw.lognormal(0, 0.08)
        rate = 6.0 if effect.crashes_on == hardware else 1 / 72
        self._crashes = np.cumsum(draw.exponential(1 / rate, 40))
        self._base_mb = draw.normal(600, 60)
        self._leak = effect.leak_mb_per_h
        points = LOOKS + 1
        self._walk = np.cumsum(draw.normal(0, 2.0, points)) + draw.normal(0, 8.0, points)
        self._broken = draw.random(self._cameras) < 0.02

    def evidence(self, now: datetime) -> StoreEvidence:
        hours = (now - self.ready) / timedelta(hours=1)
        restarts = int(np.count_nonzero(self._crashes < hours))
        since = hours - (self._crashes[restarts - 1] if restarts else 0.0)
        memory = [
            (self.ready + i * LOOK_EVERY, self._memory(max(0.0, i / 12 - (hours - since)), i))
            for i in range(int(hours * 12 + 1e-9))
        ]
        seen = now - timedelta(seconds=float(self._draw.uniform(0, 5)))
        heart = Heartbeat("node-1", TARGET, seen, 40.0, restarts, memory)
        speed = min(1.0, 1000 / self._ms / (FPS * self._cameras))
        cameras = [
            CameraNow(
                f"cam-{number}",
                TARGET,
                seen,
                "offline" if self._broken[number] else "online",
                0.0 if self._broken[number] else FPS * speed * float(self._draw.uniform(0.95, 1.0)),
                FPS,
                float(self._draw.uniform(0.05, 0.4)) / speed,
                self._ms * float(self._draw.lognormal(0, 0.06)),
                self._before_ms,
            )
            for number in range(self._cameras)
        ]
        cluster = Cluster(TARGET, State.READY.value)
        return StoreEvidence(
            self.name,
            self.labels,
            deployment=TARGET,
            ready_at=self.ready,
            cluster=cluster,
            heartbeats=(heart,),
            cameras=cameras,
        )

    def _memory(self, hours: float, point: int) -> float:
        """A new process fills its caches for some minutes."""
        growth = 60 * (1 - float(np.exp(-hours * 60 / 4)))
        return float(self._base_mb + growth + self._walk[point] + self._leak * hours)


def run_seed(job: tuple[int, int, int, Sequence[str]]) -> list[Outcome]:
    seed, stores, canary, only = job
    trial = Trial(seed, stores, canary)
    wanted = releases(trial.fleet)
    return [trial.run(name, effect) for name, effect in wanted.items() if not only or name in only]


def figures(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """By release; shares of all seeds."""
    found: dict[str, Any] = {}
    for release in dict.fromkeys(outcome.release for outcome in outcomes):
        mine = [outcome for outcome in outcomes if outcome.release == release]
        caught = [outcome for outcome in mine if outcome.verdict == "caught"]
        seen = [outcome for outcome in mine if outcome.visible]
        found[release] = {
            "seeds": len(mine),
            "caught": len(caught) / len(mine),
            "caught_where_visible": sum(o.verdict == "caught" for o in seen) / len(seen) if seen else None,
            "visible": len(seen),
            "passed": sum(o.verdict == "passed" for o in mine) / len(mine),
            "inconclusive": sum(o.verdict == "inconclusive" for o in mine) / len(mine),
            "time_to_detect_min_p50": median([o.minutes for o in caught]) if caught else None,
            "time_to_detect_min_max": max((o.minutes for o in caught), default=None),
            "by_gate": dict(Counter(o.gate for o in caught)),
        }
    return found


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gates", description=__doc__)
    parser.add_argument("--seeds", type=int, default=50, help="how many fleets")
    parser.add_argument(
        "--first-seed", type=int, default=1000, help="seeds below 1000 were used while designing"
    )
    parser.add_argument("--stores", type=int, default=200)
    parser.add_argument("--canary", type=int, default=None, help="stores; default: 2%% of all")
    parser.add_argument("--only", action="append", default=[], help="a release of the table; may be repeated")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args(argv)
    canary = args.canary or max(1, -(-args.stores * 2 // 100))
    started = time.perf_counter()
    jobs = [(args.first_seed + i, args.stores, canary, args.only) for i in range(args.seeds)]
    with multiprocessing.get_context("spawn").Pool(args.processes) as pool:
        outcomes = [outcome for part in pool.imap(run_seed, jobs) for outcome in part]
    by_release = figures(outcomes)
    console = Console()
    table = Table(title=f"{args.seeds} fleets of {args.stores} stores, canary of {canary}, soak 1 h")
    for heading in ("release", "caught", "passed", "inconclusive", "detected after (p50, max)", "by"):
        table.add_column(heading)
    for release, row in by_release.items():
        took = row["time_to_detect_min_p50"]
        when = f"{took:.0f}, {row['time_to_detect_min_max']:.0f} min" if took is not None else "-"
        shares = (f"{row[key]:.0%}" for key in ("caught", "passed", "inconclusive"))
        table.add_row(release, *shares, when, ", ".join(f"{k} {v}" for k, v in row["by_gate"].items()))
    console.print(table)
    unwanted = [o for o in outcomes if (o.release == "fine") != (o.verdict == "passed")]
    for outcome in unwanted:
        console.print(
            f"seed {outcome.seed}, {outcome.release}: {outcome.verdict}; {outcome.gate}: {outcome.reason}"
        )
    if args.json:
        report = {
            "stores": args.stores,
            "canary": canary,
            "first_seed": args.first_seed,
            "seeds": args.seeds,
            "releases": by_release,
            "false_alarm_rate": by_release["fine"]["caught"] if "fine" in by_release else None,
            "judge_ms": sum(o.judge_ms for o in outcomes) / len(outcomes),
            "wall_s": time.perf_counter() - started,
            "unwanted": [asdict(outcome) for outcome in unwanted],
        }
        args.json.write_text(json.dumps(report, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
