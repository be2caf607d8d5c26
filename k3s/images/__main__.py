"""``python -m k3s.images``: build images, or measure them."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from k3s.images.build import TESTED, build_images, default_cache, reference
from k3s.images.measure import measure
from k3s.testbed.errors import TestbedError
from k3s.testbed.progress import Progress

app = typer.Typer(help="Container images, built without a registry. Needs root.", no_args_is_help=True)
Targets = Annotated[list[str] | None, typer.Argument(help=f"Default: {', '.join(TESTED)}.")]


@app.command()
def build(targets: Targets = None) -> None:
    """Build images and print their names and where their archives (OCI) are."""
    for target, archive in build_images(targets or TESTED, progress=Progress()).items():
        typer.echo(f"{reference(target)}\t{archive}")


@app.command("measure")
def measure_command(
    targets: Targets = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Also write the figures here.")] = None,
) -> None:
    """Say how large images are above their base, what makes them so, and how fast they start."""
    console = Console()
    found = [measure(target, cache=default_cache()) for target in targets or TESTED]
    for image in found:
        console.print(f"[bold]{image.target}[/]: {image.above_base_mb:.0f} MB above the base")
        for name, size in image.components.items():
            console.print(f"  {size:7.1f} MB  {name}")
        for what, seconds in image.starts.items():
            console.print(f"  {seconds:7.2f} s   {what}")
    if json_file:
        rows = [{**asdict(image), "above_base_mb": image.above_base_mb} for image in found]
        json_file.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    try:
        app()
    except TestbedError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(1)
