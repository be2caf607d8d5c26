"""What ``storefleet try`` shows in the terminal: the camera, its zones, the latest events."""

from collections import Counter, deque
from dataclasses import dataclass, field

from rich.console import Group
from rich.table import Table
from rich.text import Text

from agent.domain.detection import PERSON
from agent.pipeline import CameraReport, Pipeline
from agent.ports import SourceHealth
from contract.events import Event, QuantityData, ZoneData
from contract.names import StockLevel

EVENTS_SHOWN = 12
_COLOURS = {
    StockLevel.STOCKED: "green",
    StockLevel.LOW: "yellow",
    StockLevel.OUT_OF_STOCK: "red",
    StockLevel.UNKNOWN: "dim",
}


@dataclass(frozen=True, slots=True)
class ZoneRow:
    zone: str
    sku: str
    facings: int | None
    capacity: int
    level: StockLevel


def zone_rows(pipeline: Pipeline, camera: str) -> list[ZoneRow]:
    """What is believed of the camera's zones at the moment."""
    states = pipeline.view.cameras[camera].zones
    rows = []
    for zone in pipeline.config.zones_of(camera):
        state = states[zone.id]
        known = state.known and state.stock is not None
        level = state.stock if known and state.stock is not None else StockLevel.UNKNOWN
        rows.append(ZoneRow(zone.id, zone.sku, state.belief if known else None, zone.capacity, level))
    return rows


def event_line(event: Event) -> str:
    """One event in words, such as ``12:03:44 out_of_stock cola-1: 0 of 6 facings``."""
    text = f"{event.time.astimezone():%H:%M:%S} {event.kind}"
    if event.subject:
        text += f" {event.subject}"
    data = event.data
    if isinstance(data, ZoneData):
        if isinstance(data, QuantityData):
            text += f" ({data.quantity})"
        if data.facings is not None:
            text += f": {data.facings} of {data.capacity} facings"
    elif event.kind == "status_changed":
        text += f": {data.status}" + (f" ({data.reason})" if data.reason else "")
    return text


@dataclass(slots=True)
class Screen:
    title: str
    note: str = ""
    events: deque[str] = field(default_factory=lambda: deque(maxlen=EVENTS_SHOWN))

    def waiting(self, text: str) -> Group:
        return Group(Text(self.title, style="bold"), Text(text))

    def live(self, pipeline: Pipeline, report: CameraReport, health: SourceHealth, now: float) -> Group:
        meter = report.meter
        status = report.condition.status if report.condition else "starting"
        took = meter.percentile_ms(0.5)
        seen = Counter(d.label for d in report.detections)
        people = seen.pop(PERSON, 0)
        lines = [
            Text(self.title, style="bold"),
            Text(
                f"camera {status} · {health.fps_read:.1f} fps read · {meter.fps(now):.1f} fps looked at · "
                f"{took:.1f} ms a frame · {sum(seen.values())} facings, {people} people"
                if took is not None
                else f"camera {status} {health.error}"
            ),
        ]
        if self.note:
            lines.append(Text(self.note, style="cyan"))
        return Group(*lines, self._zones(pipeline, report), Text("\n".join(self.events)))

    def _zones(self, pipeline: Pipeline, report: CameraReport) -> Table:
        table = Table("zone", "SKU", "facings", "level")
        for row in zone_rows(pipeline, report.camera):
            facings = "?" if row.facings is None else f"{row.facings} of {row.capacity}"
            table.add_row(row.zone, row.sku, facings, Text(row.level, style=_COLOURS[row.level]))
        return table
