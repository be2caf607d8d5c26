"""What gates say: tables for each kind, and rules that hold for all of them."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.domain.golden import GoldenResult
from controller.domain.rollout.evidence import (
    CameraNow,
    Cluster,
    Evidence,
    External,
    Heartbeat,
    StoreEvidence,
)
from controller.domain.rollout.gates import judge
from controller.domain.rollout.spec import RolloutSpec
from controller.domain.rollout.state import GateVerdict, Rollout, Status, Verdict, WaveState
from controller.domain.shadow import ShadowResult

READY = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
NOW = READY + timedelta(hours=2)
DIGEST = "sha256:" + "a" * 64
NEW = UUID(int=2)
MINUTE = timedelta(minutes=1)
PASS, FAIL, OPEN = Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE


def camera(**changes: Any) -> CameraNow:
    values: dict[str, Any] = {
        "camera": "cam-1",
        "deployment": NEW,
        "observed_at": NOW,
        "status": "online",
        "fps_inferred": 5.0,
        "fps_wanted": 5.0,
        "frame_age_s": 0.2,
        "inference_ms": 20.0,
        "inference_ms_before": 20.0,
    }
    return CameraNow(**values | changes)


def heart(**changes: Any) -> Heartbeat:
    flat = [(READY + i * 5 * MINUTE, 500.0) for i in range(24)]
    values: dict[str, Any] = {
        "device": "node-1",
        "deployment": NEW,
        "observed_at": NOW,
        "memory_percent": 40.0,
        "memory_mb": flat,
    }
    return Heartbeat(**values | changes)


def store(name: str, **changes: Any) -> StoreEvidence:
    values: dict[str, Any] = {
        "labels": {"hardware": "nano"},
        "deployment": NEW,
        "ready_at": READY,
        "cluster": Cluster(NEW, "ready"),
        "heartbeats": (heart(),),
        "cameras": (camera(),),
        "cached_models": frozenset({DIGEST}),
        "cached_at": NOW,
    }
    return StoreEvidence(name, **values | changes)


def ask(
    gate: Mapping[str, Any],
    stores: Sequence[StoreEvidence],
    external: Sequence[External] = (),
    *,
    now: datetime = NOW,
    soak: str = "1h",
    failures: Any = 0,
) -> GateVerdict:
    spec = RolloutSpec.model_validate(
        {
            "name": "r",
            "release": "v2",
            "strata": ["hardware"],
            "waves": [{"name": "canary", "soak": soak}],
            "limits": {"failures": failures},
            "gates": [gate],
        }
    )
    waves = (WaveState(tuple(s.store for s in stores), opened_at=READY),)
    rollout = Rollout(spec, Status.RUNNING, READY, "x", started_at=READY - MINUTE, waves=waves)
    (verdict,) = judge(rollout, 0, Evidence(DIGEST, {s.store: s for s in stores}), external, now)
    return verdict


def leak(mb_per_h: float) -> Heartbeat:
    return heart(memory_mb=[(READY + i * 5 * MINUTE, 500 + mb_per_h * i / 12) for i in range(24)])


HEALTH = {"kind": "health"}
PERFORMANCE = {"kind": "performance"}


@pytest.mark.parametrize(
    ("changes", "verdict", "words"),
    [
        ({}, PASS, "2 stores healthy"),
        ({"cluster": Cluster(NEW, "failed", "crash loop")}, FAIL, "berlin-01: crash loop"),
        ({"cluster": Cluster(NEW, "progressing", "0 of 1")}, OPEN, "berlin-01: 0 of 1"),
        ({"cluster": Cluster(UUID(int=9), "ready")}, OPEN, "has not told of this deployment"),
        ({"cluster": None}, OPEN, "has not told of this deployment"),
        ({"heartbeats": (heart(restarts=2),)}, FAIL, "restarted 2 times"),
        ({"heartbeats": (heart(restarts=1),)}, PASS, "healthy"),
        ({"heartbeats": ()}, OPEN, "no telemetry of the new model from berlin-01 yet"),
        ({"heartbeats": (heart(deployment=UUID(int=9)),)}, OPEN, "no telemetry of the new model"),
        ({"heartbeats": (heart(observed_at=READY - MINUTE),)}, OPEN, "no telemetry of the new model"),
        ({"heartbeats": (heart(observed_at=NOW - 9 * MINUTE),)}, OPEN, "no telemetry from berlin-01 since"),
        ({"heartbeats": (heart(), heart(deployment=None))}, OPEN, "1 of 2 nodes of berlin-01"),
        ({"ready_at": None}, OPEN, "berlin-01 is not ready yet"),
        ({"reachable": False, "heartbeats": ()}, PASS, "Out of reach, not judged: berlin-01"),
        ({"left_out": "skipped by anna", "heartbeats": ()}, PASS, "1 stores healthy"),
    ],
)
def test_health(changes: dict[str, Any], verdict: Verdict, words: str) -> None:
    said = ask(HEALTH, [store("berlin-01", **changes), store("berlin-02")])
    assert (said.verdict, words in said.reason) == (verdict, True), said.reason


def test_health_allows_as_many_failures_as_the_rollout() -> None:
    bad = store("berlin-01", cluster=Cluster(NEW, "failed", "crash loop"))
    assert ask(HEALTH, [bad, store("berlin-02")], failures=1).verdict is PASS


@pytest.mark.parametrize(
    ("changes", "verdict", "words"),
    [
        ({}, PASS, "frame rate 1 at worst"),
        (
            {"cameras": (camera(fps_inferred=3.0),)},
            FAIL,
            "frame rate 0.6 of what is asked for in hardware=mini",
        ),
        ({"cameras": (camera(frame_age_s=9.0),)}, FAIL, "frame age 9 s in hardware=mini"),
        ({"cameras": (camera(inference_ms=50.0),)}, FAIL, "inference time 2.5 times that before"),
        ({"heartbeats": (heart(memory_percent=95.0),)}, FAIL, "memory 95%"),
        ({"heartbeats": (leak(120.0),)}, FAIL, "memory growth 120 MB/h in hardware=mini"),
        ({"heartbeats": (leak(20.0),)}, PASS, ""),
        ({"cameras": (camera(frame_age_s=None),)}, OPEN, "frame age is not known of hardware=mini"),
        ({"cameras": (camera(inference_ms_before=None),)}, OPEN, "inference time is not known"),
        ({"cameras": (camera(fps_wanted=None),)}, OPEN, "frame rate is not known"),
        ({"cameras": ()}, OPEN, "frame rate is not known"),
        ({"cameras": (camera(deployment=None),)}, OPEN, "frame rate is not known"),
        ({"cameras": (camera(), camera(status="dark", fps_inferred=0.0))}, PASS, ""),
        ({"cameras": (camera(), camera(), camera(fps_inferred=0.1))}, PASS, ""),
        ({"heartbeats": (heart(memory_mb=[]),)}, OPEN, "memory growth is not known of hardware=mini"),
    ],
)
def test_performance_of_the_worst_stratum(changes: dict[str, Any], verdict: Verdict, words: str) -> None:
    others = [store(f"berlin-{i}") for i in range(3)]
    said = ask(PERFORMANCE, [*others, store("paris-01", labels={"hardware": "mini"}, **changes)])
    assert (said.verdict, words in said.reason) == (verdict, True), said.reason


def test_a_short_soak_judges_no_memory_trend_and_says_so() -> None:
    said = ask(PERFORMANCE, [store("a", heartbeats=(leak(500.0),))], soak="10m")
    assert said.verdict is PASS
    assert "memory growth not judged" in said.reason


def test_growth_that_may_be_chance_waits() -> None:
    chance = random.Random(2)
    noisy = [(READY + i * 5 * MINUTE, 500 + 8 * i + chance.gauss(0, 40)) for i in range(14)]
    said = ask(PERFORMANCE, [store("a", heartbeats=(heart(memory_mb=noisy),))])
    assert said.verdict is OPEN
    assert "not certain yet" in said.reason


@pytest.mark.parametrize(
    ("minutes", "bad", "verdict"), [(30, False, OPEN), (30, True, FAIL), (61, False, PASS), (61, True, FAIL)]
)
def test_before_the_end_of_the_soak_a_gate_may_fail_but_not_pass(
    minutes: int, bad: bool, verdict: Verdict
) -> None:
    at = READY + minutes * MINUTE
    beat = heart(observed_at=at, restarts=5 if bad else 0)
    said = ask(HEALTH, [store("a", heartbeats=(beat,))], now=at)
    assert said.verdict is verdict
    assert said.observed_at == at
    if verdict is OPEN:
        assert "a has run it for 30m of 1h" in said.reason


def golden(recall: float = 0.95, error: float = 0.1, **changes: Any) -> GoldenResult:
    result = GoldenResult(DIGEST, READY, {"cola": recall, "milk": 0.99}, {"cola": error, "milk": 0.0})
    return replace(result, **changes)


@pytest.mark.parametrize(
    ("result", "verdict", "words"),
    [
        (golden(), PASS, "recall 0.95 and count error 0.1 at worst"),
        (golden(recall=0.5), FAIL, "a: recall of cola is 0.5 (at least 0.9)"),
        (golden(error=0.9), FAIL, "a: count error of cola is 0.9 (at most 0.5)"),
        (golden(model_digest="sha256:" + "b" * 64), OPEN, "no golden result of the new model from a"),
        (golden(at=READY - timedelta(days=1)), OPEN, "no golden result of the new model from a"),
        (golden(count_error={}), OPEN, "lacks recall or count error"),
        (None, OPEN, "no golden result of the new model from a"),
    ],
)
def test_golden(result: GoldenResult | None, verdict: Verdict, words: str) -> None:
    said = ask({"kind": "golden"}, [store("a", golden=result), store("b", golden=golden())])
    assert (said.verdict, words in said.reason) == (verdict, True), said.reason


@pytest.mark.parametrize(
    ("changes", "verdict", "words"),
    [
        ({"ready_at": None, "golden": golden(recall=0.5)}, FAIL, "b: recall of cola is 0.5"),
        ({"reachable": False, "golden": golden(recall=0.5)}, FAIL, "b: recall of cola is 0.5"),
        ({"ready_at": None}, OPEN, "b is not ready yet"),
        ({"golden": golden(refusal="node-1: cola is lost")}, FAIL, "b: node-1: cola is lost"),
        ({"golden": golden(devices=frozenset({"node-9"}))}, OPEN, "no golden result of b from node-1"),
        ({"golden": golden(devices=frozenset({"node-1"}))}, PASS, "in 2 stores"),
        ({"left_out": "skipped by ann", "golden": golden(recall=0.5)}, PASS, "in 1 stores"),
        ({"brought": False}, PASS, "in 1 stores"),
    ],
)
def test_a_store_that_its_nodes_keep_from_being_ready_fails_the_golden_gate(
    changes: dict[str, Any], verdict: Verdict, words: str
) -> None:
    said = ask({"kind": "golden"}, [store("a", golden=golden()), store("b", **changes)])
    assert (said.verdict, words in said.reason) == (verdict, True), said.reason
    if verdict is FAIL:
        assert said.observed_at == READY


def test_a_wave_that_ran_the_release_before_is_not_waited_for() -> None:
    for kind in ("golden", "quality"):
        said = ask({"kind": kind}, [store("a", brought=False)])
        assert (said.verdict, said.reason) == (PASS, "every store ran the release before")


def shadow(only: int, frames: int = 500, **changes: Any) -> ShadowResult:
    result = ShadowResult(DIGEST, READY, frames, 1000 - only, {"cola": only}, {}, 12.0)
    return replace(result, **changes)


@pytest.mark.parametrize(
    ("results", "verdict", "words"),
    [
        ([shadow(20), shadow(30)], PASS, "of detections differ at worst, in 1000 frames of 2 stores"),
        ([shadow(300), shadow(300)], FAIL, "30.0% of detections differ in all stores (cola 600)"),
        ([shadow(10, frames=50)], OPEN, "50 frames compared in 1 stores; 200 are needed"),
        ([shadow(10, at=READY - timedelta(days=1))], OPEN, "0 frames compared"),
        ([shadow(10, cpu_percent=50.0)], PASS, "over the CPU budget of 20%: s-0"),
        ([], OPEN, "0 frames compared"),
    ],
)
def test_shadow_is_judged_before_the_wave_begins(
    results: list[ShadowResult], verdict: Verdict, words: str
) -> None:
    stores = [
        StoreEvidence(f"s-{i}", {"hardware": "nano"}, shadow=result) for i, result in enumerate(results)
    ]
    said = ask({"kind": "shadow"}, stores or [StoreEvidence("s-0")])
    assert (said.verdict, words in said.reason) == (verdict, True), said.reason


@pytest.mark.parametrize(
    ("missing", "verdict", "words"),
    [(0, PASS, "50 of 50"), (1, PASS, "not yet: s-0"), (2, OPEN, "48 of 50 (96%) stores hold the model")],
)
def test_staged(missing: int, verdict: Verdict, words: str) -> None:
    stores = [
        StoreEvidence(f"s-{i}", cached_models=frozenset({DIGEST} if i >= missing else ()), cached_at=NOW)
        for i in range(50)
    ]
    said = ask({"kind": "staged"}, stores)
    assert (said.verdict, words in said.reason) == (verdict, True), said.reason
    old = [replace(s, cached_at=READY - timedelta(days=1)) for s in stores]
    assert ask({"kind": "staged"}, old).verdict is OPEN


WEBHOOK = {"kind": "webhook", "url": "https://example.com/gate"}


@pytest.mark.parametrize(
    ("answers", "verdict", "words"),
    [
        ([External(0, PASS, "sales fine", NOW - MINUTE)], PASS, "sales fine"),
        ([External(0, FAIL, "sales gone", NOW - MINUTE)], FAIL, "sales gone"),
        ([External(0, PASS, "x", NOW - 2 * MINUTE), External(0, FAIL, "y", NOW - MINUTE)], FAIL, "y"),
        ([External(0, PASS, "x", NOW - 20 * MINUTE)], OPEN, "last asked at"),
        ([External(0, PASS, "x", READY - MINUTE)], OPEN, "asked before the wave's last store was ready"),
        ([External(0, PASS, "x", NOW - MINUTE, wave=1)], OPEN, "not asked yet"),
        ([External(3, PASS, "x", NOW - MINUTE)], OPEN, "not asked yet"),
        ([], OPEN, "not asked yet"),
    ],
)
def test_answers_from_outside(answers: list[External], verdict: Verdict, words: str) -> None:
    said = ask(WEBHOOK, [store("a")], answers)
    assert (said.verdict, words in said.reason) == (verdict, True), said.reason


def test_a_wave_of_which_nothing_is_known_is_inconclusive() -> None:
    gates = [HEALTH, PERFORMANCE, {"kind": "quality"}, {"kind": "golden"}, WEBHOOK]
    away = [StoreEvidence(f"s-{i}", reachable=False) for i in range(3)]
    for gate in gates:
        said = ask(gate, away)
        assert said.verdict is OPEN
        assert "s-0" in said.reason


times = st.integers(-300, 130).map(lambda minutes: READY + minutes * MINUTE)
ids = st.sampled_from([NEW, UUID(int=9), None])
hearts = st.builds(heart, deployment=ids, observed_at=times, restarts=st.integers(0, 3))
some_stores = st.builds(
    store,
    st.sampled_from(["a", "b", "c", "d"]),
    reachable=st.booleans(),
    ready_at=st.none() | times,
    heartbeats=st.lists(hearts, max_size=2).map(tuple),
    cluster=st.none() | st.builds(Cluster, ids, st.sampled_from(["ready", "failed", "progressing"])),
    golden=st.none() | st.builds(golden, at=times),
    left_out=st.sampled_from(["", "skipped"]),
)


@settings(max_examples=150, deadline=None)
@given(
    stores=st.lists(some_stores, min_size=1, max_size=4, unique_by=lambda s: s.store),
    gate=st.sampled_from([HEALTH, PERFORMANCE, {"kind": "golden"}, WEBHOOK]),
    at=times,
)
def test_no_gate_passes_on_stale_evidence(
    stores: list[StoreEvidence], gate: Mapping[str, Any], at: datetime
) -> None:
    """A pass needs, of every reachable store that counts, a heartbeat of the new deployment, recent and later
    than the soak; a failure at least one that names the deployment and came after it was ready."""
    answers = [External(0, PASS, "fine", at)]
    said = ask(gate, stores, answers)
    counting = [s for s in stores if s.reachable and not s.left_out]
    fresh = [
        any(
            s.ready_at is not None
            and h.deployment == s.deployment
            and h.observed_at >= s.ready_at + timedelta(hours=1)
            and NOW - h.observed_at <= timedelta(minutes=3)
            for h in s.heartbeats
        )
        for s in counting
    ]
    if said.verdict is PASS:
        assert fresh
        assert all(fresh)
    if said.verdict is FAIL:
        assert any(
            s.ready_at is not None and h.deployment == NEW and h.observed_at >= s.ready_at
            for s in counting
            for h in s.heartbeats
        )
    assert said.observed_at <= NOW
    assert said.reason


@settings(max_examples=40, deadline=None)
@given(
    stores=st.lists(some_stores, min_size=2, max_size=4, unique_by=lambda s: s.store),
    gate=st.sampled_from([HEALTH, PERFORMANCE, {"kind": "golden"}]),
    chance=st.randoms(),
)
def test_the_order_of_evidence_does_not_matter(
    stores: list[StoreEvidence], gate: Mapping[str, Any], chance: random.Random
) -> None:
    mixed = list(stores)
    chance.shuffle(mixed)
    assert ask(gate, mixed) == ask(gate, stores)
