"""Golden sets in the centre: import, demand, delivery with the workload, and the nodes' reports."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from camera_sims.dataset import write_dataset
from camera_sims.golden import golden_set
from contract.errors import SignatureError
from contract.golden import GoldenClass, GoldenReport, check, decode_golden_manifest, pack
from contract.signing import Signed, digest_bytes, load_public_keys, verify
from contract.topics import DeviceTopics
from contract.workload import Env, ModelManifest
from controller.adapters.database import Database, migrate, open_database
from controller.domain.fleet import Store
from controller.domain.golden import GoldenCheck, store_outcome, take_in
from controller.domain.model import Model
from controller.domain.page import PageRequest
from controller.domain.records import Deployment, ReleaseRecord
from controller.domain.release import Release
from controller.domain.workload import StoreSite, WorkloadSettings, build_workload
from controller.errors import ConflictError, InvalidError, NotFoundError
from controller.golden import GoldenSets, check_of, demand, from_dataset
from controller.ingest_batch import ingest_batch
from controller.models.keys import SigningKey
from controller.models.store import Incoming, ModelStore
from controller.ports import Received

MODEL, OTHER = ("sha256:" + letter * 64 for letter in "ab")
ROLLOUT = UUID(int=7)


@pytest.fixture(scope="module")
def archive() -> bytes:
    content, pictures = golden_set(900_010, clips=1, frames=2)
    return pack(content, pictures)


@pytest.fixture
def key(tmp_path: Path) -> SigningKey:
    return SigningKey.load_or_create(tmp_path / "keys")


@pytest.fixture
def database(tmp_path: Path, now: datetime, key: SigningKey) -> Iterator[Database]:
    database = open_database(f"sqlite:///{tmp_path / 'central.db'}")
    migrate(database)
    manifest = ModelManifest(
        digest=MODEL, size_bytes=9, name="shelf", version="1", format="onnx", task="detect", names=("cola",),
        image_size=(320, 320),
    )  # fmt: skip
    signed = key.sign(manifest.model_dump_json())
    with database.writing() as repositories:
        repositories.stores.add(Store("berlin-01", created_at=now))
        repositories.models.add(Model(MODEL, "shelf", "1", "onnx", 9, signed.model_dump(), now))
        repositories.releases.add(ReleaseRecord("v1", MODEL, "agent:1", now))
        repositories.deployments.supersede(
            [Deployment(ROLLOUT, "berlin-01", "v1", "present", 1, "pending", "", "admin", now)]
        )
    yield database
    database.close()


@pytest.fixture
def sets(tmp_path: Path, key: SigningKey, database: Database, now: datetime) -> GoldenSets:
    return GoldenSets(ModelStore(tmp_path / "models"), key, database, lambda: now)


def received(sets: GoldenSets, data: bytes) -> Incoming:
    incoming = sets.receive()
    incoming.write(data)
    return incoming


def report(now: datetime, recall: float = 1.0, **changes: Any) -> GoldenReport:
    classes = {"cola": GoldenClass(expected=4, found=4, recall=recall, count_error=1 - recall)}
    values: dict[str, Any] = {
        "rollout_id": ROLLOUT, "at": now, "replayed_at": now, "model": MODEL, "golden": OTHER,
        "runtime": "openvino", "agent_version": "0.1.0", "frames": 2, "inference_ms_p50": 9.0,
        "inference_ms_p95": 12.0, "classes": classes, "passed": recall >= 0.9,
    }  # fmt: skip
    return GoldenReport(**(values | changes))


def told(said: GoldenReport, now: datetime, device: str = "node-1") -> Received:
    return Received(DeviceTopics("berlin-01", device).golden, said.to_bytes(), now)


def test_imported_set_is_signed_kept_and_listed(
    sets: GoldenSets, archive: bytes, key: SigningKey, tmp_path: Path
) -> None:
    found = sets.import_set(received(sets, archive), "shelf", "1", "admin")
    assert found.digest == digest_bytes(archive)
    (listed,) = sets.page(PageRequest(10)).items
    assert listed == found
    signed = Signed.model_validate(dict(listed.manifest))
    manifest = decode_golden_manifest(verify(signed, load_public_keys(key.public_pem)).encode())
    assert (manifest.digest, manifest.frames, manifest.counts) == (found.digest, 2, dict(found.counts))
    with pytest.raises(SignatureError):
        verify(signed.model_copy(update={"payload": signed.payload + " "}), load_public_keys(key.public_pem))
    assert sets.import_set(received(sets, archive), "shelf", "1", "admin") == found


def test_name_or_bytes_that_are_taken_are_refused(sets: GoldenSets, archive: bytes) -> None:
    sets.import_set(received(sets, archive), "shelf", "1", "admin")
    with received(sets, archive) as incoming, pytest.raises(ConflictError, match="known as shelf 1"):
        sets.import_set(incoming, "shelf", "2", "admin")
    other = pack(*golden_set(900_020, clips=1, frames=1))
    with received(sets, other) as incoming, pytest.raises(ConflictError, match="another version"):
        sets.import_set(incoming, "shelf", "1", "admin")


@pytest.mark.parametrize(
    ("data", "name", "words"),
    [(b"\x80\x04pickle" * 9, "shelf", "zip"), (b"", "shelf", "0 bytes"), (None, "../x", "name")],
    ids=["pickle", "empty", "name"],
)
def test_anything_else_is_refused(
    sets: GoldenSets, archive: bytes, data: bytes | None, name: str, words: str
) -> None:
    with (
        received(sets, archive if data is None else data) as incoming,
        pytest.raises(InvalidError, match=words),
    ):
        sets.import_set(incoming, name, "1", "admin")
    assert sets.page(PageRequest(10)).items == ()


def test_labelled_pictures_become_a_set(tmp_path: Path) -> None:
    write_dataset(tmp_path / "data", [1], [2], [3, 4], workers=1)
    (tmp_path / "data" / "data.yaml").write_text(
        (tmp_path / "data" / "data.yaml").read_text() + "test: images/test\n"
    )
    file = tmp_path / "golden.zip"
    file.write_bytes(from_dataset(tmp_path / "data"))
    with file.open("rb") as opened:
        content = check(opened)
    assert [clip.name for clip in content.clips] == ["3", "4"]
    assert all((frame.width, frame.height) == (1280, 720) for frame in content.frames)
    assert sum(content.counts.values()) > 20
    label = next((tmp_path / "data" / "labels" / "test").iterdir())
    label.write_text("99 0.5 0.5 0.1 0.1\n")
    with pytest.raises(InvalidError, match="class id 99"):
        from_dataset(tmp_path / "data")


def test_deployment_brings_the_set_that_it_has_to_pass(
    sets: GoldenSets, archive: bytes, database: Database
) -> None:
    with database.writing() as repositories:
        assert check_of(repositories, ROLLOUT) is None
        with pytest.raises(NotFoundError, match="no golden set"):
            demand(repositories, [ROLLOUT], min_recall=0.9, max_count_error=0.5)
    found = sets.import_set(received(sets, archive), "shelf", "1", "admin")
    for which in ("", "shelf", found.digest):
        with database.writing() as repositories:
            demand(repositories, [ROLLOUT], min_recall=0.85, max_count_error=0.5, golden=which)
            checked = check_of(repositories, ROLLOUT)
        assert checked is not None
        assert checked.signed.model_dump() == found.manifest
    with database.writing() as repositories, pytest.raises(NotFoundError, match="'tea'"):
        demand(repositories, [ROLLOUT], min_recall=0.85, max_count_error=0.5, golden="tea")


def _workload(key: SigningKey, checked: GoldenCheck | None) -> Any:
    manifest = ModelManifest(
        digest=MODEL, size_bytes=9, name="shelf", version="1", format="onnx", task="detect", names=("cola",),
        image_size=(320, 320),
    )  # fmt: skip
    release = Release("v1", "agent:1", manifest, key.sign(manifest.model_dump_json()))
    site = StoreSite("berlin-01", "version: 1\n", "PEM", checked)
    return build_workload(release, site, str(ROLLOUT), WorkloadSettings("mqtt://b", "http://c"))


def test_golden_step_comes_after_fetching_and_only_where_it_is_demanded(key: SigningKey) -> None:
    signed = key.sign("{}")
    plain, checked = _workload(key, None), _workload(key, GoldenCheck(signed, 0.85, 0.25))
    assert "golden.json" not in plain.config_map["data"]
    assert checked.config_map["data"]["golden.json"] == signed.model_dump_json()
    assert plain.config_map["metadata"]["name"] != checked.config_map["metadata"]["name"]
    steps = [
        [c["command"][-1] for c in one.daemon_set["spec"]["template"]["spec"]["initContainers"]]
        for one in (plain, checked)
    ]
    assert steps == [["fetch"], ["fetch", "golden"]]
    (container,) = checked.daemon_set["spec"]["template"]["spec"]["containers"]
    env = {entry["name"]: entry.get("value") for entry in container["env"]}
    assert (env[Env.GOLDEN_MIN_RECALL], env[Env.GOLDEN_MAX_COUNT_ERROR]) == ("0.85", "0.25")
    assert env[Env.GOLDEN_MANIFEST_FILE].endswith("/golden.json")


def test_report_is_kept_once_and_an_older_one_changes_nothing(database: Database, now: datetime) -> None:
    later = now + timedelta(minutes=1)
    bad = report(later, recall=0.5)
    for said in (report(now), bad, bad, report(now)):
        ingest_batch(database, [told(said, later)], later)
    with database.reading() as repositories:
        (kept,) = repositories.golden.results(["berlin-01"], MODEL)
    assert kept.said == bad
    assert not kept.passed


def test_clock_that_is_ahead_does_not_make_a_report_outlast_later_ones(
    database: Database, now: datetime
) -> None:
    ingest_batch(database, [told(report(now + timedelta(days=9), recall=0.1), now)], now)
    later = now + timedelta(minutes=1)
    ingest_batch(database, [told(report(later), later)], later)
    with database.reading() as repositories:
        (kept,) = repositories.golden.results(["berlin-01"])
    assert kept.passed


def test_only_the_last_few_reports_of_a_device_stay(database: Database, now: datetime) -> None:
    for n in range(12):
        at = now + timedelta(seconds=n)
        ingest_batch(database, [told(report(at, model=f"sha256:{n:064d}"), at)], at)
    with database.reading() as repositories:
        kept = {one.model_digest for one in repositories.golden.results(["berlin-01"])}
    assert kept == {f"sha256:{n:064d}" for n in range(4, 12)}


def test_garbled_report_is_a_dead_letter(database: Database, now: datetime) -> None:
    result = ingest_batch(database, [Received(DeviceTopics("berlin-01", "node-1").golden, b"{}", now)], now)
    assert result.refused == 1


def test_store_is_as_good_as_its_worst_node(now: datetime) -> None:
    early = now - timedelta(hours=1)
    outcomes = [
        take_in("berlin-01", "node-1", report(now), now),
        take_in("berlin-01", "node-2", report(early, recall=0.5), early),
        take_in("berlin-01", "node-1", report(early, recall=0.1, golden=MODEL), now),
        take_in("berlin-01", "node-3", report(now, recall=0.0, model=OTHER), now),
    ]
    outcome = store_outcome(outcomes, MODEL)
    assert outcome is not None
    assert (outcome.recall, outcome.count_error) == ({"cola": 0.5}, {"cola": 0.5})
    assert (outcome.passed, outcome.at) == (False, early)
    assert store_outcome(outcomes, "sha256:" + "c" * 64) is None


def test_only_reports_of_the_deployments_own_pods_are_fresh(now: datetime) -> None:
    slow_clock = take_in("berlin-01", "node-1", report(now - timedelta(days=3)), now)
    other = take_in("berlin-01", "node-2", report(now, recall=0.1, rollout_id=UUID(int=8)), now)
    outcome = store_outcome([slow_clock, other], MODEL, ROLLOUT)
    assert outcome is not None
    assert (outcome.passed, outcome.at) == (True, now)
    assert store_outcome([other], MODEL, ROLLOUT) is None


def test_a_refusal_is_as_new_as_its_last_report(now: datetime) -> None:
    passed = take_in("berlin-01", "node-1", report(now), now)
    later = now + timedelta(minutes=3)
    refused = take_in("berlin-01", "node-2", report(later, recall=0.1, reason="cola is lost"), later)
    outcome = store_outcome([passed, refused], MODEL, ROLLOUT)
    assert outcome is not None
    assert (outcome.at, outcome.refusal) == (later, "node-2: cola is lost")
    assert outcome.devices == {"node-1", "node-2"}
