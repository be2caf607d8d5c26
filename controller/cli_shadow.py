"""``storefleet shadow …``: a release's model beside the one that runs."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from controller.cli_queries import AsJson, asking, console, print_json
from controller.cli_tables import short

Stores = Annotated[list[str], typer.Option("--store", help="A store, repeatable.")]

shadow_app = typer.Typer(
    name="shadow", help="Try a release's model beside the current one.", no_args_is_help=True
)


def register(root: typer.Typer) -> None:
    root.add_typer(shadow_app, name="shadow")


@shadow_app.command("start")
def start(
    release: Annotated[str, typer.Option(help="The release whose model shall be tried.")],
    store: Stores,
    cpu_percent: Annotated[float, typer.Option(min=0.1, max=100, help="Of one core of each node.")] = 20.0,
    hours: Annotated[float, typer.Option(min=0.01, max=744, help="How long.")] = 24.0,
    as_json: AsJson = False,
) -> None:
    """Have stores try a release's model beside their own.
    Example: storefleet shadow start --release v2 --store berlin-01"""
    until = datetime.now(UTC) + timedelta(hours=hours)
    with asking() as client:
        body = {
            "release": release, "stores": store, "cpu_percent": cpu_percent, "until": until.isoformat(),
        }  # fmt: skip
        items = client.post("/v1/shadows", body)["items"]
    if as_json:
        print_json({"items": items})
        return
    console.print(f"{len(items)} stores try {release}. Watch them: storefleet shadow results --store STORE")


@shadow_app.command("stop")
def stop(store: Annotated[str, typer.Argument(help="The store.")], as_json: AsJson = False) -> None:
    """End a store's shadow run. Example: storefleet shadow stop berlin-01"""
    with asking() as client:
        items = client.delete(f"/v1/shadows/{store}")["items"]
    _show(items, as_json)


@shadow_app.command("results")
def shadow_results(store: Stores, as_json: AsJson = False) -> None:
    """How candidates compare with what runs. Example: storefleet shadow results --store berlin-01"""
    with asking() as client:
        items = client.get("/v1/shadow-results", store=store)["items"]
    _show(items, as_json)


def _show(items: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        print_json({"items": items})
        return
    table = Table(
        "store", "device", "model", "state", "frames", "both", "only current", "only candidate", "cpu",
        "problem", box=None,
    )  # fmt: skip
    for one in items:
        said = one["said"]
        counts = [str(said[key]) for key in ("frames", "matched", "only_current", "only_candidate")]
        place = (one["store"], one["device"], short(said["model"]), said["state"])
        table.add_row(*place, *counts, f"{said['cpu_percent']:.1f} %", Text(said["problem"]))
    console.print(table)
