"""Fetching and verifying models, against a real HTTP server that can cut, lie and refuse."""

import errno
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent.adapters import model_cache
from agent.adapters.artifact_http import HttpArtifacts
from agent.adapters.model_cache import ModelCache, read_manifest
from agent.delivery import Delivery, Limits
from agent.errors import AgentError, ModelError, PermanentError, TransientError
from agent.ports import Offer
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


def fetch(cache: ModelCache, manifest: ModelManifest, url: str, token: str = TOKEN) -> Path:
    """Once, from the centre, at full speed."""
    Delivery(
        cache,
        HttpArtifacts.centre(url, token),
        list,
        limits=Limits(),
        count=lambda centre, peer: None,
        monotonic=time.monotonic,
        pause=threading.Event().wait,
    ).bring(manifest)
    return cache.path(manifest)


def test_fetched_model_lies_under_its_digest_and_verifies(cache: ModelCache, centre: Centre) -> None:
    manifest = manifest_of(CONTENT)
    path = fetch(cache, manifest, centre.url)
    assert path.name == manifest.digest.removeprefix("sha256:")
    assert path.read_bytes() == CONTENT
    assert cache.verified(manifest) == path
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_model_already_there_is_not_fetched_again(cache: ModelCache, centre: Centre) -> None:
    fetch(cache, manifest_of(CONTENT), centre.url)
    fetch(cache, manifest_of(CONTENT), centre.url)
    assert centre.ranges == [None]


def test_cut_download_resumes_where_it_broke_off(cache: ModelCache, centre: Centre) -> None:
    centre.cut_after = 300_000
    with pytest.raises(TransientError, match="broke off"):
        fetch(cache, manifest_of(CONTENT), centre.url)
    with pytest.raises(ModelError, match="not on this node"):
        cache.verified(manifest_of(CONTENT))
    assert fetch(cache, manifest_of(CONTENT), centre.url).read_bytes() == CONTENT
    assert centre.ranges == [None, "bytes=300000-"]


def test_server_that_ignores_ranges_starts_over(cache: ModelCache, centre: Centre) -> None:
    centre.cut_after, centre.ignore_range = 300_000, True
    with pytest.raises(TransientError):
        fetch(cache, manifest_of(CONTENT), centre.url)
    assert fetch(cache, manifest_of(CONTENT), centre.url).read_bytes() == CONTENT


def test_wrong_content_is_refused_and_nothing_of_it_stays(cache: ModelCache, centre: Centre) -> None:
    centre.content = CONTENT[:-1] + b"!"
    manifest = manifest_of(CONTENT)
    with pytest.raises(ModelError, match="digest"):
        fetch(cache, manifest, centre.url)
    assert list(cache.path(manifest).parent.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "expected"), [(CONTENT + b"more", ModelError), (CONTENT[:-5], TransientError)]
)
def test_content_of_another_size_is_refused(
    cache: ModelCache, centre: Centre, content: bytes, expected: type[AgentError]
) -> None:
    centre.content = content
    with pytest.raises(expected):
        fetch(cache, manifest_of(CONTENT), centre.url)
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
        fetch(cache, manifest_of(CONTENT), centre.url)
    assert type(refusal.value) is expected


def test_wrong_token_is_permanent_and_not_repeated_in_the_text(cache: ModelCache, centre: Centre) -> None:
    with pytest.raises(PermanentError, match="check the artifact token") as refusal:
        fetch(cache, manifest_of(CONTENT), centre.url, "stolen")
    assert "stolen" not in str(refusal.value)


def test_centre_that_is_down_is_transient(cache: ModelCache) -> None:
    with pytest.raises(TransientError):
        fetch(cache, manifest_of(CONTENT), "http://127.0.0.1:9")


@pytest.mark.parametrize(
    "damage", [CONTENT[:100], CONTENT[:-1] + b"!", b""], ids=["truncated", "flipped", "empty"]
)
def test_damage_on_disk_is_found_before_loading_and_repaired_by_fetch(
    cache: ModelCache, centre: Centre, damage: bytes
) -> None:
    manifest = manifest_of(CONTENT)
    path = fetch(cache, manifest, centre.url)
    path.write_bytes(damage)
    with pytest.raises(ModelError, match="fetch it again"):
        cache.verified(manifest)
    assert fetch(cache, manifest, centre.url).read_bytes() == CONTENT


def test_disk_without_room_is_not_filled(
    cache: ModelCache, centre: Centre, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_cache, "RESERVE_BYTES", 10**18)
    with pytest.raises(TransientError, match="are free"):
        fetch(cache, manifest_of(CONTENT), centre.url)
    assert centre.ranges == []


