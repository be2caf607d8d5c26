"""The program's threads. One that dies takes the program down, so that whoever supervises it starts
it again: half a controller would look healthy and do nothing."""

import logging
import threading
from collections.abc import Callable
from typing import Protocol

from controller.errors import ControllerError

log = logging.getLogger(__name__)


class Worker(Protocol):
    def run(self, stop: threading.Event) -> None:
        """Work until ``stop`` is set, then return soon."""


class Crew:
    def __init__(self, on_failure: Callable[[], None]) -> None:
        """``on_failure`` is called, from the thread that failed, when a worker raises."""
        self.stop = threading.Event()
        self.failed = False
        self._on_failure = on_failure
        self._threads: list[threading.Thread] = []

    def start(self, name: str, worker: Worker) -> None:
        thread = threading.Thread(target=self._run, args=(name, worker), name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def join(self, timeout_s: float) -> list[str]:
        """Tell everyone to stop and wait; the names of those still running afterwards."""
        self.stop.set()
        for thread in list(self._threads):
            thread.join(timeout_s)
        return [thread.name for thread in self._threads if thread.is_alive()]

    def _run(self, name: str, worker: Worker) -> None:
        try:
            worker.run(self.stop)
        except ControllerError as error:  # known, and its text says what to do
            log.error("%s failed; stopping the controller: %s", name, error)
            self._fail()
        except Exception:
            log.exception("%s failed; stopping the controller", name)
            self._fail()

    def _fail(self) -> None:
        self.failed = True
        self.stop.set()
        self._on_failure()
