"""Releases, faults and a cut link on real Kubernetes: how long stores take, and whether anything gets lost.

Three stores, one of two nodes, as the testbed makes them; agents in real pods read real RTSP cameras. Needs
root and what ``docs/testbed.md`` lists.

    python -m benchmarks.kubernetes --rounds 4 --cut 120 --json kubernetes.json
"""

import argparse
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

from rich.console import Console

from benchmarks.kubernetes_faults import FAULTS
from benchmarks.kubernetes_stage import (
    NAMESPACE,
    Json,
    KubernetesOptions,
    KubernetesStage,
    watched,
    watches,
)
from contract.events import HISTORICAL_AFTER_S
from storefleet.demo.report import duplicates, lost
from storefleet.scoring import nearest_rank

RECOVERY_TIMEOUT_S = 240.0
"""Three clusters on two cores that others use as well are slow; what is measured is reported."""
CATCH_UP_TIMEOUT_S = 330.0
"""An unreachable store is asked at least every five minutes."""
EVENT_TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True)
class Rollout:
    """One release to all stores. Seconds since ``deploy``, for each device, unless said otherwise."""

    release: str
    ready_s: float
    """Until the last store was ready."""
    first_event_s: list[float]
    """Until an event by the new model was in the centre's database."""
    blind_gap_s: list[float]
    """The longest time between two looks at each camera, by whichever device, as heartbeats told them once a
    second. The stores' Kubernetes has no surge."""


@dataclass(frozen=True, slots=True)
class Recovery:
    fault: str
    seconds: float
    """From the fault until every camera of the store was watched again, by a device that was heard since."""


@dataclass(frozen=True, slots=True)
class Cut:
    seconds: float
    others_ready_s: float
    """Since the deployment."""
    buffered_events: int
    """Events of the time without a link, that came after it."""
    not_historical: int
    """Of those, how many came late and were not marked. Must be 0."""
    delivered_s: float
    """From healing until the outbox was empty."""
    caught_up_s: float
    """From healing until the store ran the release."""


@dataclass(frozen=True, slots=True)
class Takeover:
    taken_over_s: float
    """From a node's loss of power until the others watched its cameras."""
    given_back_s: float
    """From its power's return until it watched a camera again."""
    hands: int
    """How often a camera changed hands by its events: there and back is 2, more where a machine is too busy
    to renew a lease in time."""
    out_of_turn: int
    """Events of a former owner, of a moment after the next one's first. Must be 0."""


def roll_out(stage: KubernetesStage, release: str) -> Rollout:
    """Bring a release to all stores, and wait for an event of each device that came from its model."""
    began = time.time()
    with Looks(stage) as looks:
        deployed = stage.deploy(release, stage.names)
        stage.await_ready()
        ready_s = time.time() - began
    rollouts = {deployment["rollout_id"] for deployment in deployed.values()}
    devices = {
        key
        for key, device in stage.devices().items()
        if device["rollout_id"] in rollouts and any(c["status"] == "online" for c in device["cameras"])
    }
    first: dict[tuple[str, str], float] = {}

    def all_reported() -> bool:
        for event in stage.events():
            if event["rollout_id"] in rollouts:
                key = (event["store"], event["device"])
                first[key] = min(seconds(event["received_at"]) - began, first.get(key, float("inf")))
        return devices <= set(first)

    stage.wait(f"an event of {release} from every device", all_reported, EVENT_TIMEOUT_S)
    return Rollout(release, ready_s, sorted(first.values()), sorted(looks.gaps_s.values()))


class Looks:
    """Follows when each camera was looked at last, in a thread of its own, while the block runs."""

    def __init__(self, stage: KubernetesStage) -> None:
        self._stage = stage
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="looks", daemon=True)
        self._last: dict[tuple[str, str], float] = {}
        self.gaps_s: dict[tuple[str, str], float] = {}
        """By store and camera; those that had been looked at before."""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _follow(self) -> None:
        while not self._ended.is_set():
            for (store, _), device in self._stage.devices().items():
                for camera in device["cameras"]:
                    if at := looked_at(camera):
                        self._note((store, camera["camera"]), at)
            self._ended.wait(0.5)

    def _note(self, camera: tuple[str, str], at: float) -> None:
        last = self._last.get(camera)
        if last is None or at > last:
            self._last[camera] = at
            if last is not None:
                self.gaps_s[camera] = max(at - last, self.gaps_s.get(camera, 0.0))


