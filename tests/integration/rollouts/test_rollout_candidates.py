"""Rollouts whose candidate has to prove itself before it serves: golden sets and shadow runs, from the file
to the verdict, with the real judge, database, reconciler and executor."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest

from contract.golden import GoldenClass, GoldenManifest, GoldenReport
from contract.shadow import ShadowClass, ShadowTelemetry
from contract.signing import Signed
from controller.domain.golden import GoldenSet, take_in
from controller.domain.shadow import take_in as take_in_shadow
from controller.errors import NotFoundError, TransientError
from controller.rollout_judge import GateJudge
from controller.rollout_picture import take_picture

MODEL = "sha256:" + "a" * 64
FIRST, LATER = "sha256:" + "1" * 64, "sha256:" + "2" * 64
GOLDEN = {"kind": "golden", "min_recall": 0.8, "max_count_error": 1.0}
SHADOW = {"kind": "shadow", "min_frames": 50, "cpu_percent": 15}
WAVES = [{"name": "canary", "size": 1}, {"name": "rest"}]


class Nobody:
    """No gate of these rollouts asks outside."""

    def post(self, url: str, body: bytes, timeout_s: float) -> bytes:
        raise TransientError("not asked", retry_after=1)

    query = post


@pytest.fixture
def shops(world: Any) -> Any:
    """Four stores that run v1."""
    world.add_release("v1")
    world.add_release("v2")
    world.add_stores(4)
    world.deploy("v1")
    with world.working():
        world.until(lambda: all(d.state == "ready" for d in world.current().values()))
    return world


def add_set(world: Any, digest: str, version: str, now: datetime) -> None:
    counts = {"cola-can": 8}
    manifest = GoldenManifest(
        digest=digest, size_bytes=9, name="shelf", version=version, frames=2, counts=counts
    )
    signed = Signed(payload=manifest.model_dump_json(), key_id="0" * 16, signature="c2ln")
    with world.database.writing() as repositories:
        repositories.golden.add(GoldenSet(digest, "shelf", version, 9, 2, counts, signed.model_dump(), now))


def tell(world: Any, store: str, recall: float, now: datetime, name: str = "spring") -> None:
    """The step of this store's pod tells what it found."""
    figures = GoldenClass(expected=8, found=8, recall=recall, count_error=1 - recall)
    report = GoldenReport(
        rollout_id=world.records(name)[store].deployment, at=now, replayed_at=now, model=MODEL, golden=FIRST,
        runtime="onnx", agent_version="1", frames=2, inference_ms_p50=9, inference_ms_p95=9,
        classes={"cola-can": figures}, passed=recall >= 0.8,
    )  # fmt: skip
    with world.database.writing() as repositories:
        repositories.golden.save([take_in(store, "node-1", report, now)])


def judge_of(world: Any) -> GateJudge:
    return GateJudge(world.database, Nobody())


def test_without_a_golden_set_it_does_not_start(shops: Any) -> None:
    with pytest.raises(NotFoundError, match="no golden set; import one"):
        shops.begin(waves=WAVES, gates=[GOLDEN])
    assert shops.rollout().status == "draft"


def test_a_store_whose_nodes_refuse_the_model_stops_the_rollout_before_its_deadline(
    shops: Any, now_utc: Callable[[], datetime]
) -> None:
    add_set(shops, FIRST, "1", now_utc())
    begun = shops.begin(waves=WAVES, gates=[GOLDEN], limits={"store_deadline": "1h"})
    assert begun.spec.gates[0].set == FIRST
    add_set(shops, LATER, "2", now_utc())
    (canary,) = begun.waves[0].stores
    shops.shops[canary].bad.add("agent:v2")  # as a pod is whose step fails
    with shops.working(judge_of(shops)):
        shops.until(lambda: shops.records()[canary].deployment is not None)
        with shops.database.reading() as repositories:
            demanded = repositories.golden.demanded(shops.records()[canary].deployment)
        assert demanded is not None
        assert (demanded.golden_digest, demanded.min_recall, demanded.max_count_error) == (FIRST, 0.8, 1.0)
        assert shops.rollout().status == "running"
        tell(shops, canary, 0.25, now_utc())
        done = shops.until_status("rolled_back")
        shops.until(lambda: set(shops.running().values()) == {"agent:v1"})
    assert f"gate golden of wave canary failed: {canary}: recall of cola-can is 0.25" in done.reason
    records = shops.records()
    assert all(records[store].exposed_at is None for store in begun.waves[1].stores)
    with shops.database.reading() as repositories:
        (judged,) = repositories.verdicts.latest("spring")
        back = repositories.golden.demanded(records[canary].restoring)
    assert judged.verdict.figures["classes"] == {"cola-can": {"recall": 0.25, "count_error": 0.75}}
    assert back is None, "what goes back is asked for nothing"


