"""The ``Cluster`` port for stores on this machine: writes what should run, reads what does.

This is the default of the demo and of a laptop. ``python -m controller.adapters.local.cluster
RUN_DIRECTORY`` stops everything that runs under a run directory.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from controller.adapters.local.layout import NodeDir, StoreDir, holder, make_private, read_json, write_json
from controller.adapters.local.supervisor import template_hash
from controller.cluster import Applied
from controller.domain.deployment import Observed
from controller.domain.drift import drift_of
from controller.domain.workload import Workload, rollout_of, with_last_applied
from controller.errors import PermanentError, TransientError

SILENT_S = 10.0
"""A supervisor that wrote nothing for this long hangs."""
START_TIMEOUT_S = 20.0


@dataclass(frozen=True, slots=True)
class LocalCluster:
    """``secrets``: a directory with one directory a secret and one file a key. ``owner_pid``: a process
    whose end stops everything (the demo); None: agents go on until removed."""

    run_dir: Path
    nodes: Sequence[str] = ("node-1",)
    secrets: Path | None = None
    owner_pid: int | None = None

    def apply(self, workload: Workload) -> Applied:
        store = StoreDir(self.run_dir / workload.store)
        daemon_set = with_last_applied(workload.daemon_set)
        before = self._desired(store) or {}
        wanted = {
            "daemon_set": daemon_set,
            "config_map": workload.config_map,
            "nodes": list(self.nodes),
            "secrets": str(self.secrets.absolute()) if self.secrets else None,
            "owner_pid": self.owner_pid,
        }
        generation = int(before.get("generation", 0))
        if {key: before.get(key) for key in wanted} != wanted:
            generation += 1
            try:
                write_json(store.desired, {**wanted, "generation": generation})
            except OSError as error:
                raise TransientError(
                    f"store {workload.store}: cannot write {store.desired}: {error}"
                ) from error
        for name in self.nodes:
            self._ensure_supervisor(store.node(name))
        return Applied(generation)

    def observe(self, store: str) -> Observed:
        directory = StoreDir(self.run_dir / store)
        desired = self._desired(directory)
        if desired is None:
            return Observed(rollout_id=None)
        daemon_set = desired["daemon_set"]
        rollout_id = rollout_of(daemon_set)
        restarted = [name for name in desired["nodes"] if self._ensure_supervisor(directory.node(name))]
        problems = [f"node {name}: its supervisor was gone and was started again" for name in restarted]
        seen = [_Node.read(directory.node(name), desired) for name in desired["nodes"]]
        problems += [f"node {node.name}: {problem}" for node in seen for problem in node.problems]
        return Observed(
            rollout_id=rollout_id,
            generation=int(desired["generation"]),
            observed_generation=min((node.generation for node in seen), default=0),
            desired=len(seen),
            ready=sum(node.ready for node in seen),
            updated=sum(node.updated for node in seen),
            images=tuple(sorted({image for node in seen for image in node.images})),
            problems=tuple(problems),
            blocked=any(node.blocked for node in seen),
            drift=drift_of(daemon_set),
        )

    def remove(self, store: str) -> None:
        StoreDir(self.run_dir / store).desired.unlink(missing_ok=True)

    def _desired(self, store: StoreDir) -> dict[str, Any] | None:
        """What should run. A damaged file counts as none: it is written again."""
        try:
            found = read_json(store.desired)
            if found is not None:
                template_hash(found)
                int(found["generation"])
                list(found["nodes"])
            return found
        except (ValueError, KeyError, TypeError):
            return None
        except OSError as error:
            raise PermanentError(f"cannot read {store.desired}: {error}") from error

    def _ensure_supervisor(self, node: NodeDir) -> bool:
        """Start the node's supervisor unless it runs; says whether it had to."""
        try:
            if holder(node.lock) is not None:
                return False
            module = "controller.adapters.local.supervisor"
            make_private(node.root)
            with node.log.open("ab") as log:
                subprocess.run(
                    [sys.executable, "-m", module, str(node.root.absolute())],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    check=True,
                    timeout=START_TIMEOUT_S,
                )
        except (OSError, subprocess.SubprocessError) as error:
            raise TransientError(
                f"node {node.name}: cannot start its supervisor: {error}; see {node.log}"
            ) from error
        return True


@dataclass(frozen=True, slots=True)
class _Node:
    name: str
    generation: int
    ready: bool
    updated: bool
    images: tuple[str, ...]
    problems: tuple[str, ...]
    blocked: bool = False

    @classmethod
    def read(cls, node: NodeDir, desired: dict[str, Any]) -> "_Node":
        try:
            seen = read_json(node.observed)
        except (ValueError, OSError) as error:
            return cls(node.name, 0, False, False, (), (f"cannot read what runs: {error}",))
        if seen is None or seen["supervisor_pid"] != holder(node.lock):
            return cls(node.name, 0, False, False, (), ())
        silent = time.time() - float(seen["at"])
        problems = [seen["problem"]] if seen["problem"] else []
        if silent > SILENT_S:
            problems.append(f"its supervisor said nothing for {silent:.0f} s")
        wanted = template_hash(desired)
        pods = [pod for pod in seen["pods"] if not pod["terminating"]]
        problems += [pod["problem"] for pod in pods if pod["problem"]]
        ready = [pod for pod in pods if pod["ready"] and silent <= SILENT_S]
        return cls(
            name=node.name,
            generation=int(seen["generation"]),
            ready=bool(ready),
            updated=bool(ready) and all(pod["template"] == wanted for pod in seen["pods"]),
            images=tuple(image for pod in pods for image in pod["images"]),
            problems=tuple(problems),
            blocked=any(pod.get("blocked", False) for pod in pods),
        )


def stop_all(run_dir: Path, timeout_s: float = 40.0) -> int:
    """End every supervisor under ``run_dir`` and with it every agent: politely, then by force.
    Returns how many there were. Stores stay as they are on disk and go on when next applied."""
    nodes = [node for path in sorted(run_dir.glob("*")) for node in StoreDir(path).nodes()]
    count = sum(holder(node.lock) is not None for node in nodes)
    for number, allowed in ((signal.SIGTERM, timeout_s), (signal.SIGKILL, 5.0)):
        for node in nodes:
            _signal(node, number)
        deadline = time.monotonic() + allowed
        while any(holder(node.lock) is not None for node in nodes):
            if time.monotonic() > deadline:
                break
            time.sleep(0.05)
    return count


def _signal(node: NodeDir, number: int) -> None:
    pid = holder(node.lock)
    if pid is None:
        return
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


if __name__ == "__main__":
    stop_all(Path(sys.argv[1]))
