"""Starts daemons that outlive the command, finds them again by process id and start time, and ends them.

A process id alone would not do: after a crash and a reboot it may belong to somebody else's process.
"""

import os
import signal
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from k3s.testbed.errors import TestbedError

PROC = Path("/proc")
POLL_S = 0.02


@dataclass(frozen=True, slots=True)
class Daemon:
    """A process of this boot. ``started`` is in clock ticks since boot, as /proc counts."""

    pid: int
    started: int
    boot: str


@dataclass(frozen=True, slots=True)
class Entry:
    """What /proc/PID/stat says of interest."""

    parent: int
    state: str
    started: int


def start(arguments: Sequence[str | Path], log: Path, environment: Mapping[str, str] | None = None) -> int:
    """Start a program in a session of its own, output appended to ``log``. Returns its process id."""
    words = [str(argument) for argument in arguments]
    log.parent.mkdir(parents=True, exist_ok=True)
    append = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    try:
        return os.posix_spawnp(
            words[0],
            words,
            {**os.environ, **(environment or {})},
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, str(log), append, 0o600),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setsid=True,
        )
    except OSError as error:
        raise TestbedError(f"cannot start '{words[0]}': {error.strerror}") from error


def identify(pid: int) -> Daemon:
    """Raises TestbedError if there is no such process."""
    entry = read_entry(pid)
    if entry is None:
        raise TestbedError(f"process {pid} ended before it could be looked at")
    return Daemon(pid, entry.started, _boot())


def alive(daemon: Daemon | None) -> bool:
    if daemon is None or daemon.boot != _boot():
        return False
    entry = read_entry(daemon.pid)
    if entry is None or entry.started != daemon.started:
        return False
    if entry.state == "Z":
        _reap(daemon.pid)
        return False
    return True


def kill(daemon: Daemon | None, timeout_s: float = 10, signal_number: int = signal.SIGKILL) -> None:
    """End a process and wait until it has ended. One that is gone already is fine."""
    if daemon is None or not alive(daemon):
        return
    _send(daemon.pid, signal_number)
    wait_until_gone([daemon], timeout_s)


def kill_all(pids: Iterable[int], timeout_s: float = 20) -> None:
    """End processes by their ids of this moment; wait until all have ended."""
    daemons = []
    for pid in pids:
        entry = read_entry(pid)
        if entry is not None and pid != os.getpid():
            daemons.append(Daemon(pid, entry.started, _boot()))
            _send(pid, signal.SIGKILL)
    wait_until_gone(daemons, timeout_s)


def wait_until_gone(daemons: Iterable[Daemon], timeout_s: float) -> None:
    end = time.monotonic() + timeout_s
    for daemon in daemons:
        while alive(daemon):
            if time.monotonic() > end:
                raise TestbedError(f"process {daemon.pid} did not end within {timeout_s:.0f} s")
            time.sleep(POLL_S)


def only_child(pid: int, timeout_s: float = 10) -> int:
    """The child that ``pid`` (an nsenter or unshare that forks) runs its program in."""
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        entry = read_entry(pid)
        if entry is None or entry.state == "Z":
            _reap(pid)
            raise TestbedError("it ended at once")
        found = children(pid)
        if found:
            return found[0]
        time.sleep(POLL_S)
    raise TestbedError(f"process {pid} started nothing within {timeout_s:.0f} s")


def children(pid: int) -> list[int]:
    return [other for other in all_pids() if (entry := read_entry(other)) and entry.parent == pid]


def all_pids() -> list[int]:
    return [int(path.name) for path in PROC.iterdir() if path.name.isdigit()]


def descendants(pid: int) -> list[int]:
    """The process and its children's children, all the way down."""
    by_parent: dict[int, list[int]] = {}
    for other in all_pids():
        entry = read_entry(other)
        if entry is not None:
            by_parent.setdefault(entry.parent, []).append(other)
    found = [pid]
    for ancestor in found:
        found.extend(by_parent.get(ancestor, []))
    return found


def memory_bytes(pids: Iterable[int]) -> int:
    """Proportional set size: shared pages count once over all processes that share them."""
    total = 0
    for pid in pids:
        try:
            text = (PROC / str(pid) / "smaps_rollup").read_text()
        except OSError:
            continue  # it has just ended
        for line in text.splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1]) * 1024
    return total


def read_entry(pid: int) -> Entry | None:
    try:
        text = (PROC / str(pid) / "stat").read_text()
    except OSError:
        return None
    # The second field is the program's name in parentheses and may hold anything.
    fields = text.rpartition(")")[2].split()
    return Entry(parent=int(fields[1]), state=fields[0], started=int(fields[19]))


def _send(pid: int, signal_number: int) -> None:
    try:
        os.kill(pid, signal_number)
    except ProcessLookupError:
        return  # it has just ended, which is what we want


def _reap(pid: int) -> None:
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return  # somebody else's child


def _boot() -> str:
    return (PROC / "sys/kernel/random/boot_id").read_text().strip()
