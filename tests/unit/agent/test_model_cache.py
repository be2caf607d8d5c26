"""Fetching and verifying models, against a real HTTP server that can cut, lie and refuse."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent.adapters import model_cache
from agent.adapters.model_cache import ModelCache, read_manifest
from agent.errors import AgentError, ModelError, PermanentError, TransientError
from contract.signing import digest_bytes, sign
from contract.workload import ModelManifest

CONTENT = bytes(range(256)) * 4000
TOKEN = "artifact-token"


def manifest_of(content: bytes) -> ModelManifest:
    return ModelManifest(
        digest=digest_bytes(content),
        size_bytes=len(content),
        name="shelf",
        version="1.0.0",
        format="onnx",
        task="detect",
        names=("cola-can", "person"),
        image_size=(320, 320),
    )


@dataclass
class Centre:
    """Serves one artifact; ``cut_after`` bytes of an answer it drops the connection (once)."""

    content: bytes = CONTENT
    status: int = 200
    cut_after: int | None = None
    ignore_range: bool = False
    ranges: list[str | None] = field(default_factory=list)
    url: str = ""


@pytest.fixture
def centre() -> Iterator[Centre]:
    state = Centre()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers.get("Range")
            state.ranges.append(wanted)
            if self.headers["Authorization"] != f"Bearer {TOKEN}":
                self.send_error(401)
                return
            if state.status != 200:
                self.send_error(state.status)
                return
            start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and not state.ignore_range else 0
            body = state.content[start:]
            self.send_response(206 if start else 200)
            if start:
                self.send_header(
                    "Content-Range", f"bytes {start}-{len(state.content) - 1}/{len(state.content)}"
                )
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if state.cut_after is not None:
                body, state.cut_after = body[: state.cut_after], None
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_port}"
    yield state
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def cache(tmp_path: Path) -> ModelCache:
    return ModelCache(tmp_path)


def test_fetched_model_lies_under_its_digest_and_verifies(cache: ModelCache, centre: Centre) -> None:
    manifest = manifest_of(CONTENT)
    path = cache.fetch(manifest, centre.url, TOKEN)
    assert path.name == manifest.digest.removeprefix("sha256:")
    assert path.read_bytes() == CONTENT
    assert cache.verified(manifest) == path
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_model_already_there_is_not_fetched_again(cache: ModelCache, centre: Centre) -> None:
    cache.fetch(manifest_of(CONTENT), centre.url, TOKEN)
    cache.fetch(manifest_of(CONTENT), centre.url, TOKEN)
    assert centre.ranges == [None]


def test_cut_download_resumes_where_it_broke_off(cache: ModelCache, centre: Centre) -> None:
    centre.cut_after = 300_000
    with pytest.raises(TransientError, match="broke off at byte 300000"):
        cache.fetch(manifest_of(CONTENT), centre.url, TOKEN)
    with pytest.raises(ModelError, match="not on this node"):
        cache.verified(manifest_of(CONTENT))
    assert cache.fetch(manifest_of(CONTENT), centre.url, TOKEN).read_bytes() == CONTENT
    assert centre.ranges == [None, "bytes=300000-"]


def test_server_that_ignores_ranges_starts_over(cache: ModelCache, centre: Centre) -> None:
    centre.cut_after, centre.ignore_range = 300_000, True
    with pytest.raises(TransientError):
        cache.fetch(manifest_of(CONTENT), centre.url, TOKEN)
    assert cache.fetch(manifest_of(CONTENT), centre.url, TOKEN).read_bytes() == CONTENT


def test_wrong_content_is_refused_and_nothing_of_it_stays(cache: ModelCache, centre: Centre) -> None:
    centre.content = CONTENT[:-1] + b"!"
    manifest = manifest_of(CONTENT)
    with pytest.raises(ModelError, match="digest"):
        cache.fetch(manifest, centre.url, TOKEN)
    assert list(cache.path(manifest).parent.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "expected"), [(CONTENT + b"more", ModelError), (CONTENT[:-5], TransientError)]
)
def test_content_of_another_size_is_refused(
    cache: ModelCache, centre: Centre, content: bytes, expected: type[AgentError]
) -> None:
    centre.content = content
    with pytest.raises(expected):
        cache.fetch(manifest_of(CONTENT), centre.url, TOKEN)
    assert not cache.path(manifest_of(CONTENT)).exists()


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (403, PermanentError),
        (404, ModelError),
        (429, TransientError),
        (500, TransientError),
        (503, TransientError),
    ],
)
def test_refusals_of_the_centre_say_whether_to_try_again(
    cache: ModelCache, centre: Centre, status: int, expected: type[AgentError]
) -> None:
    centre.status = status
    with pytest.raises(expected, match=str(status)) as refusal:
        cache.fetch(manifest_of(CONTENT), centre.url, TOKEN)
    assert type(refusal.value) is expected


def test_wrong_token_is_permanent_and_not_repeated_in_the_text(cache: ModelCache, centre: Centre) -> None:
    with pytest.raises(PermanentError, match="check the artifact token") as refusal:
        cache.fetch(manifest_of(CONTENT), centre.url, "stolen")
    assert "stolen" not in str(refusal.value)


def test_centre_that_is_down_is_transient(cache: ModelCache) -> None:
    with pytest.raises(TransientError):
        cache.fetch(manifest_of(CONTENT), "http://127.0.0.1:9", TOKEN)


@pytest.mark.parametrize(
    "damage", [CONTENT[:100], CONTENT[:-1] + b"!", b""], ids=["truncated", "flipped", "empty"]
)
def test_damage_on_disk_is_found_before_loading_and_repaired_by_fetch(
    cache: ModelCache, centre: Centre, damage: bytes
) -> None:
    manifest = manifest_of(CONTENT)
    path = cache.fetch(manifest, centre.url, TOKEN)
    path.write_bytes(damage)
    with pytest.raises(ModelError, match="fetch it again"):
        cache.verified(manifest)
    assert cache.fetch(manifest, centre.url, TOKEN).read_bytes() == CONTENT


def test_disk_without_room_is_not_filled(
    cache: ModelCache, centre: Centre, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_cache, "RESERVE_BYTES", 10**18)
    with pytest.raises(TransientError, match="are free"):
        cache.fetch(manifest_of(CONTENT), centre.url, TOKEN)
    assert centre.ranges == []


def test_two_pods_fetch_the_same_model_once(cache: ModelCache, centre: Centre) -> None:
    manifest = manifest_of(CONTENT)
    threads = [threading.Thread(target=cache.fetch, args=(manifest, centre.url, TOKEN)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(centre.ranges) == 1
    assert cache.verified(manifest).exists()


def test_pruning_keeps_the_wanted_and_the_last_good_model(cache: ModelCache, centre: Centre) -> None:
    manifests = []
    for n in range(3):
        centre.content = CONTENT + bytes([n])
        manifests.append(manifest_of(centre.content))
        cache.fetch(manifests[-1], centre.url, TOKEN)
    cache.mark_good(manifests[1])
    gone = cache.prune(manifests[2])
    assert gone == [cache.path(manifests[0])]
    assert cache.verified(manifests[1])
    assert cache.verified(manifests[2])


@pytest.fixture
def signed_files(tmp_path: Path) -> tuple[Path, Path]:
    key = Ed25519PrivateKey.generate()
    keys, manifest = tmp_path / "keys.pem", tmp_path / "manifest.json"
    keys.write_bytes(
        key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    manifest.write_bytes(sign(manifest_of(CONTENT).to_bytes().decode(), key).to_bytes())
    return manifest, keys


def test_signed_manifest_is_believed(signed_files: tuple[Path, Path]) -> None:
    assert read_manifest(*signed_files) == manifest_of(CONTENT)


def test_manifest_changed_after_signing_is_refused(signed_files: tuple[Path, Path]) -> None:
    manifest, keys = signed_files
    manifest.write_text(manifest.read_text().replace("1.0.0", "6.6.6"))
    with pytest.raises(ModelError, match="does not match"):
        read_manifest(manifest, keys)


def test_manifest_signed_by_a_stranger_is_refused(signed_files: tuple[Path, Path]) -> None:
    manifest, keys = signed_files
    manifest.write_bytes(
        sign(manifest_of(CONTENT).to_bytes().decode(), Ed25519PrivateKey.generate()).to_bytes()
    )
    with pytest.raises(ModelError, match="not trusted"):
        read_manifest(manifest, keys)


@pytest.mark.parametrize("which", [0, 1], ids=["manifest", "keys"])
@pytest.mark.parametrize("content", [None, b"", b"rubbish", b"\xff\xfe"])
def test_unusable_manifest_files_are_model_errors(
    signed_files: tuple[Path, Path], which: int, content: bytes | None
) -> None:
    if content is None:
        signed_files[which].unlink()
    else:
        signed_files[which].write_bytes(content)
    with pytest.raises(ModelError):
        read_manifest(*signed_files)
