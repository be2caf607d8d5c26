"""Starts and stops the demo's programs so that nothing survives it, however it ends.

Each child runs in its own session, is killed by the kernel when the demo dies (``PR_SET_PDEATHSIG``)
and writes to a log file of its own.
"""

import ctypes
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

PR_SET_PDEATHSIG = 1
"""From linux/prctl.h."""

_LIBC = ctypes.CDLL(None, use_errno=True)


class DemoError(Exception):
    """The demo cannot go on; the text names the program, its log and the remedy."""


class Child:
    """One running program of the demo."""

    def __init__(self, name: str, command: Sequence[str], log: Path, env: Mapping[str, str]) -> None:
        """Start ``command`` with ``env`` added to the environment. Raises ``DemoError``."""
        self.name = name
        self.log = log
        try:
            with log.open("ab") as output:
                self._process = subprocess.Popen(
                    list(command),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env={**os.environ, **env},
                    start_new_session=True,
                    preexec_fn=_die_with_parent,  # noqa: PLW1509 - one prctl call
                )
        except FileNotFoundError as error:
            raise DemoError(
                f"{command[0]} is not installed; run scripts/setup.sh (make demo does)"
            ) from error

    @property
    def pid(self) -> int:
        return self._process.pid

    def check(self) -> None:
        """Raise ``DemoError`` with the end of the log if the program is no longer running."""
        code = self._process.poll()
        if code is not None:
            raise DemoError(f"{self.name} ended with status {code}:\n{tail(self.log)}")

    def stop(self, grace_s: float = 8.0) -> None:
        """Ask it to end, then make it. The whole process group goes."""
        if self._process.poll() is None:
            self._signal(signal.SIGTERM)
            try:
                self._process.wait(grace_s)
            except subprocess.TimeoutExpired:
                self._signal(signal.SIGKILL)
                self._process.wait()
        self._signal(signal.SIGKILL)

    def kill(self) -> None:
        """``kill -9`` of the program itself."""
        self._process.kill()
        self._process.wait()

    def _signal(self, number: signal.Signals) -> None:
        try:
            os.killpg(self._process.pid, number)
        except ProcessLookupError:
            return


def _die_with_parent() -> None:
    _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def tail(log: Path, lines: int = 15) -> str:
    """The last lines of a log file."""
    if not log.exists():
        return f"(no log at {log})"
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_for(what: str, ready: Callable[[], bool], children: Sequence[Child], timeout_s: float) -> None:
    """Poll ``ready`` until it is true. Raises ``DemoError`` when a child dies or time runs out."""
    deadline = time.monotonic() + timeout_s
    while not ready():
        for child in children:
            child.check()
        if time.monotonic() > deadline:
            logs = ", ".join(str(child.log) for child in children)
            raise DemoError(f"{what} was not ready after {timeout_s:.0f} s; see {logs}")
        time.sleep(0.1)


def listens(port: int) -> bool:
    """Whether something accepts TCP connections on ``port`` of 127.0.0.1."""
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0
