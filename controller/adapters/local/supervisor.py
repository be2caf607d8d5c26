"""The process that runs one node of a local store: level-triggered, from a file to a file.

It outlives the controller on purpose: cameras must not notice that the controller died. Its pods die
with it, and its successor starts them again from their records.
"""

import hashlib
import json
import logging
import os
import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

from controller.adapters.local.layout import NodeDir, acquire, make_private, read_json, write_json
from controller.adapters.local.pod import LOG_MAX_BYTES, Pod, PodRecord
from controller.adapters.local.surge import PodView, plan
from controller.domain.workload import rollout_of

log = logging.getLogger(__name__)

TICK_S = 0.2
HEARTBEAT_S = 2.0
KEPT_LOGS = 6


class Supervisor:
    """Steps the pods of one node. ``step`` never blocks."""

    def __init__(self, node: NodeDir) -> None:
        self._node = node
        self._desired: dict[str, Any] | None = None
        self._desired_stamp: tuple[int, int] | None = None
        self._problem = ""
        self._written: tuple[float, Any] = (0.0, None)
        self._pods: list[Pod] = []
        self._read_desired()
        for directory in sorted(make_private(node.pods).iterdir()):
            try:
                pod = Pod.load(directory, node, self._secrets)
            except (ValueError, TypeError) as error:
                log.error("ignoring %s: %s", directory, error)
                continue
            if pod is not None:
                self._pods.append(pod)

    def step(self, now: float, stopping: bool) -> bool:
        """Bring the node closer to what should run; False when there is nothing left to do, ever."""
        self._read_desired()
        wanted = None if stopping or self._desired is None else template_hash(self._desired)
        for pod in self._pods:
            pod.step(now)
        gone = [pod for pod in self._pods if pod.gone]
        for pod in gone:
            self._pods.remove(pod)
            if not stopping:
                pod.remove_files()
        decision = plan(wanted, [_view(pod) for pod in self._pods])
        for pod in self._pods:
            if pod.record.name in decision.stop:
                pod.terminate(now)
        if decision.start and self._desired is not None and wanted is not None:
            self._start(wanted, self._desired, now)
        self._report()
        return bool(self._pods) or wanted is not None

    @property
    def owner(self) -> int | None:
        owner = (self._desired or {}).get("owner_pid")
        return int(owner) if owner else None

    @property
    def _secrets(self) -> Path | None:
        path = (self._desired or {}).get("secrets")
        return Path(path) if path else None

    def _read_desired(self) -> None:
        """Read the file again when it changed. A damaged one changes nothing but is reported."""
        path = self._node.store.desired
        try:
            status = path.stat()
            stamp = (status.st_mtime_ns, status.st_ino)
        except FileNotFoundError:
            self._desired, self._desired_stamp, self._problem = None, None, ""
            return
        if stamp == self._desired_stamp:
            return
        self._desired_stamp = stamp
        try:
            found = read_json(path)
            if found is not None:
                template_hash(found)
            self._desired, self._problem = found, ""
        except (ValueError, KeyError, TypeError) as error:
            self._problem = f"cannot read what should run: {error!r}"

    def _start(self, wanted: str, desired: dict[str, Any], now: float) -> None:
        number = 1 + max((int(pod.record.name.split("-")[0]) for pod in self._pods), default=0)
        daemon_set = desired["daemon_set"]
        record = PodRecord(
            name=f"{max(number, self._last_number() + 1):06}-{wanted[:8]}",
            template_hash=wanted,
            rollout_id=rollout_of(daemon_set),
            template=daemon_set["spec"]["template"],
            config_map=desired["config_map"],
        )
        pod = Pod(record, self._node, self._secrets)
        pod.save()
        self._pods.append(pod)
        pod.step(now)

    def _last_number(self) -> int:
        logs = sorted(make_private(self._node.logs).glob("*.log"))
        for old in logs[:-KEPT_LOGS]:
            old.unlink(missing_ok=True)
        return int(logs[-1].name.split("-")[0]) if logs else 0

    def _report(self) -> None:
        """Write down what runs, when it changed and as a sign of life."""
        pods = [
            {
                "name": pod.record.name,
                "template": pod.record.template_hash,
                "rollout_id": pod.record.rollout_id,
                "ready": pod.ready,
                "terminating": pod.terminating,
                "restarts": pod.restarts,
                "pid": pod.pid,
                "problem": pod.problem,
                "blocked": pod.blocked,
                "images": [c.get("image", "") for c in pod.record.template["spec"]["containers"]],
            }
            for pod in self._pods
        ]
        seen = {
            "generation": (self._desired or {}).get("generation", 0),
            "problem": self._problem,
            "pods": pods,
        }
        at, last = self._written
        now = time.time()
        if seen != last or not 0 <= now - at < HEARTBEAT_S:
            write_json(self._node.observed, {**seen, "at": now, "supervisor_pid": os.getpid()}, durable=False)
            self._written = (now, seen)
            for file in self._node.logs.glob("*.log"):
                if file.stat().st_size > LOG_MAX_BYTES:
                    os.truncate(file, 0)


def template_hash(desired: dict[str, Any]) -> str:
    """Raises ``KeyError`` or ``TypeError`` for what is not a desired state."""
    template = desired["daemon_set"]["spec"]["template"]
    return hashlib.sha256(json.dumps(template, sort_keys=True).encode()).hexdigest()[:16]


def _view(pod: Pod) -> PodView:
    record = pod.record
    return PodView(record.name, record.template_hash, pod.ready, record.was_ready, pod.terminating)


def run(node: NodeDir) -> int:
    """Supervise until nothing should run any more, SIGTERM comes or the owner is gone.
    Returns the exit status; 0 also when another supervisor is at work already."""
    for _ in range(20):  # someone who only asks whether the lock is held holds it for a moment
        lock = acquire(node.lock)
        if lock is not None:
            break
        time.sleep(0.05)
    else:
        return 0
    node.observed.unlink(missing_ok=True)  # what an earlier supervisor saw is no longer true
    os.ftruncate(lock, 0)
    os.write(lock, str(os.getpid()).encode())
    stopping = False

    def stop(_signal: int, _frame: FrameType | None) -> None:
        nonlocal stopping
        stopping = True

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    supervisor = Supervisor(node)
    owner = supervisor.owner
    owner_born = _born(owner) if owner else None
    complaint = ""
    while True:
        try:
            if not supervisor.step(time.monotonic(), stopping):
                return 0
        except OSError as error:  # a full disk must not take the agents down with the supervisor
            if str(error) != complaint:
                complaint = str(error)
                log.error("%s", complaint)
        if owner and _born(owner) != owner_born:
            stopping = True
        time.sleep(TICK_S)


def _born(pid: int) -> str | None:
    """Start time of a process, which tells it from a later one of the same number; None when gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return stat.rpartition(")")[2].split()[19]


def detach() -> None:
    """Leave the session and the parent, so that nothing of the controller takes this process along."""
    if os.fork():
        os._exit(0)
    os.setsid()
    if os.fork():
        os._exit(0)


def main(argv: list[str]) -> int:
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s")
    if len(argv) != 2:
        log.error("usage: python -m controller.adapters.local.supervisor NODE_DIRECTORY")
        return 2
    node = NodeDir(Path(argv[1]))
    detach()
    return run(node)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
