"""What becomes of a simulated pod: pure decisions of the fake kubelet.

A pod that has its place on a node takes a *course*: at which times which status is reported for it. What a
real kubelet reports, and in which words, is at
https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from storefleet.fleet_sim.failures import Character, Kind

Json = dict[str, Any]

CRASH_AFTER_S = 2.0
BACKOFF_S = (2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0)
"""Pauses between a container's starts. A real kubelet begins with 10 s and doubles it up to 300 s."""
SHOWN_START_S = 3.0
"""A pod that takes longer to start is first reported as on its way."""
ADDRESS = "10.99.0.1"


@dataclass(frozen=True, slots=True)
class Container:
    name: str
    image: str


@dataclass(frozen=True, slots=True)
class Status:
    """One report. ``after_s`` is counted from the pod's place on the node."""

    after_s: float
    ready: bool
    phase: str
    waiting: str = ""
    """Why its container does not run; empty: it runs."""
    message: str = ""
    restarts: int = 0
    crashed: bool = False


def course(character: Character, armed: bool) -> tuple[Status, ...]:
    """``armed``: whether the store's failure has begun, as it has for every release but the first."""
    kind = character.kind if armed else None
    start = character.start_s
    if kind is Kind.IMAGE_PULL:
        words = "manifest unknown: manifest unknown"
        return (
            Status(start / 2, False, "Pending", "ErrImagePull", words),
            Status(start, False, "Pending", "ImagePullBackOff", f"Back-off pulling image: {words}"),
        )
    found: list[Status] = []
    if start >= SHOWN_START_S:
        found.append(Status(0.5, False, "Pending", "ContainerCreating"))
    if kind is not Kind.CRASH_LOOP:
        return (*found, Status(start, True, "Running"))
    at = start
    for restarts, pause in enumerate(BACKOFF_S):
        found.append(Status(at, True, "Running", restarts=restarts, crashed=restarts > 0))
        at += CRASH_AFTER_S
        words = "back-off restarting failed container"
        found.append(Status(at, False, "Running", "CrashLoopBackOff", words, restarts + 1, True))
        at += pause
    return tuple(found)


def status_body(status: Status, containers: tuple[Container, ...], at: datetime) -> Json:
    """As a merge patch of the pod's status. ``at`` by the node's clock."""
    stamp = rfc3339(at)
    conditions = [
        {"type": "Initialized", "status": "True", "lastTransitionTime": stamp},
        {"type": "Ready", "status": _word(status.ready), "lastTransitionTime": stamp},
        {"type": "ContainersReady", "status": _word(status.ready), "lastTransitionTime": stamp},
        {"type": "PodScheduled", "status": "True", "lastTransitionTime": stamp},
    ]
    return {
        "status": {
            "phase": status.phase,
            "conditions": conditions,
            "hostIP": ADDRESS,
            "podIP": ADDRESS,
            "podIPs": [{"ip": ADDRESS}],
            "startTime": stamp,
            "containerStatuses": [_container_status(status, one, stamp) for one in containers],
        }
    }


def containers_of(pod: Mapping[str, Any]) -> tuple[Container, ...]:
    return tuple(Container(one["name"], one["image"]) for one in pod["spec"]["containers"])


def _container_status(status: Status, container: Container, stamp: str) -> Json:
    if status.waiting:
        state: Json = {"waiting": {"reason": status.waiting, "message": status.message}}
    else:
        state = {"running": {"startedAt": stamp}}
    last: Json = {}
    if status.crashed:
        ended = {"exitCode": 1, "reason": "Error", "startedAt": stamp, "finishedAt": stamp}
        last = {"terminated": ended | {"message": "simulated: the detector's runtime does not load"}}
    return {
        "name": container.name,
        "image": container.image,
        "imageID": "",
        "ready": status.ready,
        "started": not status.waiting,
        "restartCount": status.restarts,
        "state": state,
        "lastState": last,
    }


def rfc3339(at: datetime) -> str:
    """As Kubernetes writes times: UTC, whole seconds."""
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def _word(yes: bool) -> str:
    return "True" if yes else "False"
