"""Random lives of small fleets: whatever happens, no rule is broken; every rollout ends or says why not."""

from collections import Counter
from datetime import timedelta
from random import Random
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from controller.domain.rollout.rank import claims, outranks
from controller.domain.rollout.selection import StoreFacts
from controller.domain.rollout.spec import RolloutSpec
from controller.domain.rollout.state import ENDED, GateVerdict, Rollout, Status, Verdict
from storefleet.fleet_sim.centre import Centre
from storefleet.fleet_sim.history import START, live
from storefleet.fleet_sim.rules import Rules
from storefleet.fleet_sim.world import Fate, World

STORES = [f"s{i}" for i in range(6)]
stores = st.sampled_from(STORES)

pytestmark = pytest.mark.timeout(300)  # pure arithmetic, but much of it


def test_seeded_histories_break_no_rule_and_meet_every_kind_of_end() -> None:
    ends, steps, crashes = Counter[str](), Counter[str](), 0
    for seed in range(200):
        history = live(seed, looks=25)
        assert history.broken == [], f"seed {seed}"
        ends += history.ends
        steps += history.steps
        crashes += history.crashes
    assert set(ends) >= {"succeeded", "rolled_back", "superseded", "aborted", "explained"}
    assert min(steps[kind] for kind in ("Deploy", "Restore", "Observe", "PassWave")) > 100
    assert crashes > 200


def test_the_same_seed_is_the_same_history() -> None:
    assert live(7) == live(7)


def test_the_rules_notice_a_planner_that_does_wrong() -> None:
    """A rule that cannot fail shows nothing: leave out what the plan says of waves, and it is told."""
    world = World([StoreFacts(s) for s in STORES], START, lambda store, release: Fate(), _ids(1))
    world.settle("v1", START)
    centre = Centre(world, lambda rollout, wave: [])
    rules = Rules(world, centre)
    waves: Any = [{"name": "a", "size": 1}, {"name": "b"}]
    spec = RolloutSpec.model_validate({"name": "r", "release": "v2", "gates": [], "waves": waves})
    assert centre.start(spec) is None
    made, seen = centre.plan("r")
    deploy = made.steps[1]
    centre.watch(centre.rollouts["r"], deploy, seen)
    assert "before its wave opened" in rules.broken[0]
    centre.abort("r")
    centre.watch(centre.rollouts["r"], deploy, seen)
    assert any(f"({Status.ABORTED}): deploys to" in words for words in rules.broken)


@pytest.mark.parametrize("order", [["r2", "r3"], ["r3", "r2"]])
def test_one_after_the_other_both_succeed(order: list[str]) -> None:
    world = World([StoreFacts(s) for s in STORES], START, lambda store, release: Fate(), _ids(1))
    world.settle("v1", START - timedelta(days=1))
    centre = Centre(world, lambda rollout, wave: [])
    for name, after in (("r2", []), ("r3", ["r2"])):
        spec = {"name": name, "release": f"v{name[1]}", "gates": [], "after": after}
        assert centre.start(RolloutSpec.model_validate(spec)) is None
    for _ in range(60):
        world.advance(timedelta(seconds=30))
        for name in order:
            centre.look(name)
    assert {rollout.status for rollout in centre.rollouts.values()} == {Status.SUCCEEDED}
    assert {store.current and store.current.release for store in world.stores.values()} == {"v3"}


def test_a_newer_rollout_takes_over_what_is_still_to_come() -> None:
    world = World([StoreFacts(s) for s in STORES], START, lambda store, release: Fate(), _ids(1))
    world.settle("v1", START - timedelta(days=1))
    centre = Centre(world, lambda rollout, wave: [])
    waves = [{"name": "a", "size": 2, "soak": "1h"}, {"name": "b"}]
    assert (
        centre.start(RolloutSpec.model_validate({"name": "r2", "release": "v2", "gates": [], "waves": waves}))
        is None
    )
    centre.look("r2")
    world.advance(timedelta(seconds=5))
    assert centre.start(RolloutSpec.model_validate({"name": "r3", "release": "v3", "gates": []})) is None
    for _ in range(60):
        world.advance(timedelta(seconds=30))
        for name in ("r2", "r3"):
            centre.look(name)
    assert [rollout.status for rollout in centre.rollouts.values()] == [Status.SUPERSEDED, Status.SUCCEEDED]
    assert {store.current and store.current.release for store in world.stores.values()} == {"v3"}


def _ids(seed: int) -> Any:
    chance = Random(seed)
    return lambda: UUID(int=chance.getrandbits(128), version=4)


