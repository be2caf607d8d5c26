"""``storefleet sim`` as a user runs it: as processes."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from camera_sims.control import SimClient
from camera_sims.errors import SimulatorError
from camera_sims.faults import Fault
from camera_sims.run_info import RunInfo, read_run_info
from camera_sims.truth_file import read_truth

SIM = (sys.executable, "-m", "storefleet", "sim")


def sim(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*SIM, *words], capture_output=True, text=True, timeout=30, check=False)


def started(directory: Path) -> RunInfo:
    end = time.monotonic() + 20
    while not (directory / "sim.json").exists():
        assert time.monotonic() < end, "the run did not start"
        time.sleep(0.05)
    return read_run_info(directory)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture
def process(tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    running = subprocess.Popen(
        [*SIM, "run", "--out", str(tmp_path), "--stores", "1", "--cameras", "2", "--activity", "3"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    yield running
    if running.poll() is None:
        running.kill()
    running.communicate()


def test_a_run_is_controlled_and_ends_on_a_signal(process: "subprocess.Popen[str]", tmp_path: Path) -> None:
    info = started(tmp_path)
    listed = sim("faults", "--run", str(tmp_path), "--json")
    assert [one["fault"] for one in json.loads(listed.stdout)] == ["none", "none"]
    one_camera = ("faults", "--run", str(tmp_path), "--store", "sim-1", "--camera", "cam-2")
    given = sim(*one_camera, "--set", "hang", "--seconds", "60", "--json")
    assert [(one["camera"], one["fault"]) for one in json.loads(given.stdout)] == [("cam-2", "hang")]
    cleared = sim(*one_camera, "--clear", "--json")
    assert json.loads(cleared.stdout)[0]["fault"] == "none"

    unknown = sim("faults", "--run", str(tmp_path), "--camera", "cam-9", "--clear")
    assert (unknown.returncode, "sim-1/cam-1" in unknown.stderr) == (1, True)
    client = SimClient(tmp_path)
    with pytest.raises(SimulatorError, match="cam-9"):
        client.set_fault("sim-1", "cam-9", Fault.BLACK)

    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0
    assert not any(is_alive(pid) for pid in info.pids[1:])
    truth = read_truth(info.stores[0].truth)
    assert {one["record"] for one in truth} >= {"zone", "fault"}
    with pytest.raises(SimulatorError, match="has the run ended"):
        client.state()
    shown = sim("truth", "--run", str(tmp_path), "--json")
    assert len(shown.stdout.splitlines()) == len(truth)
    table = sim("truth", str(info.stores[0].truth))
    assert "hang begins" in table.stdout


def test_kill_9_leaves_no_process_behind(process: "subprocess.Popen[str]", tmp_path: Path) -> None:
    info = started(tmp_path)
    assert len(info.pids) == 2
    assert all(is_alive(pid) for pid in info.pids)
    os.kill(info.pids[0], signal.SIGKILL)
    process.wait(5)
    end = time.monotonic() + 5
    while any(is_alive(pid) for pid in info.pids):
        assert time.monotonic() < end, "the RTSP server outlived its run"
        time.sleep(0.05)
    assert read_truth(info.stores[0].truth)


def test_the_death_of_the_server_ends_the_run_with_an_error(
    process: "subprocess.Popen[str]", tmp_path: Path
) -> None:
    info = started(tmp_path)
    os.kill(info.pids[1], signal.SIGKILL)
    assert process.wait(10) == 1
    assert "H.264 program has ended" in process.communicate()[1]


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (("run", "--out", "x", "--protocol", "file"), 2, "needs --duration"),
        (("run", "--out", "x", "--protocol", "pigeon"), 2, "rtsp"),
        (("run", "--out", "x", "--username", "viewer", "--password-env", "NOT_SET"), 1, "set NOT_SET"),
        (("run", "--out", "x", "--fault", "sim-1/cam-1:sparks:1:1"), 1, "sim-1/cam-1:black:20:10"),
        (("run", "--out", "/dev/null/x"), 1, "/dev/null"),
        (("faults", "--run", "nowhere"), 1, "sim run --out"),
        (("faults", "--run", "nowhere", "--set", "black"), 2, "--store"),
        (("truth",), 2, "--run DIR"),
        (("truth", "nowhere.jsonl"), 1, "nowhere.jsonl"),
    ],
)
def test_wrong_usage_is_explained(
    words: tuple[str, ...], status: int, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    answer = sim(*words)
    assert answer.returncode == status
    assert message in answer.stderr
    assert "Traceback" not in answer.stderr