def recover(stage: KubernetesStage, store: str, fault: str) -> Recovery:
    """Break something in the store and wait until all is as before. Nobody mends anything but the service
    manager of the node, and whoever fills the disk empties it again."""
    before = agents(stage, store)
    began = time.time()
    restarts = FAULTS[fault](stage, store)

    def recovered() -> bool:
        devices = {key: device for key, device in stage.devices().items() if key[0] == store}
        now = agents(stage, store)
        deployment = stage.current()[store]
        return (
            deployment["state"] == "ready"
            and watched(devices.values()) == len(devices)
            and all(
                watches(device, deployment["rollout_id"])
                and not device["outbox_full"]
                and seconds(device["last_seen"]) > began
                for device in devices.values()
            )
            and len(now) == len(before)
            and (not restarts or not before & now)
        )

    stage.wait(f"{store} recovered: {fault}", recovered, RECOVERY_TIMEOUT_S)
    return Recovery(fault, time.time() - began)


def cut_off(stage: KubernetesStage, store: str, release: str, cut_s: float) -> Cut:
    """Cut a store off just after a release was sent to all, for ``cut_s``."""
    cluster = stage.stores[store]
    others = [name for name in stage.names if name != store]
    cluster.cut()
    began = time.time()
    try:
        stage.deploy(release, stage.names)
        stage.await_ready(others)
        others_ready_s = time.time() - began
        time.sleep(max(0.0, began + cut_s - time.time()))
    finally:
        cluster.heal()
    healed = time.time()

    def delivered() -> bool:
        devices = [device for (name, _), device in stage.devices().items() if name == store]
        return all(
            d["online"] and not d["outbox_pending"] and seconds(d["last_seen"]) > healed for d in devices
        )

    delivered_s = stage.wait(f"{store} delivered its events", delivered, RECOVERY_TIMEOUT_S)
    stage.await_ready([store], CATCH_UP_TIMEOUT_S)
    caught_up_s = time.time() - healed
    buffered = [
        event
        for event in stage.events()
        if event["store"] == store
        and began + 1 < seconds(event["event_time"]) < healed - 1
        and seconds(event["received_at"]) >= healed
    ]
    unmarked = sum(not event["historical"] and _delay_s(event) > HISTORICAL_AFTER_S + 1 for event in buffered)
    return Cut(healed - began, others_ready_s, len(buffered), unmarked, delivered_s, caught_up_s)


def _delay_s(event: Json) -> float:
    return seconds(event["received_at"]) - seconds(event["record_time"])


def take_over(stage: KubernetesStage, store: str) -> Takeover:
    """Pull the plug of a node that watches cameras, and put it back when they are watched by others."""
    cluster = stage.stores[store]

    def holdings(since: float = 0.0) -> dict[str, set[str]]:
        """By device, the cameras that it looked at after a moment."""
        return {
            device: {
                camera["camera"]
                for camera in row["cameras"]
                if camera["status"] == "online" and looked_at(camera) > since
            }
            for (name, device), row in stage.devices().items()
            if name == store
        }

    stage.wait("every node watches a camera", lambda: all(holdings().values()), RECOVERY_TIMEOUT_S)
    before = holdings()
    victim, orphans = next(iter(before.items()))
    node = cluster.node(victim)
    killed = time.time()
    node.kill("node")

    def taken_over() -> bool:
        others = (held for device, held in holdings(killed).items() if device != victim)
        return orphans <= set().union(*others)

    try:
        taken_over_s = stage.wait(f"cameras of {victim} taken over", taken_over, RECOVERY_TIMEOUT_S)
    finally:
        node.start("node")

    def back() -> bool:
        device = stage.devices()[store, victim]
        return bool(holdings(restored)[victim]) and bool(device["online"])

    restored = time.time()
    given_back_s = stage.wait(f"{victim} watches again", back, RECOVERY_TIMEOUT_S)
    stage.await_ready([store])
    most = out_of_turn = 0
    for camera in orphans:
        told = sorted(
            (seconds(event["event_time"]), event["camera_epoch"], event["device"])
            for event in stage.events()
            if event["store"] == store and event["camera"] == camera and seconds(event["event_time"]) > killed
        )
        most = max(most, sum(a[2] != b[2] for a, b in pairwise(told)))
        out_of_turn += sum(a[1] > b[1] for a, b in pairwise(told))
    return Takeover(taken_over_s, given_back_s, most, out_of_turn)


