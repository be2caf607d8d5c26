"""Shadow runs in the centre: orders that the broker keeps, and what nodes counted."""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from contract.shadow import ShadowClass, ShadowTelemetry, decode_shadow_order
from contract.signing import load_public_keys, verify
from contract.workload import ModelManifest, decode_signed
from controller.adapters.database import Database, migrate, open_database
from controller.domain.fleet import Store
from controller.domain.model import Model
from controller.domain.records import ReleaseRecord
from controller.domain.shadow import store_shadow
from controller.errors import InvalidError, NotFoundError
from controller.ingest_batch import ingest_batch
from controller.models.keys import SigningKey
from controller.shadow import order, shadow_orders, withdraw

MODEL, OTHER = ("sha256:" + letter * 64 for letter in "ab")


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
        for release, digest in (("v1", MODEL), ("v2", OTHER)):
            manifest = ModelManifest(
                digest=digest, size_bytes=9, name="shelf", version=release, format="onnx", task="detect",
                names=("cola",), image_size=(320, 320),
            )  # fmt: skip
            signed = key.sign(manifest.model_dump_json())
            repositories.models.add(Model(digest, "shelf", release, "onnx", 9, signed.model_dump(), now))
            repositories.releases.add(ReleaseRecord(release, digest, "agent:1", now))
    yield database
    database.close()


def put(database: Database, now: datetime, release: str = "v1", **changes: Any) -> None:
    values: dict[str, Any] = {
        "cpu_percent": 20.0, "until": now + timedelta(hours=1), "actor": "admin", "now": now,
    }  # fmt: skip
    stores = changes.pop("stores", ["berlin-01"])
    with database.writing() as repositories:
        order(repositories, release, stores, **(values | changes))


def test_each_store_is_told_in_a_signed_order_until_it_ends(
    database: Database, now: datetime, key: SigningKey
) -> None:
    moment = now
    kind = shadow_orders(key.sign, lambda: moment)
    put(database, now)
    put(database, now, "v2", until=now + timedelta(hours=2))
    put(database, now, stores=["paris-02"])
    with database.reading() as repositories:
        orders = kind.orders(repositories)
        assert kind.orders(repositories) == orders, "equal orders are equal bytes"
        revision = kind.revision(repositories)
    assert set(orders) == {"berlin-01", "paris-02"}
    text = verify(decode_signed(orders["berlin-01"]), load_public_keys(key.public_pem))
    told = decode_shadow_order(text.encode())
    assert (told.store, told.model.digest, told.cpu_percent) == ("berlin-01", OTHER, 20.0)
    moment = now + timedelta(minutes=90)
    with database.reading() as repositories:
        assert set(kind.orders(repositories)) == {"berlin-01"}
        assert kind.revision(repositories) != revision


def test_withdrawing_spares_the_run_of_another_model(
    database: Database, now: datetime, key: SigningKey
) -> None:
    kind = shadow_orders(key.sign, lambda: now)
    put(database, now, stores=["berlin-01", "paris-02"])
    with database.writing() as repositories:
        withdraw(repositories, ["berlin-01"], actor="admin", now=now, model_digest=OTHER)
        assert set(kind.orders(repositories)) == {"berlin-01", "paris-02"}
        withdraw(repositories, ["berlin-01"], actor="admin", now=now)
        assert set(kind.orders(repositories)) == {"paris-02"}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"cpu_percent": 0.0}, "cpu_percent"),
        ({"cpu_percent": 101.0}, "cpu_percent"),
        ({"until": None}, "in the future"),
        ({"stores": ["nowhere"]}, "does not exist"),
        ({"stores": []}, "at least one"),
    ],
    ids=["no-budget", "large-budget", "past", "unknown-store", "no-store"],
)
def test_refused_order_changes_nothing(
    database: Database, now: datetime, key: SigningKey, changes: dict[str, Any], words: str
) -> None:
    if "until" in changes:
        changes = {"until": now}
    with pytest.raises(InvalidError, match=words):
        put(database, now, **changes)
    with pytest.raises(NotFoundError):
        put(database, now, "v9")
    with database.reading() as repositories:
        assert shadow_orders(key.sign, lambda: now).orders(repositories) == {}


def shadow(now: datetime, frames: int, **changes: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "model": MODEL, "state": "running", "since": now, "frames": frames, "matched": 10 * frames,
        "only_current": frames, "only_candidate": 0, "cpu_percent": 19.0,
        "classes": {"cola": ShadowClass(matched=10 * frames, only_current=frames)},
    }  # fmt: skip
    return ShadowTelemetry(**(values | changes)).model_dump(mode="json")


def test_heartbeats_replace_and_lives_of_agents_add_up(
    database: Database, now: datetime, new_device: Callable[..., Any]
) -> None:
    node = new_device()
    restarted = now + timedelta(minutes=5)
    for figures in (shadow(now, 3), shadow(now, 5), shadow(restarted, 2, problem="it crashed")):
        ingest_batch(database, [node.sent(node.heartbeat(shadow=figures))], now)
    with database.reading() as repositories:
        found = repositories.shadows.results(["berlin-01"], MODEL)
    total = store_shadow(found, MODEL)
    assert total is not None
    assert (total.frames, total.agreed, total.only_current) == (7, 70, {"cola": 7})
    assert total.cpu_percent == 19.0
    assert store_shadow(found, OTHER) is None


def test_classes_that_had_no_room_are_counted_together(
    database: Database, now: datetime, new_device: Callable[..., Any]
) -> None:
    node = new_device()
    ingest_batch(database, [node.sent(node.heartbeat(shadow=shadow(now, 3, only_candidate=4)))], now)
    with database.reading() as repositories:
        total = store_shadow(repositories.shadows.results(["berlin-01"]), MODEL)
    assert total is not None
    assert total.only_candidate == {"other": 4}
