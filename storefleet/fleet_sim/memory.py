"""A fleet without a cluster, in simulated time: ten thousand stores on one machine in minutes.

Real are the database, the planner and what carries its plans out; stores and their clusters are ``world``,
and ``_Looks`` writes down what a reconciler that looked at them would. A store whose line is cut does what it
was told before, and is told the rest when it returns.
"""

import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from contract.signing import Signed
from contract.workload import ModelManifest
from controller.adapters.database import Database, migrate, open_database
from controller.deploying import LAST_KNOWN_GOOD
from controller.domain.deployment import State
from controller.domain.fleet import Store, StoreConfigVersion
from controller.domain.model import Model
from controller.domain.records import Deployment
from controller.domain.rollout.selection import StoreFacts
from controller.domain.rollout.state import Phase, Plan, Rollout, Status
from controller.releases import create_release, deploy
from controller.rollout_picture import take_picture
from controller.rollout_steps import carry_out
from controller.rollouts import RolloutService
from storefleet.fleet_sim.failures import Character, Failures, Kind, draw_characters
from storefleet.fleet_sim.shops import SKU, Shop, draw_shops
from storefleet.fleet_sim.world import Deployed, Fate, World

BEGIN = datetime(2026, 3, 2, 9, tzinfo=UTC)
STEP = timedelta(seconds=5)
"""Of simulated time between two looks."""
LIMIT = timedelta(days=2)
START_S, STOP_S = 25.0, 5.0
DIGEST = "sha256:" + "5" * 64
ACTOR = "simulation"
STUCK_STEPS = 12
"""With nothing changing for so many looks, time goes in larger steps."""

Say = Callable[[str, str, dict[str, Any]], None]


def simulate(stores: int, seed: int, failures: Failures, spec: Mapping[str, Any], say: Say) -> Rollout:
    """Bring ``spec``, a rollout of release v2, to a fleet that runs v1. Tells the timeline; the rollout as it
    was at its end, or after two simulated days. Raises ``ControllerError`` for one that does not fit."""
    began = time.monotonic()
    shops = draw_shops(stores, seed)
    characters = draw_characters([shop.name for shop in shops], seed, failures, START_S, STOP_S)
    database = open_database("sqlite://")
    try:
        _fill(database, shops)
        fleet = _Looks(database, shops, characters)
        fleet.settle()
        say("ready", f"{stores} stores run v1 ({time.monotonic() - began:.1f} s)", {"stores": stores})
        return _roll_out(database, fleet, spec, say)
    finally:
        database.close()


