from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from controller.domain.rollout.rank import claims, held_by_others, outranks
from controller.domain.rollout.spec import RolloutSpec
from controller.domain.rollout.state import Rollout, Status, StoreRecord, WaveState

T = datetime(2026, 3, 3, 12, tzinfo=UTC)


def rollout(name: str, minute: int, *, status: Status = Status.RUNNING, **spec: Any) -> Rollout:
    parsed = RolloutSpec.model_validate({"name": name, "release": "v2", **spec})
    at = T + timedelta(minutes=minute)
    return Rollout(parsed, status, at, "me", started_at=at, waves=(WaveState(("a",)), WaveState(("b",))))


OLD = rollout("old", 1)


@pytest.mark.parametrize(
    ("other", "owner"),
    [
        (rollout("new", 2), "new"),
        (rollout("new", 0), "old"),
        (rollout("new", 0, priority=1), "new"),
        (rollout("new", 2, priority=-1), "old"),
        (rollout("new", 1), "old"),  # names decide at last, so that there is always one
        (rollout("new", 2, status=Status.PAUSED), "new"),
        (rollout("new", 2, status=Status.ROLLING_BACK), "new"),
        (rollout("new", 2, status=Status.DRAFT), "old"),
        (rollout("new", 2, status=Status.ABORTED), "old"),
        (rollout("new", 2, status=Status.SUCCEEDED), "old"),
        (rollout("new", 2, after=["old"]), "old"),
    ],
)
def test_who_owns_a_store_that_two_want(other: Rollout, owner: str) -> None:
    assert claims([(OLD, {}), (other, {})]) == {"a": owner, "b": owner}
    assert claims([(other, {}), (OLD, {})]) == {"a": owner, "b": owner}


def test_a_store_that_is_skipped_is_left_to_others() -> None:
    new = rollout("new", 2)
    assert claims([(OLD, {}), (new, {"a": StoreRecord("a", 0, skipped="by ann")})]) == {
        "a": "old",
        "b": "new",
    }


def test_a_rollout_that_waits_takes_its_stores_once_it_begins() -> None:
    new = rollout("new", 2, after=["old"])
    begun = replace(new, waves=(replace(new.waves[0], opened_at=T), new.waves[1]))
    assert claims([(OLD, {}), (begun, {})]) == {"a": "new", "b": "new"}
    rollouts = {"old": OLD, "new": new}
    owners = claims([(OLD, {}), (new, {})])
    assert held_by_others(new, owners, rollouts) == {}
    assert held_by_others(OLD, {"a": "new", "b": "old"}, rollouts) == {"a": "new"}
    assert outranks(new, OLD)
