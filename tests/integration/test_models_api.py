"""Models over HTTP: the real API, database, store and key behind a real server."""

import socket
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import typer
import uvicorn
import yaml
from typer.testing import CliRunner

from contract.signing import Signed, digest_bytes, load_public_keys, verify
from contract.workload import decode_manifest
from controller.adapters.database import migrate, open_database
from controller.api import artifacts
from controller.api.app import create_app
from controller.api.guard import Guard
from controller.domain.page import PageRequest
from controller.models.artifact import write_bundle
from controller.models.cli import app as models_app
from controller.models.cli import register
from controller.models.keys import SigningKey
from controller.models.registry import ModelRegistry
from controller.models.store import ModelStore

ADMIN, AGENT = "admin-token-of-a-test", "artifact-token-of-a-test"
NOW = datetime(2026, 5, 4, 12, tzinfo=UTC)
MAX_BYTES = 3_000_000


def bundle(**metadata: Any) -> bytes:
    described = {"task": "detect", "imgsz": [384, 640], "names": {0: "cola-can", 1: "person"}} | metadata
    text = yaml.safe_dump(described).encode()
    return write_bundle(
        {"metadata.yaml": text, "model.xml": b"<net/>", "model.bin": bytes(range(256)) * 2000}
    )


MODEL = bundle()


class Centre:
    """The part of the controller that deals in models."""

    def __init__(self, directory: Path) -> None:
        self.database = open_database(f"sqlite:///{directory / 'db.sqlite'}")
        migrate(self.database)
        self.key = SigningKey.load_or_create(directory)
        self.store = ModelStore(directory / "models", max_bytes=MAX_BYTES)
        registry = ModelRegistry(self.store, self.key, self.database, lambda: NOW)
        api = create_app(
            [artifacts.build_router(registry, Guard(ADMIN, AGENT))],
            max_body_bytes=1000,
            larger_bodies={artifacts.UPLOAD_PATH: MAX_BYTES},
        )
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self._server = uvicorn.Server(
            uvicorn.Config(api, port=port, log_config=None, lifespan="off", ws="none")
        )
        self._thread = threading.Thread(target=self._server.run)
        self._thread.start()
        while not self._server.started:
            time.sleep(0.01)
        self.admin = httpx.Client(base_url=self.url, headers={"Authorization": f"Bearer {ADMIN}"})
        self.agent = httpx.Client(base_url=self.url, headers={"Authorization": f"Bearer {AGENT}"})

    def upload(self, data: bytes, name: str = "shelf", version: str = "1") -> httpx.Response:
        return self.admin.post("/v1/models", content=data, params={"name": name, "version": version})

    def audited(self) -> list[str]:
        with self.database.reading() as repositories:
            return [entry.action for entry in repositories.audit.page(PageRequest()).items]

    def close(self) -> None:
        self.admin.close()
        self.agent.close()
        self._server.should_exit = True
        self._thread.join()
        self.database.close()


@pytest.fixture
def centre(tmp_path: Path) -> Iterator[Centre]:
    made = Centre(tmp_path)
    yield made
    made.close()


def test_imported_model_is_signed_recorded_and_served(centre: Centre) -> None:
    answer = centre.upload(MODEL)
    assert answer.status_code == 201, answer.text
    model = answer.json()
    digest = digest_bytes(MODEL)
    assert model["digest"] == digest
    payload = verify(Signed.model_validate(model["signed"]), load_public_keys(centre.key.trusted_pem))
    manifest = decode_manifest(payload.encode())
    assert manifest.names == ("cola-can", "person")
    assert (manifest.digest, manifest.size_bytes, manifest.image_size) == (digest, len(MODEL), (384, 640))
    assert centre.admin.get(f"/v1/models/{digest}").json() == model
    assert centre.admin.get("/v1/models").json()["items"] == [model]
    assert centre.audited() == ["model.import"]
    download = centre.agent.get(f"/v1/artifacts/{digest}")
    assert download.content == MODEL
    assert download.headers["etag"] == f'"{digest}"'


def test_importing_the_same_again_changes_nothing(centre: Centre) -> None:
    assert centre.upload(MODEL).json() == centre.upload(MODEL).json()
    assert centre.audited() == ["model.import"]


def test_download_resumes(centre: Centre) -> None:
    digest = centre.upload(MODEL).json()["digest"]
    tail = centre.agent.get(f"/v1/artifacts/{digest}", headers={"Range": "bytes=500000-"})
    assert (tail.status_code, tail.content) == (206, MODEL[500_000:])
    assert tail.headers["content-range"] == f"bytes 500000-{len(MODEL) - 1}/{len(MODEL)}"
    matching = {"Range": "bytes=5-", "If-Range": f'"{digest}"'}
    assert centre.agent.get(f"/v1/artifacts/{digest}", headers=matching).content == MODEL[5:]
    other = {"Range": "bytes=5-", "If-Range": '"another"'}
    assert centre.agent.get(f"/v1/artifacts/{digest}", headers=other).content == MODEL
    beyond = {"Range": f"bytes={len(MODEL)}-"}
    assert centre.agent.get(f"/v1/artifacts/{digest}", headers=beyond).status_code == 416
    known = {"If-None-Match": f'"{digest}"'}
    assert centre.agent.get(f"/v1/artifacts/{digest}", headers=known).status_code == 304


