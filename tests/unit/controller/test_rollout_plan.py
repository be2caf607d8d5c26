"""One small rollout at a time: what the plan does, and what it says of the stores that it leaves alone."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from controller.domain.rollout.plan import plan
from controller.domain.rollout.state import (
    Approval,
    ChangeStatus,
    Deploy,
    GateVerdict,
    Observe,
    OpenWave,
    PassWave,
    Phase,
    Plan,
    Restore,
    Rollout,
    Status,
    StoreNow,
    StoreRecord,
    Verdict,
    WaveState,
)
from controller.rollout_file import read_rollout

T = datetime(2026, 3, 3, 12, tzinfo=UTC)
OLD, NEW, BACK, OTHER = (UUID(int=n) for n in range(1, 5))
MINUTE = timedelta(minutes=1)


def before(store: str, **fields: Any) -> StoreNow:
    """Runs v1, since yesterday."""
    day = T - timedelta(days=1)
    now = StoreNow(
        store,
        True,
        deployment=OLD,
        release="v1",
        state="ready",
        created_at=day,
        applied_at=day,
        ready_at=day,
    )
    return replace(now, **fields)


def given(store: str, state: str = "progressing", **fields: Any) -> StoreNow:
    """Was given v2 five minutes ago."""
    at = T - 5 * MINUTE
    now = StoreNow(
        store,
        True,
        deployment=NEW,
        release="v2",
        state=state,
        created_at=at,
        applied_at=at,
        last_known_good="v1",
    )
    return replace(now, ready_at=T - MINUTE if state == "ready" else None, **fields)


def touched(store: str, wave: int = 0, **fields: Any) -> StoreRecord:
    record = StoreRecord(store, wave, deployment=NEW, back_to="v1", exposed_at=T - 5 * MINUTE)
    return replace(record, **fields)


def rollout(
    *waves: str, status: Status = Status.RUNNING, opened: int = 0, passed: int = 0, **spec: Any
) -> Rollout:
    """``waves``: the names of the stores of each, "a b c"."""
    spec = {
        "gates": [],
        "limits": {"concurrency": "100%", "failures": 0, "offline": 0},
        "waves": [{"name": f"w{i}"} for i in range(len(waves))],
        **spec,
    }
    for wave in spec["waves"][:-1]:
        wave.setdefault("size", 1)
    hour = T - 60 * MINUTE
    states = tuple(
        WaveState(
            tuple(names.split()),
            opened_at=hour if i < opened else None,
            passed_at=hour if i < passed else None,
        )
        for i, names in enumerate(waves)
    )
    parsed = read_rollout({"name": "r", "release": "v2", **spec})
    return Rollout(parsed, status, hour, "me", started_at=hour, status_since=hour, waves=states)


def planned(
    asked: Rollout, stores: list[StoreNow], records: list[StoreRecord] | None = None, **facts: Any
) -> Plan:
    facts = {"now": T, **facts}
    return plan(asked, {r.store: r for r in records or []}, {s.store: s for s in stores}, **facts)


def deployed(made: Plan) -> list[str]:
    return [step.store for step in made.steps if isinstance(step, Deploy)]


def kinds(made: Plan) -> list[str]:
    return [type(step).__name__ for step in made.steps]


def status(made: Plan) -> ChangeStatus:
    return next(step for step in made.steps if isinstance(step, ChangeStatus))


# ----------------------------------------------------------------------------------------- one store's turn


def test_the_first_wave_opens_and_its_stores_get_the_release_with_a_way_back() -> None:
    made = planned(rollout("a b", "c"), [before("a"), before("b"), before("c")])
    assert made.steps[0] == OpenWave(0, "the first wave")
    assert made.steps[1] == Deploy("a", "v1", "no window is asked for")
    assert deployed(made) == ["a", "b"]
    assert made.stores["c"].phase == Phase.PENDING
    assert "wave w1 has not begun; wave w0: 2 stores being updated" in made.stores["c"].reason


WINDOW = {"windows": [{"start": "22:00", "end": "05:00"}]}


@pytest.mark.parametrize(
    ("fields", "spec", "phase", "words"),
    [
        ({"reachable": False, "reachable_reason": "silent"}, {}, Phase.OFFLINE, "out of reach (silent)"),
        ({}, WINDOW, Phase.WAITING, "waits for its window: opens Tue 2026-03-03 22:00 UTC"),
        ({"timezone": "Nowhere"}, WINDOW, Phase.WAITING, "time zone 'Nowhere' is not known"),
        (
            {"deferred_until": T + MINUTE, "deferred_by": "ann"},
            {},
            Phase.WAITING,
            "deferred by ann until Tue 2026-03-03 12:01 UTC",
        ),
        ({"claimed_by": "r9"}, {}, Phase.SUPERSEDED, "r9 ranks higher"),
        (
            {"created_at": T, "release": "v3"},
            {},
            Phase.SUPERSEDED,
            "v3 was deployed after this rollout began",
        ),
        (
            {"state": "progressing", "ready_at": None, "applied_at": T},
            {},
            Phase.WAITING,
            "v1 is on its way there, and there is no other to go back to",
        ),
        ({"release": "v2"}, {}, Phase.READY, "ran v2 already"),
    ],
)
def test_what_holds_one_store_back(
    fields: dict[str, Any], spec: dict[str, Any], phase: Phase, words: str
) -> None:
    made = planned(rollout("a b", "c", **spec), [before("a", **fields), before("b"), before("c")])
    assert "a" not in deployed(made)
    assert made.stores["a"].phase == phase
    assert words in made.stores["a"].reason


def test_an_emergency_overrides_windows_and_deferrals_but_not_the_line() -> None:
    stores = [before("a", deferred_until=T + MINUTE), before("b"), before("c", reachable=False)]
    assert deployed(planned(rollout("a b c", emergency=True, **WINDOW), stores)) == ["a", "b"]


@pytest.mark.parametrize(
    ("fields", "back_to"),
    [
        ({}, "v1"),
        ({"state": "failed", "last_known_good": "v0"}, "v0"),
        ({"state": "failed", "ready_at": None, "last_known_good": "v0"}, "v0"),
        ({"state": "failed", "ready_at": None}, None),
        ({"state": "progressing", "ready_at": None, "applied_at": T - 31 * MINUTE}, None),
        ({"deployment": None, "release": None, "state": "", "ready_at": None}, None),
        ({"last_known_good": "v0", "release": "bad"}, "v0"),
        ({"release": "bad"}, "bad"),
        ({"release": "v2", "state": "failed", "last_known_good": "v1"}, "v1"),
    ],
)
def test_what_a_store_would_go_back_to(fields: dict[str, Any], back_to: str | None) -> None:
    made = planned(rollout("a"), [before("a", **fields)], withdrawn={"bad"})
    assert [step.back_to for step in made.steps if isinstance(step, Deploy)] == [back_to]


@pytest.mark.parametrize(("limit", "begun"), [(1, 1), ("50%", 2), ("10%", 1), (3, 3)])
def test_no_more_stores_than_the_limit_are_in_the_middle(limit: Any, begun: int) -> None:
    asked = rollout("a b c d", limits={"concurrency": limit})
    made = planned(asked, [before(s) for s in "abcd"])
    assert len(deployed(made)) == begun
    if begun < 4:
        assert "places" in made.stores["d"].reason


def test_a_store_lost_in_the_middle_holds_its_place_only_for_a_while() -> None:
    asked = rollout("a b", opened=1, limits={"concurrency": 1, "offline": 1, "store_deadline": "10m"})
    stores = [given("a", reachable=False), before("b")]
    made = planned(asked, stores, [touched("a")])
    assert made.steps == (Observe("a", lost_at=T),)
    assert made.stores["a"].phase == Phase.OFFLINE
    made = planned(asked, stores, [touched("a", lost_at=T - 9 * MINUTE)])
    assert deployed(made) == []
    made = planned(asked, stores, [touched("a", lost_at=T - 10 * MINUTE)])
    assert deployed(made) == ["b"]
    assert made.stores["a"].phase == Phase.OFFLINE


# ---------------------------------------------------------------------------------- failed, lost, ready again


@pytest.mark.parametrize(
    ("now", "record", "expected"),
    [
        (given("a", "ready"), {}, Observe("a", ready_at=T - MINUTE)),
        (given("a", "ready"), {"exposed_at": T}, Observe("a", ready_at=T)),
        (given("a"), {}, None),
        (given("a", "failed", message="no"), {}, None),
        (
            given("a", "failed", message="no", applied_at=T - 30 * MINUTE),
            {},
            Observe("a", failed_at=T, failure="not ready within 30 minutes: no"),
        ),
        (given("a", applied_at=T - 40 * MINUTE), {"away": 20 * MINUTE}, None),
        (
            given("a", applied_at=T - 40 * MINUTE),
            {"lost_at": T - 35 * MINUTE},
            Observe("a", away=35 * MINUTE),
        ),
        (given("a", "unreachable", applied_at=T - 90 * MINUTE), {"lost_at": T - 5 * MINUTE}, None),
        (given("a", "blocked", applied_at=None, message="no rights"), {}, None),
        (
            given("a", "blocked", applied_at=None, created_at=T - 30 * MINUTE, message="no rights"),
            {},
            Observe("a", failed_at=T, failure="not ready within 30 minutes: no rights"),
        ),
        (given("a", "pending", applied_at=None, created_at=T - 30 * MINUTE), {}, None),
        (
            given("a", "ready"),
            {"failed_at": T - MINUTE, "failure": "slow"},
            Observe("a", ready_at=T - MINUTE),
        ),
        (given("a", "ready"), {"ready_at": T - MINUTE, "failed_at": T - MINUTE, "failure": "x"}, None),
        (
            given("a", message="container agent keeps crashing"),
            {"ready_at": T - MINUTE},
            Observe("a", failed_at=T, failure="was ready, then: container agent keeps crashing"),
        ),
        (given("a", message="0 of 1"), {"ready_at": T - MINUTE}, Observe("a", lost_at=T)),
        (
            given("a", message="0 of 1"),
            {"ready_at": T - MINUTE, "lost_at": T - 30 * MINUTE},
            Observe("a", failed_at=T, failure="was ready, then not for 30 minutes: 0 of 1"),
        ),
        (
            given("a", "ready"),
            {"ready_at": T - MINUTE, "lost_at": T - 30 * MINUTE},
            Observe("a", away=timedelta(0)),
        ),
        (given("a", reachable=False), {"ready_at": T - MINUTE}, None),
        (given("a", "ready", deployment=OTHER), {}, None),
    ],
)
def test_what_is_written_down_of_a_store(
    now: StoreNow, record: dict[str, Any], expected: Observe | None
) -> None:
    asked = rollout("a b", opened=1, limits={"failures": 2, "offline": 2})
    made = planned(asked, [now, before("b")], [touched("a", **record)])
    observed = [step for step in made.steps if isinstance(step, Observe)]
    assert observed == ([expected] if expected else [])


def test_a_store_that_somebody_else_changed_is_left_alone_for_good() -> None:
    made = planned(
        rollout("a b", opened=1), [given("a", deployment=OTHER, release="v3"), before("b")], [touched("a")]
    )
    assert made.stores["a"].phase == Phase.SUPERSEDED
    assert deployed(made) == ["b"]
    back = rollout("a", opened=1, status=Status.ROLLING_BACK)
    made = planned(back, [given("a", deployment=OTHER, release="v3")], [touched("a")])
    assert kinds(made) == ["ChangeStatus"]


# ------------------------------------------------------------------------------------- waves, soak and gates

READY = {"ready_at": T - MINUTE}


def verdict(kind: str = "health", says: Verdict = Verdict.PASS, at: datetime = T) -> GateVerdict:
    return GateVerdict(0, kind, says, "figures", at)


@pytest.mark.parametrize(
    ("spec", "verdicts", "words"),
    [
        ({"gates": [{"kind": "health"}]}, [], "gate health: no evidence that is new enough"),
        ({"gates": [{"kind": "health"}]}, [verdict(at=T - 2 * MINUTE)], "no evidence that is new enough"),
        ({"gates": [{"kind": "health"}]}, [verdict(says=Verdict.INCONCLUSIVE)], "gate health: figures"),
        ({"gates": [{"kind": "health"}]}, [verdict()], None),
        (
            {"waves": [{"name": "w0", "size": 1, "soak": "61s"}, {"name": "w1"}]},
            [],
            "soaks for 1m1s, until 12:00:01",
        ),
        ({"waves": [{"name": "w0", "size": 1, "soak": "60s"}, {"name": "w1"}]}, [], None),
        ({}, [], None),
    ],
)
def test_a_wave_passes_on_evidence_newer_than_its_soak(
    spec: dict[str, Any], verdicts: list[GateVerdict], words: str | None
) -> None:
    asked = rollout("a", "b", opened=1, **spec)
    made = planned(asked, [given("a", "ready"), before("b")], [touched("a", **READY)], verdicts={0: verdicts})
    if words is None:
        assert kinds(made) == ["PassWave", "OpenWave", "Deploy"]
    else:
        assert made.steps == ()
        assert words in made.reason
        assert made.check_at is not None


@pytest.mark.parametrize(
    ("record", "now", "limits", "passes"),
    [
        ({}, given("b"), {}, False),
        ({}, given("b", reachable=False), {"offline": 1}, False),
        ({"lost_at": T - 31 * MINUTE}, given("b", reachable=False), {"offline": 1}, True),
        ({"lost_at": T - 31 * MINUTE}, given("b", reachable=False), {"offline": 0}, False),
        ({"deployment": None}, before("b", reachable=False), {"offline": 1}, True),
        ({"deployment": None}, before("b", reachable=False), {"offline": 0}, False),
        ({"deployment": None}, before("b", deferred_until=T + MINUTE), {"offline": 0}, True),
        ({"deployment": None}, before("b", deployment=None, release=None), {"offline": 2}, False),
        ({"ready_at": T - MINUTE}, given("b", "ready", reachable=False), {"offline": 0}, False),
        ({"failed_at": T, "failure": "x"}, given("b", "failed"), {"failures": 1}, True),
        ({"skipped": "by ann"}, given("b", "failed"), {}, True),
    ],
)
def test_which_stores_a_wave_goes_on_without(
    record: dict[str, Any], now: StoreNow, limits: dict[str, Any], passes: bool
) -> None:
    asked = rollout("a b", "c", opened=1, limits={"failures": 0, "offline": 0, **limits})
    stores = [given("a", "ready"), now, before("c")]
    made = planned(asked, stores, [touched("a", **READY), touched("b", **record)])
    assert (PassWave in [type(step) for step in made.steps]) is passes


@pytest.mark.parametrize(
    ("wave", "fields", "words"),
    [
        ({"approval": True}, {}, "waits for somebody's approval"),
        (
            {"approval": True},
            {"approval": Approval(False, "ann", T, "too soon")},
            "rejected by ann: too soon",
        ),
        ({"approval": True}, {"approval": Approval(True, "ann", T)}, None),
    ],
)
def test_a_wave_waits_for_its_approval(
    wave: dict[str, Any], fields: dict[str, Any], words: str | None
) -> None:
    asked = rollout("a", waves=[{"name": "w0", **wave}])
    asked = replace(asked, waves=(replace(asked.waves[0], **fields),))
    made = planned(asked, [before("a")])
    assert deployed(made) == ([] if words else ["a"])
    assert words is None or words in made.reason


@pytest.mark.parametrize("other", [None, *(s for s in Status if s != Status.SUCCEEDED)])
def test_a_rollout_begins_only_after_others_succeeded(other: Status | None) -> None:
    asked = rollout("a", after=["first"])
    others = {} if other is None else {"first": other}
    assert planned(asked, [before("a")], others=others).steps == ()
    assert deployed(planned(asked, [before("a")], others={"first": Status.SUCCEEDED})) == ["a"]


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (None, []),
        (verdict("staged"), ["OpenWave", "Deploy"]),
        (verdict("staged", Verdict.INCONCLUSIVE), []),
        (verdict("staged", at=T - 61 * MINUTE), []),
        (verdict("staged", Verdict.FAIL), ["ChangeStatus"]),
    ],
)
def test_staging_is_asked_before_the_wave(said: GateVerdict | None, expected: list[str]) -> None:
    asked = rollout("a", gates=[{"kind": "staged"}])
    assert kinds(planned(asked, [before("a")], verdicts={0: [said] if said else []})) == expected


def test_a_gate_that_stays_undecided_asks_for_a_person() -> None:
    asked = rollout("a", "b", opened=1, gates=[{"kind": "health"}], gate_timeout="1m")
    said = verdict(says=Verdict.INCONCLUSIVE)
    made = planned(asked, [given("a", "ready"), before("b")], [touched("a", **READY)], verdicts={0: [said]})
    assert status(made) == ChangeStatus(Status.PAUSED, "wave w0: gate health undecided for 1m: figures", 0)


def test_a_wave_that_nobody_runs_proves_nothing() -> None:
    stores = [before("a", claimed_by="r9"), before("b")]
    made = planned(rollout("a", "b", opened=1), stores)
    assert made.steps == ()
    assert "no store of it runs the release" in made.reason
    made = planned(rollout("a", "b", opened=1), stores, [StoreRecord("a", 0, skipped="by ann")])
    assert kinds(made) == ["PassWave", "OpenWave", "Deploy"]


# ------------------------------------------------------------------------------------- failure and going back


@pytest.mark.parametrize("action", ["pause", "rollback"])
def test_a_budget_that_is_used_up_stops_the_rollout(action: str) -> None:
    asked = rollout("a b", "c", opened=1, on_failure={"action": action})
    records = [touched("a", failed_at=T, failure="broken"), touched("b", **READY)]
    made = planned(asked, [given("a", "failed"), given("b", "ready"), before("c")], records)
    change = status(made)
    assert change.failed_wave == 0
    assert change.reason == "1 store of wave w0 failed, at most 0 may: a: broken"
    assert kinds(made) == (["ChangeStatus"] if action == "pause" else ["ChangeStatus", "Restore"])
    assert deployed(made) == []


@pytest.mark.parametrize(
    ("at", "stops"), [(T, True), (T - 6 * MINUTE, False), (T - 61 * MINUTE, False), (T - 4 * MINUTE, True)]
)
def test_a_gate_that_fails_on_fresh_evidence_stops_the_rollout_at_once(at: datetime, stops: bool) -> None:
    waves = [{"name": "w0", "size": 1, "soak": "1h"}, {"name": "w1"}]
    asked = rollout("a", "b", opened=1, waves=waves, gates=[{"kind": "health"}])
    said = verdict(says=Verdict.FAIL, at=at)
    made = planned(asked, [given("a", "ready"), before("b")], [touched("a", **READY)], verdicts={0: [said]})
    assert (ChangeStatus in [type(step) for step in made.steps]) is stops


def test_after_a_resumption_only_newer_failures_count() -> None:
    asked = replace(rollout("a", opened=1, gates=[{"kind": "health"}]), status_since=T)
    said = verdict(says=Verdict.FAIL, at=T - MINUTE)
    made = planned(asked, [given("a", "ready")], [touched("a", **READY)], verdicts={0: [said]})
    assert made.steps == ()


def test_stores_go_back_newest_wave_first_and_those_out_of_reach_are_told_at_once() -> None:
    back = rollout(
        "a b",
        "c d",
        opened=2,
        status=Status.ROLLING_BACK,
        on_failure={"action": "rollback", "concurrency": 1},
    )
    stores = [given("a", "ready"), given("b", reachable=False), given("c", "ready"), given("d")]
    records = [touched("a", **READY), touched("b"), touched("c", 1, **READY), touched("d", 1)]
    made = planned(back, stores, records)
    assert [step.store for step in made.steps if isinstance(step, Restore)] == ["d", "b"]
    assert "goes back as soon as one of 1 places is free" in made.stores["a"].reason


@pytest.mark.parametrize(
    ("now", "ends", "words"),
    [
        ({"state": "ready"}, True, "1 store back"),
        ({"state": "progressing"}, False, "1 store going back"),
        ({"reachable": False}, True, "1 out of reach that go back when they return (a)"),
        ({"state": "failed", "applied_at": T - 31 * MINUTE}, True, "1 not ready again (a)"),
    ],
)
def test_a_rollback_ends_when_all_in_reach_are_back(now: dict[str, Any], ends: bool, words: str) -> None:
    back = rollout("a", opened=1, status=Status.ROLLING_BACK)
    store = replace(given("a"), deployment=BACK, release="v1", **now)
    made = planned(back, [store], [touched("a", restoring=BACK)])
    assert (ChangeStatus in [type(step) for step in made.steps]) is ends
    assert words in made.reason


def test_a_late_return_to_the_old_release_is_written_down_after_the_end() -> None:
    ended = rollout("a", opened=1, status=Status.ROLLED_BACK)
    store = replace(given("a", "ready"), deployment=BACK, release="v1")
    assert planned(ended, [store], [touched("a", restoring=BACK)]).steps == (Observe("a", restored_at=T),)


def test_nothing_is_put_back_to_a_withdrawn_release() -> None:
    back = rollout("a b", opened=1, status=Status.ROLLING_BACK)
    records = [touched("a", back_to="bad"), touched("b", back_to="bad")]
    stores = [given("a"), replace(given("b"), last_known_good="bad")]
    made = planned(back, stores, records, withdrawn={"bad", "v2"})
    assert [(s.store, s.release) for s in made.steps if isinstance(s, Restore)] == [("a", "v1")]
    assert "no other release is known to have worked there" in made.stores["b"].reason


def test_an_abort_puts_back_the_stores_in_the_middle_and_leaves_the_ready_ones() -> None:
    stopped = replace(rollout("a b c d e", opened=1, status=Status.ABORTED), reason="aborted by ann")
    stores = [given("a", "ready"), given("b"), given("c", reachable=False), before("d"), given("e", "failed")]
    failed = touched("e", ready_at=T, failed_at=T, failure="x")
    made = planned(stopped, stores, [touched("a", **READY), touched("b"), touched("c"), failed])
    assert [step.store for step in made.steps if isinstance(step, Restore)] == ["b", "c", "e"]
    assert made.stores["a"].phase == Phase.READY
    assert "aborted" in made.stores["d"].reason


@pytest.mark.parametrize("state", [s for s in Status if s != Status.RUNNING])
def test_only_a_running_rollout_deploys(state: Status) -> None:
    made = planned(rollout("a", status=state), [before("a")])
    assert deployed(made) == []
    assert made.stores["a"].reason


# ------------------------------------------------------------------------------------------------- the end


def all_passed(**spec: Any) -> Rollout:
    return rollout("a b", opened=1, passed=1, **spec)


@pytest.mark.parametrize(
    ("now", "record", "spec", "expected", "words"),
    [
        (given("b", "ready"), touched("b", **READY), {}, Status.SUCCEEDED, "2 stores ready"),
        (before("b"), StoreRecord("b", 0, skipped="by ann"), {}, Status.SUCCEEDED, "1 skipped"),
        (before("b", claimed_by="r9"), StoreRecord("b", 0), {}, Status.SUCCEEDED, "1 taken over"),
        (before("b", reachable=False), StoreRecord("b", 0), {}, None, "1 out of reach (b)"),
        (
            before("b", deferred_until=T + MINUTE),
            StoreRecord("b", 0),
            {},
            None,
            "1 waiting for their turn (b)",
        ),
        (given("b"), touched("b"), {}, None, "1 on their way"),
        (
            before("b", reachable=False),
            StoreRecord("b", 0),
            {"deadline": T},
            Status.SUCCEEDED,
            "left out at the",
        ),
        (given("b"), touched("b"), {"deadline": T}, None, "1 on their way"),
    ],
)
def test_how_a_rollout_ends_after_its_last_wave(
    now: StoreNow, record: StoreRecord, spec: dict[str, Any], expected: Status | None, words: str
) -> None:
    made = planned(all_passed(**spec), [given("a", "ready"), now], [touched("a", **READY), record])
    changes = [step.status for step in made.steps if isinstance(step, ChangeStatus)]
    assert changes == ([expected] if expected else [])
    assert words in made.reason


def test_a_store_that_returns_late_gets_the_release_and_is_judged_for_failure() -> None:
    made = planned(all_passed(), [given("a", "ready"), before("b")], [touched("a", **READY)])
    assert deployed(made) == ["b"]
    late = touched("b", failed_at=T, failure="broken")
    made = planned(all_passed(), [given("a", "ready"), given("b", "failed")], [touched("a", **READY), late])
    assert status(made).status == Status.ROLLING_BACK


def test_a_deadline_pauses_what_has_not_been_changed() -> None:
    asked = rollout("a", "b", opened=1, deadline=T)
    made = planned(asked, [given("a", "ready"), before("b")], [touched("a", **READY)])
    assert status(made).status == Status.PAUSED
    assert deployed(made) == []
    soaking = rollout("a", opened=1, deadline=T, waves=[{"name": "w0", "soak": "1h"}])
    assert planned(soaking, [given("a", "ready")], [touched("a", **READY)]).steps == ()


def test_a_rollout_whose_stores_others_took_is_superseded() -> None:
    made = planned(rollout("a", "b"), [before("a", claimed_by="r9"), before("b", claimed_by="r9")])
    assert status(made).status == Status.SUPERSEDED


def test_a_store_that_left_the_fleet_holds_up_nobody() -> None:
    made = planned(rollout("a gone", opened=1), [given("a", "ready")], [touched("a", **READY)])
    assert status(made).status == Status.SUCCEEDED
    assert made.stores["gone"].phase == Phase.SKIPPED
