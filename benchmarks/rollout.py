"""How long a rollout to many stores takes, and what it costs: real DaemonSets on a real apiserver.

Every store is a namespace with a node; a fake kubelet answers for the nodes. Needs root and what
``docs/testbed.md`` lists.

    python -m benchmarks.rollout --stores 100 --shape 20/30/50 --concurrency 50% --json rollout.json

Several rounds go from v1 to v2 and back. Then the controller is killed in the middle of one and started again.
At last the same DaemonSets are changed in the same waves without any controller, which is the floor that
Kubernetes sets. The published figure beside ours is for placements that make no pods and wait for no gate.
"""

import argparse
import json
import os
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from rich.console import Console
from rich.table import Table

from benchmarks.planner import measure as measure_planner
from benchmarks.rollout_report import LEGS, Round, audit_lines, by_verb, mean_legs, read_round
from controller.domain.workload import NAME, ROLLOUT_ANNOTATION
from k3s.testbed.kubeconfig import read_kubeconfig
from k3s.testbed.session import Session
from storefleet.demo.processes import DemoError
from storefleet.fleet_sim.stage import FleetOptions, FleetStage
from storefleet.scoring import nearest_rank

PUBLISHED_P50_S, PUBLISHED_P90_S, PUBLISHED_RESTART_S = 95.0, 96.0, 660.0
"""KubeFleet, 1st quarter 2026: 100 placements in three stages; a hub with 1,000 placements that restarts."""
POLL_S = 0.2
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
        current = self._audit()
        del current
        left = len(stage.names) - sum(1 for key in stage.kubelet.traces if key[1] == "")  # replaced below
        started = time.time()
        stage.start_controller()
        stage.await_controller()
        to_api = time.time() - started
        acted = None
        while acted is None:
            self._in_time(began)
            changes = [line for line in self._audit() if line["verb"] in CHANGES]
            acted = min((_stamp(line) for line in changes), default=None)
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
            self._stage.check()
            shown = self._stage.client.get("/v1/rollouts", limit=5)["items"]
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
