"""What the centre says of a store that it cannot ask, and what a deployer refuses to take in."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.deployment import DesiredState, ObservedWorkload, ReportedState, Trouble, decode_reported
from controller.domain.deployment import Action, Desired, Observed, State, decide
from controller.domain.pull import (
    Heard,
    Published,
    is_lost,
    next_generation,
    observed_of,
    refusal_of,
    workload_report,
)

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
OLD, NEW = str(UUID(int=1)), str(UUID(int=2))
D3, D4 = "sha256:" + "3" * 64, "sha256:" + "4" * 64
TOLD = Published(4, D4, "content", NEW)
RUNS = ObservedWorkload(
    rollout_id=NEW, generation=2, observed_generation=2, desired=2, ready=2, updated=2, images=("a:2",)
)


def heard(ago_s: float = 1, **changes: Any) -> Heard:
    fields = {"store": "berlin-01", "at": NOW, "interval_s": 10, "generation": 4, "digest": D4}
    report = ReportedState.model_validate({**fields, "workload": RUNS, **changes})
    return Heard(report, NOW - timedelta(seconds=ago_s))


BEFORE: dict[str, Any] = {
    "generation": 3,
    "digest": D3,
    "workload": RUNS.model_copy(update={"rollout_id": OLD}),
}


@pytest.mark.parametrize(
    ("published", "known", "action", "state", "words"),
    [
        pytest.param(None, None, Action.APPLY, State.PROGRESSING, "applying v2", id="nothing-known"),
        pytest.param(TOLD, None, Action.BACKOFF, State.UNREACHABLE, "has never reported", id="never-came"),
        pytest.param(TOLD, heard(), Action.READY, State.READY, "ready on 2 of 2", id="as-told"),
        pytest.param(
            TOLD, heard(31), Action.BACKOFF, State.UNREACHABLE, "since 2026-03-01 11:59:29 UTC", id="silent"
        ),
        pytest.param(TOLD, heard(29), Action.READY, State.READY, "ready", id="late-but-not-silent"),
        pytest.param(
            TOLD, heard(1, status="stopped"), Action.BACKOFF, State.UNREACHABLE, "was stopped", id="stopped"
        ),
        pytest.param(
            TOLD, heard(**BEFORE), Action.WAIT, State.PROGRESSING, "waiting for the store's deployer",
            id="on-the-way",
        ),
        pytest.param(
            replace(TOLD, rollout_id=OLD, generation=3, digest=D3), heard(99, **BEFORE), Action.APPLY,
            State.PROGRESSING, "over rollout", id="a-silent-store-is-told-all-the-same",
        ),
        pytest.param(
            TOLD, heard(**{**BEFORE, "refused_digest": D4, "refusal": "signed by key 0"}), Action.BLOCKED,
            State.BLOCKED, "refuses what the centre published: signed by key 0", id="refused",
        ),
        pytest.param(
            TOLD, heard(**{**BEFORE, "generation": 9}), Action.APPLY, State.PROGRESSING, "over rollout",
            id="the-store-knows-a-newer-generation",
        ),
        pytest.param(
            TOLD, heard(**{**BEFORE, "generation": 4}), Action.APPLY, State.PROGRESSING, "over rollout",
            id="two-states-of-one-generation",
        ),
        pytest.param(None, heard(), Action.READY, State.READY, "ready", id="centre-and-broker-forgot"),
        pytest.param(
            TOLD, heard(workload=BEFORE["workload"]), Action.WAIT, State.PROGRESSING, "is applying it",
            id="taken-in-but-not-applied",
        ),
        pytest.param(
            TOLD, heard(workload=BEFORE["workload"], trouble=Trouble(error="quota", permanent=True)),
            Action.BLOCKED, State.BLOCKED, "quota", id="cannot-be-applied",
        ),
        pytest.param(
            TOLD, heard(trouble=Trouble(error="apiserver is away")), Action.BACKOFF, State.UNREACHABLE,
            "apiserver is away", id="cluster-does-not-answer",
        ),
        pytest.param(
            TOLD, heard(workload=RUNS.model_copy(update={"drift": ("image is evil",)})), Action.REPAIR_DRIFT,
            State.PROGRESSING, "image is evil", id="drift",
        ),
        pytest.param(
            TOLD, heard(workload=RUNS.model_copy(update={"updated": 1, "problems": ("no image",)})),
            Action.WAIT, State.PROGRESSING, "no image", id="problems-of-nodes",
        ),
    ],
)  # fmt: skip
def test_what_follows_from_what_is_known(
    published: Published | None, known: Heard | None, action: Action, state: State, words: str
) -> None:
    observed = observed_of(published, known, NOW)
    decision = decide(Desired(NEW, "v2", NOW), observed, NOW)
    assert (decision.action, decision.state) == (action, state)
    assert words in decision.reason


@given(
    st.none()
    | st.builds(Published, st.integers(1, 50), st.sampled_from([D3, D4]), st.just("c"), st.just(NEW)),
    st.none() | st.integers(0, 50),
)
def test_the_next_generation_is_above_all_that_the_store_may_know(
    published: Published | None, reported: int | None
) -> None:
    report = None if reported is None else heard(generation=reported).report
    following = next_generation(published, report)
    assert following > (published.generation if published else 0)
    assert following > (reported or 0)
    assert not is_lost(Published(following, "new", "c", NEW), report)


def manifest(kind: str, **metadata: Any) -> dict[str, Any]:
    name = "storefleet-agent" if kind == "DaemonSet" else "storefleet-agent-0123"
    labels = {"storefleet.io/store": "berlin-01"}
    return {
        "apiVersion": "apps/v1" if kind == "DaemonSet" else "v1",
        "kind": kind,
        "metadata": {"name": name, "namespace": "storefleet", "labels": labels, **metadata},
    }


STATE = DesiredState(
    store="berlin-01",
    generation=4,
    rollout_id=UUID(int=2),
    namespace="storefleet",
    daemon_set=manifest("DaemonSet"),
    config_map=manifest("ConfigMap"),
    issued_at=NOW,
)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, ""),
        ({"store": "paris-02"}, "it is for store 'paris-02'"),
        ({"namespace": "kube-system"}, "namespace 'kube-system'"),
        ({"generation": 3}, "generation 3 is not newer than 3"),
        ({"generation": 2}, "not newer"),
        ({"daemon_set": manifest("DaemonSet", name="kube-proxy")}, "its DaemonSet"),
        ({"daemon_set": manifest("DaemonSet", namespace="kube-system")}, "its DaemonSet"),
        ({"daemon_set": manifest("DaemonSet", labels={})}, "its DaemonSet"),
        ({"daemon_set": manifest("ClusterRole")}, "its DaemonSet"),
        ({"daemon_set": {}}, "its DaemonSet"),
        ({"config_map": manifest("ConfigMap", name="kube-root-ca.crt")}, "its ConfigMap"),
        ({"config_map": manifest("Secret")}, "its ConfigMap"),
        ({"config_map": {"metadata": []}}, "its ConfigMap"),
        ({"rollout_id": None, "daemon_set": None, "config_map": None}, ""),
    ],
)
def test_a_deployer_takes_in_what_is_newer_and_its_own(changes: dict[str, Any], words: str) -> None:
    refusal = refusal_of(STATE.model_copy(update=changes), "berlin-01", "storefleet", newest=3)
    assert words in refusal
    assert bool(words) == bool(refusal)


def test_what_is_seen_fits_into_a_report_however_long_it_is() -> None:
    long = Observed(NEW, 2, 2, 9, 9, 9, problems=("x" * 5000,) * 500, images=("i" * 999,) * 500)
    report = heard(workload=workload_report(long)).report
    assert decode_reported(report.to_bytes()) == report
