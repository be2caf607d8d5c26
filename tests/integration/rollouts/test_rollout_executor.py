"""Rollouts over a fleet, with the real database, reconciler and executor: the same on SQLite and
PostgreSQL."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from controller.domain.page import PageRequest
from controller.domain.rollout.state import GateVerdict, Status, Verdict
from controller.errors import ConflictError
from controller.rollout_picture import Picture

WAVES = [{"name": "canary", "size": 3}, {"name": "third", "size": 9}, {"name": "rest"}]
LIMITS = {"concurrency": 6, "failures": 0, "offline": "50%"}


def actions(world: Any, name: str = "spring") -> list[str]:
    with world.database.reading() as repositories:
        entries = repositories.audit.page(PageRequest(1000), target=name, action="rollout.").items
    return [entry.action.removeprefix("rollout.") for entry in reversed(entries)]


def test_thirty_stores_get_the_release_in_three_waves(fleet: Any) -> None:
    fleet.begin(waves=WAVES, limits={**LIMITS, "max_unavailable": 2})
    with fleet.working():
        done = fleet.until_status("succeeded")
        fleet.until(lambda: set(fleet.running().values()) == {"agent:v2"})
        fleet.until(lambda: not _unsettled(fleet))
    assert done.reason == "30 stores ready"
    strategies = [
        shop.inner.stores[name].daemon_set["spec"]["updateStrategy"] for name, shop in fleet.shops.items()
    ]
    assert {strategy["rollingUpdate"]["maxSurge"] for strategy in strategies} == {2}
    assert [len(wave.stores) for wave in done.waves] == [3, 9, 18]
    records = fleet.records()
    assert {record.back_to for record in records.values()} == {"v1"}
    for before, after in zip(done.waves, done.waves[1:], strict=False):
        assert before.passed_at <= after.opened_at
        first = min(records[store].exposed_at for store in after.stores)
        assert before.passed_at <= first
    assert {d.rollout for d in fleet.current().values()} == {"spring"}
    assert {d.detail["last_known_good"] for d in fleet.current().values()} == {"v1"}
    told = actions(fleet)
    assert told[:2] == ["create", "start"]
    assert told[-1] == "succeeded"
    assert (told.count("wave_open"), told.count("wave_pass")) == (3, 3)


def test_a_store_that_fails_turns_the_rollout_back(fleet: Any) -> None:
    begun = fleet.begin(waves=WAVES, limits={**LIMITS, "store_deadline": "4s"})
    broken = begun.waves[1].stores[4]
    fleet.shops[broken].bad.add("agent:v2")
    with fleet.working():
        done = fleet.until_status("rolled_back")
        fleet.until(lambda: set(fleet.running().values()) == {"agent:v1"})
    assert done.failed_wave == 1
    assert broken in done.reason
    records = fleet.records()
    assert records[broken].failed_at is not None
    assert all(records[store].exposed_at is None for store in done.waves[2].stores)
    exposed = [record for record in records.values() if record.exposed_at]
    assert all(record.restored_at for record in exposed)


def test_a_gate_that_fails_stops_the_rollout_in_the_canary(fleet: Any) -> None:
    def judge(picture: Picture, now: datetime) -> dict[int, list[GateVerdict]]:
        return {0: [GateVerdict(0, "health", Verdict.FAIL, "it is blind to cola", now)]}

    fleet.begin(waves=WAVES, limits=LIMITS)
    with fleet.working(judge):
        done = fleet.until_status("rolled_back")
        fleet.until(lambda: set(fleet.running().values()) == {"agent:v1"})
    assert "it is blind to cola" in done.reason
    assert sum(record.exposed_at is not None for record in fleet.records().values()) <= 3
    with fleet.database.reading() as repositories:
        (judged,) = repositories.verdicts.latest("spring")
    assert (judged.verdict.verdict, judged.wave) == (Verdict.FAIL, 0)


def test_an_aborted_release_is_applied_nowhere_after_its_abort(fleet: Any) -> None:
    for shop in fleet.shops.values():
        shop.bad.add("agent:v2")  # so that many stores are in the middle of the change
    fleet.begin(waves=[{"name": "all"}], limits={"concurrency": 12})
    with fleet.working():
        fleet.until(lambda: sum(r.exposed_at is not None for r in fleet.records().values()) == 12)
        done = fleet.service.abort("spring", actor="bob", comment="cameras go dark")
        # An apply that had asked for the last time before the abort may still be on its way to the store.
        after = datetime.now(UTC) + timedelta(seconds=1)
        fleet.until(lambda: set(fleet.running().values()) == {"agent:v1"})
        fleet.until(lambda: not _unsettled(fleet))
    assert (done.status, done.reason) == (Status.ABORTED, "aborted by bob: cameras go dark")
    applied = [one for shop in fleet.shops.values() for one in shop.applied]
    assert [at for at, image in applied if image == "agent:v2" and at > after] == []
    assert sum(record.restored_at is not None for record in fleet.records().values()) == 12


def test_an_offline_store_that_returns_gets_what_is_approved_and_never_what_was_aborted(fleet: Any) -> None:
    away = fleet.begin(waves=[{"name": "all"}], limits={"concurrency": 30}).waves[0].stores[0]
    shop = fleet.shops[away]
    with fleet.working():
        shop.away = True
        fleet.until(lambda: fleet.current()[away].state == "unreachable")
        fleet.service.abort("spring", actor="bob")
        fleet.add_release("v3")
        fleet.begin("summer", release="v3", limits={"concurrency": 30, "offline": "50%"})
        fleet.until(lambda: sum(r.ready_at is not None for r in fleet.records("summer").values()) >= 28)
        assert fleet.rollout("summer").status == "running", "it goes on for the one that is away"
        shop.away = False
        fleet.until_status("succeeded", "summer")
        fleet.until(lambda: fleet.running()[away] == "agent:v3")
    last = [image for _, image in shop.applied]
    assert last[-1] == "agent:v3"


def test_paused_and_resumed_by_another_controller(fleet: Any) -> None:
    fleet.begin(waves=WAVES, limits=LIMITS)
    with fleet.working():
        fleet.until(lambda: fleet.rollout().waves[1].opened_at is not None)
        fleet.service.pause("spring", actor="bob", comment="lunch")
        exposed = sum(r.exposed_at is not None for r in fleet.records().values())
        fleet.until(lambda: all(d.state == "ready" for d in fleet.current().values()))
        assert sum(r.exposed_at is not None for r in fleet.records().values()) == exposed
    with fleet.working():
        fleet.service.resume("spring", actor="bob")
        fleet.until_status("succeeded")


def test_a_wave_waits_for_its_approval_and_a_rejection_pauses(fleet: Any) -> None:
    waves = [{"name": "canary", "size": 3}, {"name": "rest", "approval": True}]
    fleet.begin(waves=waves, limits=LIMITS)
    with fleet.working():
        fleet.until(lambda: fleet.rollout().waves[0].passed_at is not None)
        fleet.service.reject("spring", actor="bob", comment="not on Friday")
        paused = fleet.until_status("paused")
        assert "not on Friday" in paused.reason
        fleet.service.approve("spring", actor="eve", comment="Monday is fine")
        fleet.service.resume("spring", actor="eve")
        done = fleet.until_status("succeeded")
    approval = done.waves[1].approval
    assert approval is not None
    assert (approval.by, approval.comment) == ("eve", "Monday is fine")


def test_a_failed_store_may_be_tried_again_or_skipped(fleet: Any) -> None:
    limits = {**LIMITS, "store_deadline": "4s"}
    begun = fleet.begin(waves=WAVES, limits=limits, on_failure={"action": "pause"})
    one, two = begun.waves[0].stores[:2]
    for store in (one, two):
        fleet.shops[store].bad.add("agent:v2")
    with fleet.working():
        fleet.until(lambda: sum(r.failed_at is not None for r in fleet.records().values()) == 2)
        fleet.until_status("paused")
        fleet.shops[one].bad.clear()
        fleet.service.skip_store("spring", two, actor="bob", comment="no power")
        _, again = fleet.service.retry_failed("spring", actor="bob")
        assert again == [one]
        fleet.service.resume("spring", actor="bob")
        done = fleet.until_status("succeeded")
    assert "1 skipped" in done.reason
    assert fleet.records()[one].attempts == 1


def test_a_store_that_cannot_run_the_release_fails_without_being_touched(fleet: Any) -> None:
    fleet.add_stores(1, sku="tea-box")
    fleet.begin(limits={**LIMITS, "failures": 1})
    with fleet.working():
        done = fleet.until_status("succeeded")
    (failed,) = [record for record in fleet.records().values() if record.failed_at]
    assert "no class for tea-box" in failed.failure
    assert failed.exposed_at is None
    assert "1 failed within the budget" in done.reason
    assert failed.store not in fleet.current()


def test_a_store_that_ran_nothing_goes_back_to_running_nothing(world: Any) -> None:
    world.add_release("v2")
    world.add_stores(2)
    for shop in world.shops.values():
        shop.bad.add("agent:v2")
    world.begin(limits={"concurrency": 2})
    with world.working():
        world.until(lambda: set(world.running().values()) == {"agent:v2"})
        world.service.abort("spring", actor="bob")
        world.until(lambda: set(world.running().values()) == {None})
        world.until(lambda: {d.state for d in world.current().values()} == {"ready"})
    assert {d.desired for d in world.current().values()} == {"absent"}


def test_who_does_not_lead_does_nothing(fleet: Any) -> None:
    fleet.begin(waves=WAVES, limits=LIMITS)
    leads = [False]
    with fleet.working(leads=lambda: leads[0]):
        before = fleet.rollout()
        fleet.until(lambda: True)
        assert fleet.rollout() == before
        leads[0] = True
        fleet.until_status("succeeded")


def test_a_change_by_somebody_else_is_not_overwritten(fleet: Any) -> None:
    fleet.begin(waves=WAVES, limits=LIMITS)
    with fleet.database.reading() as repositories:
        read = repositories.rollouts.get("spring")
    fleet.service.pause("spring", actor="bob")
    assert read is not None
    with pytest.raises(ConflictError, match="changed by somebody else"), fleet.database.writing() as found:
        found.rollouts.save(read, read.revision)


def _unsettled(world: Any) -> list[str]:
    with world.database.reading() as repositories:
        return [rollout.name for rollout in repositories.rollouts.unsettled()]
