"""``storefleet demo``."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from contract.errors import ContractError
from controller.errors import ControllerError
from storefleet.demo.processes import DemoError
from storefleet.demo.run import Demo, DemoOptions
from storefleet.demo.stage import StageOptions


def register(root: typer.Typer) -> None:
    root.command("demo")(demo)


def demo(
    stores: Annotated[int, typer.Option(min=1, max=16, help="Simulated stores.")] = 2,
    cameras: Annotated[int, typer.Option(min=1, max=8, help="RTSP cameras in each.")] = 2,
    duration: Annotated[float | None, typer.Option(min=10, help="Seconds; default: until Ctrl-C.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same shops and shoppers.")] = 7,
    activity: Annotated[float, typer.Option(min=0, max=20, help="How busy the shops are.")] = 3.0,
    report: Annotated[Path | None, typer.Option(help="Write the report here as JSON.")] = None,
    directory: Annotated[Path, typer.Option("--dir", help="Logs and data; emptied at the start.")] = Path(
        ".storefleet/demo"
    ),
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON at the end.")] = False,
) -> None:
    """Run the whole path on this machine: cameras, agents, broker, controller; then report how well it went.

    Example: storefleet demo --stores 2 --cameras 2 --duration 60 --seed 7 --report report.json
    """
    console = Console(stderr=as_json)
    options = DemoOptions(StageOptions(stores, cameras, seed, activity, directory), duration)
    try:
        result = Demo(options, console).run()
    except (DemoError, ControllerError, ContractError) as error:
        Console(stderr=True).print(f"[red]error:[/] {error}", highlight=False, soft_wrap=True)
        raise typer.Exit(1) from error
    if report is not None:
        report.write_text(json.dumps(result, indent=2) + "\n")
    if as_json:
        typer.echo(json.dumps(result, indent=2))
    else:
        show_report(result, console)


def show_report(result: dict[str, Any], console: Console) -> None:
    """The report as two small tables."""
    figures = Table(title="Against the ground truth", show_header=False, box=None, padding=(0, 2))
    for key, value in result.items():
        if not isinstance(value, dict | list):
            shown = "-" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)
            label = key.replace("_", " ") + (" (all kinds)" if key == "events_in_db" else "")
            figures.add_row(label, shown)
    console.print(figures)
    table = Table("event", "expected", "found", "false", box=None, padding=(0, 2))
    for kind, row in result["by_type"].items():
        table.add_row(kind.replace("_", " "), str(row["expected"]), str(row["matched"]), str(row["false"]))
    console.print(table)
    for title in ("missed", "false"):
        for words in result[title]:
            console.print(f"{title}: {words}", highlight=False)
