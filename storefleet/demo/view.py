"""What the demo shows while it runs: cameras, stock, events. Drawn from the controller's API alone."""

from collections import Counter, deque
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

Row = Mapping[str, Any]

SHOWN_EVENTS = 12
STATUS_STYLE = {"online": "green", "offline": "red", "stalled": "yellow"}
LEVEL_STYLE = {"stocked": "green", "low": "yellow", "out_of_stock": "red", "unknown": "dim"}
EVENT_STYLE = {
    "out_of_stock": "bold red",
    "low_stock": "yellow",
    "restocked": "green",
    "retracted": "magenta",
}


class DemoView:
    """Holds what was last seen; ``render`` draws it for a terminal, ``lines`` tells a log file."""

    def __init__(self, duration_s: float | None) -> None:
        self._duration_s = duration_s
        self._fleet: Sequence[Row] = ()
        self._stock: Sequence[Row] = ()
        self._events: deque[Row] = deque(maxlen=SHOWN_EVENTS)
        self._fresh: list[Row] = []
        self._count = 0
        self.stage = ""

    def update(self, fleet: Sequence[Row], stock: Sequence[Row], new_events: Sequence[Row]) -> None:
        self._fleet, self._stock = fleet, stock
        self._events.extend(new_events)
        self._fresh.extend(new_events)
        self._count += len(new_events)

    def render(self, elapsed_s: float) -> RenderableType:
        done = Table.grid(padding=(0, 1))
        if self._duration_s is None:
            done.add_row(Text(f"{elapsed_s:3.0f} s; Ctrl-C ends it"), Text(self.stage))
        else:
            bar = ProgressBar(self._duration_s, min(elapsed_s, self._duration_s), width=40)
            done.add_row(Text(f"{elapsed_s:3.0f} of {self._duration_s:.0f} s"), bar, Text(self.stage))
        return Group(
            done,
            Panel(self._cameras(), title="Cameras", title_align="left"),
            Panel(self._shelves(), title="Stock", title_align="left"),
            Panel(self._latest(), title=f"Events ({self._count} in the database)", title_align="left"),
        )

    def lines(self, console: Console, elapsed_s: float) -> None:
        """Print the alerts that came since the last call, for output that is no terminal."""
        fresh, self._fresh = self._fresh, []
        for event in fresh:
            if event["kind"] in EVENT_STYLE:
                console.print(f"{elapsed_s:4.0f} s  ", event_line(event), sep="")

    def _cameras(self) -> RenderableType:
        table = Table.grid(padding=(0, 2))
        table.add_row(
            *(Text(t, "bold") for t in ("store", "camera", "status", "model", "fps", "age", "detect"))
        )
        for store in self._fleet:
            for device in store["devices"]:
                for camera in device["cameras"]:
                    seen = camera["telemetry"] or {}
                    age, took = seen.get("frame_age_s"), seen.get("inference_ms_p50")
                    table.add_row(
                        store["store"],
                        camera["camera"],
                        Text(
                            f"{camera['status']} {camera['reason']}",
                            STATUS_STYLE.get(camera["status"], "red"),
                        ),
                        device["model_version"] or "-",
                        f"{seen.get('fps_inferred', 0):.1f}",
                        "-" if age is None else f"{age:.2f} s",
                        "-" if took is None else f"{took:.0f} ms",
                    )
        return table if self._fleet else Text("no device has reported yet", "dim")

    def _shelves(self) -> RenderableType:
        table = Table.grid(padding=(0, 2))
        for store in sorted({zone["store"] for zone in self._stock}):
            zones = [zone for zone in self._stock if zone["store"] == store]
            counts = Counter(zone["level"] for zone in zones)
            levels = Text("  ").join(
                Text(f"{counts[level]} {level.replace('_', ' ')}", style)
                for level, style in LEVEL_STYLE.items()
                if counts[level]
            )
            shelf = Text(" ").join(
                Text("?" if z["facings"] is None else str(z["facings"]), LEVEL_STYLE[z["level"]])
                for z in sorted(zones, key=lambda z: (z["camera"], z["zone"]))
            )
            table.add_row(Text(store, "bold"), levels, shelf)
        return table if self._stock else Text("nothing is known of any shelf yet", "dim")

    def _latest(self) -> RenderableType:
        return (
            Group(*(event_line(event) for event in self._events)) if self._events else Text("none yet", "dim")
        )


def event_line(event: Row) -> Text:
    """One event as a line: local time, place, what."""
    at = datetime.fromisoformat(event["event_time"]).astimezone()
    data = event["data"]
    what = Text(event["kind"].replace("_", " "), EVENT_STYLE.get(event["kind"], ""))
    detail = ""
    if data.get("sku"):
        count = "?" if data.get("facings") is None else data["facings"]
        detail = f"  {data['sku']} {count}/{data['capacity']}"
    elif data.get("status"):
        detail = f"  {data['status']} {data.get('reason', '')}".rstrip()
    place = f"{at:%H:%M:%S}  {event['store']} {event['zone'] or event['camera']}  "
    return Text.assemble(place, what, detail)
