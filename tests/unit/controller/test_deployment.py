"""What to do about a store, as a table: what it should run, what was seen, what follows."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.domain.deployment import (
    BACKOFF_MAX_S,
    Action,
    Attempts,
    Desired,
    Observed,
    State,
    Unreachable,
    backoff,
    decide,
    wake_pause,
)

NOW = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
DESIRED = Desired("r2", "v2", since=NOW - timedelta(seconds=30))
LATE = Desired("r2", "v2", since=NOW - timedelta(minutes=11))
RUNNING = Observed("r2", generation=3, observed_generation=3, desired=2, ready=2, updated=2)


@pytest.mark.parametrize(
    ("desired", "observed", "action", "state", "words"),
    [
        pytest.param(
            DESIRED, Observed(None), Action.APPLY, State.PROGRESSING, "applying v2", id="nothing-there"
        ),
        pytest.param(
            DESIRED, replace(RUNNING, rollout_id="r1"), Action.APPLY, State.PROGRESSING, "over rollout r1",
            id="older-rollout",
        ),
        pytest.param(
            DESIRED, replace(RUNNING, rollout_id="r1", drift=("x",)), Action.APPLY, State.PROGRESSING, "v2",
            id="drift-of-an-older-rollout-is-simply-replaced",
        ),
        pytest.param(
            DESIRED, replace(RUNNING, drift=("image is evil:1",)), Action.REPAIR_DRIFT, State.PROGRESSING,
            "image is evil:1", id="drift",
        ),
        pytest.param(
            DESIRED, replace(RUNNING, observed_generation=2), Action.WAIT, State.PROGRESSING, "not yet",
            id="status-is-of-an-older-generation",
        ),
        pytest.param(
            DESIRED, replace(RUNNING, updated=1), Action.WAIT, State.PROGRESSING, "1 of 2 nodes", id="half"
        ),
        pytest.param(
            DESIRED, replace(RUNNING, updated=1, blocked=True, problems=("no secret",)), Action.BLOCKED,
            State.BLOCKED, "no secret", id="waits-for-a-person",
        ),
        pytest.param(
            DESIRED, replace(RUNNING, updated=1, problems=("node n: image x cannot be pulled",)), Action.WAIT,
            State.PROGRESSING, "cannot be pulled", id="problem-is-named-at-once",
        ),
        pytest.param(
            LATE, replace(RUNNING, updated=1), Action.FAILED, State.FAILED, "not ready after 10 minutes",
            id="deadline-passed",
        ),
        pytest.param(
            LATE, replace(RUNNING, observed_generation=2), Action.FAILED, State.FAILED, "not yet",
            id="cluster-controller-is-dead",
        ),
        pytest.param(LATE, RUNNING, Action.READY, State.READY, "2 of 2", id="late-but-ready"),
        pytest.param(DESIRED, RUNNING, Action.READY, State.READY, "v2 ready on 2 of 2 nodes", id="ready"),
        pytest.param(
            DESIRED, replace(RUNNING, degraded=("no surge",)), Action.READY, State.READY, "no surge",
            id="ready-on-an-old-cluster",
        ),
        pytest.param(
            DESIRED, replace(RUNNING, desired=0, ready=0, updated=0), Action.BLOCKED, State.BLOCKED,
            "no camera node", id="no-node",
        ),
        pytest.param(
            DESIRED, Unreachable("no route"), Action.BACKOFF, State.UNREACHABLE, "no route", id="unreachable"
        ),
        pytest.param(
            DESIRED, Unreachable("bad token", permanent=True), Action.BLOCKED, State.BLOCKED, "bad token",
            id="refused",
        ),
    ],
)  # fmt: skip
def test_decision(
    desired: Desired, observed: Observed | Unreachable, action: Action, state: State, words: str
) -> None:
    decision = decide(desired, observed, NOW)
    assert (decision.action, decision.state) == (action, state)
    assert words in decision.reason
    assert decision.check_after > 0


def test_unreachable_store_is_asked_less_and_less_often_but_never_forgotten() -> None:
    pauses = [
        decide(DESIRED, Unreachable("x"), NOW, attempts=Attempts(failures=n), jitter=0.5).check_after
        for n in range(20)
    ]
    assert pauses == sorted(pauses)
    assert pauses[0] < 1.0
    assert pauses[-1] <= BACKOFF_MAX_S


def test_server_that_asks_for_a_pause_gets_it() -> None:
    decision = decide(DESIRED, Unreachable("busy", retry_after=42.0), NOW)
    assert decision.check_after >= 42.0


def test_repairing_the_same_drift_over_and_over_slows_down() -> None:
    seen = replace(RUNNING, drift=("x",))
    pauses = [decide(DESIRED, seen, NOW, attempts=Attempts(repairs=n)).check_after for n in (0, 3, 6)]
    assert pauses[0] < pauses[1] < pauses[2]


@given(st.integers(0, 10_000), st.floats(0, 1, exclude_max=True))
def test_backoff_is_bounded_and_positive(failures: int, jitter: float) -> None:
    assert 0 < backoff(failures, jitter) <= BACKOFF_MAX_S


@given(
    st.builds(
        Observed,
        rollout_id=st.sampled_from([None, "r1", "r2"]),
        generation=st.integers(0, 3),
        observed_generation=st.integers(0, 3),
        desired=st.integers(0, 3),
        ready=st.integers(0, 3),
        updated=st.integers(0, 3),
        problems=st.sampled_from([(), ("p",)]),
        drift=st.sampled_from([(), ("d",)]),
    )
)
def test_only_the_right_rollout_seen_whole_and_undrifted_is_ready(seen: Observed) -> None:
    decision = decide(DESIRED, seen, NOW)
    assert (decision.state is State.READY) == (
        seen.rollout_id == "r2"
        and not seen.drift
        and seen.observed_generation >= seen.generation
        and 0 < seen.desired <= seen.updated
    )


def test_looks_out_of_turn_become_rare_while_they_are_in_vain() -> None:
    assert [wake_pause(n) for n in range(7)] == [10, 20, 40, 80, 160, 300, 300]
    assert wake_pause(10**6) == BACKOFF_MAX_S


def test_stores_that_became_ready_together_drift_apart() -> None:
    """Looked at every 60 s at first, then anywhere between the half of it and all of it."""
    pauses = [decide(DESIRED, RUNNING, NOW, jitter=j, resync_s=60).check_after for j in (0.0, 0.5, 1.0)]
    assert pauses == [60, 45, 30]
