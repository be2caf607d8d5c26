"""A controller's reconciler and executor as a process that may be killed at any moment.

Its stores are files: what was applied there is there after the kill, as in a real cluster. Every apply also
goes into a log, so that the test can tell what was done when.
"""

import json
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

from controller.adapters.database import open_database
from controller.adapters.database.leadership import open_leadership
from controller.cluster import Applied, Cluster
from controller.domain.deployment import Observed
from controller.domain.fleet import Store
from controller.domain.rollout.state import GateVerdict, Verdict
from controller.domain.workload import Workload, WorkloadSettings
from controller.leadership import Leader
from controller.reconciler import Reconciler, Tempo
from controller.rollout_executor import RolloutExecutor, RolloutTempo, Verdicts
from controller.rollout_picture import Picture


class FileCluster:
    """One file a store: the deployment that runs there. Ready at once, unless its image is bad."""

    def __init__(self, directory: Path, bad: str) -> None:
        self._directory = directory
        self._bad = bad
        self._log = (directory / "log").open("a", buffering=1)

    def apply(self, workload: Workload) -> Applied:
        image = workload.daemon_set["spec"]["template"]["spec"]["containers"][0]["image"]
        self._log.write(
            json.dumps(
                {"at": time.time(), "store": workload.store, "image": image, "id": workload.rollout_id}
            )
            + "\n"
        )
        file = self._directory / f"{workload.store}.json"
        fresh = file.with_suffix(f".{uuid4().hex}")
        fresh.write_text(json.dumps({"id": workload.rollout_id, "image": image}))
        fresh.replace(file)
        return Applied(1)

    def observe(self, store: str) -> Observed:
        try:
            live = json.loads((self._directory / f"{store}.json").read_text())
        except FileNotFoundError:
            return Observed(rollout_id=None)
        ready = int(live["image"] != self._bad)
        return Observed(live["id"], 1, 1, desired=1, ready=ready, updated=ready)

    def remove(self, store: str) -> None:
        (self._directory / f"{store}.json").unlink(missing_ok=True)


def passing(picture: Picture, now: datetime) -> Verdicts:
    gates = picture.rollout.spec.gates
    found = [GateVerdict(i, gate.kind, Verdict.PASS, "fine", now) for i, gate in enumerate(gates)]
    return dict.fromkeys(range(len(picture.rollout.waves)), found)


def now() -> datetime:
    return datetime.now(UTC)


def main(url: str, directory: str, bad: str) -> None:
    database = open_database(url)
    leadership = open_leadership(url)
    cluster = FileCluster(Path(directory), bad)

    def cluster_of(_: Store) -> Cluster:
        return cluster

    reconciler = Reconciler(
        database, cluster_of, WorkloadSettings("mqtt://b:1883", "http://c:8080"), lambda: b"PEM", now,
        lambda: 0.0, Tempo(workers=4, tick_s=0.02, resync_s=5.0), leadership.held,
    )  # fmt: skip
    tempo = RolloutTempo(tick_s=0.02, busy_s=0.1, idle_s=0.3, judge_s=0.05, soak_s=0.1)
    executor = RolloutExecutor(database, passing, now, uuid4, tempo, leadership.held)
    stop = threading.Event()
    for worker in (Leader(leadership), reconciler, executor):
        threading.Thread(target=worker.run, args=(stop,)).start()
    print("began", flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main(*sys.argv[1:])
