"""The quality gate on small fleets whose truth is known."""

import random
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.domain.quality import BUCKET, QualityBucket
from controller.domain.rollout.evidence import Cluster, Evidence, Heartbeat, StoreEvidence
from controller.domain.rollout.gates import judge
from controller.domain.rollout.hours import choose, pairs
from controller.domain.rollout.spec import RolloutSpec
from controller.domain.rollout.state import GateVerdict, Rollout, Status, Verdict, WaveState

READY = datetime(2026, 5, 20, 12, 3, tzinfo=UTC)
OLD, NEW = UUID(int=1), UUID(int=2)
OLD_MODEL, NEW_MODEL = "sha256:" + "0" * 64, "sha256:" + "1" * 64
CLASSES = ("cola", "milk", "soap")
PASS, FAIL, OPEN = Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE

Change = Callable[[str, dict[str, float]], dict[str, float]]


def unchanged(_store: str, rates: dict[str, float]) -> dict[str, float]:
    return rates


def without(name: str, *, only: str = "", factor: float = 0.0) -> Change:
    def change(store: str, rates: dict[str, float]) -> dict[str, float]:
        return {k: v * (factor if k == name and only in store else 1.0) for k, v in rates.items()}

    return change


class Shops:
    """Stores whose detections wander by some percent from quarter to quarter and from day to day."""

    def __init__(
        self,
        updated: int,
        controls: int,
        *,
        days: int = 14,
        seed: int = 1,
        quarters: int = 5,
        frames: int = 4500,
    ) -> None:
        self.days, self.quarters, self.frames = days, quarters, frames
        self.updated = [f"new-{'mini' if i % 2 else 'nano'}-{i}" for i in range(updated)]
        self.controls = [f"old-{'mini' if i % 2 else 'nano'}-{i}" for i in range(controls)]
        self._seed = seed
        self.lacks: dict[str, str] = {}

    def history(self, store: str, change: Change, *, update: bool) -> list[QualityBucket]:
        chance = random.Random(f"{self._seed}/{store}")
        base = {name: chance.uniform(2, 6) for name in CLASSES if self.lacks.get(store) != name}
        found = []
        cut = READY.replace(minute=0)
        for back in range(self.days, -1, -1):
            day = {name: rate * chance.lognormvariate(0, 0.1) for name, rate in base.items()}
            for quarter in range(-6, self.quarters):
                at = cut - timedelta(days=back) + quarter * BUCKET
                rates = {name: rate * chance.lognormvariate(0, 0.06) for name, rate in day.items()}
                new = update and back == 0 and quarter >= 0
                if new:
                    rates = change(store, rates)
                counts = {name: int(rate * self.frames) for name, rate in rates.items() if rate}
                found.append(
                    QualityBucket(
                        store,
                        "cam-1",
                        NEW if new else OLD,
                        NEW_MODEL if new else OLD_MODEL,
                        at,
                        self.frames,
                        counts,
                        (0,) * 8 + (sum(counts.values()) // 2, sum(counts.values()) // 2),
                        observed_s=900.0,
                        unknown_s=chance.uniform(0, 20),
                    )
                )
        return found

    def evidence(self, change: Change = unchanged, now: datetime | None = None) -> Evidence:
        now = now or READY + timedelta(minutes=75)
        stores = {}
        for name in self.updated:
            beat = Heartbeat("node-1", NEW, now)
            labels = {"hardware": name.split("-")[1]}
            history = self.history(name, change, update=True)
            stores[name] = StoreEvidence(
                name,
                labels,
                deployment=NEW,
                ready_at=READY,
                cluster=Cluster(NEW, "ready"),
                heartbeats=(beat,),
                quality=history,
            )
        for name in self.controls:
            labels = {"hardware": name.split("-")[1]}
            stores[name] = StoreEvidence(name, labels, quality=self.history(name, change, update=False))
        return Evidence(NEW_MODEL, stores)


def ask(shops: Shops, change: Change = unchanged, *, minutes: int = 75, **gate: Any) -> GateVerdict:
    now = READY + timedelta(minutes=minutes)
    return judged(shops, shops.evidence(change, now), now, **gate)


def judged(shops: Shops, evidence: Evidence, now: datetime, **gate: Any) -> GateVerdict:
    spec = RolloutSpec.model_validate(
        {
            "name": "r",
            "release": "v2",
            "strata": ["hardware"],
            "waves": [{"name": "canary", "soak": "1h"}],
            "gates": [{"kind": "quality"} | gate],
        }
    )
    waves = (WaveState(tuple(shops.updated), opened_at=READY),)
    rollout = Rollout(spec, Status.RUNNING, READY, "x", started_at=READY, waves=waves)
    (verdict,) = judge(rollout, 0, evidence, (), now)
    return verdict


def test_a_fine_model_passes_and_the_reason_says_what_would_have_been_seen() -> None:
    said = ask(Shops(4, 20))
    assert said.verdict is PASS, said.reason
    assert "3 classes in 4 stores as expected" in said.reason
    assert "would have been seen" in said.reason
    assert "compared with 20 stores not updated and 14 earlier days" in said.reason


@pytest.mark.parametrize("stores", [1, 4, 20])
@pytest.mark.parametrize("minutes", [33, 75])
def test_a_class_that_vanished_is_named(stores: int, minutes: int) -> None:
    said = ask(Shops(stores, 20), without("milk"), minutes=minutes)
    assert said.verdict is FAIL, said.reason
    assert "fewer detections of milk per frame" in said.reason
    assert "cola" not in said.reason


def test_no_store_left_to_compare_with_is_said_and_the_own_history_judges() -> None:
    said = ask(Shops(6, 0), without("milk"))
    assert said.verdict is FAIL, said.reason
    assert "no store left to compare with; compared with 14 earlier days of the same stores" in said.reason
    assert ask(Shops(6, 0)).verdict is PASS


def test_without_any_history_the_controls_judge() -> None:
    assert ask(Shops(4, 40, days=0), without("milk")).verdict is FAIL
    assert ask(Shops(4, 40, days=0)).verdict is PASS


def test_neither_history_nor_controls_is_inconclusive() -> None:
    said = ask(Shops(2, 0, days=0), without("milk"))
    assert said.verdict is OPEN
    assert "no class can be judged" in said.reason


def test_a_class_that_no_updated_store_sells_is_not_judged_and_no_failure() -> None:
    shops = Shops(3, 20)
    shops.lacks = dict.fromkeys(shops.updated, "milk")
    said = ask(shops, without("milk"))
    assert said.verdict is PASS
    assert "not judged: milk (not seen in the updated stores before)" in said.reason


def test_a_model_that_is_bad_on_one_hardware_only_fails_there() -> None:
    said = ask(Shops(6, 20), without("soap", only="mini"))
    assert said.verdict is FAIL
    failed = [finding for finding in said.figures["findings"] if finding["failed"]]  # type: ignore[attr-defined]
    assert {f["measure"] for f in failed} == {"class:soap"}
    assert "hardware=mini" in {f["group"] for f in failed}
    assert "hardware=nano" not in {f["group"] for f in failed}


@pytest.mark.parametrize(("factor", "verdict"), [(0.9, PASS), (0.5, FAIL)])
def test_small_changes_are_none_however_certain(factor: float, verdict: Verdict) -> None:
    assert ask(Shops(20, 15), without("milk", factor=factor)).verdict is verdict


def test_what_happens_to_all_stores_is_not_the_models_doing() -> None:
    shops = Shops(4, 20)
    evidence = shops.evidence()
    today = READY.replace(hour=11, minute=59)
    stores = {
        name: replace(
            store,
            quality=[
                replace(b, detections={k: v // (2 if k == "milk" else 1) for k, v in b.detections.items()})
                if b.start >= today
                else b
                for b in store.quality
            ],
        )
        for name, store in evidence.stores.items()
    }
    said = judged(shops, Evidence(NEW_MODEL, stores), READY + timedelta(minutes=75))
    assert said.verdict is PASS, said.reason


@pytest.mark.parametrize(
    ("shops", "minutes", "words"),
    [
        (Shops(2, 10), 20, "waits for 2 full quarters of an hour"),
        (
            Shops(2, 10, frames=20),
            75,
            "frames of the new model from cameras that were online; 500 are needed",
        ),
    ],
)
def test_too_little_is_inconclusive(shops: Shops, minutes: int, words: str) -> None:
    said = ask(shops, without("milk"), minutes=minutes)
    assert said.verdict is OPEN
    assert words in said.reason


def test_frames_of_the_old_model_are_no_evidence_of_the_new_one() -> None:
    shops = Shops(3, 10)
    evidence = shops.evidence(without("milk"))
    stores = {
        name: replace(store, quality=[b for b in store.quality if b.deployment == OLD])
        for name, store in evidence.stores.items()
    }
    assert judged(shops, Evidence(NEW_MODEL, stores), READY + timedelta(minutes=75)).verdict is OPEN


def test_false_alarms_are_rarer_than_alpha_allows() -> None:
    shops = [Shops(2, 8, days=7, seed=seed) for seed in range(100, 115)]
    alarms = sum(ask(shop, alpha=0.1).verdict is FAIL for shop in shops)
    assert alarms <= 4  # 1.5 expected at most; 5 or more with a probability of 1%


@settings(max_examples=4, deadline=None)
@given(chance=st.randoms(), factor=st.sampled_from([0.0, 0.6, 1.0]))
def test_the_order_of_stores_and_buckets_does_not_matter(chance: random.Random, factor: float) -> None:
    shops = Shops(3, 8, days=7)
    now = READY + timedelta(minutes=75)
    evidence = shops.evidence(without("cola", factor=factor), now)
    names = list(evidence.stores)
    chance.shuffle(names)
    mixed = {}
    for name in names:
        buckets = list(evidence.stores[name].quality)
        chance.shuffle(buckets)
        mixed[name] = replace(evidence.stores[name], quality=buckets)
    a, b = judged(shops, evidence, now), judged(shops, Evidence(NEW_MODEL, mixed), now)
    assert a.verdict is b.verdict
    assert _deviations(a) == pytest.approx(_deviations(b), abs=1e-3)


def _deviations(said: GateVerdict) -> list[float]:
    findings: Any = said.figures["findings"]
    return [f["deviation"] for f in sorted(findings, key=lambda f: (f["measure"], f["group"], f["near"]))]


def test_more_frames_of_the_same_keep_the_verdict() -> None:
    """The store is the unit: ten times the frames make nothing more certain."""
    few = ask(Shops(2, 12, frames=450), without("milk", factor=0.8))
    many = ask(Shops(2, 12, frames=45_000), without("milk", factor=0.8))
    assert few.verdict is many.verdict
    assert _deviations(few) == pytest.approx(_deviations(many), abs=0.02)


def test_a_greater_fall_is_never_less_certain() -> None:
    def least_p(factor: float) -> float:
        findings: Any = ask(Shops(3, 12), without("milk", factor=factor)).figures["findings"]
        return min(f["adjusted_p"] for f in findings if f["measure"] == "class:milk")

    p_values = [least_p(factor) for factor in (0.9, 0.6, 0.0)]
    assert p_values == sorted(p_values, reverse=True)


def test_a_closed_shop_is_compared_with_its_last_open_hours() -> None:
    """Updated at night, judged in the morning."""
    evening = [READY.replace(hour=19, minute=0) - timedelta(days=1) + i * BUCKET for i in range(4)]
    ready = READY.replace(hour=2)
    morning = [READY.replace(hour=8, minute=0) + i * BUCKET for i in range(3)]

    def bucket(start: datetime, deployment: UUID) -> QualityBucket:
        model = NEW_MODEL if deployment == NEW else OLD_MODEL
        return QualityBucket("a", "cam-1", deployment, model, start, 100)

    buckets = [bucket(at, OLD) for at in evening] + [bucket(at, NEW) for at in morning]
    hours = choose({"a": buckets}, {"a": NEW}, ready, ready, READY.replace(hour=9))
    assert hours.before == tuple(evening)
    assert hours.after == tuple(morning)
    assert hours.near().before == tuple(evening[-2:])
    found = pairs(buckets, hours, NEW, 1)
    assert (found[0].before.frames, found[0].after.frames) == (400, 300)
    spans = hours.spans()
    assert all(any(first <= at < end for first, end in spans) for at in (*evening, *morning))
    assert len(spans) == 30