def test_a_report_on_another_deployment_of_the_same_model_proves_nothing(
    shops: Any, now_utc: Callable[[], datetime]
) -> None:
    add_set(shops, FIRST, "1", now_utc())
    begun = shops.begin(waves=WAVES, gates=[GOLDEN])
    (canary,) = begun.waves[0].stores
    with shops.working(judge_of(shops)):
        shops.until(lambda: shops.records()[canary].ready_at is not None)
    with shops.database.writing() as repositories:
        report = GoldenReport(
            rollout_id=None, at=now_utc(), replayed_at=now_utc(), model=MODEL, golden=FIRST, runtime="onnx",
            agent_version="1", frames=2, inference_ms_p50=9, inference_ms_p95=9,
            classes={"cola-can": GoldenClass(expected=8, found=0, recall=0, count_error=4)}, passed=False,
        )  # fmt: skip
        repositories.golden.save([take_in(canary, "node-1", report, now_utc())])
    with shops.database.reading() as repositories:
        picture = take_picture(repositories, shops.rollout(), now_utc())
    verdicts = judge_of(shops)(picture, now_utc())
    assert [verdict.verdict for verdict in verdicts.get(0, ())] == ["inconclusive"]


def runs(world: Any) -> dict[str, str]:
    with world.database.reading() as repositories:
        return {run.store: run.model_digest for run in repositories.shadows.requested_by("rollout:spring")}


def count(world: Any, store: str, differ: int, now: datetime) -> None:
    classes = {"cola-can": ShadowClass(matched=100, only_current=differ)}
    said = ShadowTelemetry(
        model=MODEL, state="running", since=now, frames=60, matched=100, only_current=differ, classes=classes,
        cpu_percent=9,
    )  # fmt: skip
    with world.database.writing() as repositories:
        repositories.shadows.save([take_in_shadow(store, "node-1", said, now)])


def test_stores_of_the_next_wave_try_the_candidate_until_the_wave_opens(
    shops: Any, now_utc: Callable[[], datetime]
) -> None:
    begun = shops.begin(waves=WAVES, gates=[SHADOW])
    (canary,) = begun.waves[0].stores
    rest = set(begun.waves[1].stores)
    with shops.working(judge_of(shops)):
        shops.until(lambda: runs(shops) == {canary: MODEL})
        assert shops.rollout().waves[0].opened_at is None
        count(shops, canary, 2, now_utc())
        shops.until(lambda: shops.rollout().waves[0].passed_at is not None)
        shops.until(lambda: set(runs(shops)) == rest)
        shops.service.pause("spring", actor="bob")
        shops.until(lambda: not runs(shops))
        shops.service.resume("spring", actor="bob")
        shops.until(lambda: set(runs(shops)) == rest)
        with shops.database.reading() as repositories:
            before = repositories.shadows.requested_by("rollout:spring")
        count(shops, min(rest), 90, now_utc())
        done = shops.until_status("paused")
        shops.until(lambda: not runs(shops))
    assert {run.cpu_percent for run in before} == {15.0}
    assert "of detections differ" in done.reason
    assert all(shops.records()[store].exposed_at is None for store in rest)


def test_only_a_rollout_of_higher_rank_claims_stores_of_another(shops: Any) -> None:
    shops.begin("old", waves=WAVES)
    waiting = shops.begin("new", waves=WAVES, after=["old"])
    with shops.database.reading() as repositories:
        now = shops.clock()
        claimed = {s.claimed_by for s in take_picture(repositories, waiting, now).stores.values()}
        assert claimed == {""}, "the older one has the stores only until the newer one begins"
    shops.begin("newest", waves=WAVES)
    with shops.database.reading() as repositories:
        claimed = {
            s.claimed_by
            for s in take_picture(repositories, shops.rollout("old"), shops.clock()).stores.values()
        }
    assert claimed == {"newest"}
