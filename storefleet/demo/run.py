"""The demo's story: release v1 everywhere, then v2 store by store while people shop; a report."""

import contextlib
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.live import Live

from storefleet.demo.processes import DemoError
from storefleet.demo.report import build_report
from storefleet.demo.stage import Stage, StageOptions
from storefleet.demo.view import DemoView

FIRST_UPDATE_AT = 0.4
SECOND_UPDATE_AT = 0.6
"""When release v2 goes to the first store, and to the others, as shares of the duration."""
UPDATE_SPAN_S = 60.0
"""What those are shares of when the demo runs until Ctrl-C."""
REFRESH_S = 0.5


@dataclass(frozen=True, slots=True)
class DemoOptions:
    stage: StageOptions
    duration_s: float | None = None
    """None: until Ctrl-C."""


class Demo:
    """One run. ``run`` returns the report; every process is gone when it returns or raises ``DemoError``."""

    def __init__(self, options: DemoOptions, console: Console) -> None:
        self._options = options
        self._console = console
        self._stop = False

    def run(self) -> dict[str, Any]:
        started = time.monotonic()
        with self._signals(), Stage(self._options.stage, self._say) as stage:
            stage.register_stores()
            stage.deploy("v1", stage.stores)
            stage.await_agents()
            start_s = time.monotonic() - started
            self._say(f"all cameras are watched after {start_s:.1f} s; logs are in {stage.options.directory}")
            self._watch(stage)
            ended_at = time.time()
            self._say("stopping the agents; the last events go into the database")
            stage.stop_agents()
            report = build_report(stage.truths(), stage.facts(), ended_at)
        return {"seed": self._options.stage.seed, "start_s": round(start_s, 2), **report}

    def _watch(self, stage: Stage) -> None:
        """Show what happens until the time is up; send release v2 in two steps meanwhile."""
        duration = self._options.duration_s
        span = UPDATE_SPAN_S if duration is None else duration
        steps = [(span * FIRST_UPDATE_AT, stage.stores[:1]), (span * SECOND_UPDATE_AT, stage.stores[1:])]
        view = DemoView(duration)
        began = time.monotonic()
        last_id = 0
        with Live(console=self._console, auto_refresh=False, transient=True) as live:
            while not self._stop:
                elapsed = time.monotonic() - began
                if duration is not None and elapsed >= duration:
                    break
                stage.check()
                while steps and elapsed >= steps[0][0]:
                    chosen = steps.pop(0)[1]
                    if chosen:
                        stage.deploy("v2", chosen)
                        view.stage = f"release v2 goes to {', '.join(chosen)}"
                fresh = list(stage.client.pages("/v1/events", after=last_id))
                last_id = max((event["id"] for event in fresh), default=last_id)
                fleet, stock = stage.client.pages("/v1/fleet"), stage.client.pages("/v1/stock")
                view.update(list(fleet), list(stock), fresh)
                if self._console.is_terminal:
                    live.update(view.render(elapsed), refresh=True)
                else:
                    view.lines(self._console, elapsed)
                time.sleep(REFRESH_S)

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """Ctrl-C and SIGTERM end the watching, not the report."""

        def stop(*_: object) -> None:
            if self._stop:
                raise DemoError("interrupted twice; no report")
            self._stop = True

        before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _say(self, words: str) -> None:
        self._console.print(f"[dim]{time.strftime('%H:%M:%S')}[/]  {words}", highlight=False)
