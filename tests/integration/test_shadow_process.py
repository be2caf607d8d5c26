"""The process of a candidate: a real model in it, and what happens when it does not behave."""

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np
import psutil
import pytest

from agent.adapters.model_file import open_detector
from agent.adapters.shadow_process import ShadowProcess
from agent.errors import ModelError, TransientError
from camera_sims.dataset import snapshot
from contract.workload import ModelManifest

MANIFEST = ModelManifest(
    digest="sha256:" + "a" * 64, size_bytes=1, name="shelf", version="2", format="openvino", task="detect",
    names=("cola-can",), image_size=(384, 640),
)  # fmt: skip


@pytest.fixture(scope="module")
def model() -> Iterator[Path]:
    with as_file(files("shipped_model") / "shelf.zip") as path:
        yield path


@pytest.fixture
def candidate(model: Path) -> Iterator[ShadowProcess]:
    made = ShadowProcess(model, MANIFEST, "auto", memory_mb=768)
    yield made
    made.close()


def test_it_sees_what_the_agent_would_see_and_says_what_it_cost(
    candidate: ShadowProcess, model: Path
) -> None:
    picture, _ = snapshot(930_001)
    look = candidate.look(picture)
    ours = open_detector(model, threads=1).detect(picture)
    assert [d.label for d in look.detections] == [d.label for d in ours]
    np.testing.assert_allclose([d.xyxy for d in look.detections], [d.xyxy for d in ours], atol=0.5)
    assert 0 < look.cpu_s < 30
    assert candidate.cpu_s() > look.cpu_s, "loading counts"
    assert candidate.cpu_s() == 0.0


def test_it_stands_aside(candidate: ShadowProcess) -> None:
    process = psutil.Process(candidate.pid)
    assert process.nice() == 19
    assert os.sched_getscheduler(candidate.pid) in (os.SCHED_IDLE, os.SCHED_OTHER)
    assert resource.prlimit(candidate.pid, resource.RLIMIT_DATA)[0] == 768 * 1024**2
    assert not [name for name in process.environ() if name.startswith("STOREFLEET_")]


def test_appetite_for_memory_ends_only_the_candidate(model: Path) -> None:
    with pytest.raises((ModelError, TransientError)):
        ShadowProcess(model, MANIFEST, "auto", memory_mb=24)


def test_crash_is_a_transient_error(candidate: ShadowProcess) -> None:
    os.kill(candidate.pid, signal.SIGSEGV)
    with pytest.raises(TransientError, match="signal 11"):
        candidate.look(np.zeros((384, 640, 3), np.uint8))


def test_hang_is_noticed(candidate: ShadowProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.adapters.shadow_process.ANSWER_S", 0.3)
    os.kill(candidate.pid, signal.SIGSTOP)
    with pytest.raises(TransientError, match="did not answer"):
        candidate.look(np.zeros((384, 640, 3), np.uint8))


@pytest.mark.parametrize(
    ("content", "words"), [(b"", "empty"), (b"\x80\x04pickle", "pickle"), (b"x" * 99, "neither")]
)
def test_unusable_model_is_refused_in_words(tmp_path: Path, content: bytes, words: str) -> None:
    file = tmp_path / "model"
    file.write_bytes(content)
    with pytest.raises(ModelError, match=words):
        ShadowProcess(file, MANIFEST, "auto", memory_mb=768)


def test_it_ends_with_its_agent(model: Path) -> None:
    """Killed, so that nobody says goodbye to it."""
    script = (
        "import time; from pathlib import Path\n"
        "from agent.adapters.shadow_process import ShadowProcess\n"
        "from contract.workload import ModelManifest\n"
        f"m = ModelManifest.model_validate_json({MANIFEST.model_dump_json()!r})\n"
        f"p = ShadowProcess(Path({str(model)!r}), m, 'auto', memory_mb=768)\n"
        "print(p.pid, flush=True); time.sleep(60)\n"
    )
    agent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert agent.stdout is not None
    pid = int(agent.stdout.readline())
    agent.kill()
    agent.wait()
    agent.stdout.close()
    _gone_within(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == "zombie", 10.0)


def _gone_within(gone: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not gone():
        assert time.monotonic() < end
        time.sleep(0.05)