class RolloutMachine(RuleBasedStateMachine):
    """Hypothesis chooses what happens and in which order; after each, everything is planned and carried out,
    or only the first steps of it, and a controller that knows nothing but the records takes over."""

    def __init__(self) -> None:
        super().__init__()
        facts = [StoreFacts(s, {"hardware": "ab"[i % 2]}) for i, s in enumerate(STORES)]
        self.fates: dict[str, Fate] = {}
        self.says: dict[int, tuple[Verdict, int]] = {}
        self.world = World(facts, START, lambda store, release: self.fates.get(store, Fate()), _ids(3))
        self.world.settle("v1", START - timedelta(days=3))
        self.centre = Centre(self.world, self._judge)
        self.rules_ = Rules(self.world, self.centre)
        self._start(2, {})

    def _judge(self, rollout: Rollout, wave: int) -> list[GateVerdict]:
        verdict, age = self.says.get(wave, (Verdict.PASS, 0))
        at = self.world.now - timedelta(seconds=age)
        return [
            GateVerdict(i, gate.kind, verdict, "as told", at) for i, gate in enumerate(rollout.spec.gates)
        ]

    def _start(self, number: int, fields: dict[str, Any]) -> None:
        spec = {
            "name": f"r{number}",
            "release": f"v{number}",
            "strata": ["hardware"],
            "waves": [
                {"name": "canary", "size": 2, "soak": "1m"},
                {"name": "rest", "approval": number % 2 == 0},
            ],
            "limits": {"concurrency": "50%", "failures": "34%", "offline": "34%", "store_deadline": "5m"},
            "gate_timeout": "1h",
            **fields,
        }
        assert self.centre.start(RolloutSpec.model_validate(spec)) is None

    @rule(store=stores)
    def cut(self, store: str) -> None:
        self.world.cut(store)

    @rule(store=stores)
    def mend(self, store: str) -> None:
        self.world.mend(store)

    @rule(store=stores)
    def come_back_with_an_old_release(self, store: str) -> None:
        self.world.mend(store)
        self.world.revert(store)

    @rule(store=stores, ready=st.sampled_from([None, 5.0, 400.0]), crash=st.sampled_from([None, 0.0, 90.0]))
    def doom(self, store: str, ready: float | None, crash: float | None) -> None:
        self.fates[store] = Fate(ready_s=ready, crash_s=crash)

    @rule(store=stores)
    def deploy_by_hand(self, store: str) -> None:
        self.world.deploy(store, "hand")

    @rule(store=stores, hours=st.integers(1, 5))
    def defer(self, store: str, hours: int) -> None:
        self.world.stores[store].deferred_until = self.world.now + timedelta(hours=hours)

    @rule(wave=st.integers(0, 1), says=st.sampled_from(Verdict), age=st.sampled_from([0, 30, 86400]))
    def judge(self, wave: int, says: Verdict, age: int) -> None:
        self.says[wave] = (says, age)

    @rule(seconds=st.sampled_from([1, 7, 60, 301, 3600]))
    def wait(self, seconds: int) -> None:
        self.world.advance(timedelta(seconds=seconds))

    @rule(
        name=st.sampled_from(["r2", "r3", "r4"]),
        verb=st.sampled_from(["pause", "resume", "abort", "roll_back"]),
    )
    def operate(self, name: str, verb: str) -> None:
        if name in self.centre.rollouts:
            getattr(self.centre, verb)(name)

    @rule(name=st.sampled_from(["r2", "r3"]), approved=st.booleans())
    def approve(self, name: str, approved: bool) -> None:
        if name in self.centre.rollouts:
            self.centre.approve(name, 1, approved)

    @rule(name=st.sampled_from(["r2", "r3"]), store=stores)
    def skip_or_retry(self, name: str, store: str) -> None:
        if name in self.centre.rollouts:
            self.centre.retry_failed(name)
            self.centre.skip(name, store)

    @precondition(lambda self: len(self.centre.rollouts) < 3)
    @rule(priority=st.sampled_from([-1, 0]), after=st.booleans())
    def supersede(self, priority: int, after: bool) -> None:
        number = len(self.centre.rollouts) + 2
        self._start(number, {"priority": priority, "after": [f"r{number - 1}"] if after else []})

    @rule(steps=st.integers(0, 5))
    def kill_the_controller(self, steps: int) -> None:
        for name in self.centre.rollouts:
            self.centre.look(name, steps)
        old = self.centre
        self.centre = Centre(self.world, self._judge)
        self.centre.rollouts, self.centre.records = (
            dict(old.rollouts),
            {k: dict(v) for k, v in old.records.items()},
        )
        self.rules_.follow(self.centre)

    @invariant()
    def look(self) -> None:
        for name in self.centre.rollouts:
            made = self.centre.look(name)
            self.rules_.plan_made(self.centre.rollouts[name], made)
            again, _ = self.centre.plan(name)
            self.rules_.repeated(self.centre.rollouts[name], again)
            self.rules_.waited(self.centre.rollouts[name], again)
        assert self.rules_.broken == []

    @invariant()
    def each_store_has_at_most_one_owner_and_it_ranks_highest(self) -> None:
        owners = claims((r, self.centre.records[name]) for name, r in self.centre.rollouts.items())
        for store, owner in owners.items():
            first = self.centre.rollouts[owner]
            assert first.status not in ENDED
            for name, other in self.centre.rollouts.items():
                wants = other.status == Status.RUNNING and not other.spec.after
                if wants and not self.centre.records[name][store].skipped:
                    assert not outranks(other, first)


TestRolloutMachine = RolloutMachine.TestCase
TestRolloutMachine.settings = settings(
    max_examples=60, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
