"""The model store keeps whole artifacts under their digest, and hands out nothing else."""

import os
import resource
from pathlib import Path

import pytest

from contract.signing import digest_bytes
from controller.errors import TransientError
from controller.models.errors import ArtifactError, DamagedArtifact, NotStored
from controller.models.store import ModelStore, StoredArtifact


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "models", max_bytes=1000)


def put(store: ModelStore, data: bytes) -> StoredArtifact:
    with store.receive() as incoming:
        incoming.write(data[:3])
        incoming.write(data[3:])
        return store.adopt(incoming)


def files(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file()]


def test_what_was_put_is_found_by_digest(store: ModelStore) -> None:
    stored = put(store, b"some model")
    assert stored.digest == digest_bytes(b"some model")
    assert store.find(stored.digest) == stored
    assert b"".join(store.read(stored.digest)) == b"some model"
    assert b"".join(store.read(stored.digest, offset=5)) == b"model"
    assert b"".join(store.read(stored.digest, offset=50)) == b""
    assert store.digests() == [stored.digest]


def test_the_same_artifact_twice_is_one(store: ModelStore, tmp_path: Path) -> None:
    assert put(store, b"some model") == put(store, b"some model")
    assert len(files(tmp_path)) == 1


def test_nothing_is_left_of_what_was_not_adopted(store: ModelStore, tmp_path: Path) -> None:
    with store.receive() as incoming:
        incoming.write(b"half a mod")
    with pytest.raises(RuntimeError, match="cut off"), store.receive() as incoming:
        incoming.write(b"half a mod")
        raise RuntimeError("cut off")
    assert files(tmp_path) == []


def test_uploads_that_a_power_cut_left_are_swept_at_the_next_start(tmp_path: Path) -> None:
    root = tmp_path / "models"
    ModelStore(root)
    (root / "incoming" / "tmpabc").write_bytes(b"half a mod")
    stored = put(ModelStore(root), b"some model")
    assert files(root) == [stored.path]


def test_growing_beyond_the_limit_is_refused(store: ModelStore, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="larger than 1000 bytes"):
        put(store, b"x" * 1001)
    assert files(tmp_path) == []


@pytest.mark.parametrize("damage", [b"s0me model", b"some mode", b"", b"some model plus"])
def test_damaged_artifact_is_not_handed_out(store: ModelStore, damage: bytes) -> None:
    stored = put(store, b"some model")
    assert store.find(stored.digest) == stored
    stored.path.write_bytes(damage)
    os.utime(stored.path, ns=(1, 1))
    for _ in range(2):
        with pytest.raises(DamagedArtifact, match="import the model again"):
            store.find(stored.digest)


def test_importing_again_repairs_a_damaged_artifact(store: ModelStore) -> None:
    stored = put(store, b"some model")
    stored.path.write_bytes(b"rotten")
    assert put(store, b"some model") == stored
    assert b"".join(store.read(stored.digest)) == b"some model"


@pytest.mark.parametrize(
    "digest",
    [
        digest_bytes(b"unknown"),
        "",
        "sha256:",
        "sha256:../../../etc/passwd",
        "sha256:" + "A" * 64,
        "md5:" + "a" * 64,
        "a" * 64,
    ],
)
def test_unknown_or_impossible_digest(store: ModelStore, digest: str) -> None:
    with pytest.raises(NotStored):
        store.find(digest)


def test_full_disk_is_a_transient_error_and_leaves_nothing(
    store: ModelStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_space(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(TransientError, match="No space left"):
        put(store, b"some model")
    assert files(tmp_path) == []


def test_a_disk_that_fills_up_during_an_upload_keeps_no_half_of_it(store: ModelStore, tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with pytest.raises(TransientError, match="cannot store the artifact"):
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
            put(store, b"x" * 500)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert files(tmp_path) == []


def test_an_artifact_that_cannot_be_read_says_why(store: ModelStore) -> None:
    stored = put(store, b"some model")
    stored.path.unlink()
    stored.path.mkdir()
    with pytest.raises(TransientError, match="cannot read artifact"):
        store.find(stored.digest)


def test_only_the_owner_may_look(store: ModelStore, tmp_path: Path) -> None:
    stored = put(store, b"some model")
    assert stored.path.stat().st_mode & 0o077 == 0
    assert (tmp_path / "models").stat().st_mode & 0o077 == 0
