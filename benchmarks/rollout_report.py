"""Where the time of a rollout goes, from what controller, apiserver and fake kubelet wrote down."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from statistics import mean
from typing import Any

from storefleet.fleet_sim.kubelet import Trace

Json = Mapping[str, Any]

LEGS = (
    ("place", "wave open → its turn (places of concurrency)"),
    ("apply", "decided → DaemonSet applied"),
    ("daemonset", "DaemonSet controller: old pod ended, new one made"),
    ("old_stops", "old agent stops (simulated)"),
    ("schedule", "scheduler: new pod has its node"),
    ("starts", "new agent starts until Ready (simulated)"),
    ("observe", "Ready → the controller has seen it"),
)


@dataclass(frozen=True, slots=True)
class WaveTime:
    name: str
    stores: int
    seconds: float
    """From its opening until it passed."""
    closing_s: float
    """Of these, after its last store was seen to be ready."""


@dataclass(frozen=True, slots=True)
class Round:
    release: str
    total_s: float
    """From ``start`` until the rollout had succeeded, by the controller's clock."""
    stores_s: tuple[float, ...]
    """Of each store: from the decision until it was seen to be ready."""
    waves: tuple[WaveTime, ...]
    legs: Mapping[str, float]
    """Mean seconds of a store; see ``LEGS``."""
    cpu_s: float
    """Of the controller."""
    requests: int
    """Of the controller to the apiserver."""


def read_round(
    rollout: Json,
    stores: Sequence[Json],
    deployments: Mapping[str, Json],
    traces: Mapping[tuple[str, str], Trace],
    cpu_s: float,
    requests: int,
) -> Round:
    """``rollout`` and ``stores`` as the API shows them after its end; ``deployments`` by store."""
    opened = {wave["name"]: _at(wave["opened_at"]) for wave in rollout["waves"]}
    ready = {one["store"]: _at(one["ready_at"]) for one in stores}
    legs: dict[str, list[float]] = {name: [] for name, _ in LEGS}
    for one in stores:
        deployment = deployments[one["store"]]
        trace = traces.get((one["store"], deployment["rollout_id"]), Trace())
        exposed, applied = _at(one["exposed_at"]), _at(deployment["applied_at"])
        legs["place"].append(exposed - opened[one["wave"]])
        legs["apply"].append(applied - exposed)
        if not (trace.old_ordered and trace.old_gone and trace.created):
            continue  # the first deployment of a store: there was no pod before it
        legs["daemonset"].append(trace.old_ordered - applied + trace.created - trace.old_gone)
        legs["old_stops"].append(trace.old_gone - trace.old_ordered)
        legs["schedule"].append(trace.bound - trace.created)
        legs["starts"].append(trace.ready - trace.bound)
        legs["observe"].append(_at(deployment["ready_at"]) - trace.ready)
    waves = []
    for wave in rollout["waves"]:
        last = max(ready[one["store"]] for one in stores if one["wave"] == wave["name"])
        passed = _at(wave["passed_at"])
        waves.append(WaveTime(wave["name"], wave["stores"], passed - opened[wave["name"]], passed - last))
    return Round(
        rollout["release"],
        _at(rollout["ended_at"]) - _at(rollout["started_at"]),
        tuple(sorted(ready[one["store"]] - _at(one["exposed_at"]) for one in stores)),
        tuple(waves),
        {name: mean(found) for name, found in legs.items() if found},
        cpu_s,
        requests,
    )


def mean_legs(rounds: Sequence[Round]) -> dict[str, float]:
    return {
        name: mean(found)
        for name, _ in LEGS
        if (found := [one.legs[name] for one in rounds if name in one.legs])
    }


def audit_lines(log: Path, offset: int) -> tuple[list[Json], int]:
    """The requests in an audit log from byte ``offset`` on, and where to go on reading."""
    with log.open("rb") as file:
        file.seek(offset)
        content = file.read()
    whole = content[: content.rfind(b"\n") + 1]
    return [json.loads(line) for line in whole.splitlines()], offset + len(whole)


def by_verb(lines: Iterable[Json]) -> dict[str, int]:
    found: dict[str, int] = {}
    for line in lines:
        what = f"{line['verb']} {line.get('objectRef', {}).get('resource', line['requestURI'].split('?')[0])}"
        found[what] = found.get(what, 0) + 1
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def _at(text: str | None) -> float:
    return datetime.fromisoformat(text).timestamp() if text else float("nan")
