"""Which stores of a wave a gate looks at, and whether what they say may count.

Only evidence that names the store's deployment of this rollout and was observed after it was ready counts. It
may show at once that the release is bad; that it is good, only once the soak is over.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from controller.domain.rollout.evidence import Evidence, StoreEvidence
from controller.domain.rollout.spec import RolloutSpec, format_duration

STALE = timedelta(minutes=3)
"""A heartbeat older than this tells nothing of the present; agents send one every few seconds."""
NAMED = 3


@dataclass(frozen=True, slots=True)
class Fresh:
    """The wave's stores as a gate may use them."""

    stores: tuple[StoreEvidence, ...]
    """Reachable, ready, with a heartbeat of the new deployment; in order of their names."""
    waiting: tuple[str, ...]
    """Why a verdict cannot be a pass yet, in words; empty: it may."""
    away: tuple[str, ...]
    """Stores that cannot be reached: they are judged when they are back."""
    observed_at: datetime | None
    """The newest heartbeat of them."""


def of_wave(evidence: Evidence, names: Iterable[str], soak: timedelta, now: datetime) -> Fresh:
    """``names``: the wave's stores. Those left out of the rollout are no longer looked at."""
    stores, waiting, soaking, away = [], [], [], []
    newest: datetime | None = None
    for name in sorted(names):
        store = evidence.stores.get(name)
        if store is None:
            waiting.append(f"nothing is known of {name}")
            continue
        if store.left_out:
            continue
        if not store.reachable:
            away.append(name)
            continue
        if store.deployment is None or store.ready_at is None:
            waiting.append(f"{name} is not ready yet")
            continue
        heard = [
            heartbeat.observed_at
            for heartbeat in store.heartbeats
            if heartbeat.deployment == store.deployment and heartbeat.observed_at >= store.ready_at
        ]
        if not heard:
            waiting.append(f"no telemetry of the new model from {name} yet")
            continue
        newest = max(heard) if newest is None else max(newest, *heard)
        if now - max(heard) > STALE:
            waiting.append(f"no telemetry from {name} since {max(heard):%H:%M:%S} UTC")
            continue
        stores.append(store)
        silent = sum(h.deployment != store.deployment for h in store.heartbeats)
        if silent:
            waiting.append(f"{silent} of {len(store.heartbeats)} nodes of {name} run another deployment")
        elif max(heard) < store.ready_at + soak:
            soaking.append(f"{name} has run it for {_lasted(store, max(heard))} of {format_duration(soak)}")
    if not stores and not waiting:
        waiting.append("no store of the wave can be judged" + (f": {listed(away)} away" if away else ""))
    return Fresh(tuple(stores), (*waiting, *soaking), tuple(away), newest)


def _lasted(store: StoreEvidence, until: datetime) -> str:
    assert store.ready_at is not None  # noqa: S101 - the caller looked
    return format_duration(timedelta(seconds=int((until - store.ready_at).total_seconds())))


def strata(spec: RolloutSpec, stores: Sequence[StoreEvidence]) -> dict[str, tuple[StoreEvidence, ...]]:
    """``label=value`` → its stores, for each label that the rollout calls a stratum; and all of them."""
    found: dict[str, tuple[StoreEvidence, ...]] = {"all stores": tuple(stores)}
    for label in spec.strata:
        for value in sorted({store.labels.get(label, "") for store in stores} - {""}):
            members = tuple(store for store in stores if store.labels.get(label) == value)
            found[f"{label}={value}"] = members
    return found


def listed(words: Sequence[str], more: str = "; ") -> str:
    """The first few, and how many there are besides."""
    rest = len(words) - NAMED
    return more.join(words[:NAMED]) + (f" (and {rest} more)" if rest > 0 else "")


def share(part: int, whole: int) -> str:
    return f"{part} of {whole} ({part / whole:.0%})" if whole else "0 of 0"


def top(counts: Mapping[str, int]) -> str:
    ranked = sorted(counts, key=lambda name: (-counts[name], name))
    return listed([f"{name} {counts[name]}" for name in ranked], ", ")
