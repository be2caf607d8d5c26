"""How rollouts look in a terminal."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from controller.cli_tables import Clock, add_plain_row, plain

STATUS_COLOURS = {
    "draft": "bright_black",
    "running": "cyan",
    "paused": "yellow",
    "rolling_back": "yellow",
    "aborted": "red",
    "rolled_back": "red",
    "superseded": "bright_black",
    "succeeded": "green",
}
PHASE_COLOURS = {
    "ready": "green",
    "updating": "cyan",
    "waiting": "yellow",
    "offline": "yellow",
    "failed": "red",
    "restoring": "magenta",
    "restored": "magenta",
    "pending": "bright_black",
    "skipped": "bright_black",
    "superseded": "bright_black",
}
VERDICT_COLOURS = {"pass": "green", "fail": "red", "inconclusive": "yellow"}
BAR = 30
SHOWN = 20
"""Lines of what is in the way."""


def show_screen(found: Mapping[str, Any], clock: Clock) -> RenderableType:
    """One rollout: its status, a bar for each wave, what its gates say, what it waits for."""
    head = Text(f"{found['name']}: {found['release']}  ", "bold")
    head.append(found["status"], STATUS_COLOURS.get(found["status"], ""))
    if found["eta"]:
        head.append(f"  done about {clock.show(found['eta'])} ({_left(found['eta'])})")
    parts: list[RenderableType] = [head, Text(plain(found["waiting_for"]))]
    if found["waves"]:
        table = Table("wave", "", "stores", "", box=None)
        for wave in found["waves"]:
            done = _done(wave["phases"])
            bar = ProgressBar(total=max(1, wave["stores"]), completed=done, width=BAR)
            note = _wave_note(wave, clock)
            phases = _phases(wave["phases"])
            table.add_row(plain(wave["name"]), bar, f"{done}/{wave['stores']}", phases.append(note))
        parts.append(table)
    for verdict in found["verdicts"]:
        wave = found["waves"][verdict["wave"]]["name"] if found["waves"] else str(verdict["wave"])
        line = Text(f"gate {verdict['kind']} of {wave}: ")
        line.append(verdict["verdict"], VERDICT_COLOURS.get(verdict["verdict"], ""))
        parts.append(line.append(plain(f". {verdict['reason']}")))
    if found["possible"]:
        parts.append(Text(f"possible: {', '.join(found['possible'])}", "dim"))
    return Group(*parts)


def plan_screen(found: Mapping[str, Any], clock: Clock) -> RenderableType:
    table = Table("wave", "stores", "to fetch", "MB", "begins", "ends", "first", box=None)
    for wave in found["waves"]:
        names = ", ".join(wave["stores"][:4]) + (" …" if len(wave["stores"]) > 4 else "")
        begins = clock.show(wave["begins_at"]) if wave["begins_at"] else "?"
        ends = clock.show(wave["ends_at"]) if wave["ends_at"] else "?"
        figures = str(len(wave["stores"])), str(wave["to_fetch"]), f"{wave['wan_bytes'] / 1e6:,.1f}"
        add_plain_row(table, wave["name"], *figures, begins, ends, names)
    finish = clock.show(found["ends_at"]) if found["ends_at"] else "not known"
    parts: list[RenderableType] = [
        Text(f"{found['name']}: {found['release']} to {found['stores']} stores", "bold"),
        table,
        Text(f"{found['wan_bytes'] / 1e6:,.1f} MB over the stores' lines; done about {finish}, if:"),
        *(Text(plain(f"  {words}"), "dim") for words in found["assumptions"]),
    ]
    held = [f"  {wave['name']}: {words}" for wave in found["waves"] for words in wave["obstacles"]]
    held += [f"  {store}: {reason}" for store, reason in found["refused"].items()]
    if held:
        parts.append(Text("In the way, as things are now:", "yellow"))
        parts += [Text(plain(line)) for line in held[:SHOWN]]
    if len(held) > SHOWN:
        parts.append(Text(f"  and {len(held) - SHOWN} more: --json has all"))
    return Group(*parts)


def _done(phases: Mapping[str, int]) -> int:
    return sum(phases.get(phase, 0) for phase in ("ready", "skipped", "superseded", "restored"))


def _phases(phases: Mapping[str, int]) -> Text:
    text = Text()
    for phase, colour in PHASE_COLOURS.items():
        if phases.get(phase):
            text.append(f"{phases[phase]} {phase}  ", colour)
    return text


def _wave_note(wave: Mapping[str, Any], clock: Clock) -> str:
    if wave["passed_at"]:
        return f"passed {clock.show(wave['passed_at'])}"
    if wave["opened_at"]:
        return f"since {clock.show(wave['opened_at'])}"
    if wave["needs_approval"]:
        if wave["approved"] is None:
            return "needs approval"
        said = "approved" if wave["approved"] else "rejected"
        comment = f": {wave['approval_comment']}" if wave["approval_comment"] else ""
        return plain(f"{said} by {wave['approval_by']}{comment}")
    return ""


def _left(iso: str) -> str:
    seconds = max(0.0, (datetime.fromisoformat(iso) - datetime.now(UTC)).total_seconds())
    if seconds < 120:
        return f"{seconds:.0f} s left"
    return f"{seconds / 60:.0f} min left" if seconds < 7200 else f"{seconds / 3600:.1f} h left"
