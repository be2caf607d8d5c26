"""Carries out the steps of a plan, all of them or none, in the caller's writing transaction.

Nothing is done twice and nothing by halves: the deployments, what is recorded of the stores and the rollout
itself are written together, and only if the rollout and the stores are still as the plan saw them.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from uuid import UUID

from controller.deploying import DeploymentOrder, Made, make_deployments
from controller.domain.journal import AuditEntry
from controller.domain.rollout.apply import record_after, rollout_after
from controller.domain.rollout.spec import GoldenGate
from controller.domain.rollout.state import (
    ChangeStatus,
    Deploy,
    Observe,
    OpenWave,
    PassWave,
    Restore,
    Rollout,
    Step,
    StoreRecord,
)
from controller.golden import demand
from controller.ports import Repositories
from controller.rollout_picture import Picture

ACTOR = "rollout"


def carry_out(
    repositories: Repositories,
    picture: Picture,
    steps: Sequence[Step],
    *,
    now: datetime,
    new_id: Callable[[], UUID],
    settled: bool = False,
) -> bool:
    """Whether anything was written. Raises ``ConflictError`` when somebody changed the rollout, or gave a
    store another deployment, since the picture was taken; the transaction must then be undone."""
    before = picture.rollout
    repositories.rollouts.lock(before.name, before.revision)
    made = _deploy(repositories, picture, steps, now, new_id)
    rollout, records = _after(picture, steps, made, now)
    if rollout == before and not records and not settled:
        return False
    repositories.rollouts.save(rollout, before.revision, settled=settled)
    repositories.rollout_stores.put(before.name, records.values())
    repositories.audit.add_all(_audit(before, steps, made.refused, now))
    return True


def _deploy(
    repositories: Repositories,
    picture: Picture,
    steps: Sequence[Step],
    now: datetime,
    new_id: Callable[[], UUID],
) -> Made:
    wanted = []
    for step in steps:
        if isinstance(step, Deploy | Restore):
            release = picture.rollout.spec.release if isinstance(step, Deploy) else step.release
            over = picture.stores[step.store].deployment
            wanted.append(DeploymentOrder(step.store, release, over, returning=isinstance(step, Restore)))
    if not wanted:
        return Made({}, {})
    name = picture.rollout.name
    made = make_deployments(
        repositories,
        wanted,
        actor=f"{ACTOR}:{name}",
        now=now,
        new_id=new_id,
        rollout=name,
        check_current=True,
    )
    _demand_golden(repositories, picture, steps, made)
    return made


def _demand_golden(repositories: Repositories, picture: Picture, steps: Sequence[Step], made: Made) -> None:
    """In the same transaction, so that no pod ever starts without it. What goes back passed long ago."""
    brought = [step.store for step in steps if isinstance(step, Deploy)]
    ids = [made.deployments[store].rollout_id for store in brought if store in made.deployments]
    for gate in picture.rollout.spec.gates:
        if isinstance(gate, GoldenGate) and ids:
            demand(
                repositories,
                ids,
                min_recall=gate.min_recall,
                max_count_error=gate.max_count_error,
                golden=gate.set,
            )


def _after(
    picture: Picture, steps: Sequence[Step], made: Made, now: datetime
) -> tuple[Rollout, dict[str, StoreRecord]]:
    """The rollout afterwards, and those records that changed."""
    rollout = picture.rollout
    changed: dict[str, StoreRecord] = {}
    for step in steps:
        if isinstance(step, OpenWave | PassWave | ChangeStatus):
            rollout = rollout_after(rollout, step, now)
            continue
        before = changed.get(step.store, picture.records[step.store])
        refused = made.refused.get(step.store)
        if refused is not None and isinstance(step, Deploy):
            after = record_after(before, Observe(step.store, failed_at=now, failure=refused), now)
        elif refused is not None and isinstance(step, Restore):
            continue  # Planned again until it is possible.
        else:
            deployment = made.deployments.get(step.store)
            after = record_after(before, step, now, deployment.rollout_id if deployment else None)
        changed[step.store] = after
    return rollout, {store: after for store, after in changed.items() if after != picture.records[store]}


def _audit(
    rollout: Rollout, steps: Sequence[Step], refused: Mapping[str, str], now: datetime
) -> list[AuditEntry]:
    """What the rollout did, but for its deployments, which have entries of their own."""
    entries = []

    def note(action: str, detail: Mapping[str, object]) -> None:
        entries.append(AuditEntry(now, ACTOR, f"rollout.{action}", rollout.name, detail))

    for step in steps:
        match step:
            case ChangeStatus():
                note(step.status, {"from": rollout.status, "reason": step.reason})
            case OpenWave():
                note("wave_open", {"wave": rollout.spec.waves[step.wave].name, "reason": step.reason})
            case PassWave():
                note("wave_pass", {"wave": rollout.spec.waves[step.wave].name, "reason": step.reason})
            case Observe() if step.failed_at is not None:
                note("store_failed", {"store": step.store, "failure": step.failure})
            case Deploy() if step.store in refused:
                note("store_failed", {"store": step.store, "failure": refused[step.store]})
            case Restore() if step.store not in refused:
                note("store_back", {"store": step.store, "to": step.release, "reason": step.reason})
    return entries
