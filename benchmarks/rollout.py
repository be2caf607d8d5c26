"""How long a rollout to many stores takes, and what it costs: real DaemonSets on a real apiserver.

Every store is a namespace with a node; a fake kubelet answers for the nodes. Needs root and what
``docs/testbed.md`` lists.

    python -m benchmarks.rollout --stores 100 --shape 20/30/50 --concurrency 50% --json rollout.json

Several rounds go from v1 to v2 and back. Then the controller is killed in the middle of one and started
again. At last the same DaemonSets are changed in the same waves without any controller: the floor that
Kubernetes sets. The published figure beside ours is for placements that make no pods and wait for no gate.
"""

import argparse
import json
import os
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from rich.console import Console
from rich.table import Table

from benchmarks.planner import measure as measure_planner
from benchmarks.rollout_report import LEGS, Round, audit_lines, by_verb, mean_legs, read_round
from controller.domain.workload import NAME, ROLLOUT_ANNOTATION
from controller.errors import TransientError
from k3s.testbed.kubeconfig import read_kubeconfig
from k3s.testbed.session import Session
from storefleet.demo.processes import DemoError
from storefleet.fleet_sim.stage import FleetOptions, FleetStage
from storefleet.scoring import nearest_rank

PUBLISHED_P50_S, PUBLISHED_P90_S, PUBLISHED_RESTART_S = 95.0, 96.0, 660.0
"""KubeFleet, 1st quarter 2026: 100 placements in three stages; a hub with 1,000 placements that restarts."""
POLL_S = 0.5
TIMEOUT_S = 1200.0
CHANGES = ("patch", "create", "update")
TICKS = os.sysconf("SC_CLK_TCK")
MERGE = "application/merge-patch+json"


@dataclass(frozen=True, slots=True)
class Restart:
    to_action_s: float
    """From the new process's start until its next change in a store."""
    to_api_s: float
    """Until its API said that it was ready."""
    stores_left: int
    """That had not got the release when it was killed."""
    total_s: float
    """Of the whole rollout, restart included."""


