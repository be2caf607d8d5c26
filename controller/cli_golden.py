"""``storefleet golden import|list|results``: golden sets of a running controller."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from contract.errors import MessageError
from contract.golden import check
from controller.cli_queries import AsJson, Limit, Zone, asking, console, print_json
from controller.cli_tables import add_plain_row, clock_for, short
from controller.errors import InvalidError, PermanentError
from controller.golden import from_dataset

Stores = Annotated[list[str], typer.Option("--store", help="A store, repeatable.")]

golden_app = typer.Typer(
    name="golden", help="Golden sets: what a model has to see before it takes over.", no_args_is_help=True
)


def make_from_dataset(directory: Path, split: str, out: Path) -> int:
    """Write a golden set of labelled pictures; its size in bytes. Raises ``ControllerError``."""
    data = from_dataset(directory, split)
    write_set(out, data)
    return len(data)


def write_set(out: Path, data: bytes) -> None:
    """Raises ``PermanentError``."""
    try:
        out.write_bytes(data)
    except OSError as error:
        raise PermanentError(f"cannot write {out}: {error.strerror}") from error


@golden_app.command("import")
def import_set(
    path: Annotated[Path, typer.Argument(help="Archive that storefleet golden make wrote.")],
    name: Annotated[str, typer.Option(help="Name of the set.")],
    version: Annotated[str, typer.Option(help="Version of the set.")],
    as_json: AsJson = False,
) -> None:
    """Upload a golden set; the controller checks, signs and keeps it.
    Example: storefleet golden import golden.zip --name shelf --version 1"""
    with asking() as client:
        _check(path)
        found = client.upload("/v1/golden-sets", path, name=name, version=version)
    if as_json:
        print_json(found)
        return
    console.print(f"Golden set {name}:{version}: {found['digest']}", highlight=False)


@golden_app.command("list")
def list_sets(limit: Limit = 200, as_json: AsJson = False, tz: Zone = "local") -> None:
    """All golden sets of the controller. Example: storefleet golden list"""
    with asking() as client:
        clock = clock_for(tz)
        items = list(client.pages("/v1/golden-sets", limit=limit))
    if as_json:
        print_json({"items": items})
        return
    if not items:
        console.print("No golden sets yet. Make one: storefleet golden make --simulated --out golden.zip")
        return
    table = Table("set", "frames", "classes", "objects", "bytes", "digest", "imported", "by", box=None)
    for one in items:
        made = (clock.show(one["created_at"]), one["created_by"])
        counts = (str(one["frames"]), str(len(one["counts"])), str(sum(one["counts"].values())))
        size = (str(one["size_bytes"]), short(one["digest"]))
        add_plain_row(table, f"{one['name']}:{one['version']}", *counts, *size, *made)
    console.print(table)


@golden_app.command("results")
def results(store: Stores, as_json: AsJson = False, tz: Zone = "local") -> None:
    """What nodes reported on golden sets. Example: storefleet golden results --store berlin-01"""
    with asking() as client:
        clock = clock_for(tz)
        items = client.get("/v1/golden-results", store=store)["items"]
    if as_json:
        print_json({"items": items})
        return
    table = Table(
        "store", "device", "model", "passed", "recall", "count error", "ms", "at", "reason", box=None
    )
    for one in items:
        said = one["said"]
        classes = list(said["classes"].values()) or [{"recall": 1.0, "count_error": 0.0}]
        worst = (
            f"{min(c['recall'] for c in classes):.3f}",
            f"{max(c['count_error'] for c in classes):.2f}",
        )
        passed = Text("yes", "green") if said["passed"] else Text("no", "red")
        table.add_row(
            one["store"], one["device"], short(said["model"]), passed, *worst,
            f"{said['inference_ms_p50']:.1f}", clock.show(said["at"]), Text(said["reason"]),
        )  # fmt: skip
    console.print(table)


def _check(path: Path) -> None:
    try:
        with path.open("rb") as file:
            check(file)
    except MessageError as error:
        raise InvalidError(str(error)) from error
    except OSError as error:
        raise PermanentError(f"cannot read {path}: {error.strerror}") from error
