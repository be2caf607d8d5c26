"""``storefleet models …``: train, evaluate, export, and the controller's model store."""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from controller.errors import PermanentError
from controller.models import cli_store
from controller.models.cards import dataset_card, model_card
from controller.models.evaluate import evaluate as run_evaluation
from controller.models.export import export as run_export
from controller.models.onnx_file import Weights
from controller.models.train import train as run_training
from controller.models.yolo import Head, Metrics, TrainSettings

app = typer.Typer(name="models", help="Train, evaluate, export and import models.", no_args_is_help=True)
cli_store.register(app)
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
    weights: Annotated[
        Path | None, typer.Option(help="Go on from this checkpoint (yours: it is a pickle).")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted run in OUT.")] = False,
) -> None:
    """Train YOLO26n, from random weights unless --weights names others.

    Example: storefleet models train --data DATA --out RUN
    """
    if resume and weights is not None:
        raise typer.BadParameter(
            "goes on with the weights of the run; leave out --weights", param_hint="--resume"
        )
    settings = TrainSettings(epochs, imgsz, batch, seed, workers, weights, resume)
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


@app.command()
def export(
    weights: Annotated[Path, typer.Argument(help="Checkpoint (.pt) of a training run, or an ONNX file.")],
    out: Annotated[Path, typer.Option(help="Directory for NAME.zip (OpenVINO) and NAME.onnx.")],
    name: Annotated[str, typer.Option(help="File name without suffix.")] = "model",
    imgsz: Annotated[str, typer.Option(help="Network input, HEIGHTxWIDTH in pixels.")] = "384x640",
    head: Annotated[
        Head, typer.Option(help="Which output: nms (surer boxes, readers suppress duplicates) or end2end.")
    ] = "nms",
    onnx_weights: Annotated[Weights, typer.Option(help="How the ONNX file stores weights.")] = "int8",
) -> None:
    """Turn a checkpoint into the artifacts that agents run. A checkpoint is a pickle: it is opened in an
    isolated process, yet export only what you trained or trust.

    Example: storefleet models export RUN/best.pt --out EXPORT
    """
    try:
        exported = run_export(weights, out, name, _image_size(imgsz), onnx_weights, head)
    except PermanentError as error:
        raise refuse(error) from error
    for item in exported:
        console.print(f"{item.path}  {item.info.format}  {item.info.size_bytes} bytes", highlight=False)


@app.command()
def evaluate(
    model: Annotated[Path, typer.Argument(help="Exported artifact: OpenVINO bundle (.zip) or .onnx.")],
    data: Annotated[Path, typer.Option(help="Dataset directory or its data.yaml.")],
    split: Annotated[
        str | None, typer.Option(help="train, val or test; default: the held-out images.")
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Also write the figures here.")] = None,
    minimum: Annotated[float, typer.Option(min=0, max=1, help="Exit with status 1 below this mAP50.")] = 0.0,
) -> None:
    """Measure an exported model on labelled images.

    Example: storefleet models evaluate shelf.zip --data DATA
    """
    try:
        result = run_evaluation(model, data, split)
    except PermanentError as error:
        raise refuse(error) from error
    if json_file is not None:
        json_file.write_text(json.dumps({"file": model.name} | asdict(result), indent=2) + "\n")
    console.print(
        f"{model.name} on {result.images} images ({result.split} of {result.data})", highlight=False
    )
    console.print(metrics_table(result.metrics))
    if result.metrics.map50 < minimum:
        raise refuse(PermanentError(f"mAP50 {result.metrics.map50:.3f} is below {minimum}"))


@app.command()
def card(
    training: Annotated[list[Path], typer.Option(help="training.json of each stage, in order.")],
    evaluation: Annotated[list[Path], typer.Option(help="Report of 'models evaluate --json'; repeatable.")],
    out: Annotated[Path, typer.Option(help="Directory for the cards and metrics.json.")],
    name: Annotated[str, typer.Option(help="Name of the model.")] = "shelf",
    version: Annotated[str, typer.Option(help="Version of the model.")] = "1",
) -> None:
    """Write MODEL_CARD.md, DATASET_CARD.md and metrics.json from a run and its evaluations."""
    stages = [json.loads(path.read_text()) for path in training]
    reports = [json.loads(path.read_text()) for path in evaluation]
    figures = {report["file"]: {k: v for k, v in report.items() if k != "dataset"} for report in reports}
    out.mkdir(parents=True, exist_ok=True)
    (out / "MODEL_CARD.md").write_text(model_card(name, version, stages, reports))
    (out / "DATASET_CARD.md").write_text(dataset_card(stages, reports))
    (out / "metrics.json").write_text(
        json.dumps({"name": name, "version": version, "artifacts": figures}, indent=2) + "\n"
    )


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


def _image_size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{2,4})x(\d{2,4})", text)
    if match is None or int(match[1]) % 32 or int(match[2]) % 32:
        raise typer.BadParameter("HEIGHTxWIDTH, both multiples of 32, such as 384x640", param_hint="--imgsz")
    return int(match[1]), int(match[2])


def refuse(error: PermanentError) -> typer.Exit:
    """Print the error; the caller raises what this returns."""
    console.print(f"[red]error:[/red] {error}", highlight=False, soft_wrap=True)
    return typer.Exit(1)


if __name__ == "__main__":
    app()