class Bench:
    def __init__(self, stage: FleetStage, shape: list[int], concurrency: str, console: Console) -> None:
        self._stage = stage
        self._shape = shape
        self._concurrency = concurrency
        self._console = console
        self._read = 0

    def spec(self, name: str, release: str) -> dict[str, Any]:
        parts = [f"{share}%" for share in self._shape]
        waves: list[dict[str, Any]] = [
            {"name": f"wave-{number}", "size": size} for number, size in enumerate(parts[:-1], 1)
        ]
        waves.append({"name": f"wave-{len(parts)}"})
        limits = {"concurrency": self._concurrency, "store_deadline": "5m"}
        return {"name": name, "release": release, "waves": waves, "limits": limits, "gates": []}

    def round(self, name: str, release: str) -> Round:
        self._audit()
        before = cpu_s(self._stage.controller.pid)
        self._stage.start_rollout(self.spec(name, release))
        self._await_end(name)
        spent = cpu_s(self._stage.controller.pid) - before
        lines = self._audit()
        found = self._read_round(name, spent, len(lines))
        shown = ", ".join(f"{wave.stores} in {wave.seconds:.1f} s" for wave in found.waves)
        self._console.print(f"{name} to {release}: {found.total_s:.1f} s ({shown}; {spent:.1f} s CPU)")
        return found

    def restart(self, name: str, release: str) -> Restart:
        """kill -9 the controller when a good third of the stores are ready."""
        stage = self._stage
        began = time.monotonic()
        stage.start_rollout(self.spec(name, release))
        while self._phases(name).get("ready", 0) < len(stage.names) * 0.35:
            self._in_time(began)
            time.sleep(POLL_S)
        stage.controller.kill()
        self._audit()
        started = time.time()
        stage.start_controller()
        stage.await_controller()
        to_api = time.time() - started
        acted = None
        while acted is None:
            self._in_time(began)
            changes = [stamp(line) for line in self._audit() if line["verb"] in CHANGES]
            acted = min((at for at in changes if at >= started), default=None)
            time.sleep(POLL_S)
        phases = self._phases(name)
        left = phases.get("pending", 0) + phases.get("waiting", 0) + phases.get("updating", 0)
        self._await_end(name)
        return Restart(acted - started, to_api, left, time.monotonic() - began)

    def floor(self, connections: int = 8) -> float:
        """Seconds that the same waves take when every DaemonSet is patched at once and nobody looks on."""
        stage = self._stage
        access = read_kubeconfig(stage.kubeconfig)
        sessions = [Session(access) for _ in range(connections)]
        at, began = 0, time.monotonic()
        for share in self._shape:
            count = round(len(stage.names) * share / 100)
            stores, at = stage.names[at : at + count], at + count
            new = {store: str(uuid4()) for store in stores}

            def patch(number: int, new: dict[str, str] = new) -> None:
                for store in list(new)[number::connections]:
                    annotations = {"annotations": {ROLLOUT_ANNOTATION: new[store]}}
                    body = {"spec": {"template": {"metadata": annotations}}}
                    path = f"/apis/apps/v1/namespaces/{store}/daemonsets/{NAME}"
                    sessions[number].request("PATCH", path, body, content_type=MERGE)

            with ThreadPoolExecutor(connections) as pool:
                list(pool.map(patch, range(connections)))
            traces = stage.kubelet.traces
            while not all((trace := traces.get(key)) and trace.ready for key in new.items()):
                self._in_time(began)
                time.sleep(0.02)
        for session in sessions:
            session.close()
        return time.monotonic() - began

    def _await_end(self, name: str) -> None:
        began = time.monotonic()
        while True:
            try:
                shown = self._stage.client.get("/v1/rollouts", limit=5)["items"]
            except TransientError:
                self._stage.check()  # says how the controller ended, if it did
                raise
            found = next(one for one in shown if one["name"] == name)
            if found["status"] == "succeeded":
                return
            if found["status"] != "running" or time.monotonic() - began > TIMEOUT_S:
                raise DemoError(f"rollout {name} is {found['status']}: {found['reason']}")
            time.sleep(POLL_S)

    def _in_time(self, began: float) -> None:
        if time.monotonic() - began > TIMEOUT_S:
            raise DemoError(f"nothing came of it in {TIMEOUT_S:.0f} s; see {self._stage.root}")

    def _phases(self, name: str) -> dict[str, int]:
        phases: dict[str, int] = self._stage.client.get(f"/v1/rollouts/{name}")["phases"]
        return phases

    def _audit(self) -> list[Any]:
        lines, self._read = audit_lines(self._stage.audit_log, self._read)
        return list(lines)

    def _read_round(self, name: str, spent: float, requests: int) -> Round:
        client = self._stage.client
        current = {one["store"]: one for one in client.get("/v1/deployments/current")["items"]}
        return read_round(
            client.get(f"/v1/rollouts/{name}"),
            list(client.pages(f"/v1/rollouts/{name}/stores")),
            current,
            self._stage.kubelet.traces,
            spent,
            requests,
        )


def stamp(line: Any) -> float:
    """When a request of the audit log came in."""
    return datetime.fromisoformat(line["requestReceivedTimestamp"]).timestamp()


def cpu_s(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def memory_mb(pid: int, key: str = "VmRSS") -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) / 1024
    return 0.0


def figures_of(
    stores: int,
    rounds: list[Round],
    restart: Restart | None,
    floors: list[float],
    first_s: float,
    rss_mb: float,
    planner_s: float,
) -> dict[str, Any]:
    totals = sorted(one.total_s for one in rounds)
    per_store = sorted(seconds for one in rounds for seconds in one.stores_s)
    return {
        "stores": stores,
        "p50_s": nearest_rank(totals, 0.5),
        "p90_s": nearest_rank(totals, 0.9),
        "total_s": max(totals),
        "rounds_s": [one.total_s for one in rounds],
        "store_p50_s": nearest_rank(per_store, 0.5),
        "store_p90_s": nearest_rank(per_store, 0.9),
        "first_deployment_s": first_s,
        "floor_s": min(floors) if floors else None,
        "controller_cpu_s": nearest_rank(sorted(one.cpu_s for one in rounds), 0.5),
        "controller_rss_mb": rss_mb,
        "api_requests_per_store": sum(one.requests for one in rounds) / len(rounds) / stores,
        "restart_to_action_s": restart.to_action_s if restart else None,
        "restart": asdict(restart) if restart else None,
        "planner_10000_s": planner_s,
        "legs_s": mean_legs(rounds),
        "waves": [asdict(wave) for wave in rounds[-1].waves],
        "published": {"p50_s": PUBLISHED_P50_S, "p90_s": PUBLISHED_P90_S, "restart_s": PUBLISHED_RESTART_S},
    }