class _Looks:
    """Takes deployments to the world, and what is seen of it back into the database."""

    def __init__(
        self, database: Database, shops: tuple[Shop, ...], characters: Mapping[str, Character]
    ) -> None:
        self._database = database
        self._characters = characters
        facts = [StoreFacts(shop.name, shop.labels, shop.timezone) for shop in shops]
        self.world = World(facts, BEGIN, partial(_fate, characters), uuid.uuid4)
        self._returns: dict[str, datetime] = {}

    def settle(self) -> None:
        """v1 runs everywhere, since before the simulation."""
        deploy(
            self._database, "v1", list(self.world.stores), actor=ACTOR, now=self.world.now, new_id=uuid.uuid4
        )
        with self._database.writing() as repositories:
            for found in repositories.deployments.current():
                now = self.world.now
                ready = replace(found, state=State.READY, message="v1 ready", applied_at=now, ready_at=now)
                repositories.deployments.save(ready)
                self._take_in(found)
        for store in self.world.stores.values():
            current = store.current
            if current is not None:
                current.taken_at = current.applied_at = current.ready_at = self.world.now
                current.state, current.message = State.READY, "v1 ready on 1 of 1 nodes"

    def pass_time(self, by: timedelta) -> None:
        self.world.advance(by)
        self._move_lines()

    def look(self) -> int:
        """How many deployments changed."""
        changed = 0
        with self._database.writing() as repositories:
            for found in repositories.deployments.current():
                store = self.world.stores[found.store]
                if store.current is None or store.current.id != found.rollout_id:
                    self._take_in(found)
                after = self._seen(found)
                if after != found:
                    repositories.deployments.save(after)
                    changed += 1
        return changed

    def _take_in(self, found: Deployment) -> None:
        known = found.detail.get(LAST_KNOWN_GOOD)
        fate = _fate(self._characters, found.store, found.release)
        self.world.stores[found.store].current = Deployed(
            found.rollout_id, found.release, found.created_at, str(known) if known else None, fate
        )
        if self._characters[found.store].kind is Kind.OLD_RELEASE and found.release != "v1":
            self._returns.setdefault(found.store, self.world.now + timedelta(minutes=5))
            self.world.cut(found.store)

    def _seen(self, found: Deployment) -> Deployment:
        store = self.world.stores[found.store]
        current = store.current
        if store.cut_at is not None:
            return replace(found, state=State.UNREACHABLE, message="its API does not answer")
        if current is None:
            return found
        return replace(
            found,
            state=current.state,
            message=current.message,
            applied_at=current.applied_at,
            ready_at=found.ready_at or current.ready_at,
        )

    def _move_lines(self) -> None:
        """Dead ones are cut, flapping ones come and go every few minutes, others return from a backup."""
        minutes = int((self.world.now - BEGIN).total_seconds() // 60)
        for number, (store, character) in enumerate(self._characters.items()):
            if character.kind is Kind.DEAD:
                self.world.cut(store)
            elif character.kind is Kind.FLAPPING:
                (self.world.cut if (minutes + number) % 6 < 2 else self.world.mend)(store)
        for store, at in list(self._returns.items()):
            if at <= self.world.now and self.world.stores[store].cut_at is not None:
                self.world.mend(store)
                self.world.revert(store)


def _roll_out(database: Database, fleet: _Looks, spec: Mapping[str, Any], say: Say) -> Rollout:
    began, name = time.monotonic(), str(spec["name"])
    service = RolloutService(database, lambda: fleet.world.now, uuid.uuid4)
    service.create(spec, actor=ACTOR)
    service.start(name, actor=ACTOR)
    planning, looks, idle, shown = 0.0, 0, 0, ""
    while True:
        now = fleet.world.now
        started = time.monotonic()
        with database.reading() as repositories:
            rollout = repositories.rollouts.get(name)
            assert rollout is not None  # noqa: S101 - made above
            picture = take_picture(repositories, rollout, now)
        plan = picture.plan(now, {})
        with database.writing() as repositories:
            done = carry_out(repositories, picture, plan.steps, now=now, new_id=uuid.uuid4)
        planning, looks = planning + time.monotonic() - started, looks + 1
        words = _line(rollout, plan)
        if words != shown:
            shown = words
            at = now - (rollout.started_at or now)
            say("timeline", f"+{at}  {words}", {"simulated_s": at.total_seconds()})
        if rollout.status is not Status.RUNNING and rollout.status is not Status.ROLLING_BACK:
            figures = {
                "status": rollout.status.value,
                "simulated_s": ((rollout.ended_at or now) - (rollout.started_at or now)).total_seconds(),
                "wall_s": round(time.monotonic() - began, 1),
                "looks": looks,
                "look_s": round(planning / looks, 3),
            }
            words = f"{rollout.status}: {rollout.reason} ({looks} looks of {planning / looks:.2f} s)"
            say("end", words, figures)
            return rollout
        if now - BEGIN > LIMIT:
            say("end", f"still {rollout.status} after {LIMIT}: {plan.reason}", {"status": rollout.status})
            return rollout
        idle = 0 if done else idle + 1
        step = STEP if idle < STUCK_STEPS else min(timedelta(minutes=10), STEP * (idle - STUCK_STEPS + 2))
        fleet.pass_time(step)
        if fleet.look():
            idle = 0


def _line(rollout: Rollout, plan: Plan) -> str:
    phases = Counter(view.phase for view in plan.stores.values())
    shown = ", ".join(f"{phases[phase]} {phase}" for phase in Phase if phases[phase])
    passed = sum(wave.passed_at is not None for wave in rollout.waves)
    return f"{rollout.status}, {passed} of {len(rollout.waves)} waves passed: {shown}"


def _fate(characters: Mapping[str, Character], store: str, release: str) -> Fate:
    character = characters[store]
    kind = character.kind if release != "v1" else None
    ready: float | None = character.start_s + character.stop_s
    return Fate(
        apply_s=1.0,
        ready_s=None if kind is Kind.IMAGE_PULL else ready,
        crash_s=5.0 if kind is Kind.CRASH_LOOP else None,
        skew_s=character.skew_s if kind is Kind.CLOCK_SKEWED else 0.0,
    )


def _fill(database: Database, shops: tuple[Shop, ...]) -> None:
    """Stores, their configurations, one model and two releases of it."""
    migrate(database)
    manifest = ModelManifest(
        digest=DIGEST,
        size_bytes=5_000_000,
        name="shelf",
        version="1",
        format="openvino",
        task="detect",
        names=(SKU, "person"),
        image_size=(320, 320),
    )
    signed = Signed(payload=manifest.model_dump_json(), key_id="0" * 16, signature="c2ln")
    with database.writing() as repositories:
        repositories.models.add(
            Model(DIGEST, "shelf", "1", "openvino", 5_000_000, signed.model_dump(), BEGIN)
        )
        for shop in shops:
            text, digest = shop.config.to_yaml(), shop.config.digest
            repositories.stores.add(
                Store(shop.name, shop.timezone, shop.labels, {"kind": "local"}, None, BEGIN)
            )
            repositories.configs.put(StoreConfigVersion(shop.name, digest, text, ACTOR, BEGIN))
    for release in ("v1", "v2"):
        create_release(
            database,
            release,
            model=DIGEST,
            image=f"storefleet/agent:{release}",
            notes="",
            settings={},
            actor=ACTOR,
            now=BEGIN,
        )
