"""``storefleet rollout watch``: follow a rollout until it has ended."""

import json
import sys
import time
from typing import Annotated, Any

import typer
from rich.live import Live

from controller.cli_queries import AsJson, Zone, asking, console
from controller.cli_rollout_screen import show_screen
from controller.cli_tables import clock_for
from controller.client import Client
from controller.domain.rollout.state import ENDED, Status
from controller.errors import ClientError, TransientError

POLL_S = 1.0
PATIENCE = 4.0
"""Between two looks passes so many times what a look took: planning a large fleet costs the controller
time."""


def watch(
    name: Annotated[str, typer.Argument(help="The rollout.")],
    timeout: Annotated[float | None, typer.Option(min=1, help="Seconds to watch at most.")] = None,
    as_json: AsJson = False,
    tz: Zone = "local",
) -> None:
    """Follow a rollout, with bars and the time it needs, until it has ended. Exit code 0: it succeeded; 1: it
    was turned back, aborted or superseded, or time is up; 2: there is no such rollout. With --json: one line
    for each change. Example: storefleet rollout watch spring"""
    with asking() as client:
        clock = clock_for(tz)
        end = None if timeout is None else time.monotonic() + timeout
        shown: dict[str, Any] = {}
        with Live(console=console, auto_refresh=False) as live:
            while True:
                began = time.monotonic()
                found = _look(client, name, shown, end)
                if found != shown:
                    if as_json:
                        sys.stdout.write(json.dumps(found) + "\n")
                        sys.stdout.flush()
                    else:
                        live.update(show_screen(found, clock), refresh=True)
                shown = found
                if found["status"] in ENDED or (end is not None and time.monotonic() > end):
                    break
                time.sleep(max(POLL_S, PATIENCE * (time.monotonic() - began)))
        if not as_json and not console.is_terminal:
            console.line()
    raise typer.Exit(0 if shown["status"] == Status.SUCCEEDED else 1)


def _look(client: Client, name: str, last: dict[str, Any], end: float | None) -> dict[str, Any]:
    """The rollout as it is; a controller that restarts is waited for."""
    try:
        return client.get(f"/v1/rollouts/{name}")
    except ClientError as error:
        if error.status == 404:
            raise typer.BadParameter(str(error), param_hint="NAME") from error
        raise
    except TransientError:
        if not last or (end is not None and time.monotonic() > end):
            raise
        return last
