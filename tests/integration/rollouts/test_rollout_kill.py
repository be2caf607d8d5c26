"""A controller that is killed at random moments, and two at once: nothing half done, nothing done twice."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from controller.adapters.database import Database
from controller.adapters.database import leadership as leadership_module
from controller.domain.page import PageRequest
from controller.domain.rollout.state import Rollout

pytestmark = pytest.mark.timeout(300)
CHILD = Path(__file__).with_name("rollout_child.py")
WAVES = [{"name": "canary", "size": 1}, {"name": "half", "size": 3}, {"name": "rest"}]
CONCURRENCY = 3


class Children:
    def __init__(self, url: str, directory: Path, bad: str) -> None:
        self._command = [sys.executable, str(CHILD), url, str(directory), bad]
        self.alive: list[subprocess.Popen[str]] = []

    def start(self) -> None:
        environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}
        child = subprocess.Popen(self._command, stdout=subprocess.PIPE, text=True, env=environment)
        assert child.stdout is not None
        assert child.stdout.readline() == "began\n"
        self.alive.append(child)

    def kill(self) -> None:
        for child in self.alive:
            child.send_signal(signal.SIGKILL)
        for child in self.alive:
            child.communicate(timeout=10)
        self.alive.clear()


@contextmanager
def children(url: str, directory: Path, bad: str = "") -> Iterator[Children]:
    made = Children(url, directory, bad)
    try:
        yield made
    finally:
        made.kill()


@pytest.fixture
def shops(tmp_path: Path) -> Path:
    directory = tmp_path / "shops"
    directory.mkdir()
    return directory


def check(database: Database, name: str = "spring") -> Rollout:
    """What must hold whenever anybody looks."""
    with database.reading() as repositories:
        rollout = repositories.rollouts.get(name)
        records = repositories.rollout_stores.of_rollout(name)
        every = repositories.deployments.page(None, PageRequest(1000)).items
        audit = repositories.audit.page(PageRequest(1000), target=name, action="rollout.").items
    assert rollout is not None
    by_id = {deployment.rollout_id: deployment for deployment in every}
    current = Counter(d.store for d in every if d.superseded_by is None)
    assert set(current.values()) == {1}, "each store has exactly one current deployment"
    assert len({(d.store, d.generation) for d in every}) == len(every)
    made = Counter(d.store for d in every if d.rollout == name and d.release == "v2")
    busy = 0
    for store, record in records.items():
        assert made[store] == int(record.exposed_at is not None), f"{store}: one deployment for one exposure"
        if record.exposed_at is None:
            continue
        assert record.deployment is not None
        assert by_id[record.deployment].release == "v2"
        assert record.back_to == "v1", "the last known good release is recorded before it is needed"
        assert by_id[record.deployment].detail["last_known_good"] == "v1"
        if record.restoring is not None:
            assert by_id[record.restoring].release == "v1"
        busy += record.ready_at is None and record.failed_at is None and record.restoring is None
        for earlier in rollout.waves[: record.wave]:
            assert earlier.passed_at is not None, "waves go in order"
            assert earlier.passed_at <= record.exposed_at
    assert busy <= CONCURRENCY
    told = Counter((entry.action, entry.detail.get("wave")) for entry in audit)
    assert told["rollout.start", None] == 1
    for wave, state in zip(rollout.spec.waves, rollout.waves, strict=True):
        assert told["rollout.wave_open", wave.name] == int(state.opened_at is not None)
        assert told["rollout.wave_pass", wave.name] == int(state.passed_at is not None)
    return rollout


def prepare(world: Any, children: Children) -> None:
    world.add_release("v1")
    world.add_release("v2")
    world.add_stores(8)
    world.deploy("v1")
    children.start()
    world.until(lambda: all(d.state == "ready" for d in world.current().values()), timeout=60)
    children.kill()


def killed_until_ended(world: Any, url: str, shops: Path, bad: str, seed: int) -> Rollout:
    chance = random.Random(seed)
    grace = 0.0 if url.startswith("sqlite") else leadership_module.GRACE_S
    kills = 0
    with children(url, shops, bad) as running:
        prepare(world, running)
        world.begin(waves=WAVES, limits={"concurrency": CONCURRENCY, "failures": 0, "store_deadline": "10m"})
        end = time.monotonic() + 150
        while world.rollout().ended_at is None:
            assert time.monotonic() < end, world.rollout()
            running.start()
            time.sleep(grace + chance.uniform(0.2, 2.0))
            running.kill()
            kills += 1
            check(world.database)
        running.start()
        image = {"succeeded": "agent:v2"}.get(world.rollout().status.value, "agent:v1")
        world.until(lambda: images(shops) == {image}, timeout=60)
    assert kills >= 3
    return check(world.database)


def images(shops: Path) -> set[str]:
    return {json.loads(file.read_text())["image"] for file in shops.glob("*.json")}


def test_a_killed_controller_leaves_nothing_half_done(world: Any, database_url: str, shops: Path) -> None:
    done = killed_until_ended(world, database_url, shops, "", seed=1)
    assert done.status == "succeeded"
    assert done.reason == "8 stores ready"


def test_two_controllers_share_one_rollout(world: Any, database_url: str, shops: Path) -> None:
    with children(database_url, shops) as running:
        prepare(world, running)
        world.begin(waves=WAVES, limits={"concurrency": CONCURRENCY, "failures": 0})
        running.start()
        running.start()
        world.until(lambda: world.rollout().waves[0].passed_at is not None, timeout=60)
        leader = running.alive[0]
        leader.send_signal(signal.SIGSTOP)  # it is alive, and does not know that time goes by
        leader.send_signal(signal.SIGKILL)
        world.until_status("succeeded")
        world.until(lambda: images(shops) == {"agent:v2"}, timeout=60)
    check(world.database)
    log = [json.loads(line) for line in (shops / "log").read_text().splitlines()]
    applied = Counter(entry["id"] for entry in log)
    assert set(applied.values()) <= {1, 2}, (
        "at most the one that was under way when it was killed comes twice"
    )
    assert sum(count == 2 for count in applied.values()) <= 4
