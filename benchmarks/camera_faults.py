"""How fast each camera fault is named, and how fast the camera is well again; on a real RTSP stream.

One store with two cameras runs as in the demo. Each fault hits one camera while the other is watched for
harm. Figures come from the centre's API, so they include detection, MQTT and database.

    python -m benchmarks.camera_faults --json camera_faults.json
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from camera_sims.control import SimClient
from camera_sims.faults import Fault
from storefleet.demo.stage import Stage, StageOptions

EXPECTED = {
    Fault.DROP: {"offline"},
    Fault.FREEZE: {"stalled"},
    Fault.BLACK: {"dark"},
    Fault.BLOCKED: {"blocked"},
    Fault.MOVED: {"moved"},
    Fault.CORRUPT: {"stalled", "offline"},
    Fault.RESOLUTION: {"moved"},
    Fault.SLOW: {"stalled"},
    Fault.HANG: {"offline", "stalled"},
}
"""The right statuses. A corrupted stream may lose the connection, and a server that stops answering is
first a stream that stopped."""

STOCK_KINDS = {"facings_changed", "picked", "put_back", "low_stock", "out_of_stock", "restocked", "misplaced"}
SETTLED_S = 2.0
"""Evidence of up to this long before the fault may still become an event after it."""
HOLD_S = 8.0
"""How long a fault lasts after it was named, so that a false event has time to appear."""
POLL_S = 0.1
LIMIT_S = 30.0


@dataclass(frozen=True, slots=True)
class FaultFigures:
    """Seconds; None when it did not happen within ``LIMIT_S``."""

    fault: str
    status: str
    named_after_s: float | None
    zones_unknown_after_s: float | None
    recovered_after_s: float | None
    stock_events_during: int
    """Events about stock from the faulty camera, by event time, while the fault lasted."""
    other_camera_frame_age_max_s: float
    other_camera_status_changes: int


def measure(stage: Stage, fault: Fault) -> FaultFigures:
    """Give the first store's first camera ``fault``, watch, take it away, watch again."""
    store, (faulty, other) = stage.stores[0], ("cam-1", "cam-2")
    simulator = SimClient(stage.root / "sim")
    ages: list[float] = []
    statuses: set[str] = set()

    def camera(name: str) -> dict[str, Any]:
        return next(c for c in stage.cameras() if c["camera"] == name)

    def seen() -> str:
        beside = camera(other)
        ages.append((beside["telemetry"] or {}).get("frame_age_s") or 0.0)
        statuses.add(beside["status"])
        return str(camera(faulty)["status"])

    def levels() -> set[str]:
        seen()
        zones = stage.client.pages("/v1/stock", store=store)
        return {zone["level"] for zone in zones if zone["camera"] == faulty}

    def unknown() -> bool:
        return levels() == {"unknown"}

    _until(lambda: levels() - {"unknown"})  # so that there is something to become unknown
    began = time.time()
    simulator.set_fault(store, faulty, fault)
    named = _until(lambda: seen() in EXPECTED[fault])
    unknown_after = time.time() - began if _until(unknown) is not None else None
    status = seen()
    _until(lambda: seen() is None, HOLD_S)
    ended = time.time()
    simulator.set_fault(store, faulty, Fault.NONE)
    recovered = _until(lambda: seen() == "online")
    events = list(stage.client.pages("/v1/events", store=store, camera=faulty))
    during = [
        event
        for event in events
        if event["kind"] in STOCK_KINDS
        and began + SETTLED_S < datetime.fromisoformat(event["event_time"]).timestamp() < ended
    ]
    changes = len(statuses - {"online"})
    return FaultFigures(fault.value, status, named, unknown_after, recovered, len(during), max(ages), changes)


def _until(condition: Callable[[], object], limit_s: float = LIMIT_S) -> float | None:
    """Seconds until ``condition`` held, or None."""
    began = time.monotonic()
    while (elapsed := time.monotonic() - began) < limit_s:
        if condition():
            return elapsed
        time.sleep(POLL_S)
    return None


def show(figures: Sequence[FaultFigures], console: Console) -> None:
    table = Table(title="Camera faults, seconds")
    for column in ("fault", "status", "named", "zones unknown", "recovered", "stock events", "other's age"):
        table.add_column(column)
    for row in figures:
        times = (row.named_after_s, row.zones_unknown_after_s, row.recovered_after_s)
        shown = ["never" if t is None else f"{t:.1f}" for t in times]
        table.add_row(
            row.fault,
            row.status,
            *shown,
            str(row.stock_events_during),
            f"{row.other_camera_frame_age_max_s:.2f}",
        )
    console.print(table)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.camera_faults", description=__doc__)
    parser.add_argument("--seed", type=int, default=21)
    parser.add_argument("--activity", type=float, default=2.0)
    parser.add_argument("--faults", default=",".join(fault.value for fault in EXPECTED))
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args(arguments)
    console = Console()
    figures = []
    with tempfile.TemporaryDirectory() as directory:
        setting = StageOptions(1, 2, options.seed, options.activity, Path(directory) / "stage")
        with Stage(setting, console.print) as stage:
            stage.register_stores()
            stage.deploy("v2", stage.stores)
            stage.await_agents()
            time.sleep(5)
            for name in options.faults.split(","):
                figures.append(measure(stage, Fault(name)))
                console.print(figures[-1])
                time.sleep(3)
    show(figures, console)
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in figures], indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
