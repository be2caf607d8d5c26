"""``kill -9`` of agents, controller and broker at random moments; then counting what the database holds.

The stage of the demo runs, people shop, and a seeded schedule kills one process after another. A killed
agent is restarted by its supervisor; controller and broker by this program after a pause. Afterwards
every event that an agent numbered must be in the database exactly once, and the stock must be right.

    python -m benchmarks.chaos --duration 120 --seed 5 --json chaos.json
"""

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from camera_sims.truth_file import read_truth
from contract.store_config import load_store_config
from storefleet.demo.report import build_report
from storefleet.demo.stage import Stage, StageOptions

VICTIMS = ("agent", "controller", "mosquitto")
PAUSE_S = (4.0, 10.0)
"""Between two kills, drawn evenly."""
DOWN_S = (0.2, 4.0)
"""How long controller and broker stay down."""
CALM_S = 20.0
"""Without kills at the end, so that beliefs can settle."""
STEADY_S = 12.0
"""A zone whose shelf stood still and in view for this long must be known correctly."""


def run(stage: Stage, duration_s: float, seed: int, console: Console) -> dict[str, Any]:
    """Kill processes for ``duration_s``, let things calm down, and count. The figures."""
    chance = random.Random(seed)
    kills: Counter[str] = Counter()
    end = time.monotonic() + duration_s
    while time.monotonic() < end:
        time.sleep(chance.uniform(*PAUSE_S))
        victim = chance.choice(VICTIMS)
        down_s = chance.uniform(*DOWN_S)
        kills[victim] += 1
        console.print(f"kill -9 {victim}", highlight=False)
        _kill(stage, victim, down_s, chance)
    stage.await_agents(timeout_s=60)
    time.sleep(CALM_S)
    ended_at = time.time()
    wrong = wrong_stock(stage, ended_at)
    stage.stop_agents()
    report = build_report(stage.truths(), stage.facts(), ended_at)
    keys = ("lost", "duplicated", "sequence_gaps", "events_in_db", "precision", "recall", "dead_letters")
    return {
        "seed": seed,
        "duration_s": duration_s,
        "faults": dict(kills),
        **{key: report[key] for key in keys},
        "wrong_stock": wrong,
    }


def _kill(stage: Stage, victim: str, down_s: float, chance: random.Random) -> None:
    if victim == "agent":
        pids = agent_pids(stage)
        if pids:
            os.kill(chance.choice(pids), signal.SIGKILL)
        return
    stage.child(victim).kill()
    time.sleep(down_s)
    if victim == "controller":
        stage.start_controller()
    else:
        stage.start_broker()


def agent_pids(stage: Stage) -> list[int]:
    """Process ids of the running agents, as their supervisors report them."""
    found = []
    for path in stage.clusters.glob("*/nodes/*/observed.json"):
        found += [pod["pid"] for pod in json.loads(path.read_text())["pods"] if pod["pid"]]
    return found


def wrong_stock(stage: Stage, now: float) -> list[str]:
    """Zones that the centre believes wrongly, among those whose shelf stood still and in view."""
    stock = {(z["store"], z["zone"]): z for z in stage.client.pages("/v1/stock")}
    wrong = []
    for store in stage.info.stores:
        config = load_store_config(store.config.read_text())
        last = {record["zone"]: record for record in read_truth(store.truth) if record["record"] == "zone"}
        for zone in config.zones:
            truth = last[zone.id]
            believed = stock.get((store.store, zone.id))
            if not truth["observable"] or now - truth["time"] < STEADY_S:
                continue
            if believed is None or believed["facings"] != truth["facings"]:
                seen = None if believed is None else believed["facings"]
                wrong.append(f"{store.store} {zone.id}: {seen} instead of {truth['facings']}")
    return wrong


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chaos", description=__doc__)
    parser.add_argument("--duration", type=float, default=120.0, help="seconds of killing")
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--activity", type=float, default=3.0)
    parser.add_argument("--database-url", help="PostgreSQL instead of the embedded database")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args(arguments)
    console = Console()
    with tempfile.TemporaryDirectory() as directory:
        setting = StageOptions(
            2, 2, options.seed, options.activity, Path(directory) / "stage", options.database_url
        )
        with Stage(setting, console.print) as stage:
            stage.register_stores()
            stage.deploy("v2", stage.stores)
            stage.await_agents()
            figures = run(stage, options.duration, options.seed, console)
    console.print_json(data=figures)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
