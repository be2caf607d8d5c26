"""``storefleet models …``: train, evaluate, export, and the controller's model store."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from controller.errors import PermanentError
from controller.models.train import train as run_training
from controller.models.yolo import Metrics, TrainSettings

app = typer.Typer(name="models", help="Train, evaluate, export and import models.", no_args_is_help=True)
console = Console(stderr=True)


def register(root: typer.Typer) -> None:
    """Add ``models`` to the command line."""
    root.add_typer(app, name="models")


@app.callback()
def models() -> None:
    """Train, evaluate, export and import models."""


@app.command()
def train(
    data: Annotated[Path, typer.Option(help="Dataset directory (data.yaml, images/, labels/).")],
    out: Annotated[Path, typer.Option(help="Where best.pt and training.json go.")],
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the training images.")] = 30,
    imgsz: Annotated[int, typer.Option(min=64, help="Longer image side in pixels.")] = 320,
    batch: Annotated[int, typer.Option(min=1, help="Images per step.")] = 16,
    seed: Annotated[int, typer.Option(help="Decides initial weights and augmentation.")] = 0,
    workers: Annotated[int, typer.Option(min=0, help="Image loading processes.")] = 1,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted run in OUT.")] = False,
) -> None:
    """Train YOLO26n from random weights. Example: storefleet models train --data DATA --out RUN"""
    settings = TrainSettings(epochs, imgsz, batch, seed, workers, resume)
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
        TimeRemainingColumn(), TextColumn("{task.fields[figures]}"),
    )  # fmt: skip
    try:
        with Progress(*columns, console=console) as bar:
            job = bar.add_task("epoch 1", total=None, figures="")

            def report(epoch: int, epochs: int, step: int, steps: int, figures: Mapping[str, float]) -> None:
                shown = "  ".join(f"{name.split('/')[-1]} {value:.3f}" for name, value in figures.items())
                done = (epoch - 1) * steps + step
                bar.update(
                    job, completed=done, total=epochs * steps, description=f"epoch {epoch}", figures=shown
                )
                if not console.is_terminal and step == steps:
                    console.print(f"epoch {epoch}/{epochs}  {shown}", highlight=False)

            result = run_training(data, out, settings, report)
    except PermanentError as error:
        raise refuse(error) from error
    console.print(metrics_table(result.metrics))
    console.print(f"{result.checkpoint} and {result.metrics_file.name}, {result.seconds / 60:.1f} minutes")


def metrics_table(metrics: Metrics) -> Table:
    """Figures overall and per class."""
    table = Table()
    table.add_column("class")
    for name in ("instances", "precision", "recall", "mAP50", "mAP50-95"):
        table.add_column(name, justify="right")
    for name, row in sorted(metrics.per_class.items()):
        figures = (row.precision, row.recall, row.map50, row.map50_95)
        table.add_row(name, str(row.instances), *(f"{value:.3f}" for value in figures))
    total = sum(row.instances for row in metrics.per_class.values())
    overall = (metrics.precision, metrics.recall, metrics.map50, metrics.map50_95)
    table.add_section()
    table.add_row("all", str(total), *(f"{value:.3f}" for value in overall))
    return table


def refuse(error: PermanentError) -> typer.Exit:
    """Print the error; the caller raises what this returns."""
    console.print(f"[red]error:[/red] {error}", highlight=False, soft_wrap=True)
    return typer.Exit(1)


if __name__ == "__main__":
    app()
