"""Gates on a model before it serves, from the spec to what stores are told and back: the golden set and the
shadow run, judged by the real judge from what nodes reported."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest

from contract.golden import GoldenReport
from contract.shadow import ShadowTelemetry
from contract.signing import Signed
from controller.domain.golden import GoldenSet, take_in
from controller.domain.page import PageRequest
from controller.domain.shadow import take_in as shadow_take_in
from controller.errors import InvalidError
from controller.rollout_judge import GateJudge

MODEL = "sha256:" + "a" * 64
GOLDEN = "sha256:" + "c" * 64
WAVES = [{"name": "canary", "size": 2}, {"name": "rest"}]


class Nobody:
    """Implements ``GateCaller`` for rollouts that ask nobody outside."""

    def post(self, url: str, body: bytes, timeout_s: float) -> bytes:
        raise AssertionError(url)

    def query(self, url: str, query: str, timeout_s: float) -> bytes:
        raise AssertionError(url)


def add_golden_set(fleet: Any) -> None:
    signed = Signed(payload="{}", key_id="0" * 16, signature="c2ln").model_dump()
    with fleet.database.writing() as repositories:
        repositories.golden.add(
            GoldenSet(GOLDEN, "shelf", "1", 10, 2, {"cola-can": 4}, signed, fleet.clock())
        )


@contextmanager
def nodes_that_say(fleet: Any, *, recall: float) -> Iterator[None]:
    """A node of each store replays the golden set as soon as it is demanded of its deployment."""
    stop = threading.Event()

    def replay() -> None:
        while not stop.wait(0.05):
            current = fleet.current()
            with fleet.database.reading() as repositories:
                demanded = {
                    store: one.rollout_id
                    for store, one in current.items()
                    if one.release == "v2" and repositories.golden.demanded(one.rollout_id)
                }
            now = fleet.clock()
            reports = [
                GoldenReport(
                    rollout_id=deployment, at=now, replayed_at=now, model=MODEL, golden=GOLDEN,
                    runtime="openvino", agent_version="1", frames=2, inference_ms_p50=5, inference_ms_p95=6,
                    classes={"cola-can": {"expected": 4, "found": 4, "recall": recall, "count_error": 0.1}},
                    passed=recall > 0.9,
                )
                for deployment in demanded.values()
            ]  # fmt: skip
            told = zip(demanded, reports, strict=True)
            with fleet.database.writing() as repositories:
                repositories.golden.save([take_in(store, "node-1", one, now) for store, one in told])

    thread = threading.Thread(target=replay)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def test_a_model_that_fails_the_golden_set_is_stopped_in_the_canary(fleet: Any) -> None:
    add_golden_set(fleet)
    for shop in fleet.shops.values():
        shop.bad.add("agent:v2")  # its init container fails
    gate = {"kind": "golden", "min_recall": 0.93, "set": "shelf"}
    fleet.begin(waves=WAVES, gates=[gate], limits={"concurrency": "50%"})
    with nodes_that_say(fleet, recall=0.4), fleet.working(GateJudge(fleet.database, Nobody())):
        done = fleet.until_status("rolled_back")
        fleet.until(lambda: set(fleet.running().values()) == {"agent:v1"})
    assert "recall of cola-can is 0.4" in done.reason
    assert done.failed_wave == 0
    records = fleet.records()
    assert {store for store, record in records.items() if record.exposed_at} <= set(done.waves[0].stores)
    exposed = next(record for record in records.values() if record.deployment)
    with fleet.database.reading() as repositories:
        demand = repositories.golden.demanded(exposed.deployment)
        back = repositories.golden.demanded(fleet.current()[exposed.store].rollout_id)
    assert demand is not None
    assert (demand.golden_digest, demand.min_recall) == (GOLDEN, 0.93)
    assert back is None, "going back asks for nothing"


def test_a_golden_gate_needs_a_golden_set(fleet: Any) -> None:
    with pytest.raises(InvalidError) as caught:
        fleet.begin(gates=[{"kind": "golden"}])
    assert "import one with storefleet golden import" in str(caught.value.problems)


def ordered(fleet: Any) -> set[str]:
    with fleet.database.reading() as repositories:
        return {run.store for run in repositories.shadows.page(PageRequest(1000)).items}


def compare(fleet: Any, stores: Any, matched: int, only_candidate: int) -> None:
    now = fleet.clock()
    said = ShadowTelemetry(
        model=MODEL, state="running", since=now - timedelta(minutes=1), frames=100, matched=matched,
        only_candidate=only_candidate, cpu_percent=10,
    )  # fmt: skip
    with fleet.database.writing() as repositories:
        repositories.shadows.save([shadow_take_in(store, "node-1", said, now) for store in stores])


def test_the_next_wave_tries_the_model_in_the_shadow_and_begins_when_both_agree(fleet: Any) -> None:
    begun = fleet.begin(
        waves=WAVES, gates=[{"kind": "shadow", "min_frames": 200}], limits={"concurrency": "50%"}
    )
    canary, rest = (set(wave.stores) for wave in begun.waves)
    with fleet.working(GateJudge(fleet.database, Nobody())):
        fleet.until(lambda: ordered(fleet) == canary)
        assert fleet.rollout().waves[0].opened_at is None
        compare(fleet, canary, matched=980, only_candidate=20)
        fleet.until(lambda: ordered(fleet) == rest)
        assert all(record.exposed_at is None for s, record in fleet.records().items() if s in rest)
        compare(fleet, rest, matched=980, only_candidate=20)
        fleet.until_status("succeeded")
        fleet.until(lambda: ordered(fleet) == set())


def test_a_candidate_that_sees_something_else_touches_no_store(fleet: Any) -> None:
    begun = fleet.begin(waves=WAVES, gates=[{"kind": "shadow"}], on_failure={"action": "pause"})
    with fleet.working(GateJudge(fleet.database, Nobody())):
        fleet.until(lambda: ordered(fleet) == set(begun.waves[0].stores))
        compare(fleet, begun.waves[0].stores, matched=500, only_candidate=500)
        done = fleet.until_status("paused")
        fleet.until(lambda: ordered(fleet) == set())
    assert "50.0% of detections differ" in done.reason
    assert all(record.deployment is None for record in fleet.records().values())
