"""Says what is being done and how long it took, because building and starting clusters takes minutes."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape


class Progress:
    """Prints each step when it is done, and slow ones also when they begin. Safe to use from threads.

    ``timings`` keeps what was measured: (step, seconds), in the order of completion.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self._console = Console(stderr=True, quiet=quiet, highlight=False)
        self._began = time.monotonic()
        self._lock = threading.Lock()
        self.timings: list[tuple[str, float]] = []

    def say(self, text: str) -> None:
        self._console.print(escape(text), soft_wrap=True)

    @contextmanager
    def step(self, what: str, *, slow: bool = False) -> Iterator[None]:
        """Measure what happens inside. A step that fails is not recorded: it raises."""
        if slow:
            self.say(f"       … {what}")
        began = time.monotonic()
        yield
        seconds = time.monotonic() - began
        with self._lock:
            self.timings.append((what, seconds))
        self.say(f"{seconds:6.1f} s  {what}")

    def total(self, what: str) -> None:
        self.say(f"{time.monotonic() - self._began:6.1f} s  {what} (in all)")
