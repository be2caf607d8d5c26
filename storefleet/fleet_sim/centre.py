"""Plans by the real planner and carries out what it says, in memory.

Everything that it knows between two looks is ``rollouts`` and ``records``, the same values that the database
keeps: forgetting the object and making a new one from these is what a restart of the controller is.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime

from controller.domain.rollout.apply import record_after, retried, rollout_after
from controller.domain.rollout.plan import plan
from controller.domain.rollout.rank import claims, held_by_others
from controller.domain.rollout.selection import Refusal, select
from controller.domain.rollout.spec import RolloutSpec
from controller.domain.rollout.state import (
    ENDED,
    Approval,
    Deploy,
    GateVerdict,
    Observe,
    Plan,
    Restore,
    Rollout,
    Status,
    Step,
    StoreNow,
    StoreRecord,
    WaveState,
)
from storefleet.fleet_sim.world import World

Judge = Callable[[Rollout, int], Sequence[GateVerdict]]
"""What the gates say of one wave."""

Watch = Callable[[Rollout, Step, dict[str, StoreNow]], None]
"""Called before each step is carried out, with what the plan was told of the stores."""

OPERATOR = "operator"


class Centre:
    def __init__(self, world: World, judge: Judge, watch: Watch = lambda rollout, step, seen: None) -> None:
        self.world = world
        self.rollouts: dict[str, Rollout] = {}
        self.records: dict[str, dict[str, StoreRecord]] = {}
        self.judge = judge
        self.watch = watch

    def start(self, spec: RolloutSpec) -> Refusal | None:
        """Why it is not started; None: it is."""
        chosen = select(spec, self.world.facts)
        if isinstance(chosen, Refusal):
            return chosen
        now = self.world.now
        waves = tuple(WaveState(stores) for stores in chosen.waves)
        self.rollouts[spec.name] = Rollout(
            spec, Status.RUNNING, now, OPERATOR, started_at=now, status_since=now, waves=waves
        )
        self.records[spec.name] = {
            store: StoreRecord(store, number) for number, wave in enumerate(waves) for store in wave.stores
        }
        return None

    def plan(self, name: str, at: datetime | None = None) -> tuple[Plan, dict[str, StoreNow]]:
        """The plan, and what it was told of the stores. ``at``: as if it were then, with all else as now."""
        rollout = self.rollouts[name]
        owners = claims((other, self.records[key]) for key, other in self.rollouts.items())
        seen = self.world.now_of(held_by_others(rollout, owners, self.rollouts))
        made = plan(
            rollout,
            self.records[name],
            seen,
            now=at or self.world.now,
            verdicts={number: self.judge(rollout, number) for number in range(len(rollout.waves))},
            others={key: other.status for key, other in self.rollouts.items()},
            withdrawn=self.withdrawn(),
        )
        return made, seen

    def withdrawn(self) -> frozenset[str]:
        bad = (Status.ABORTED, Status.ROLLING_BACK, Status.ROLLED_BACK)
        return frozenset(r.spec.release for r in self.rollouts.values() if r.status in bad)

    def look(self, name: str, steps: int | None = None) -> Plan:
        """Plan, and carry out the first ``steps`` of it; None: all. Fewer is a controller that was killed."""
        made, seen = self.plan(name)
        for step in made.steps[:steps]:
            self.watch(self.rollouts[name], step, seen)
            self._carry_out(name, step)
        return made

    def _carry_out(self, name: str, step: Step) -> None:
        now = self.world.now
        if isinstance(step, Deploy | Restore | Observe):
            deployment = None
            if isinstance(step, Deploy):
                deployment = self.world.deploy(step.store, self.rollouts[name].spec.release)
            elif isinstance(step, Restore):
                deployment = self.world.deploy(step.store, step.release)
            records = self.records[name]
            records[step.store] = record_after(records[step.store], step, now, deployment)
        else:
            self.rollouts[name] = rollout_after(self.rollouts[name], step, now)

    def _set(self, name: str, status: Status, reason: str) -> None:
        rollout, now = self.rollouts[name], self.world.now
        ended = now if status in ENDED else None
        self.rollouts[name] = replace(rollout, status=status, reason=reason, status_since=now, ended_at=ended)

    def pause(self, name: str) -> None:
        if self.rollouts[name].status == Status.RUNNING:
            self._set(name, Status.PAUSED, f"paused by {OPERATOR}")

    def resume(self, name: str) -> None:
        if self.rollouts[name].status == Status.PAUSED:
            self._set(name, Status.RUNNING, "")

    def abort(self, name: str) -> None:
        if self.rollouts[name].status in (Status.RUNNING, Status.PAUSED):
            self._set(name, Status.ABORTED, f"aborted by {OPERATOR}")

    def roll_back(self, name: str) -> None:
        if self.rollouts[name].status in (Status.RUNNING, Status.PAUSED, Status.SUCCEEDED):
            self._set(name, Status.ROLLING_BACK, f"rolled back by {OPERATOR}")

    def approve(self, name: str, wave: int, approved: bool = True) -> None:
        rollout = self.rollouts[name]
        waves = list(rollout.waves)
        waves[wave] = replace(waves[wave], approval=Approval(approved, OPERATOR, self.world.now))
        self.rollouts[name] = replace(rollout, waves=tuple(waves))

    def retry_failed(self, name: str) -> None:
        if self.rollouts[name].status in (Status.RUNNING, Status.PAUSED):
            records = self.records[name]
            for store, record in records.items():
                if record.failed_at is not None and record.restoring is None and not record.skipped:
                    records[store] = retried(record)

    def skip(self, name: str, store: str) -> None:
        records = self.records[name]
        if store in records:
            records[store] = replace(records[store], skipped=f"skipped by {OPERATOR}")
