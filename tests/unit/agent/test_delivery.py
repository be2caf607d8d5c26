"""Who is asked for a model, in which order and for how long; the cache is the real one."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from agent.adapters.model_cache import ModelCache
from agent.delivery import Delivery, Limits, peer_token
from agent.errors import AgentError, ModelError, PermanentError, SourceBusy, TransientError
from agent.ports import ArtifactStream
from contract.signing import digest_bytes
from contract.workload import ModelManifest

CONTENT = bytes(range(256)) * 400
MANIFEST = ModelManifest(
    digest=digest_bytes(CONTENT),
    size_bytes=len(CONTENT),
    name="shelf",
    version="1",
    format="onnx",
    task="detect",
    names=("cola-can",),
    image_size=(320, 320),
)


@dataclass
class Source:
    """Gives ``content`` in pieces, or raises what ``answers`` says first."""

    name: str
    clock: "Clock"
    content: bytes = CONTENT
    answers: list[AgentError] = field(default_factory=list)
    cut_after: int | None = None
    chunk: int = 1024
    chunk_takes_s: float = 0.0
    offsets: list[int] = field(default_factory=list)

    @contextmanager
    def open(self, digest: str, offset: int) -> Iterator[ArtifactStream]:
        assert digest == MANIFEST.digest
        self.offsets.append(offset)
        if self.answers:
            raise self.answers.pop(0)
        yield ArtifactStream(offset, self._chunks(offset))

    def _chunks(self, offset: int) -> Iterator[bytes]:
        for start in range(offset, len(self.content), self.chunk):
            if self.cut_after is not None and start >= self.cut_after:
                self.cut_after = None
                raise TransientError("the line broke")
            self.clock.now += self.chunk_takes_s
            yield self.content[start : start + self.chunk]


@dataclass
class Clock:
    now: float = 0.0
    over: bool = False

    def pause(self, seconds: float) -> bool:
        self.now += seconds
        return self.over


@dataclass
class Bench:
    cache: ModelCache
    clock: Clock
    centre: Source
    peers: list[Source]
    counted: list[int]

    def bring(self, rate: int = 0) -> None:
        def count(centre: int, peer: int) -> None:
            self.counted[0] += centre
            self.counted[1] += peer

        Delivery(
            self.cache,
            self.centre,
            lambda: self.peers,
            limits=Limits(rate),
            count=count,
            monotonic=lambda: self.clock.now,
            pause=self.clock.pause,
        ).bring(MANIFEST)

    def peer(self, **how: object) -> Source:
        source = Source(f"peer-{len(self.peers) + 1}", self.clock, **how)  # type: ignore[arg-type]
        self.peers.append(source)
        return source


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    clock = Clock()
    return Bench(ModelCache(tmp_path), clock, Source("centre", clock), [], [0, 0])


def test_neighbour_that_has_it_spares_the_link(bench: Bench) -> None:
    bench.peer()
    bench.bring()
    assert bench.counted == [0, len(CONTENT)]
    assert bench.centre.offsets == []
    assert bench.cache.holds(MANIFEST)
    bench.bring()
    assert bench.counted == [0, len(CONTENT)], "what is here is not fetched again"


def test_without_neighbours_the_centre_is_asked(bench: Bench) -> None:
    bench.bring()
    assert bench.counted == [len(CONTENT), 0]


HOSTILE: dict[str, Callable[[Bench], Source]] = {
    "has it not": lambda b: b.peer(answers=[ModelError("404")]),
    "refuses": lambda b: b.peer(answers=[PermanentError("401")]),
    "down": lambda b: b.peer(answers=[TransientError("no route")]),
    "lies": lambda b: b.peer(content=CONTENT[:-1] + b"!"),
    "sends too little": lambda b: b.peer(content=CONTENT[:-1]),
    "sends for ever": lambda b: b.peer(content=CONTENT * 50),
    "breaks off": lambda b: b.peer(cut_after=5000),
    "drips": lambda b: b.peer(chunk=10, chunk_takes_s=4.0),
    "always busy": lambda b: b.peer(answers=[SourceBusy("503")] * 1000),
}


@pytest.mark.parametrize("hostile", HOSTILE.values(), ids=HOSTILE)
def test_bad_neighbour_only_wastes_a_bounded_time(bench: Bench, hostile: Callable[[Bench], Source]) -> None:
    bad = hostile(bench)
    bench.bring()
    assert bench.cache.holds(MANIFEST)
    assert bench.counted[0] == len(CONTENT), "the centre is asked for all of it, once"
    assert bad.offsets[0] == 0
    assert bench.clock.now <= Limits().patience_s(len(CONTENT)) + 10
    path = bench.cache.path(MANIFEST)
    assert [p.name for p in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("hostile", HOSTILE.values(), ids=HOSTILE)
def test_good_neighbour_behind_a_bad_one_is_found(bench: Bench, hostile: Callable[[Bench], Source]) -> None:
    hostile(bench)
    bench.peer()
    bench.bring()
    assert bench.counted[0] == 0


def test_neighbour_that_is_fetching_it_itself_is_waited_for(bench: Bench) -> None:
    bench.peer(answers=[SourceBusy("503")] * 5)
    bench.bring()
    assert bench.counted == [0, len(CONTENT)]
    assert bench.clock.now == 10


def test_lying_neighbour_does_not_spoil_what_the_centre_has_sent(bench: Bench) -> None:
    bench.centre.cut_after = 20 * 1024
    with pytest.raises(TransientError):
        bench.bring()
    bench.peer(content=b"!" * len(CONTENT))
    bench.bring()
    assert bench.centre.offsets == [0, 20 * 1024]
    assert bench.counted[0] == len(CONTENT), "each byte crossed the link once"


def test_rate_is_kept_on_the_link_and_not_among_neighbours(bench: Bench) -> None:
    bench.bring(rate=10_000)
    assert len(CONTENT) / 10_000 - 0.5 <= bench.clock.now <= len(CONTENT) / 10_000
    bench.cache.path(MANIFEST).unlink()
    before = bench.clock.now
    bench.peer()
    bench.bring(rate=10_000)
    assert bench.clock.now == before


def test_slow_link_gives_the_neighbour_that_fetches_longer(bench: Bench) -> None:
    assert Limits(rate=50_000).patience_s(5_000_000) > 2 * 5_000_000 / 50_000
    assert Limits().patience_s(5_000_000) < 60


def test_stop_ends_a_download_and_the_next_one_goes_on(bench: Bench) -> None:
    bench.clock.over = True
    with pytest.raises(TransientError, match="stopped"):
        bench.bring(rate=10_000)
    bench.clock.over = False
    bench.bring()
    assert bench.centre.offsets == [0, 1024]
    assert bench.counted[0] == len(CONTENT)


def test_lying_centre_is_an_error(bench: Bench) -> None:
    bench.centre.content = CONTENT[:-1] + b"!"
    with pytest.raises(ModelError, match="digest"):
        bench.bring()
    assert bench.cache.digests() == []


def test_pods_of_one_node_fetch_once(tmp_path: Path) -> None:
    clock = Clock()
    centre = Source("centre", clock)
    benches = [Bench(ModelCache(tmp_path), clock, centre, [], [0, 0]) for _ in range(4)]
    threads = [threading.Thread(target=bench.bring) for bench in benches]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(bench.counted[0] for bench in benches) == len(CONTENT)


def test_peer_token_is_not_the_artifact_token() -> None:
    assert "artifact-token" not in peer_token("artifact-token")
    assert peer_token("a") != peer_token("b")