@pytest.mark.parametrize(
    ("data", "status", "words"),
    [
        (b"hello", 422, "ONNX"),
        (b"", 422, "ONNX"),
        (b"\x80\x04pickle", 422, "storefleet models export"),
        (MODEL[:-50], 422, "truncated"),
        (bundle(task="segment"), 422, "only detection"),
        (b"x" * (MAX_BYTES + 1), 413, "larger than"),
    ],
    ids=["text", "empty", "pickle", "truncated", "segment", "oversized"],
)
def test_bad_uploads_are_refused_and_leave_nothing(
    centre: Centre, tmp_path: Path, data: bytes, status: int, words: str
) -> None:
    answer = centre.upload(data)
    assert (answer.status_code, words in answer.json()["detail"]) == (status, True), answer.text
    assert centre.store.digests() == []
    assert list((tmp_path / "models" / "incoming").iterdir()) == []
    assert centre.audited() == []


def test_upload_without_declared_length_is_bounded_too(centre: Centre, tmp_path: Path) -> None:
    def endless() -> Iterator[bytes]:
        for _ in range(MAX_BYTES // 100_000 + 2):
            yield b"x" * 100_000

    answer = centre.admin.post("/v1/models", content=endless(), params={"name": "a", "version": "1"})
    assert answer.status_code == 413
    assert list((tmp_path / "models" / "incoming").iterdir()) == []


def test_versions_and_digests_belong_together(centre: Centre) -> None:
    assert centre.upload(MODEL).status_code == 201
    taken = centre.upload(bundle(names={0: "tea-box"}))
    assert (taken.status_code, "another version" in taken.json()["detail"]) == (409, True)
    renamed = centre.upload(MODEL, version="2")
    assert (renamed.status_code, "known as shelf 1" in renamed.json()["detail"]) == (409, True)
    assert centre.upload(bundle(names={0: "tea-box"}), version="2").status_code == 201


@pytest.mark.parametrize("label", ["", "../x", "a b", "-x", "x" * 129])
def test_bad_names_are_refused(centre: Centre, label: str) -> None:
    assert centre.upload(MODEL, name=label).status_code == 422
    assert centre.upload(MODEL, version=label).status_code == 422


def test_who_may_do_what(centre: Centre) -> None:
    digest = centre.upload(MODEL).json()["digest"]
    for path in ("/v1/models", f"/v1/models/{digest}", f"/v1/artifacts/{digest}"):
        assert httpx.get(centre.url + path).status_code == 401
    assert centre.agent.get("/v1/models").status_code == 403
    assert centre.agent.post("/v1/models?name=a&version=1", content=MODEL).status_code == 403
    assert centre.admin.get(f"/v1/artifacts/{digest}").status_code == 200


def test_damaged_and_unknown_artifacts_are_not_served(centre: Centre) -> None:
    digest = centre.upload(MODEL).json()["digest"]
    centre.store.find(digest).path.write_bytes(MODEL[:-1])
    answer = centre.agent.get(f"/v1/artifacts/{digest}")
    assert (answer.status_code, "damaged" in answer.json()["detail"]) == (422, True)
    assert centre.agent.get(f"/v1/artifacts/{digest_bytes(b'x')}").status_code == 404
    assert centre.agent.get("/v1/artifacts/../../etc/passwd").status_code == 404
    assert centre.agent.get("/v1/artifacts/sha256:abc").status_code == 422


def test_command_line(centre: Centre, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = typer.Typer()
    register(root)
    monkeypatch.setenv("STOREFLEET_CONTROLLER_URL", centre.url)
    monkeypatch.setenv("STOREFLEET_API_TOKEN", ADMIN)
    monkeypatch.setenv("COLUMNS", "200")
    runner = CliRunner()
    assert "No models yet" in runner.invoke(models_app, ["list"]).output
    path = tmp_path / "shelf.zip"
    path.write_bytes(MODEL)
    arguments = ["models", "import", str(path), "--name", "shelf", "--version", "1"]
    done = runner.invoke(root, arguments)
    digest = digest_bytes(MODEL)
    assert (done.exit_code, digest in done.output) == (0, True), done.output
    assert "shelf:1" in runner.invoke(root, ["models", "list"]).output
    assert "cola-can, person" in runner.invoke(root, ["models", "show", digest]).output
    weights = tmp_path / "best.pt"
    weights.write_bytes(b"\x80\x04pickle")
    refused = runner.invoke(root, ["models", "import", str(weights), "--name", "a", "--version", "1"])
    assert (refused.exit_code, "storefleet models export" in refused.output) == (1, True)
