"""Which pods of a local node start and stop, as a table."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.adapters.local.surge import Plan, PodView, plan


def pod(name: str, template: str, state: str = "ready") -> PodView:
    """``state``: ``ready``, ``was`` (ready before, not now), ``new`` (never ready) or ``going``."""
    return PodView(name, template, state == "ready", state in ("ready", "was"), state == "going")


@pytest.mark.parametrize(
    ("wanted", "pods", "expected"),
    [
        pytest.param("v1", [], Plan(True, ()), id="first-start"),
        pytest.param("v1", [pod("1", "v1", "new")], Plan(False, ()), id="starting"),
        pytest.param("v2", [pod("1", "v1")], Plan(True, ()), id="surge-beside-the-old"),
        pytest.param("v2", [pod("1", "v1"), pod("2", "v2", "new")], Plan(False, ()), id="old-waits-for-new"),
        pytest.param("v2", [pod("1", "v1"), pod("2", "v2")], Plan(False, ("1",)), id="hand-over"),
        pytest.param("v2", [pod("1", "v1", "was")], Plan(True, ()), id="crashed-old-one-is-still-kept"),
        pytest.param("v2", [pod("1", "v1", "new")], Plan(True, ("1",)), id="never-ready-one-goes-at-once"),
        pytest.param(
            "v3", [pod("1", "v1"), pod("2", "v2", "new")], Plan(True, ("2",)), id="bad-release-in-the-middle"
        ),
        pytest.param(
            "v1", [pod("1", "v1"), pod("2", "v2", "new")], Plan(False, ("2",)), id="back-to-the-running-one"
        ),
        pytest.param("v1", [pod("1", "v1", "going")], Plan(True, ()), id="wanted-again-while-going"),
        pytest.param(
            None, [pod("1", "v1"), pod("2", "v2", "new")], Plan(False, ("1", "2")), id="nothing-wanted"
        ),
    ],
)
def test_plan(wanted: str | None, pods: list[PodView], expected: Plan) -> None:
    assert plan(wanted, pods) == expected


@given(
    st.sampled_from(["v1", "v2", "v3"]),
    st.lists(
        st.tuples(st.sampled_from(["v1", "v2", "v3"]), st.sampled_from(["ready", "was", "new", "going"]))
    ),
)
def test_a_watching_agent_is_never_stopped_before_another_is_ready(
    wanted: str, made: list[tuple[str, str]]
) -> None:
    pods = [pod(f"{number:03}", template, state) for number, (template, state) in enumerate(made)]
    stopped = plan(wanted, pods).stop
    ready = [p for p in pods if p.ready]
    if ready:
        assert any(p.name not in stopped for p in ready)
