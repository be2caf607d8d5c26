"""What must never happen in a rollout, checked at every step by what the stores really are.

The rules look at the records and at the world, not at the planner's own judgement of a store. ``broken``
collects every violation as a sentence; it stays empty.
"""

from collections import Counter
from datetime import datetime, timedelta

from controller.domain.deployment import State
from controller.domain.rollout.spec import BEFORE_WAVE
from controller.domain.rollout.state import (
    ENDED,
    Deploy,
    Observe,
    OpenWave,
    PassWave,
    Plan,
    Restore,
    Rollout,
    Status,
    Step,
    StoreNow,
    StoreRecord,
    Verdict,
)
from controller.domain.rollout.windows import Closed, opens
from storefleet.fleet_sim.centre import Centre
from storefleet.fleet_sim.world import Deployed, World


class Rules:
    def __init__(self, world: World, centre: Centre) -> None:
        self.world = world
        self.broken: list[str] = []
        self.checked: Counter[str] = Counter()
        """How often each kind of step was looked at."""
        self._given: dict[tuple[str, str], datetime] = {}
        """When each rollout last gave its release to each store."""
        self.follow(centre)

    def follow(self, centre: Centre) -> None:
        """Watch this centre from now on; after a restart, the new one."""
        self._centre = centre
        centre.watch = self._step

    def plan_made(self, rollout: Rollout, made: Plan) -> None:
        """Every target has a place and a reason, and the whole has one."""
        for wave in rollout.waves:
            for store in wave.stores:
                view = made.stores.get(store)
                if view is None or not view.reason:
                    self._break(rollout, f"store {store} has no reason")
        if not made.reason:
            self._break(rollout, "the plan says nothing of the rollout as a whole")
        if made.check_at is not None and made.check_at <= self.world.now:
            self._break(rollout, "is to be looked at again in the past")

    def repeated(self, rollout: Rollout, again: Plan) -> None:
        """``again`` was made right after everything of the one before was carried out."""
        if again.steps:
            self._break(rollout, f"planning again gives {again.steps[0]}")
        if rollout.status in (Status.ROLLED_BACK, Status.ABORTED):
            self._nobody_keeps_it(rollout)

    def waited(self, rollout: Rollout, made: Plan) -> None:
        """``made`` has no step; until the moment that it names, time alone gives none."""
        until = made.check_at or self.world.now + timedelta(days=400)
        again, _ = self._centre.plan(rollout.name, max(self.world.now, until - timedelta(microseconds=1)))
        if again.steps:
            self._break(rollout, f"was to be looked at only at {made.check_at}, but: {again.steps[0]}")

    def _nobody_keeps_it(self, rollout: Rollout) -> None:
        """After the end no store keeps what it got from this rollout and what did not prove itself."""
        bad = {None, rollout.spec.release, *self._centre.withdrawn()}
        for record in self._records(rollout).values():
            current = self.world.stores[record.store].current
            if current is None or not self._runs_what_it_got(rollout, record):
                continue
            good = record.ready_at is not None and record.failed_at is None
            ways_back = {record.back_to, current.last_known_good} - bad
            if (ways_back or record.back_to is None) and not (good and rollout.status == Status.ABORTED):
                self._break(rollout, f"leaves {record.store} with {rollout.spec.release}")

    def settled(self, rollout: Rollout, made: Plan) -> None:
        """After a long quiet time: it has ended, or says what it waits for."""
        self.repeated(rollout, made)
        if rollout.status not in ENDED and not made.reason:
            self._break(rollout, "neither ends nor says why")

    def _break(self, rollout: Rollout, words: str) -> None:
        self.broken.append(f"{self.world.now:%d %H:%M:%S} {rollout.name} ({rollout.status}): {words}")

    # ------------------------------------------------------------------------------------------ steps

    def _step(self, rollout: Rollout, step: Step, seen: dict[str, StoreNow]) -> None:
        self.checked[type(step).__name__] += 1
        if isinstance(step, Deploy):
            self._deploy(rollout, step, seen[step.store])
            self._given[rollout.name, step.store] = self.world.now
        elif isinstance(step, Restore):
            self._restore(rollout, step, seen)
        elif isinstance(step, Observe):
            self._observe(rollout, step, seen[step.store])
        elif isinstance(step, OpenWave):
            self._open(rollout, step)
        elif isinstance(step, PassWave):
            self._pass(rollout, step, seen)
        elif not step.reason:
            self._break(rollout, f"becomes {step.status} without a reason")

    def _deploy(self, rollout: Rollout, step: Deploy, now: StoreNow) -> None:
        spec, at, record = rollout.spec, self.world.now, self._records(rollout)[step.store]
        if rollout.status != Status.RUNNING:
            self._break(rollout, f"deploys to {step.store}")
        for number in range(record.wave):
            if rollout.waves[number].passed_at is None:
                self._break(rollout, f"deploys to {step.store} before wave {number} passed")
        if rollout.waves[record.wave].opened_at is None:
            self._break(rollout, f"deploys to {step.store} before its wave opened")
        wrong = {
            "is out of reach": not now.reachable,
            "was touched already": record.deployment is not None,
            "is skipped": bool(record.skipped),
            "belongs to another rollout": bool(now.claimed_by),
            "is past the deadline": spec.deadline is not None and at >= spec.deadline,
            "has a closed window": isinstance(opens(spec, now.timezone, at), Closed),
            "is deferred": not spec.emergency and now.deferred_until is not None and now.deferred_until > at,
        }
        for words, holds in wrong.items():
            if holds:
                self._break(rollout, f"deploys to {step.store}, which {words}")
        limit = max(1, spec.limits.concurrency.at_most(len(self._records(rollout))))
        busy = sum(self._in_the_middle(rollout, other, at) for other in self._records(rollout).values())
        if busy >= limit:
            self._break(rollout, f"changes {busy + 1} stores at a time; {limit} may be")
        self._known_good(rollout, step)

    def _known_good(self, rollout: Rollout, step: Deploy) -> None:
        store = self.world.stores[step.store]
        if step.back_to is None and store.worked - self._centre.withdrawn():
            self._break(rollout, f"{step.store} is given no way back, though {store.worked} worked there")
        if step.back_to is not None and step.back_to not in store.worked:
            self._break(rollout, f"{step.store} would go back to {step.back_to}, which never worked there")

    def _restore(self, rollout: Rollout, step: Restore, seen: dict[str, StoreNow]) -> None:
        records, store = self._records(rollout), self.world.stores[step.store]
        record = records[step.store]
        if rollout.status not in (Status.ROLLING_BACK, Status.ABORTED):
            self._break(rollout, f"puts {step.store} back")
        if not self._runs_what_it_got(rollout, record):
            self._break(rollout, f"puts {step.store} back, which runs something else")
        if record.restoring is not None:
            self._break(rollout, f"puts {step.store} back twice")
        if step.release is not None and step.release in self._centre.withdrawn():
            self._break(rollout, f"gives {step.store} the withdrawn release {step.release}")
        if step.release not in store.worked and not (step.release is None and record.back_to is None):
            self._break(rollout, f"puts {step.store} back to {step.release}, which never worked there")
        if rollout.status == Status.ROLLING_BACK and seen[step.store].reachable:
            mine = [
                r for r in records.values() if r.restoring is not None or self._runs_what_it_got(rollout, r)
            ]
            limit = max(1, rollout.spec.on_failure.concurrency.at_most(len(mine)))
            busy = sum(self._going_back(rollout, r) for r in records.values())
            if busy >= limit:
                self._break(rollout, f"puts {busy + 1} stores back at a time; {limit} may be")

    def _observe(self, rollout: Rollout, step: Observe, now: StoreNow) -> None:
        record = self._records(rollout)[step.store]
        own = record.deployment is not None and now.deployment == record.deployment
        if step.ready_at is not None:
            same = record.deployment is None and now.release == rollout.spec.release
            if now.state != State.READY or not (own or same):
                self._break(rollout, f"calls {step.store} ready on no fresh evidence")
            if step.ready_at > self.world.now:
                self._break(rollout, f"{step.store} was ready in the future")
        if step.failed_at is not None and (not own or not now.reachable or now.state == State.READY):
            self._break(rollout, f"calls {step.store} failed: {step.failure}")

    def _open(self, rollout: Rollout, step: OpenWave) -> None:
        wave = rollout.waves[step.wave]
        if any(before.passed_at is None for before in rollout.waves[: step.wave]):
            self._break(rollout, f"opens wave {step.wave} out of order")
        approved = wave.approval is not None and wave.approval.approved
        if rollout.spec.waves[step.wave].approval and wave.stores and not approved:
            self._break(rollout, f"opens wave {step.wave} unapproved")
        for name in rollout.spec.after:
            other = self._centre.rollouts.get(name)
            if step.wave == 0 and (other is None or other.status != Status.SUCCEEDED):
                self._break(rollout, f"begins before {name} succeeded")

    def _pass(self, rollout: Rollout, step: PassWave, seen: dict[str, StoreNow]) -> None:
        spec, at = rollout.spec, self.world.now
        records = [self._records(rollout)[store] for store in rollout.waves[step.wave].stores]
        counted = [r for r in records if not r.skipped]
        failed = sum(r.failed_at is not None for r in counted)
        if failed > spec.limits.failures.at_most(len(records)):
            self._break(rollout, f"passes wave {step.wave} with {failed} failed")
        ready = [r for r in counted if self._is_ready(rollout, r)]
        if not ready:
            if counted:
                self._break(rollout, f"passes wave {step.wave} with no ready store")
            return
        if any(self._in_the_middle(rollout, r, at) for r in counted):
            self._break(rollout, f"passes wave {step.wave} with stores in the middle of the change")
        offline = sum(not seen[r.store].reachable for r in counted if r.failed_at is None and self._ours(r))
        if offline > spec.limits.offline.at_most(len(records)):
            self._break(rollout, f"passes wave {step.wave} with {offline} out of reach")
        proof = max(r.ready_at for r in ready if r.ready_at) + spec.waves[step.wave].soak
        if at < proof:
            self._break(rollout, f"passes wave {step.wave} before its soak is over")
        verdicts = {v.gate: v for v in self._centre.judge(rollout, step.wave)}
        for index, gate in enumerate(spec.gates):
            said = verdicts.get(index)
            fresh = said is not None and said.verdict == Verdict.PASS and said.observed_at >= proof
            if gate.kind not in BEFORE_WAVE and not fresh:
                self._break(rollout, f"passes wave {step.wave} though gate {gate.kind} did not")

    # ---------------------------------------------------------------------------------- what is, really

    def _records(self, rollout: Rollout) -> dict[str, StoreRecord]:
        return self._centre.records[rollout.name]

    def _current(self, record: StoreRecord, deployment: object) -> Deployed | None:
        current = self.world.stores[record.store].current
        return current if current is not None and current.id == deployment else None

    def _runs_what_it_got(self, rollout: Rollout, record: StoreRecord) -> bool:
        """From this rollout, as these rules remember it themselves, whatever the record says."""
        current = self.world.stores[record.store].current
        given = self._given.get((rollout.name, record.store))
        same = current is not None and current.release == rollout.spec.release
        return same and current is not None and current.created_at == given

    def _ours(self, record: StoreRecord) -> bool:
        """Not taken over: untouched, or runs what this rollout brought."""
        return record.deployment is not None and self._current(record, record.deployment) is not None

    def _is_ready(self, rollout: Rollout, record: StoreRecord) -> bool:
        current = self.world.stores[record.store].current
        runs = current is not None and current.release == rollout.spec.release
        return record.ready_at is not None and record.failed_at is None and runs

    def _in_the_middle(self, rollout: Rollout, record: StoreRecord, at: datetime) -> bool:
        current = self._current(record, record.deployment)
        if current is None or record.skipped or record.failed_at or record.ready_at or record.restoring:
            return False
        patience = rollout.spec.limits.store_deadline
        if record.lost_at is not None:
            return at - record.lost_at < patience
        return current.applied_at is not None or at - current.created_at < patience

    def _going_back(self, rollout: Rollout, record: StoreRecord) -> bool:
        current = self._current(record, record.restoring)
        if current is None or record.restored_at or self.world.stores[record.store].cut_at is not None:
            return False
        patience: timedelta = rollout.spec.limits.store_deadline
        return self.world.now - (current.applied_at or current.created_at) < patience
