"""The background thread that obeys staging orders, with the real cache and real signatures."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent import staging
from agent.adapters.model_cache import ModelCache, believe
from agent.adapters.traffic_file import Traffic, TrafficFile
from agent.delivery import Delivery, Limits
from agent.errors import ModelError, TransientError
from agent.ports import ArtifactStream
from agent.staging import Stager, spread
from contract.messages import StagingOrder
from contract.signing import Signed, digest_bytes, sign
from contract.workload import ModelManifest

CONTENTS = {n: bytes([n]) * 10_000 for n in range(4)}
BY_DIGEST = {digest_bytes(content): content for content in CONTENTS.values()}


def wait_for(condition: Callable[[], object], what: str) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.01)


@dataclass
class Centre:
    name: str = "centre"
    down: bool = False
    unknown: set[str] = field(default_factory=set)
    hold: threading.Event | None = None
    opened: list[str] = field(default_factory=list)

    @contextmanager
    def open(self, digest: str, offset: int) -> Iterator[ArtifactStream]:
        self.opened.append(digest)
        if self.down:
            raise TransientError("the centre cannot be reached")
        if digest in self.unknown:
            raise ModelError("no such artifact")
        yield ArtifactStream(offset, self._chunks(BY_DIGEST[digest][offset:]))

    def _chunks(self, content: bytes) -> Iterator[bytes]:
        yield content[:4000]
        if self.hold is not None:
            assert self.hold.wait(10)
        yield content[4000:]


@dataclass
class Rig:
    cache: ModelCache
    centre: Centre
    key: Ed25519PrivateKey
    stager: Stager
    stop: threading.Event

    def digest(self, n: int) -> str:
        return digest_bytes(CONTENTS[n])

    def signed(self, n: int, key: Ed25519PrivateKey | None = None) -> Signed:
        manifest = ModelManifest(
            digest=self.digest(n),
            size_bytes=len(CONTENTS[n]),
            name="shelf",
            version=str(n),
            format="onnx",
            task="detect",
            names=("cola-can",),
            image_size=(320, 320),
        )
        return sign(manifest.model_dump_json(), key or self.key)

    def order(self, *numbers: int) -> None:
        self.stager.obey(StagingOrder(models=tuple(self.signed(n) for n in numbers)).to_bytes())


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    monkeypatch.setattr(staging, "AGAIN_S", 0.05)
    key = Ed25519PrivateKey.generate()
    keys = tmp_path / "keys.pem"
    pem = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    keys.write_bytes(key.public_key().public_bytes(*pem))
    cache, centre, stop = ModelCache(tmp_path, max_bytes=25_000), Centre(), threading.Event()
    traffic = TrafficFile(tmp_path)
    delivery = Delivery(
        cache,
        centre,
        list,
        limits=Limits(),
        count=lambda c, p: traffic.add(centre_bytes=c, peer_bytes=p),
        monotonic=time.monotonic,
        pause=stop.wait,
    )

    def counts() -> tuple[int, int]:
        return traffic.read().centre_bytes, traffic.read().peer_bytes

    stager = Stager(
        delivery,
        cache,
        believe=lambda signed: believe(signed, keys, "staged model"),
        running=lambda: [digest_bytes(CONTENTS[0])],
        part_size=cache.part_size,
        traffic=counts,
        delay_s=lambda digest: 0.0,
        stop=stop,
    )
    stager.start()
    yield Rig(cache, centre, key, stager, stop)
    stop.set()
    stager.close()


def test_ordered_models_are_fetched_and_told_of(rig: Rig) -> None:
    rig.order(1, 2)
    wait_for(lambda: set(rig.stager.cached()) == {rig.digest(1), rig.digest(2)}, "both staged")
    report = rig.stager.delivery()
    assert (report.centre_bytes, report.peer_bytes, report.problem) == (20_000, 0, "")
    rig.order(1, 2)
    rig.order(2)
    time.sleep(0.2)
    assert rig.centre.opened == [rig.digest(1), rig.digest(2)], "what is here is not fetched again"


def test_progress_is_told_while_a_model_comes_in(rig: Rig) -> None:
    rig.centre.hold = threading.Event()
    rig.order(1)
    wait_for(lambda: rig.stager.delivery().fetched_bytes == 4000, "the first piece")
    assert rig.stager.delivery().fetching == rig.digest(1)
    assert rig.stager.cached() == []
    rig.centre.hold.set()
    wait_for(lambda: rig.stager.cached() == [rig.digest(1)], "the rest")
    wait_for(lambda: rig.stager.delivery().fetching is None, "the end")


def test_centre_that_is_down_is_tried_again(rig: Rig) -> None:
    rig.centre.down = True
    rig.order(1)
    wait_for(lambda: len(rig.centre.opened) >= 2, "a second try")
    assert "cannot be reached" in rig.stager.delivery().problem
    rig.centre.down = False
    wait_for(lambda: rig.stager.cached() == [rig.digest(1)], "staged after all")
    wait_for(lambda: not rig.stager.delivery().problem, "no problem any more")


def test_model_that_cannot_be_had_does_not_hold_up_the_others(rig: Rig) -> None:
    rig.centre.unknown = {rig.digest(1)}
    rig.order(1, 2)
    wait_for(lambda: rig.stager.cached() == [rig.digest(2)], "the other one")
    wait_for(lambda: "no such artifact" in rig.stager.delivery().problem, "the problem told")


@pytest.mark.parametrize("payload", [b"", b"rubbish", b'{"models": [1]}', b"[" * 1000])
def test_broken_order_is_told_and_the_next_one_obeyed(rig: Rig, payload: bytes) -> None:
    rig.stager.obey(payload)
    if payload:
        wait_for(lambda: "refused" in rig.stager.delivery().problem, "the refusal")
    rig.order(1)
    wait_for(lambda: rig.stager.cached() == [rig.digest(1)], "the next order")


def test_model_signed_by_a_stranger_is_never_fetched(rig: Rig) -> None:
    forged = rig.signed(1, Ed25519PrivateKey.generate())
    rig.stager.obey(StagingOrder(models=(forged, rig.signed(2))).to_bytes())
    wait_for(lambda: rig.stager.cached() == [rig.digest(2)], "the honest one")
    assert rig.centre.opened == [rig.digest(2)]
    wait_for(lambda: "not trusted" in rig.stager.delivery().problem, "the refusal")


def test_more_models_than_the_cache_may_hold_are_told(rig: Rig) -> None:
    rig.order(1, 2, 3)
    wait_for(lambda: "STOREFLEET_CACHE_MAX_BYTES" in rig.stager.delivery().problem, "the limit told")
    assert set(rig.stager.cached()) == {rig.digest(1), rig.digest(2)}


def test_staging_stops_in_the_middle_of_a_download(rig: Rig) -> None:
    rig.centre.hold = threading.Event()
    rig.order(1)
    wait_for(lambda: rig.stager.delivery().fetched_bytes == 4000, "the first piece")
    rig.stop.set()
    rig.centre.hold.set()
    rig.stager.close()
    assert rig.stager.cached() == []


def test_nodes_begin_at_moments_of_their_own() -> None:
    moments = [spread(f"node-{n}", "sha256:ab", 30.0) for n in range(300)]
    assert all(0 <= moment < 30 for moment in moments)
    assert len({round(moment, 3) for moment in moments}) > 290
    assert 13 < sum(moments) / len(moments) < 17
    assert spread("node-1", "sha256:ab", 30.0) == moments[1]


def test_bytes_are_counted_across_processes_and_a_torn_file_starts_over(tmp_path: Path) -> None:
    first, second = TrafficFile(tmp_path), TrafficFile(tmp_path)
    assert first.read() == Traffic()
    first.add(centre_bytes=5)
    second.add(centre_bytes=6, peer_bytes=7)
    assert first.read() == Traffic(11, 7)
    file = tmp_path / "models" / "traffic.json"
    file.write_text(file.read_text()[:9])
    assert first.read() == Traffic()
    second.add(peer_bytes=1)
    assert first.read() == Traffic(0, 1)