def test_two_pods_fetch_the_same_model_once(cache: ModelCache, centre: Centre) -> None:
    manifest = manifest_of(CONTENT)
    threads = [threading.Thread(target=fetch, args=(cache, manifest, centre.url)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(centre.ranges) == 1
    assert cache.verified(manifest).exists()


def test_full_disk_makes_room_and_is_named(
    cache: ModelCache, centre: Centre, monkeypatch: pytest.MonkeyPatch
) -> None:
    centre.content = CONTENT + b"old"
    old = manifest_of(centre.content)
    fetch(cache, old, centre.url)
    with monkeypatch.context() as full, cache.receive(manifest_of(CONTENT), resumable=True) as part:
        assert part is not None

        class Full:
            name = str(cache.path(old)) + ".part"

            def write(self, data: bytes) -> int:
                raise OSError(errno.ENOSPC, "No space left on device")

        full.setattr(part, "_file", Full())
        with pytest.raises(TransientError, match="is full; 1 other models were removed"):
            part.write(b"x")
        full.undo()
        part.write(CONTENT)
    assert cache.digests() == [manifest_of(CONTENT).digest]


class Shelf:
    """Models of 1,000,000 bytes and a bit, fetched one after another at known times."""

    def __init__(self, directory: Path, centre: Centre, max_bytes: int = 0) -> None:
        self.directory, self._centre = directory, centre
        self.cache = ModelCache(directory, max_bytes=max_bytes)

    def put(self, n: int) -> ModelManifest:
        manifest = self.manifest(n)
        fetch(self.cache, manifest, self._centre.url)
        return manifest

    def manifest(self, n: int) -> ModelManifest:
        self._centre.content = CONTENT + bytes([n])
        return manifest_of(self._centre.content)

    def numbers(self) -> set[int]:
        digests = set(self.cache.digests())
        return {n for n in range(9) if manifest_of(CONTENT + bytes([n])).digest in digests}


LIMIT = 3 * len(CONTENT) + 100


def test_model_used_longest_ago_goes_first(tmp_path: Path, centre: Centre) -> None:
    shelf = Shelf(tmp_path, centre, LIMIT)
    first = shelf.put(0)
    for n in (1, 2):
        shelf.put(n)
    shelf.cache.verified(first)
    shelf.put(3)
    assert shelf.numbers() == {0, 2, 3}
    assert shelf.cache.digests()[0] == manifest_of(CONTENT + b"\x03").digest


def test_running_wanted_and_last_good_models_are_never_evicted(tmp_path: Path, centre: Centre) -> None:
    shelf = Shelf(tmp_path, centre, LIMIT)
    good, running = shelf.put(0), shelf.put(1)
    shelf.cache.mark_good(good)
    other_process = ModelCache(tmp_path)
    other_process.hold(running)
    shelf.put(2)
    shelf.put(3)
    assert shelf.numbers() == {0, 1, 3}
    other_process.close()
    shelf.put(4)
    assert shelf.numbers() == {0, 3, 4}


def test_release_may_grow_over_the_limit_but_staging_may_not(tmp_path: Path, centre: Centre) -> None:
    shelf = Shelf(tmp_path, centre, len(CONTENT) + 100)
    good = shelf.put(0)
    shelf.cache.mark_good(good)
    with pytest.raises(TransientError, match="STOREFLEET_CACHE_MAX_BYTES"):
        shelf.cache.make_room(shelf.manifest(1), [], within_limit=True)
    shelf.put(1)
    assert shelf.numbers() == {0, 1}
    shelf.put(2)
    assert shelf.numbers() == {0, 2}


def test_model_kept_for_a_staging_order_stays(tmp_path: Path, centre: Centre) -> None:
    shelf = Shelf(tmp_path, centre, LIMIT)
    staged = shelf.put(0)
    for n in (1, 2):
        shelf.put(n)
    shelf.cache.make_room(shelf.manifest(3), [staged.digest], within_limit=True)
    assert shelf.numbers() == {0, 2}


def test_full_disk_evicts_before_it_gives_up(
    tmp_path: Path, centre: Centre, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf = Shelf(tmp_path, centre)
    for n in (0, 1):
        shelf.put(n)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Free(model_cache.RESERVE_BYTES + 10))
    shelf.cache.make_room(shelf.manifest(2), [], within_limit=False)
    assert shelf.numbers() == {1}
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Free(0))
    with pytest.raises(TransientError, match="no other model can be spared"):
        shelf.cache.make_room(shelf.manifest(2), [], within_limit=False)
    assert shelf.numbers() == {1}


@dataclass
class Free:
    free: int


def test_unfinished_download_counts_and_is_evicted_like_a_model(tmp_path: Path, centre: Centre) -> None:
    shelf = Shelf(tmp_path, centre, LIMIT)
    centre.cut_after = 300_000
    with pytest.raises(TransientError):
        shelf.put(0)
    assert shelf.cache.part_size(shelf.manifest(0)) == 300_000
    for n in (1, 2, 3):
        shelf.put(n)
    assert shelf.numbers() == {1, 2, 3}
    assert shelf.cache.part_size(shelf.manifest(0)) == 0


def test_offer_tells_what_is_here_under_way_and_damaged(tmp_path: Path, centre: Centre) -> None:
    shelf = Shelf(tmp_path, centre)
    manifest = shelf.manifest(0)
    assert shelf.cache.offer(manifest.digest) == Offer()
    with shelf.cache.receive(manifest, resumable=True) as part:
        assert part is not None
        assert shelf.cache.offer(manifest.digest) == Offer(under_way=True)
        part.write(centre.content)
    path = shelf.cache.path(manifest)
    assert shelf.cache.offer(manifest.digest) == Offer(path)
    path.write_bytes(CONTENT)
    assert shelf.cache.offer(manifest.digest) == Offer()


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
