"""Rollouts over a fleet in memory, in simulated time, with real database, planner and steps."""

from typing import Any

import pytest

from controller.errors import InvalidError
from storefleet.fleet_sim.failures import DEFAULT, NONE, Failures, Kind
from storefleet.fleet_sim.memory import simulate

SPEC: dict[str, Any] = {
    "name": "spring",
    "release": "v2",
    "waves": [{"name": "canary", "size": "20%"}, {"name": "rest"}],
    "limits": {"concurrency": "50%", "failures": "10%", "offline": "20%", "store_deadline": "2m"},
    "gates": [],
}
Told = list[tuple[str, str, dict[str, Any]]]


def roll_out(failures: Failures, stores: int = 30, **changes: Any) -> tuple[str, Told]:
    told: Told = []
    rollout = simulate(
        stores, 7, failures, SPEC | changes, lambda kind, words, figures: told.append((kind, words, figures))
    )
    return rollout.status.value, told


def test_a_good_release_reaches_every_store() -> None:
    status, told = roll_out(NONE)
    assert status == "succeeded"
    assert told[-1][1].startswith("succeeded: 30 stores ready")
    times = [figures["simulated_s"] for kind, _, figures in told if kind == "timeline"]
    assert times == sorted(times)


def test_the_same_seed_tells_the_same_story() -> None:
    def story() -> list[str]:
        return [words for kind, words, _ in roll_out(DEFAULT, 40)[1] if kind == "timeline"]

    assert story() == story()


def test_a_crash_loop_turns_the_rollout_back_in_the_canary() -> None:
    status, told = roll_out(Failures(shares={Kind.CRASH_LOOP: 1.0}))
    assert status == "rolled_back"
    assert "keeps crashing" in told[-1][1]
    assert max(_count(words, "restored") for kind, words, _ in told if kind == "timeline") <= 15


def test_a_few_broken_stores_within_the_budget_stop_nothing() -> None:
    status, told = roll_out(Failures(stores={"store-0003": Kind.IMAGE_PULL}))
    assert status == "succeeded"
    assert "1 failed within the budget (store-0003)" in told[-1][1]


def test_a_dead_store_holds_nothing_up_and_gets_a_reason() -> None:
    deadline = "2026-03-02T12:00:00Z"
    status, told = roll_out(Failures(stores={"store-0003": Kind.DEAD}), deadline=deadline)
    assert status == "succeeded"
    assert "1 left out at the deadline (store-0003)" in told[-1][1]


def test_a_store_that_returns_from_a_backup_gets_the_release_again() -> None:
    status, told = roll_out(Failures(stores={"store-0003": Kind.OLD_RELEASE}))
    assert status == "succeeded"
    assert told[-1][1].startswith("succeeded: 30 stores ready")


def test_a_rollout_that_does_not_fit_is_refused() -> None:
    with pytest.raises(InvalidError):
        roll_out(NONE, select={"labels": {"region": "atlantis"}})


def _count(words: str, phase: str) -> int:
    return next((int(part.split()[0]) for part in words.split(": ")[-1].split(", ") if phase in part), 0)
