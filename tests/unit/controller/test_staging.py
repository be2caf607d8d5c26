"""How far a release is staged, and what the sender tells the broker."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from contract.messages import MAX_STAGED_MODELS, decode_staging
from contract.topics import staging_topic
from contract.workload import ModelManifest, decode_manifest
from controller import staging
from controller.adapters.database import Database, migrate, open_database
from controller.domain.fleet import Device, Store
from controller.domain.model import Model
from controller.domain.page import PageRequest
from controller.domain.records import ReleaseRecord
from controller.domain.staging import Staging, progress_of
from controller.errors import InvalidError, NotFoundError, TransientError
from controller.ingest_batch import ingest_batch
from controller.models.keys import SigningKey
from controller.retained import RetainedSender
from controller.staging import STAGING_ORDERS, stage, staging_progress

DIGEST = "sha256:" + "a" * 64
OTHER = "sha256:" + "b" * 64


def device(now: datetime, **changes: Any) -> Device:
    base = Device("berlin-01", "node-1", now, now, status="online", cached_models=())
    return replace(base, **changes)


@pytest.mark.parametrize(
    ("changes", "percent", "complete", "words"),
    [
        ([{}], 0.0, False, "staged on 0 of 1 nodes"),
        ([{"cached_models": (OTHER, DIGEST)}], 100.0, True, "staged on 1 of 1 nodes"),
        ([{"cached_models": (DIGEST,)}, {"device": "node-2"}], 50.0, False, "1 of 2"),
        ([{"delivery": {"fetching": DIGEST, "fetched_bytes": 250}}], 25.0, False, "0 of 1"),
        ([{"delivery": {"fetching": DIGEST, "fetched_bytes": 1000}}], 99.9, False, "0 of 1"),
        ([{"delivery": {"fetching": OTHER, "fetched_bytes": 250}}], 0.0, False, "0 of 1"),
        ([{"delivery": {"problem": "disk is full"}}], 0.0, False, "node-1: disk is full"),
        ([{"cached_models": None}], 0.0, False, "deploy a release with a newer agent first"),
        ([{"status": "offline", "status_reason": "power"}], 0.0, False, "node-1: offline: power"),
        ([{"status": "offline", "cached_models": (DIGEST,)}], 100.0, True, "1 of 1"),
        ([], 0.0, False, "no node of this store has reported yet"),
    ],
    ids=[
        "nothing", "staged", "half", "on-its-way", "all-bytes-unchecked", "another-comes", "problem",
        "old-agent", "offline", "offline-but-staged", "no-node",
    ],
)  # fmt: skip
def test_progress(
    now: datetime, changes: list[dict[str, Any]], percent: float, complete: bool, words: str
) -> None:
    wanted = Staging("berlin-01", "v2", DIGEST, "admin", now)
    progress = progress_of(wanted, 1000, [device(now, **change) for change in changes], now)
    assert (progress.percent, progress.complete) == (percent, complete)
    assert words in progress.message


@pytest.fixture
def key(tmp_path: Path) -> SigningKey:
    return SigningKey.load_or_create(tmp_path / "keys")


@pytest.fixture
def database(tmp_path: Path, now: datetime, key: SigningKey) -> Iterator[Database]:
    database = open_database(f"sqlite:///{tmp_path / 'central.db'}")
    migrate(database)
    with database.writing() as repositories:
        for name in ("berlin-01", "paris-02"):
            repositories.stores.add(Store(name, created_at=now))
        for n in range(1, 7):
            manifest = ModelManifest(
                digest=f"sha256:{n:064d}",
                size_bytes=1000,
                name="shelf",
                version=str(n),
                format="onnx",
                task="detect",
                names=("cola",),
                image_size=(320, 320),
            )
            signed = key.sign(manifest.model_dump_json()).model_dump()
            repositories.models.add(
                Model(
                    digest=manifest.digest,
                    name="shelf",
                    version=str(n),
                    format="onnx",
                    size_bytes=1000,
                    manifest=signed,
                    created_at=now,
                    created_by="admin",
                    metrics={},
                )
            )
            repositories.releases.add(ReleaseRecord(f"v{n}", manifest.digest, "agent:1", now))
    yield database
    database.close()


@dataclass
class Broker:
    """Retains what is published, and can be away or forget."""

    synced: bool = True
    refuses: bool = False
    retained: dict[str, bytes] = field(default_factory=dict)
    published: list[str] = field(default_factory=list)

    def is_synced(self) -> bool:
        return self.synced

    def publish(self, topic: str, payload: bytes) -> None:
        if self.refuses:
            raise TransientError("the broker does not acknowledge")
        self.published.append(topic)
        self.retained[topic] = payload

    def versions(self, store: str) -> list[str]:
        order = decode_staging(self.retained[staging_topic(store)])
        return [decode_manifest(signed.payload.encode()).version for signed in order.models]


@pytest.fixture
def broker() -> Broker:
    return Broker()


@pytest.fixture
def sender(database: Database, broker: Broker) -> RetainedSender:
    return RetainedSender(STAGING_ORDERS, database, lambda: broker)


def look(sender: RetainedSender, monkeypatch: pytest.MonkeyPatch) -> None:
    """One turn of the sender's thread."""
    turns = iter([False, True])
    stop = threading.Event()
    monkeypatch.setattr(stop, "wait", lambda _: next(turns))
    sender.run(stop)


