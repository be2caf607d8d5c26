"""From heartbeats in the database to verdicts, in SQLite and PostgreSQL."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from controller.adapters.database import Database, migrate, open_database
from controller.domain.fleet import Store, StoreConfigVersion
from controller.domain.model import Model
from controller.domain.quality import QualityBucket
from controller.domain.records import Deployment, ReleaseRecord
from controller.domain.rollout.gates import judge
from controller.domain.rollout.spec import RolloutSpec
from controller.domain.rollout.state import Rollout, Status, StoreNow, StoreRecord, Verdict, WaveState
from controller.gate_evidence import EvidenceReader
from controller.ingest_batch import ingest_batch

NOW = datetime(2026, 5, 20, 13, 30, tzinfo=UTC)
READY = NOW - timedelta(minutes=80)
OLD, NEW = UUID(int=1), UUID(int=2)
OLD_MODEL, NEW_MODEL = "sha256:" + "0" * 64, "sha256:" + "1" * 64
STORES = [f"store-{i}" for i in range(12)]
CONFIG = """
version: 1
store: store-0
planogram: []
cameras:
  - {id: cam-1, url: "rtsp://10.0.0.1/x", frame_size: [640, 480], fps: 4}
zones: []
"""


def history(store: str, number: int, *, blind: bool) -> Iterator[QualityBucket]:
    quarter = timedelta(minutes=15)
    cut = READY.replace(minute=0) + quarter
    for back in range(15):
        for step in range(-6, 5):
            new = store == "store-0" and back == 0 and step >= 0
            wobble = 1 + 0.02 * ((number * 7 + back * 3 + step) % 5 - 2)
            counts = {"cola": int(9000 * wobble), "milk": 0 if new and blind else int(7000 * wobble)}
            at = cut - timedelta(days=back) + step * quarter
            who, model = (NEW, NEW_MODEL) if new else (OLD, OLD_MODEL)
            yield QualityBucket(
                store, "cam-1", who, model, at, 3600, counts, inference_ms=21, inference_samples=1
            )


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    database = open_database(database_url)
    migrate(database)
    with database.writing() as repositories:
        for digest, version in ((OLD_MODEL, "1"), (NEW_MODEL, "2")):
            model = Model(digest, "shelf", version, "openvino", 1, {}, NOW)
            repositories.models.add(model)
            repositories.releases.add(ReleaseRecord(f"v{version}", digest, "image", NOW))
        for name in STORES:
            repositories.stores.add(Store(name, created_at=NOW))
        repositories.configs.put(StoreConfigVersion("store-0", OLD_MODEL, CONFIG, "x", NOW))
        made = Deployment(
            NEW, "store-0", "v2", "present", 1, "ready", "ready", "x", READY, applied_at=READY, ready_at=READY
        )
        repositories.deployments.supersede([made])
    yield database
    database.close()


def rollout() -> Rollout:
    spec = RolloutSpec.model_validate(
        {
            "name": "r",
            "release": "v2",
            "waves": [{"name": "canary", "size": 1, "soak": "1h"}, {"name": "rest"}],
            "gates": [{"kind": "health"}, {"kind": "performance"}, {"kind": "quality"}, {"kind": "staged"}],
        }
    )
    waves = (WaveState(("store-0",), opened_at=READY), WaveState(tuple(STORES[1:])))
    return Rollout(spec, Status.RUNNING, READY, "x", started_at=READY, waves=waves)


def heartbeat(device: Any) -> Any:
    figures = {"camera": "cam-1", "status": "online", "fps_read": 4, "fps_inferred": 3.9, "frame_age_s": 0.1}
    return device.sent(
        device.heartbeat(
            at=NOW,
            rollout_id=NEW,
            model={"digest": NEW_MODEL, "version": "2"},
            cameras=[figures | {"inference_ms_p50": 22.0, "frames_inferred": 5}],
            cached_models=[NEW_MODEL],
        ),
        at=NOW,
    )


@pytest.mark.parametrize(("blind", "quality"), [(False, Verdict.PASS), (True, Verdict.FAIL)])
def test_gates_judge_what_the_database_holds(
    database: Database, new_device: Any, blind: bool, quality: Verdict
) -> None:
    device = new_device(store="store-0")
    ingest_batch(database, [heartbeat(device)], NOW)
    with database.writing() as repositories:
        rows = [row for i, name in enumerate(STORES) for row in history(name, i, blind=blind)]
        repositories.quality.save([], rows, [])
    records = {name: StoreRecord(name, 1) for name in STORES}
    records["store-0"] = StoreRecord("store-0", 0, NEW, "v1", READY, READY)
    stores = {name: StoreNow(name, True) for name in STORES}
    with database.reading() as repositories:
        evidence = EvidenceReader().read(repositories, rollout(), 0, records, stores, NEW_MODEL, NOW)
    said = {verdict.kind: verdict for verdict in judge(rollout(), 0, evidence, (), NOW)}
    assert said["health"].verdict is Verdict.PASS, said["health"].reason
    assert said["staged"].verdict is Verdict.PASS, said["staged"].reason
    assert said["quality"].verdict is quality, said["quality"].reason
    assert "compared with 11 stores not updated and 14 earlier days" in said["quality"].reason
    assert said["performance"].verdict is Verdict.INCONCLUSIVE
    assert said["performance"].reason.startswith("memory growth is not known of all stores")
    (camera,) = evidence.stores["store-0"].cameras
    assert (camera.fps_wanted, camera.inference_ms, camera.inference_ms_before) == (4.0, 22.0, 21.0)


def test_a_store_that_ran_the_release_before_is_judged_by_the_deployment_it_has(
    database: Database, new_device: Any
) -> None:
    ingest_batch(database, [heartbeat(new_device(store="store-0"))], NOW)
    records = {"store-0": StoreRecord("store-0", 0, ready_at=READY)}
    stores = {"store-0": StoreNow("store-0", True, deployment=NEW, release="v2")}
    with database.reading() as repositories:
        evidence = EvidenceReader().read(repositories, rollout(), 0, records, stores, NEW_MODEL, NOW)
    seen = evidence.stores["store-0"]
    assert (seen.deployment, seen.brought) == (NEW, False)
    said = {verdict.kind: verdict for verdict in judge(rollout(), 0, evidence, (), NOW)}
    assert said["health"].verdict is Verdict.PASS, said["health"].reason


def test_a_wave_that_has_not_begun_has_no_history_to_read(database: Database) -> None:
    records = {name: StoreRecord(name, 1) for name in STORES}
    stores = {name: StoreNow(name, True) for name in STORES}
    with database.reading() as repositories:
        evidence = EvidenceReader().read(repositories, rollout(), 1, records, stores, NEW_MODEL, NOW)
    said = {verdict.kind: verdict for verdict in judge(rollout(), 1, evidence, (), NOW)}
    assert said["quality"].verdict is Verdict.INCONCLUSIVE
    assert "store-1 is not ready yet" in said["quality"].reason
    assert "0 of 11 (0%) stores hold the model" in said["staged"].reason
