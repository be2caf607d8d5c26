"""Shadow runs of rollouts: the stores of the wave that is next try the candidate beside their model.

Level-triggered: what there shall be is compared with what is ordered, and only the difference is written. A
run is the rollout's if the rollout asked for it; runs that operators ordered elsewhere are left alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from controller.domain.rollout.spec import ShadowGate
from controller.domain.rollout.state import Status
from controller.domain.shadow import ShadowRun
from controller.ports import Repositories
from controller.rollout_picture import Picture
from controller.shadow import MAX_FOR, order, withdraw


@dataclass(frozen=True, slots=True)
class ShadowChange:
    begin: tuple[str, ...]
    """Stores that shall try the candidate, or longer."""
    end: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.begin or self.end)


UNCHANGED = ShadowChange((), ())
LEAST = timedelta(hours=1)
"""Of a run, so that a rollout with a short ``gate_timeout`` does not renew its orders all the time."""


def shadow_change(repositories: Repositories, picture: Picture, now: datetime) -> ShadowChange:
    """What is to be ordered and withdrawn for this rollout."""
    gate = gate_of(picture)
    if gate is None:
        return UNCHANGED
    runs = {run.store: run for run in repositories.shadows.requested_by(_actor(picture))}
    return compare(gate, candidates(picture), runs, now)


def carry_out_shadows(
    repositories: Repositories, picture: Picture, change: ShadowChange, now: datetime
) -> None:
    """In the caller's transaction. Raises as ``controller.shadow.order`` does."""
    gate = gate_of(picture)
    if gate is None:
        return
    actor, release = _actor(picture), picture.rollout.spec.release
    if change.end:
        withdraw(repositories, change.end, actor=actor, now=now)
    if change.begin:
        until = now + _lasts(picture)
        order(
            repositories,
            release,
            change.begin,
            cpu_percent=gate.cpu_percent,
            until=until,
            actor=actor,
            now=now,
        )


def gate_of(picture: Picture) -> ShadowGate | None:
    return next((gate for gate in picture.rollout.spec.gates if isinstance(gate, ShadowGate)), None)


def candidates(picture: Picture) -> tuple[str, ...]:
    """Stores of the wave that opens next, as long as the rollout runs, that run another release. None while
    it waits for other rollouts."""
    rollout = picture.rollout
    if rollout.status is not Status.RUNNING:
        return ()
    if any(picture.others.get(name) != Status.SUCCEEDED for name in rollout.spec.after):
        return ()
    wave = next((wave for wave in rollout.waves if wave.opened_at is None), None)
    names = wave.stores if wave is not None else ()
    return tuple(name for name in names if _may_try(picture, name))


def compare(
    gate: ShadowGate, wanted: tuple[str, ...], runs: Mapping[str, ShadowRun], now: datetime
) -> ShadowChange:
    """``runs``: of this rollout, by store. One that has less than half of its time left is renewed."""
    begin = [
        name
        for name in wanted
        if name not in runs
        or runs[name].cpu_percent != gate.cpu_percent
        or runs[name].until - now < (runs[name].until - runs[name].created_at) / 2
    ]
    return ShadowChange(tuple(begin), tuple(sorted(set(runs) - set(wanted))))


def _may_try(picture: Picture, name: str) -> bool:
    store, record = picture.stores.get(name), picture.records.get(name)
    if store is None or store.claimed_by or (record is not None and record.skipped):
        return False
    return store.release is not None and store.release != picture.rollout.spec.release


def _lasts(picture: Picture) -> timedelta:
    return min(max(2 * picture.rollout.spec.gate_timeout, LEAST), MAX_FOR)


def _actor(picture: Picture) -> str:
    return f"rollout:{picture.rollout.name}"
