"""The runner of a candidate: orders, samples, budget, crashes. Candidates are played; time is real."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from agent import shadow
from agent.domain.detection import Detection
from agent.errors import ModelError, TransientError
from agent.ports import Image, Look
from agent.shadow import ShadowRunner, Tools
from contract.errors import SignatureError
from contract.shadow import ShadowOrder
from contract.signing import Signed, sign, verify
from contract.workload import ModelManifest

KEY = Ed25519PrivateKey.generate()
DIGEST, OTHER = ("sha256:" + letter * 64 for letter in "ab")
IMAGE: Image = np.zeros((4, 4, 3), np.uint8)
SEEN = Detection((0.0, 0.0, 9.0, 9.0), 0.5, 0, "cola")


def order(digest: str = DIGEST, **changes: Any) -> bytes:
    manifest = ModelManifest(
        digest=digest, size_bytes=1, name="shelf", version="2", format="openvino", task="detect",
        names=("cola",), image_size=(32, 32),
    )  # fmt: skip
    values: dict[str, Any] = {
        "store": "berlin-01",
        "model": manifest,
        "cpu_percent": 50.0,
        "until": datetime.now(UTC) + timedelta(hours=1),
    }
    return sign(ShadowOrder(**(values | changes)).model_dump_json(), KEY).to_bytes()


@dataclass
class Played:
    """A candidate that answers at once, or fails as it is told."""

    answers: Callable[[], list[Detection]] = lambda: [SEEN]
    cost_s: float = 0.0
    looked: int = 0
    closed: bool = False
    spent_s: float = 0.0

    def look(self, image: Image) -> Look:
        self.looked += 1
        self.spent_s += self.cost_s
        return Look(self.answers(), 5.0, self.cost_s)

    def cpu_s(self) -> float:
        spent, self.spent_s = self.spent_s, 0.0
        return spent

    def close(self) -> None:
        self.closed = True


@dataclass
class Bench:
    """A runner, what it started, and a live loop that offers frames of two cameras."""

    candidates: list[Played] = field(default_factory=list)
    make: Callable[[], Played] = Played
    fails: list[Exception] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        def believe(signed: Signed) -> bytes:
            try:
                return verify(signed, [KEY.public_key()]).encode()
            except SignatureError as error:
                raise ModelError(str(error)) from error

        def start(path: Path, manifest: ModelManifest) -> Played:
            if self.fails:
                raise self.fails.pop(0)
            self.candidates.append(self.make())
            return self.candidates[-1]

        tools = Tools(believe, lambda _: Path("model"), start, time.time, time.monotonic, lambda: 0.0)
        self.runner = ShadowRunner("berlin-01", tools, self.stop)
        self.runner.start()

    def until(self, done: Callable[[], bool], timeout: float = 30.0) -> None:
        end = time.monotonic() + timeout
        while not done():
            assert time.monotonic() < end, self.runner.report()
            for camera in ("aisle-1", "aisle-2"):
                self.runner.offer(camera, IMAGE, [SEEN])
            time.sleep(0.005)

    @property
    def frames(self) -> int:
        report = self.runner.report()
        return report.frames if report else 0

    @property
    def state(self) -> str:
        report = self.runner.report()
        return report.state if report else ""


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.setattr(shadow, "AGAIN_S", 0.02)
    monkeypatch.setattr(shadow, "IDLE_S", 0.05)
    made = Bench()
    yield made
    made.stop.set()
    made.runner.close()


def test_nothing_is_tried_without_an_order(bench: Bench) -> None:
    bench.runner.offer("aisle-1", IMAGE, [SEEN])
    assert bench.runner.report() is None
    assert bench.candidates == []


def test_differences_are_counted_by_class(bench: Bench) -> None:
    tea = Detection((50.0, 50.0, 60.0, 60.0), 0.9, 1, "tea")
    bench.make = lambda: Played(lambda: [SEEN, tea])
    bench.runner.obey(order())
    bench.until(lambda: bench.frames >= 6)
    report = bench.runner.report()
    assert report is not None
    assert (report.model, report.state) == (DIGEST, "running")
    assert report.matched == report.only_candidate == report.frames
    assert report.only_current == 0
    assert report.classes["tea"].only_candidate == report.frames
    assert report.confidence_delta == pytest.approx(0.0)
    assert report.inference_ms_p50 == 5.0


def test_order_that_comes_again_starts_nothing_anew(bench: Bench) -> None:
    same = order()
    bench.runner.obey(same)
    bench.until(lambda: bench.frames >= 2)
    bench.runner.obey(same)
    before = bench.frames
    bench.until(lambda: bench.frames > before + 2)
    assert len(bench.candidates) == 1


def test_other_terms_for_the_same_model_go_on_counting(bench: Bench) -> None:
    bench.runner.obey(order())
    bench.until(lambda: bench.frames >= 2)
    before = bench.frames
    bench.runner.obey(order(cpu_percent=10.0))
    bench.until(lambda: bench.frames > before)
    assert bench.candidates[0].closed


def test_other_model_counts_from_nothing(bench: Bench) -> None:
    bench.runner.obey(order())
    bench.until(lambda: bench.frames >= 3)
    bench.runner.obey(order(OTHER))
    bench.until(lambda: len(bench.candidates) == 2 and bench.frames >= 1)
    report = bench.runner.report()
    assert report is not None
    assert report.model == OTHER


@pytest.mark.parametrize("how", ["withdrawn", "expired"])
def test_end_of_an_order_ends_the_run_and_keeps_its_figures(bench: Bench, how: str) -> None:
    bench.runner.obey(order())
    bench.until(lambda: bench.frames >= 2)
    past = datetime.now(UTC) - timedelta(seconds=1)
    bench.runner.obey(b"" if how == "withdrawn" else order(until=past))
    bench.until(lambda: bench.state == "ended")
    assert bench.frames >= 2
    assert bench.candidates[0].closed


def test_cameras_that_offer_nothing_give_no_samples(bench: Bench) -> None:
    bench.runner.obey(order())
    end = time.monotonic() + 30
    while bench.state != "waiting" or not bench.candidates:
        assert time.monotonic() < end
        time.sleep(0.01)
    assert bench.frames == 0


def test_crash_is_told_and_tried_again(bench: Bench) -> None:
    bench.fails = [TransientError("it was ended by signal 11", 0.01)]
    bench.runner.obey(order())
    bench.until(lambda: bench.frames >= 1)
    report = bench.runner.report()
    assert report is not None
    assert report.problem == ""


def test_candidate_that_always_crashes_is_given_up(bench: Bench) -> None:
    bench.fails = [TransientError("it was ended by signal 9", 0.01)] * 50
    bench.runner.obey(order())
    bench.until(lambda: bench.state == "failed")
    report = bench.runner.report()
    assert report is not None
    assert "signal 9" in report.problem
    assert len(bench.fails) == 50 - shadow.MAX_CRASHES


def test_unusable_candidate_is_not_tried_again_until_the_order_changes(bench: Bench) -> None:
    bench.fails = [ModelError("no detection model")]
    bench.runner.obey(order())
    bench.until(lambda: bench.state == "failed")
    bench.runner.obey(order(cpu_percent=11.0))
    bench.until(lambda: bench.frames >= 1)


def test_budget_spaces_the_samples(bench: Bench) -> None:
    """Each frame costs 20 ms, and 10 % of a core is allowed: a frame takes 200 ms of the budget."""
    bench.make = lambda: Played(cost_s=0.02)
    bench.runner.obey(order(cpu_percent=10.0))
    began = time.monotonic()
    bench.until(lambda: bench.frames >= 4)
    assert time.monotonic() - began >= 0.34, "three are paid when the fourth is looked at, 25 ms by the burst"
    report = bench.runner.report()
    assert report is not None
    assert report.cpu_ms == pytest.approx(20.0)


@pytest.mark.parametrize(
    "payload",
    [
        b"{}",
        b"\xff",
        order()[:-9],
        order(store="paris-02"),
        sign("{}", KEY).to_bytes(),
        sign(ModelManifest.model_json_schema.__name__, KEY).to_bytes(),
        sign(Signed.model_validate_json(order()).payload, Ed25519PrivateKey.generate()).to_bytes(),
    ],
    ids=["empty-object", "no-text", "cut", "other-store", "empty-order", "no-json", "stranger"],
)
def test_order_that_is_not_ours_changes_nothing(bench: Bench, payload: bytes) -> None:
    bench.runner.obey(payload)
    assert bench.runner.report() is None
    bench.runner.obey(order())
    bench.until(lambda: bench.frames >= 1)
    bench.runner.obey(payload)
    before = bench.frames
    bench.until(lambda: bench.frames > before)


@given(st.binary(max_size=200))
def test_any_bytes_are_an_order_or_refused(payload: bytes) -> None:
    tools = Tools(
        lambda _: b"", lambda _: Path(), lambda *_: Played(), time.time, time.monotonic, lambda: 0.0
    )
    ShadowRunner("berlin-01", tools, threading.Event()).obey(payload)
