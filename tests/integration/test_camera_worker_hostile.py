"""A camera worker that misbehaves, as one whose decoder a stream took over might, harms its camera only."""

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.adapters.opencv.source import CameraSource

READY = 'print(\'{"event": "ready"}\', flush=True)\nsys.stdin.readline()\n'
FLOOD = (
    "while True: sys.stderr.write('[h264 @ 0x55d0] error while decoding MB 10 20, bytestream -5\\n' * 500)\n"
)
START = "import os, sys, time\nwith open(__file__ + '.starts', 'a') as file: file.write('x')\n"


@pytest.fixture
def worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Has cameras read by a program instead of the real worker; gives the file that counts its starts."""

    def use(program: str) -> Path:
        script = tmp_path / "worker.py"
        script.write_text(START + program)
        python = tmp_path / "python"
        python.write_text(f"#!/bin/sh\nexec {sys.executable} {script}\n")
        python.chmod(0o755)
        monkeypatch.setattr("agent.adapters.opencv.worker_process.sys.executable", str(python))
        return script.with_name("worker.py.starts")

    return use


@pytest.fixture
def source(worker: Callable[[str], Path]) -> Iterator[Callable[[], CameraSource]]:
    opened: list[CameraSource] = []

    def open_source() -> CameraSource:
        opened.append(CameraSource("rtsp://127.0.0.1:9/x", environment={}))
        return opened[-1]

    yield open_source
    for camera in opened:
        camera.close()


@pytest.mark.parametrize("rubbish", ['{"event": ', "[1]", '{"event": 7}', "null", "{}", "\\xff", "[" * 3000])
def test_a_worker_that_talks_rubbish_is_replaced(
    worker: Callable[[str], Path], source: Callable[[], CameraSource], rubbish: str
) -> None:
    starts = worker(READY + f"print({rubbish!r}, flush=True)\ntime.sleep(60)\n")
    camera = source()
    end = time.monotonic() + 20
    while not starts.exists() or starts.stat().st_size < 2:
        assert time.monotonic() < end, camera.health()
        time.sleep(0.05)


def test_a_flood_of_complaints_leaves_the_processor_to_the_other_cameras(
    worker: Callable[[str], Path], source: Callable[[], CameraSource]
) -> None:
    worker(READY + 'print(\'{"event": "opened"}\', flush=True)\n' + FLOOD)
    source()
    time.sleep(1.5)
    busy, started = time.process_time(), time.monotonic()
    time.sleep(2.0)
    assert (time.process_time() - busy) / (time.monotonic() - started) < 0.2
