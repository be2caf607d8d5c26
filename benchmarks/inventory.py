"""How well inventory events match the ground truth, through renderer, detector and state machine.

No network, no broker, no clock: simulated time runs as fast as the machine allows, the agent's own
``Pipeline`` sees every frame as it would live. Each seed is one camera of one shop with shoppers and staff.

    python -m benchmarks.inventory --seeds 1,2,3 --json inventory.json

``false_alerts_per_shelf_day`` counts false ``low_stock`` and ``out_of_stock`` per watched zone and day.
Time to detect runs from the moment a change is first in unobstructed view.
"""

import argparse
import json
import multiprocessing
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from agent.adapters.ids import new_event_id
from agent.adapters.memory import MemoryOutbox
from agent.adapters.model_file import open_detector
from agent.adapters.opencv.inspect import CvInspector
from agent.envelope import Origin
from agent.pipeline import Pipeline
from agent.ports import Frame, SourceHealth
from camera_sims.shop import Shop
from storefleet.scoring import ALERT_KINDS, Expected, Observed, Score, score

KINDS = (*ALERT_KINDS, "picked", "put_back", "misplaced", "facings_changed")
FALSE_ALERT_KINDS = ("low_stock", "out_of_stock")
FPS = 5.0
STORE = "bench-1"
CAMERA = "cam-1"
DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Job:
    seed: int
    duration_s: float
    activity: float
    lighting: Any
    model: Path


@dataclass(frozen=True, slots=True)
class Outcome:
    seed: int
    score: Score
    zones: int
    frames: int
    wall_s: float


def watch(job: Job) -> Outcome:
    """Let the agent's pipeline watch one simulated camera for ``job.duration_s`` of simulated seconds."""
    started = time.perf_counter()
    shop = Shop(job.seed, STORE, 1, activity=job.activity, lighting=job.lighting)
    config = shop.config({CAMERA: "file:///simulated"}, fps=FPS)
    detector = open_detector(job.model, threads=1)
    now = 0.0
    origin = Origin(STORE, "node-1", detector.info.version, detector.info.digest)
    outbox = MemoryOutbox(origin, clock=lambda: now, new_id=new_event_id)
    pipeline = Pipeline(config, detector, outbox, make_inspector=lambda _: CvInspector(), new_id=new_event_id)
    observed: list[Observed] = []
    frames = int(job.duration_s * FPS)
    for number in range(1, frames + 1):
        now = number / FPS
        frame = Frame(shop.frame(CAMERA, now), now, number)
        health = SourceHealth(connected=True, fps_read=FPS, last_frame_at=now, decode_errors=0)
        observed.extend(
            Observed(STORE, event.subject, event.kind, event.time.timestamp(), str(event.id))
            for event in pipeline.process(CAMERA, frame, health, now)
            if event.kind in KINDS and event.subject is not None
        )
    expected = [
        Expected(STORE, r.zone, r.type, r.time, r.changed_at, r.observable_at)
        for r in shop.truth(job.duration_s)
        if r.type in KINDS and r.changed_at is not None and r.observable_at is not None
    ]
    return Outcome(
        job.seed,
        score(expected, observed),
        len(config.zones),
        frames,
        time.perf_counter() - started,
    )


def figures(outcomes: Sequence[Outcome], duration_s: float) -> dict[str, Any]:
    """The numbers of all seeds together, as written to JSON."""
    total = sum((outcome.score for outcome in outcomes), Score())
    alerts = total.only(ALERT_KINDS)
    false_alerts = len(total.only(FALSE_ALERT_KINDS).false)
    zone_days = sum(outcome.zones for outcome in outcomes) * duration_s / DAY_S
    frames = sum(outcome.frames for outcome in outcomes)
    return {
        **_row(alerts),
        "false_alerts_per_shelf_day": false_alerts / zone_days,
        "by_type": {kind: _row(total.only([kind])) for kind in KINDS},
        "by_seed": {str(o.seed): _row(o.score.only(ALERT_KINDS)) for o in outcomes},
        "seeds": [outcome.seed for outcome in outcomes],
        "simulated_s": duration_s * len(outcomes),
        "zones": sum(outcome.zones for outcome in outcomes),
        "times_real_time": duration_s * len(outcomes) / sum(o.wall_s for o in outcomes),
        "ms_per_frame": 1000 * sum(o.wall_s for o in outcomes) / frames,
    }


def _row(part: Score) -> dict[str, Any]:
    return {
        "expected": len(part.matches) + len(part.missed),
        "matched": len(part.matches),
        "false": len(part.false),
        "precision": part.precision,
        "recall": part.recall,
        "time_to_detect_p50_s": part.time_to_detect(0.5),
        "time_to_detect_p95_s": part.time_to_detect(0.95),
    }


def _show(result: dict[str, Any], outcomes: Sequence[Outcome], console: Console, details: bool) -> None:
    table = Table(title="Inventory events against the ground truth")
    columns = ("type", "expected", "matched", "false", "precision", "recall", "p50 s", "p95 s")
    for column in columns:
        table.add_column(column, justify="left" if column == "type" else "right")
    rows = {"low/out/restocked": result, **result["by_type"]}
    for name, row in rows.items():
        values = [row["expected"], row["matched"], row["false"]]
        ratios = [row[k] for k in ("precision", "recall", "time_to_detect_p50_s", "time_to_detect_p95_s")]
        shown = ["-" if ratio is None else f"{ratio:.3f}" for ratio in ratios]
        table.add_row(name, *map(str, values), *shown)
    console.print(table)
    console.print(
        f"false alerts per shelf-day: {result['false_alerts_per_shelf_day']:.2f}; "
        f"{result['times_real_time']:.1f} times real time; {result['ms_per_frame']:.1f} ms per frame"
    )
    if details:
        for outcome in outcomes:
            part = outcome.score.only(ALERT_KINDS)
            for missed in part.missed:
                console.print(f"seed {outcome.seed}: missed {missed}")
            for false in part.false:
                console.print(f"seed {outcome.seed}: false {false}")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.inventory", description=__doc__)
    parser.add_argument("--seeds", default="11,12,13,14", help="comma-separated scene seeds, one camera each")
    parser.add_argument("--duration", type=float, default=600.0, help="simulated seconds per seed")
    parser.add_argument("--activity", type=float, default=2.0, help="how busy the shops are")
    parser.add_argument("--lighting", choices=("day", "night", "cycle"), default="day")
    parser.add_argument("--model", type=Path, help="exported model (default: the shipped one)")
    parser.add_argument("--jobs", type=int, default=multiprocessing.cpu_count())
    parser.add_argument("--details", action="store_true", help="list what was missed and what was false")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args(arguments)
    try:
        seeds = [int(seed) for seed in options.seeds.split(",")]
    except ValueError:
        parser.error(f"--seeds {options.seeds!r}: expected numbers separated by commas")
    console = Console(stderr=False)
    with as_file(files("shipped_model") / "shelf.zip") as shipped:
        model = options.model or shipped
        jobs = [Job(seed, options.duration, options.activity, options.lighting, model) for seed in seeds]
        outcomes = []
        # spawn: the detector's threads do not survive a fork
        with (
            multiprocessing.get_context("spawn").Pool(min(options.jobs, len(jobs))) as pool,
            Progress(console=Console(stderr=True)) as progress,
        ):
            task = progress.add_task("seeds", total=len(jobs))
            for outcome in pool.imap(watch, jobs):
                outcomes.append(outcome)
                progress.advance(task)
    result = figures(outcomes, options.duration)
    _show(result, outcomes, console, options.details)
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