def show(figures: dict[str, Any], console: Console) -> None:
    table = Table("", "ours", "published", title=f"{figures['stores']} stores, three stages", box=None)
    comparable = figures["stores"] == 100
    for key, published in (("p50_s", PUBLISHED_P50_S), ("p90_s", PUBLISHED_P90_S)):
        beside = f"{published:.0f} s ({published / figures[key]:.1f} times ours)" if comparable else "-"
        table.add_row(f"whole rollout, {key[:3]}", f"{figures[key]:.1f} s", beside)
    if figures["floor_s"] is not None:
        table.add_row("the same waves without a controller", f"{figures['floor_s']:.1f} s", "-")
    table.add_row(
        "one store, p50 / p90", f"{figures['store_p50_s']:.1f} / {figures['store_p90_s']:.1f} s", "-"
    )
    table.add_row("controller's CPU, one rollout", f"{figures['controller_cpu_s']:.1f} s", "-")
    table.add_row("controller's memory", f"{figures['controller_rss_mb']:.0f} MB", "-")
    table.add_row("its API requests a store", f"{figures['api_requests_per_store']:.1f}", "-")
    if figures["restart"]:
        words = f"{PUBLISHED_RESTART_S / 60:.0f} min (1,000 placements)"
        table.add_row("killed, started: until it acts", f"{figures['restart_to_action_s']:.1f} s", words)
    table.add_row("planner, 10,000 stores", f"{figures['planner_10000_s']:.3f} s", "-")
    console.print(table)
    legs = Table("where a store's time goes", "mean", box=None)
    for name, words in LEGS:
        if name in figures["legs_s"]:
            legs.add_row(words, f"{figures['legs_s'][name]:.2f} s")
    for wave in figures["waves"]:
        words = f"{wave['name']}: {wave['stores']} stores (of it, after its last store)"
        legs.add_row(words, f"{wave['seconds']:.1f} s ({wave['closing_s']:.1f} s)")
    console.print(legs)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--stores", type=int, default=100)
    parser.add_argument("--shape", default="20/30/50", help="percent of the stores in each wave")
    parser.add_argument("--concurrency", default="50%")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--start", type=float, default=1.0, help="seconds until a pod is Ready")
    parser.add_argument("--stop", type=float, default=0.5, help="seconds until an old pod is gone")
    parser.add_argument("--heartbeat", type=float, default=10.0, help="seconds between an agent's heartbeats")
    parser.add_argument("--workers", type=int, default=16, help="stores the controller looks at at a time")
    parser.add_argument("--no-restart", action="store_true", help="do not kill the controller")
    parser.add_argument("--no-floor", action="store_true", help="do not measure Kubernetes alone")
    parser.add_argument("--name", default="bench-rollout", help="of the testbed")
    parser.add_argument("--dir", type=Path, help="default: a temporary directory")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    shape = [int(share) for share in options.shape.split("/")]
    if sum(shape) != 100:
        parser.error("--shape has to come to 100 percent")
    console = Console(highlight=False)
    with tempfile.TemporaryDirectory(prefix="storefleet-rollout-") as scratch:
        fleet = FleetOptions(
            options.stores,
            name=options.name,
            directory=options.dir or Path(scratch) / "fleet",
            start_s=options.start,
            stop_s=options.stop,
            heartbeat_s=options.heartbeat,
            workers=options.workers,
        )
        with FleetStage(fleet, console.print) as stage:
            figures = run(stage, shape, options, console)
    show(figures, console)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


def run(stage: FleetStage, shape: list[int], options: argparse.Namespace, console: Console) -> dict[str, Any]:
    stage.deploy("v1")
    first_s = stage.await_ready("v1")
    console.print(f"v1 in every store, without a rollout: {first_s:.1f} s")
    bench = Bench(stage, shape, options.concurrency, console)
    rounds = [bench.round(f"round-{n}", "v2" if n % 2 else "v1") for n in range(1, options.rounds + 1)]
    rss_mb = memory_mb(stage.controller.pid, "VmHWM")
    console.print(f"requests: {by_verb(audit_lines(stage.audit_log, 0)[0])}")
    restart = None
    if not options.no_restart:
        restart = bench.restart("restart", "v1" if options.rounds % 2 else "v2")
        rss_mb = max(rss_mb, memory_mb(stage.controller.pid, "VmHWM"))
    stage.controller.stop()
    floors = [] if options.no_floor else [bench.floor() for _ in range(3)]
    planner_s = measure_planner(10_000, 3)["plan_s"]
    return figures_of(options.stores, rounds, restart, floors, first_s, rss_mb, planner_s)


if __name__ == "__main__":
    main()
