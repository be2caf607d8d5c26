"""Which agent process owns the node: two ``flock`` files in the data directory.

``agent.lock`` is held by the one process that may append to the outbox and publish. ``agent.next`` is
held by a process of the next release that is ready and waits: its holder is how the old process knows
that a successor will take over at once. The kernel frees both when a process dies, however it dies,
so there is no stale lock to clean up after ``kill -9`` or a power cut.
"""

import fcntl
import os
import threading
from pathlib import Path

from agent.errors import TransientError

POLL_S = 0.05
"""How often a waiting process tries; also the most that a handover waits for the lock itself."""


class NodeLock:
    """One process's claim on the node. Raises ``TransientError`` when the files cannot be opened."""

    def __init__(self, directory: Path) -> None:
        try:
            directory.mkdir(parents=True, exist_ok=True)
            self._active = os.open(directory / "agent.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            self._next = os.open(directory / "agent.next", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise TransientError(
                f"cannot open the lock files in {directory}: {error.strerror}", 5.0
            ) from error
        self._open: tuple[int, ...] = (self._active, self._next)
        self.held = False
        # A forked child shares the lock; without this it would keep it when its parent is killed.
        os.register_at_fork(after_in_child=self._forget)

    def wait(self, stop: threading.Event) -> bool:
        """Queue up as the successor, then take the node; False when ``stop`` was set first."""
        queued = False
        while not stop.is_set():
            queued = queued or _try(self._next)
            if queued and _try(self._active):
                self.held = True
                fcntl.flock(self._next, fcntl.LOCK_UN)
                return True
            stop.wait(POLL_S)
        if queued:
            fcntl.flock(self._next, fcntl.LOCK_UN)
        return False

    def owned_by_another(self) -> bool:
        """Whether another process holds the node at the moment."""
        if self.held:
            return False
        if _try(self._active):
            fcntl.flock(self._active, fcntl.LOCK_UN)
            return False
        return True

    def successor_waits(self) -> bool:
        """Whether a process that is ready waits for this node. Only for the holder."""
        if _try(self._next):
            fcntl.flock(self._next, fcntl.LOCK_UN)
            return False
        return True

    def release(self) -> None:
        if self.held:
            self.held = False
            fcntl.flock(self._active, fcntl.LOCK_UN)

    def close(self) -> None:
        """Give up both claims."""
        self.release()
        self._forget()

    def _forget(self) -> None:
        for descriptor in self._open:
            os.close(descriptor)
        self._open = ()


def _try(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
