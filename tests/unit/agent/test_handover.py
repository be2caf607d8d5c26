"""Who says what, and when, while a node changes hands."""

import fcntl
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from agent.adapters.node_lock import NodeLock
from agent.handover import leave


@dataclass
class Script:
    """Stands for lock, publisher and broker, and writes down what is asked of them.

    A successor comes after ``successor_after`` looks for one; the outbox is empty after ``drain_turns``."""

    successor_after: int = 10**9
    drain_turns: int = 0
    connected: bool = True
    log: list[str] = field(default_factory=list)
    looks: int = 0

    def wait(self, stop: threading.Event) -> bool:
        return True

    def owned_by_another(self) -> bool:
        return False

    def successor_waits(self) -> bool:
        self.looks += 1
        return self.looks > self.successor_after

    def release(self) -> None:
        self.log.append("release")

    def drain(self, go_on: Callable[[], bool]) -> bool:
        for _ in range(self.drain_turns):
            if not go_on():
                return False
            self.log.append("deliver")
        return True

    def send_telemetry(self) -> None:
        self.log.append("telemetry")

    def send_death(self, reason: str) -> None:
        self.log.append("death")

    def close(self) -> None:
        self.log.append("goodbye")


def run_leave(script: Script, drain_s: float = 5.0) -> bool:
    ticks = iter(range(1000))
    anything: Any = script
    return leave(
        anything, anything, anything, drain_s=drain_s, monotonic=lambda: next(ticks) * 0.5, reason="stopped"
    )


@pytest.mark.parametrize(
    ("script", "handed_over", "expected"),
    [
        (Script(successor_after=0, drain_turns=9), True, ["telemetry", "release", "goodbye"]),
        (Script(), False, ["telemetry", "death", "goodbye", "release"]),
        (Script(drain_turns=2), False, ["deliver", "deliver", "telemetry", "death", "goodbye", "release"]),
        (
            Script(drain_turns=99, successor_after=3),
            True,
            ["deliver", "deliver", "telemetry", "release", "goodbye"],
        ),
        (Script(drain_turns=99, connected=False), False, ["telemetry", "death", "goodbye", "release"]),
    ],
    ids=["successor waits", "nobody waits", "drains first", "successor comes while draining", "no broker"],
)
def test_order_of_leaving(script: Script, handed_over: bool, expected: list[str]) -> None:
    assert run_leave(script) is handed_over
    assert script.log == expected


def test_draining_ends_with_its_time() -> None:
    script = Script(drain_turns=99)
    run_leave(script, drain_s=2.0)
    assert script.log.count("deliver") == 3


HOLDER = """
import sys, threading
from pathlib import Path
from agent.adapters.node_lock import NodeLock
lock = NodeLock(Path(sys.argv[1]))
print(lock.wait(threading.Event()), flush=True)
sys.stdin.read()
"""


def start_holder(directory: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(directory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_kill_9_frees_the_node_at_once(tmp_path: Path) -> None:
    with start_holder(tmp_path) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "True\n"
        lock = NodeLock(tmp_path)
        assert lock.owned_by_another()
        waiting = threading.Thread(target=lock.wait, args=(threading.Event(),))
        waiting.start()
        time.sleep(0.2)
        assert waiting.is_alive()
        holder.kill()
        waiting.join(1)
        assert lock.held
        lock.close()


def test_holder_sees_a_successor_and_hands_over(tmp_path: Path) -> None:
    lock = NodeLock(tmp_path)
    assert lock.wait(threading.Event())
    assert not lock.successor_waits()
    with start_holder(tmp_path) as successor:
        end = time.monotonic() + 10
        while not lock.successor_waits():
            assert time.monotonic() < end
            time.sleep(0.02)
        released = time.monotonic()
        lock.release()
        assert successor.stdout is not None
        assert successor.stdout.readline() == "True\n"
        assert time.monotonic() - released < 0.5
        assert lock.owned_by_another()
        successor.kill()
    lock.close()


def test_stopped_waiter_leaves_no_trace(tmp_path: Path) -> None:
    first, second = NodeLock(tmp_path), NodeLock(tmp_path)
    assert first.wait(threading.Event())
    stop = threading.Event()
    threading.Timer(0.2, stop.set).start()
    assert second.wait(stop) is False
    assert not first.successor_waits()
    first.close()
    second.close()


def test_forked_child_does_not_keep_the_lock(tmp_path: Path) -> None:
    script = HOLDER.replace(
        "sys.stdin.read()", "import os, time\nif os.fork() == 0: time.sleep(30)\nsys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        time.sleep(0.3)
        holder.kill()
        lock = NodeLock(tmp_path)
        stop = threading.Event()
        threading.Timer(3, stop.set).start()
        assert lock.wait(stop)
        stop.set()
        lock.close()
        os.killpg(holder.pid, 9)


def test_lock_file_is_a_plain_flock(tmp_path: Path) -> None:
    lock = NodeLock(tmp_path)
    lock.wait(threading.Event())
    with (tmp_path / "agent.lock").open("rb") as file, pytest.raises(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    lock.close()