def test_each_store_gets_its_own_order_once(
    database: Database, broker: Broker, sender: RetainedSender, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    look(sender, monkeypatch)
    assert broker.published == []
    stage(database, "v1", None, actor="admin", now=now)
    stage(database, "v2", ["berlin-01"], actor="admin", now=now + timedelta(seconds=1))
    look(sender, monkeypatch)
    look(sender, monkeypatch)
    assert broker.published == [staging_topic("berlin-01"), staging_topic("paris-02")]
    assert broker.versions("berlin-01") == ["2", "1"], "the newest is the most urgent"
    assert broker.versions("paris-02") == ["1"]


def test_only_the_newest_requests_of_a_store_stay(
    database: Database, broker: Broker, sender: RetainedSender, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(1, 7):
        stage(database, f"v{n}", ["berlin-01"], actor="admin", now=now + timedelta(seconds=n))
    look(sender, monkeypatch)
    assert broker.versions("berlin-01") == ["6", "5", "4", "3"][:MAX_STAGED_MODELS]
    stage(database, "v3", ["berlin-01"], actor="admin", now=now + timedelta(seconds=9))
    look(sender, monkeypatch)
    assert broker.versions("berlin-01") == ["3", "6", "5", "4"]


def test_broker_that_is_away_or_forgets_is_told_again(
    database: Database, broker: Broker, sender: RetainedSender, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage(database, "v1", ["berlin-01"], actor="admin", now=now)
    broker.refuses = True
    look(sender, monkeypatch)
    broker.refuses = False
    look(sender, monkeypatch)
    assert len(broker.published) == 1
    broker.synced = False
    look(sender, monkeypatch)
    broker.synced = True
    look(sender, monkeypatch)
    assert len(broker.published) == 2
    broker.synced = False
    look(sender, monkeypatch)
    broker.synced = True
    assert sender.receive(staging_topic("berlin-01"), broker.retained[staging_topic("berlin-01")], True)
    look(sender, monkeypatch)
    assert len(broker.published) == 2, "what the broker kept is not sent again"


def test_order_for_a_store_without_requests_is_withdrawn(
    broker: Broker, sender: RetainedSender, monkeypatch: pytest.MonkeyPatch
) -> None:
    sender.receive(staging_topic("rome-03"), b"{}", True)
    look(sender, monkeypatch)
    assert broker.retained == {staging_topic("rome-03"): b""}
    assert not sender.receive("storefleet/v1/rome-03/deployer/reported", b"{}", True)


def test_refusals_change_nothing(database: Database, now: datetime, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NotFoundError, match="'v9' does not exist"):
        stage(database, "v9", None, actor="admin", now=now)
    with pytest.raises(InvalidError) as refused:
        stage(database, "v1", ["rome", "berlin-01", "oslo"], actor="admin", now=now)
    assert [words.split("'")[1] for words in refused.value.problems] == ["rome", "oslo"]
    monkeypatch.setattr(staging, "MAX_MESSAGE_BYTES", 400)
    with pytest.raises(InvalidError, match="too large to stage"):
        stage(database, "v1", None, actor="admin", now=now)
    assert staging_progress(database, None, None, PageRequest(), now).items == ()


def test_heartbeats_tell_what_is_staged(database: Database, now: datetime, new_device: Any) -> None:
    stage(database, "v1", None, actor="admin", now=now)
    node = new_device()
    delivery = {"centre_bytes": 1000, "peer_bytes": 7}
    heartbeat = node.heartbeat(cached_models=[f"sha256:{1:064d}"], delivery=delivery)
    ingest_batch(database, [node.sent(heartbeat)], now)
    berlin, paris = staging_progress(database, "v1", None, PageRequest(), now).items
    assert (berlin.percent, paris.percent) == (100.0, 0.0)
    assert (berlin.nodes[0].centre_bytes, berlin.nodes[0].peer_bytes) == (1000, 7)
    (only,) = staging_progress(database, "v1", "paris-02", PageRequest(), now).items
    assert only == paris
