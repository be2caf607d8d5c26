"""One random life of a small fleet, drawn from a seed: what may go wrong does, and the rules watch.

The same seed gives the same history on every machine. ``live`` returns what was broken, which is nothing.
"""

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any
from uuid import UUID

from controller.domain.rollout.selection import StoreFacts
from controller.domain.rollout.spec import RolloutSpec
from controller.domain.rollout.state import ENDED, GateVerdict, Phase, Plan, Rollout, Status, Verdict
from storefleet.fleet_sim.centre import Centre
from storefleet.fleet_sim.rules import Rules
from storefleet.fleet_sim.world import Fate, World

START = datetime(2026, 3, 3, 20, tzinfo=UTC)
_ZONES = ("UTC", "Europe/Berlin", "Asia/Tokyo", "America/New_York", "Mars/Olympus")
_QUIET_LOOKS = 60


@dataclass
class History:
    seed: int
    broken: list[str] = field(default_factory=list)
    steps: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    """How many rollouts ended how; ``explained``: they say what they wait for."""
    crashes: int = 0


def live(seed: int, looks: int = 40) -> History:
    return _Life(seed).run(looks)


class _Life:
    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.chance = Random(seed)
        self.history = History(seed)
        names = [f"s{i}" for i in range(self.chance.randint(1, 9))]
        zones = _ZONES if self.chance.random() < 0.5 else _ZONES[:1]
        facts = [
            StoreFacts(name, {"hardware": self.chance.choice("ab")}, self.chance.choice(zones))
            for name in names
        ]
        self.world = World(facts, START, self._fate, self._id)
        if self.chance.random() < 0.85:
            self.world.settle("v1", START - timedelta(days=9))
        self.quiet = False
        self.centre = Centre(self.world, self._judge)
        self.rules = Rules(self.world, self.centre)

    def run(self, looks: int) -> History:
        self._start_rollout()
        for _ in range(looks):
            self._something_happens()
            self.world.advance(timedelta(seconds=self.chance.choice((1, 5, 30, 120, 600, 3600, 20000))))
            self._look_at_all()
        self._calm_down()
        self.history.broken = self.rules.broken
        self.history.steps = self.rules.checked
        return self.history

    def _look_at_all(self) -> None:
        for name in list(self.centre.rollouts):
            if self.chance.random() < 0.2:  # killed in the middle of a plan, and started again
                self.history.crashes += 1
                self.centre.look(name, self.chance.randint(0, 4))
                self.centre = self._restarted(self.centre.rollouts, self.centre.records)
            self._look(name)

    def _look(self, name: str) -> Plan:
        made = self.centre.look(name)
        self.rules.plan_made(self.centre.rollouts[name], made)
        if made.steps:
            made, _ = self.centre.plan(name)
            self.rules.repeated(self.centre.rollouts[name], made)
        if not made.steps:
            self.rules.waited(self.centre.rollouts[name], made)
        return made

    def _restarted(self, rollouts: dict[str, Rollout], records: dict[str, Any]) -> Centre:
        centre = Centre(self.world, self._judge)
        centre.rollouts, centre.records = dict(rollouts), {name: dict(r) for name, r in records.items()}
        self.rules.follow(centre)
        return centre

    # ------------------------------------------------------------------------------- what may happen

    def _something_happens(self) -> None:
        for store in self.world.stores:
            lot = self.chance.random()
            if lot < 0.06:
                self.world.cut(store)
            elif lot < 0.16:
                self.world.mend(store)
            elif lot < 0.18:
                self.world.revert(store)
            elif lot < 0.19:
                self.world.deploy(store, f"hand{self.chance.randint(1, 3)}")
            elif lot < 0.21:
                later = self.world.now + timedelta(hours=self.chance.randint(1, 30))
                self.world.stores[store].deferred_until = later
        for name, rollout in list(self.centre.rollouts.items()):
            self._operator(name, rollout)
        if len(self.centre.rollouts) < 4 and self.chance.random() < 0.06:
            self._start_rollout()

    def _operator(self, name: str, rollout: Rollout) -> None:
        lot = self.chance.random()
        wave = self.chance.randrange(len(rollout.waves))
        if lot < 0.1:
            self.centre.resume(name)
        elif lot < 0.13:
            self.centre.pause(name)
        elif lot < 0.25:
            self.centre.approve(name, wave, self.chance.random() < 0.9)
        elif lot < 0.26:
            self.centre.abort(name)
        elif lot < 0.27:
            self.centre.roll_back(name)
        elif lot < 0.31:
            self.centre.retry_failed(name)
        elif lot < 0.33:
            self.centre.skip(name, self.chance.choice(list(self.world.stores)))

    def _start_rollout(self) -> None:
        number = len(self.centre.rollouts) + 2
        self.centre.start(RolloutSpec.model_validate(self._spec(f"r{number}", f"v{number}")))

    def _spec(self, name: str, release: str) -> dict[str, Any]:
        pick = self.chance.choice
        waves: list[dict[str, Any]] = [
            {"name": "canary", "size": pick((1, 2, "20%")), "soak": pick((0, 60, 900))},
            {"name": "half", "size": "50%", "approval": self.chance.random() < 0.3, "soak": pick((0, 60))},
            {"name": "rest", "soak": pick((0, 60))},
        ]
        spec: dict[str, Any] = {
            "name": name,
            "release": release,
            "waves": waves[self.chance.randrange(3) :],
            "limits": {
                "concurrency": pick((1, 2, "50%", "100%")),
                "failures": pick((0, 1, "50%", "100%")),
                "offline": pick((0, 1, "50%", "100%")),
                "store_deadline": pick((60, 1800)),
            },
            "gates": pick(([], [{"kind": "health"}], [{"kind": "staged"}, {"kind": "quality"}])),
            "gate_timeout": pick((600, 86400)),
            "on_failure": {"action": pick(("pause", "rollback")), "concurrency": pick((1, "50%"))},
            "priority": pick((0, 0, 1)),
            "emergency": self.chance.random() < 0.1,
        }
        if self.chance.random() < 0.3:
            spec["windows"] = [{"start": "22:00", "end": "05:00"}]
        if self.chance.random() < 0.2:
            spec["deadline"] = self.world.now + timedelta(hours=self.chance.randint(1, 40))
        if self.centre.rollouts and self.chance.random() < 0.2:
            spec["after"] = [pick(list(self.centre.rollouts))]
        return spec

    def _fate(self, store: str, release: str) -> Fate:
        lot = Random(f"{self.seed}/{store}/{release}")
        if lot.random() < 0.7:
            return Fate(lot.uniform(0, 5), lot.uniform(1, 50))
        return Fate(
            lot.choice((0.0, 5.0, 100.0)),
            lot.choice((None, 10.0, 70.0, 3000.0)),
            lot.choice((None, 0.0, 40.0, 2000.0)),
            lot.choice((0.0, -90000.0, 90000.0)),
        )

    def _judge(self, rollout: Rollout, wave: int) -> list[GateVerdict]:
        """Changes with the minute; now and then of yesterday, or missing."""
        verdicts = []
        for index, gate in enumerate(rollout.spec.gates):
            minute = 0 if self.quiet else int(self.world.now.timestamp() // 300)
            lot = Random(f"{self.seed}/{rollout.name}/{wave}/{index}/{minute}")
            verdict = lot.choices(list(Verdict), (0.8, 0.04, 0.16))[0]
            age = 0 if self.quiet else lot.choice((0, 0, 0, 30, 86400))
            if self.quiet or lot.random() < 0.9:
                at = self.world.now - timedelta(seconds=age)
                verdicts.append(GateVerdict(index, gate.kind, verdict, "by lot", at))
        return verdicts

    def _id(self) -> UUID:
        return UUID(int=self.chance.getrandbits(128), version=4)

    # -------------------------------------------------------------------------------------- the end

    def _calm_down(self) -> None:
        """All is in reach again and people decide; then each rollout ends, or says what it waits for."""
        self.quiet = True
        for store in self.world.stores.values():
            store.cut_at = store.deferred_until = None
        for look in range(_QUIET_LOOKS):
            for name, rollout in list(self.centre.rollouts.items()):
                for wave in range(len(rollout.waves)):
                    self.centre.approve(name, wave)
                if look < _QUIET_LOOKS // 2:
                    self.centre.resume(name)
            self.world.advance(timedelta(seconds=40 if look % 2 else 7200))
            for name in self.centre.rollouts:
                self._look(name)
        for name, rollout in self.centre.rollouts.items():
            made = self._look(name)
            self.rules.settled(rollout, made)
            self._nobody_is_forgotten(rollout, made)
            ended = rollout.status in ENDED
            self.history.ends[rollout.status.value if ended else "explained"] += 1

    def _nobody_is_forgotten(self, rollout: Rollout, made: Plan) -> None:
        """In a quiet fleet nobody is in the middle of a change for long."""
        recently = self.world.now - 2 * rollout.spec.limits.store_deadline
        for store, view in made.stores.items():
            exposed = self.centre.records[rollout.name][store].exposed_at
            moving = view.phase in (Phase.UPDATING, Phase.OFFLINE) and (exposed is None or exposed < recently)
            if moving and rollout.status in ENDED | {Status.RUNNING, Status.ROLLING_BACK}:
                self.rules.broken.append(f"{rollout.name}: {store} is {view.phase} for ever: {view.reason}")
