"""What may be done with a rollout in which state, and what it makes of it."""

from datetime import UTC, datetime
from uuid import UUID

import pytest

from controller.domain.rollout.spec import RolloutSpec
from controller.domain.rollout.state import Approval, Rollout, Status, StoreRecord
from controller.domain.rollout.verbs import (
    Verb,
    decided,
    fresh_records,
    refusal,
    started,
    to_retry,
    wave_to_approve,
    with_status,
)

NOW = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
POSSIBLE = {
    Status.DRAFT: {"start", "abort"},
    Status.RUNNING: {"pause", "approve", "reject", "abort", "rollback", "retry-failed", "skip-store"},
    Status.PAUSED: {"resume", "approve", "reject", "abort", "rollback", "retry-failed", "skip-store"},
    Status.ROLLING_BACK: set(),
    Status.ABORTED: {"rollback"},
    Status.ROLLED_BACK: set(),
    Status.SUPERSEDED: set(),
    Status.SUCCEEDED: {"rollback"},
}


def rollout(status: Status = Status.DRAFT, **spec: object) -> Rollout:
    return Rollout(RolloutSpec.model_validate({"name": "r", "release": "v2", **spec}), status, NOW, "ada")


@pytest.mark.parametrize("status", list(Status))
@pytest.mark.parametrize("verb", list(Verb))
def test_a_verb_is_refused_with_what_is_possible_instead(status: Status, verb: Verb) -> None:
    words = refusal(rollout(status), verb)
    if verb.value in POSSIBLE[status]:
        assert words is None
        return
    assert words is not None
    assert f"rollout r is {status}" in words
    for other in POSSIBLE[status]:
        assert other in words
    if not POSSIBLE[status]:
        assert "nothing can be done" in words


def test_starting_freezes_the_waves_and_their_stores() -> None:
    waves = [["a"], ["b", "c"]]
    begun = started(rollout(waves=[{"name": "w1", "size": 1}, {"name": "w2"}]), waves, "ada", NOW)
    assert (begun.status, begun.started_at, begun.reason) == (Status.RUNNING, NOW, "started by ada")
    assert [wave.stores for wave in begun.waves] == [("a",), ("b", "c")]
    assert fresh_records(waves) == [StoreRecord("a", 0), StoreRecord("b", 1), StoreRecord("c", 1)]


def test_the_next_wave_that_waits_for_a_word_is_the_one_approved() -> None:
    spec = [
        {"name": "w1", "size": 1},
        {"name": "w2", "size": 1, "approval": True},
        {"name": "w3", "approval": True},
    ]
    begun = started(rollout(waves=spec), [["a"], ["b"], ["c"]], "ada", NOW)
    assert wave_to_approve(begun) == 1
    rejected = decided(begun, 1, Approval(False, "bob", NOW))
    assert wave_to_approve(rejected) == 1, "somebody may change their mind"
    approved = decided(rejected, 1, Approval(True, "bob", NOW, "fine"))
    assert wave_to_approve(approved) == 2


def test_the_wave_that_failed_is_forgotten_when_the_rollout_runs_again() -> None:
    begun = started(rollout(), [["a"]], "ada", NOW)
    paused = with_status(begun, Status.PAUSED, "gate health failed", NOW)
    assert (paused.status, paused.ended_at) == (Status.PAUSED, None)
    assert with_status(paused, Status.RUNNING, "again", NOW).failed_wave is None
    assert with_status(paused, Status.ABORTED, "enough", NOW).ended_at == NOW


@pytest.mark.parametrize(
    ("record", "again"),
    [
        pytest.param(StoreRecord("a", 0, failed_at=NOW), True, id="failed"),
        pytest.param(StoreRecord("a", 0, failed_at=NOW, skipped="bob"), False, id="skipped"),
        pytest.param(StoreRecord("a", 0, failed_at=NOW, restoring=UUID(int=1)), False, id="going back"),
        pytest.param(StoreRecord("a", 0, ready_at=NOW), False, id="ready"),
        pytest.param(StoreRecord("a", 0), False, id="not its turn yet"),
    ],
)
def test_only_stores_that_failed_are_tried_again(record: StoreRecord, again: bool) -> None:
    found = to_retry([record])
    assert bool(found) == again
    if again:
        assert (found[0].failed_at, found[0].attempts) == (None, 1)
