"""How times, levels and events look in a terminal."""

from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from rich.table import Table
from rich.text import Text

from controller.errors import PermanentError

LEVEL_COLOURS = {"stocked": "green", "low": "yellow", "out_of_stock": "red", "unknown": "bright_black"}
ALERTS = {"low_stock": "yellow", "out_of_stock": "red", "restocked": "green", "zone_unknown": "bright_black"}


@dataclass(frozen=True, slots=True)
class Clock:
    """Shows times in one zone; None is this machine's own."""

    zone: tzinfo | None

    def show(self, iso: str | None) -> str:
        if iso is None:
            return "never"
        return datetime.fromisoformat(iso).astimezone(self.zone).strftime("%Y-%m-%d %H:%M:%S")

    def parse(self, naive: datetime | None) -> str | None:
        """A time as typed, as an ISO text with its offset."""
        if naive is None:
            return None
        aware = naive.replace(tzinfo=self.zone) if self.zone else naive.astimezone()
        return aware.astimezone(UTC).isoformat()


def clock_for(name: str) -> Clock:
    """``local`` or an IANA name. Raises ``PermanentError``."""
    if name == "local":
        return Clock(None)
    try:
        return Clock(ZoneInfo(name))
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise PermanentError(f"time zone {name!r} is not known; use a name such as Europe/Berlin") from error


def age(iso: str, now: datetime | None = None) -> str:
    """``12 s ago``, ``3 min ago``, ``5 h ago``, ``2 d ago``."""
    seconds = max(0.0, ((now or datetime.now(UTC)) - datetime.fromisoformat(iso)).total_seconds())
    for limit, divisor, unit in ((120, 1, "s"), (7200, 60, "min"), (172_800, 3600, "h")):
        if seconds < limit:
            return f"{seconds / divisor:.0f} {unit} ago"
    return f"{seconds / 86_400:.0f} d ago"


def short(digest: str | None) -> str:
    """The first 12 digits of a digest."""
    return digest.removeprefix("sha256:")[:12] if digest else "-"


def plain(text: str) -> str:
    """``text`` without what a terminal obeys instead of showing it."""
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text)


def add_plain_row(table: Table, *cells: str | Text) -> None:
    """A row whose texts are shown as they are: what stores say is no markup."""
    table.add_row(*(Text(plain(cell)) if isinstance(cell, str) else cell for cell in cells))


def level_text(level: str, reason: str = "") -> Text:
    return Text(f"{level} ({reason})" if reason else level, LEVEL_COLOURS.get(level, ""))


def event_row(event: dict[str, Any], clock: Clock) -> Text:
    """One event as a line."""
    text = Text(f"{clock.show(event['event_time'])}  ")
    place = "/".join(part for part in (event["store"], event["zone"] or event["camera"]) if part)
    text.append(f"{place:<32} ", "bold")
    text.append(f"{event['kind']:<16}", ALERTS.get(event["kind"], ""))
    data = event["data"]
    if "sku" in data:
        facings = data.get("facings")
        text.append(f" {data['sku']}: {data['level']}")
        text.append("" if facings is None else f", {facings} of {data['capacity']} facings")
    elif "status" in data:
        text.append(f" {data.get('previous_status') or '?'} → {data['status']}")
    if event["historical"]:
        text.append("  (late)", "dim")
    if event["retracted_by"]:
        text.append("  (retracted)", "dim")
    if event.get("quarantined_at"):
        text.append("  (quarantined)", "red")
    return text