def account(stage: KubernetesStage) -> dict[str, int]:
    """What must be zero, and how many events there are at all."""
    stage.wait(
        "all events delivered",
        lambda: all(not device["outbox_pending"] for device in stage.devices().values()),
        EVENT_TIMEOUT_S,
    )
    fleet, events = list(stage.client.pages("/v1/fleet")), stage.events()
    gaps = [gap for gap in stage.client.pages("/v1/gaps") if gap["closed_at"] is None or gap["lost"]]
    return {
        "events": len(events),
        "lost": lost(events, fleet),
        "duplicated": duplicates(events),
        "sequence_gaps": len(gaps),
        "dead_letters": len(list(stage.client.pages("/v1/dead-letters"))),
    }


def agents(stage: KubernetesStage, store: str) -> set[str]:
    """Ids of the containers in which agents run."""
    return {
        status["containerID"]
        for pod in stage.stores[store].pods(NAMESPACE)
        for status in pod["status"].get("containerStatuses", ())
        if "running" in status["state"]
    }


def looked_at(camera: Json) -> float:
    """When a device last looked at one of its cameras, as far as the centre knows; 0: never."""
    at = (camera["telemetry"] or {}).get("last_inference_at")
    return seconds(at) if at else 0.0


def seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def spread(figures: Sequence[float]) -> dict[str, float | int | None]:
    return {"n": len(figures), "p50": nearest_rank(figures, 0.5), "p95": nearest_rank(figures, 0.95)}


def measure(stage: KubernetesStage, rounds: int, cut_s: float, console: Console) -> dict[str, Any]:
    """Everything, in order. The figures."""
    began, load = time.time(), os.getloadavg()[0]
    rollouts = []
    for number in range(rounds):
        rollouts.append(roll_out(stage, f"v{1 + number % 2}"))
        console.print(rollouts[-1])
    updates = rollouts[1:]
    recoveries = []
    for fault in FAULTS:
        recoveries.append(recover(stage, stage.names[0], fault))
        console.print(recoveries[-1])
    release = "v1" if stage.current()[stage.names[0]]["release"] == "v2" else "v2"
    cut = cut_off(stage, stage.names[1], release, cut_s)
    console.print(cut)
    takeover = take_over(stage, stage.names[2])
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "load_average": {"before": load, "after": os.getloadavg()[0], "cores": os.cpu_count()},
        "stores": {name: len(store.nodes) for name, store in stage.stores.items()},
        "first_install": asdict(rollouts[0]),
        "update_ready_s": spread([rollout.ready_s for rollout in updates]),
        "update_first_event_s": spread([s for rollout in updates for s in rollout.first_event_s]),
        "update_blind_gap_s": spread([s for rollout in updates for s in rollout.blind_gap_s]),
        "updates": [asdict(rollout) for rollout in updates],
        "recovery_s": {recovery.fault: recovery.seconds for recovery in recoveries},
        "cut": asdict(cut),
        "takeover": asdict(takeover),
        "account": account(stage),
        "seconds": time.time() - began,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kubernetes", description=__doc__)
    parser.add_argument("--rounds", type=int, default=4, help="releases, v1 and v2 in turn")
    parser.add_argument("--cut", type=float, default=120.0, help="seconds without a link")
    parser.add_argument("--seed", type=int, default=401)
    parser.add_argument(
        "--image", type=Path, help="archive of an agent image; default: built from this checkout"
    )
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args(arguments)
    console = Console()
    with tempfile.TemporaryDirectory() as directory:
        setting = KubernetesOptions(
            name=f"bench-{os.getpid()}",
            directory=Path(directory) / "stage",
            seed=options.seed,
            image=options.image,
        )
        with KubernetesStage(setting, console.print) as stage:
            figures = measure(stage, options.rounds, options.cut, console)
    console.print_json(data=figures)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
