"""What is kept of rollouts comes back as it was, in SQLite and PostgreSQL."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from controller.adapters.database import Database
from controller.adapters.database.rollouts import KEEP_SLOTS, SLOT_S
from controller.domain.fleet import Device, Store
from controller.domain.page import PageRequest
from controller.domain.rollout.records import Deferral, Judged
from controller.domain.rollout.spec import RolloutSpec
from controller.domain.rollout.state import (
    Approval,
    GateVerdict,
    Rollout,
    Status,
    StoreRecord,
    Verdict,
    WaveState,
)
from controller.domain.rollout.verbs import fresh_records, started, with_status
from controller.errors import ConflictError

T0 = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
SPEC = {
    "name": "spring",
    "release": "v2",
    "select": {"labels": {"region": ["north", "south"]}, "exclude": {"names": ["berlin-07"]}},
    "waves": [{"name": "canary", "size": "2%", "soak": "1h30m", "approval": True}, {"name": "rest"}],
    "limits": {"concurrency": 3, "failures": "2.5%"},
    "windows": [{"days": ["mon"], "start": "22:00", "end": "05:00"}],
    "blackouts": [{"first": "2026-12-18", "last": "2027-01-02", "reason": "holidays"}],
    "gates": [{"kind": "health"}, {"kind": "webhook", "url": "https://example.org/gate", "timeout": "3s"}],
    "deadline": "2026-06-01T00:00:00Z",
}


@pytest.fixture
def database(world: Any) -> Database:
    world.add_release("v2")
    with world.database.writing() as repositories:
        for name in ("a", "b", "c"):
            repositories.stores.add(Store(name, created_at=T0))
    found: Database = world.database
    return found


def draft(**changes: Any) -> Rollout:
    spec = RolloutSpec.model_validate(SPEC | changes)
    return Rollout(spec, Status.DRAFT, T0, "ada", "not started yet", status_since=T0)


def test_a_rollout_comes_back_as_it_was(database: Database) -> None:
    begun = started(draft(), [["a"], ["b", "c"]], "ada", T0)
    approval = Approval(True, "bob", T0 + timedelta(seconds=1), "fine")
    waves = (WaveState(("a",), approval, T0, T0 + timedelta(hours=2)), begun.waves[1])
    begun = replace(begun, waves=waves, failed_wave=1)
    with database.writing() as repositories:
        repositories.rollouts.add(draft())
        assert repositories.rollouts.get("spring") == draft()
        repositories.rollout_stores.put("spring", fresh_records([["a"], ["b", "c"]]))
        repositories.rollouts.save(begun, 0)
    with database.reading() as repositories:
        assert repositories.rollouts.get("spring") == replace(begun, revision=1)
        assert [r.name for r in repositories.rollouts.unsettled()] == ["spring"]
        assert repositories.rollouts.statuses(["spring", "none"]) == {"spring": Status.RUNNING}
        (summary,) = repositories.rollouts.page(None, PageRequest()).items
    assert (summary.stores, summary.waves, summary.waves_passed, summary.ready) == (3, 2, 1, 0)


def test_a_name_is_taken_once_and_an_old_revision_is_refused(database: Database) -> None:
    with database.writing() as repositories:
        repositories.rollouts.add(draft())
        with pytest.raises(ConflictError, match="exists already"):
            repositories.rollouts.add(draft())
        repositories.rollouts.save(draft(), 0)
        repositories.rollouts.lock("spring", 1)
        with pytest.raises(ConflictError, match="somebody else"):
            repositories.rollouts.save(draft(), 0)
        with pytest.raises(ConflictError, match="somebody else"):
            repositories.rollouts.lock("spring", 0)


def test_records_are_replaced_in_batches(database: Database) -> None:
    full = StoreRecord(
        "a", 0, uuid4(), "v1", T0, T0, T0, "why", uuid4(), T0, "skipped", 2, T0, timedelta(seconds=90.5)
    )
    with database.writing() as repositories:
        repositories.rollouts.add(draft())
        repositories.rollout_stores.put("spring", [StoreRecord("a", 0), StoreRecord("b", 1)])
        repositories.rollout_stores.put("spring", [full])
    with database.reading() as repositories:
        assert repositories.rollout_stores.of_rollout("spring") == {"a": full, "b": StoreRecord("b", 1)}
        assert repositories.rollout_stores.of_store("a") == {"spring": full}


def test_settled_and_drafts_are_left_in_peace(database: Database) -> None:
    with database.writing() as repositories:
        repositories.rollouts.add(draft())
        assert repositories.rollouts.unsettled() == []
        ended = with_status(started(draft(), [], "ada", T0), Status.ABORTED, "enough", T0)
        repositories.rollouts.save(ended, 0)
        assert len(repositories.rollouts.unsettled()) == 1
        repositories.rollouts.save(ended, 1, settled=True)
        assert repositories.rollouts.unsettled() == []


def test_a_release_is_withdrawn_until_a_newer_rollout_of_it_goes_well(database: Database) -> None:
    aborted = with_status(started(draft(), [], "ada", T0), Status.ABORTED, "enough", T0)
    with database.writing() as repositories:
        repositories.rollouts.add(draft())
        assert repositories.rollouts.withdrawn() == frozenset()
        repositories.rollouts.save(aborted, 0)
        assert repositories.rollouts.withdrawn() == {"v2"}
        again = started(draft(name="summer"), [], "ada", T0 + timedelta(days=1))
        repositories.rollouts.add(again)
        assert repositories.rollouts.withdrawn() == frozenset()


def test_one_verdict_a_minute_is_kept_and_old_ones_go(database: Database) -> None:
    def judged(minutes: int, verdict: Verdict, second: int = 0) -> Judged:
        at = T0 + timedelta(minutes=minutes, seconds=second)
        return Judged(0, GateVerdict(1, "health", verdict, "why", at, {"ready": minutes}), at)

    with database.writing() as repositories:
        repositories.rollouts.add(draft())
        repositories.verdicts.put("spring", [judged(0, Verdict.INCONCLUSIVE)])
        repositories.verdicts.put("spring", [judged(0, Verdict.FAIL, 30)])
        repositories.verdicts.put("spring", [judged(1, Verdict.PASS)])
        assert repositories.verdicts.latest("spring") == [judged(1, Verdict.PASS)]
        history = repositories.verdicts.history("spring", PageRequest()).items
        assert list(history) == [judged(1, Verdict.PASS), judged(0, Verdict.FAIL, 30)]
        repositories.verdicts.put("spring", [judged(KEEP_SLOTS * SLOT_S, Verdict.PASS)])
        assert len(repositories.verdicts.history("spring", PageRequest()).items) == 3, "few are kept for ever"


def test_change_tells_of_everything_that_a_plan_depends_on(database: Database) -> None:
    seen = []

    def look() -> None:
        with database.reading() as repositories:
            seen.append(repositories.rollouts.change())

    look()
    look()
    assert seen[0] == seen[1]
    with database.writing() as repositories:
        repositories.rollouts.add(draft())
    look()
    with database.writing() as repositories:
        repositories.rollouts.save(draft(), 0)
    look()
    with database.writing() as repositories:
        repositories.deferrals.put(Deferral("a", T0, "ada", T0))
    look()
    assert len({str(one) for one in seen}) == 4


def test_without_stores_a_change_tells_of_rollouts_alone(database: Database) -> None:
    seen = []

    def look() -> None:
        with database.reading() as repositories:
            seen.append(repositories.rollouts.change(stores=False))

    look()
    with database.writing() as repositories:
        repositories.deferrals.put(Deferral("a", T0, "ada", T0))
    look()
    assert seen[0] == seen[1]
    with database.writing() as repositories:
        repositories.rollouts.add(draft())
    look()
    with database.writing() as repositories:
        repositories.rollouts.save(draft(), 0)
    look()
    assert len({str(one) for one in seen}) == 3


def test_the_spec_can_be_had_alone(database: Database) -> None:
    with database.writing() as repositories:
        repositories.rollouts.add(draft())
    with database.reading() as repositories:
        assert repositories.rollouts.spec("spring") == draft().spec
        assert repositories.rollouts.spec("autumn") is None


def test_a_deferral_is_replaced_and_removed(database: Database) -> None:
    one, two = Deferral("a", T0, "ada", T0), Deferral("a", T0 + timedelta(days=1), "bob", T0, "stocktaking")
    with database.writing() as repositories:
        repositories.deferrals.put(one)
        repositories.deferrals.put(two)
        assert repositories.deferrals.of_stores(["a", "b"]) == {"a": two}
        assert list(repositories.deferrals.page(PageRequest()).items) == [two]
        assert repositories.deferrals.remove("a")
        assert not repositories.deferrals.remove("a")


def test_devices_are_read_without_their_telemetry(database: Database) -> None:
    device = Device("a", "node-1", T0, T0, cached_models=("sha256:" + "a" * 64,), telemetry={"cpu": 1})
    with database.writing() as repositories:
        repositories.fleet.save([device], [])
        assert repositories.fleet.devices_of(["a", "b"]) == [replace(device, telemetry=None)]
