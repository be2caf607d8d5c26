"""``storefleet sim``: run simulated stores, give their cameras faults, look at their ground truth.

Exit status: 0 done, 1 something failed (the message says what), 2 wrong usage.
"""

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Column, Table

from camera_sims.control import SimClient
from camera_sims.errors import SimulatorError
from camera_sims.faults import Fault
from camera_sims.options import PASSWORD_ENV, SimOptions
from camera_sims.recording import record
from camera_sims.run_info import CameraState, RunInfo
from camera_sims.runner import SimRun
from camera_sims.scenes import build_shop
from camera_sims.schedule import PlannedFault
from camera_sims.seeds import EVALUATION, FIRST_RESERVED, TRAINING, VALIDATION
from camera_sims.truth_file import read_truth, truth_files

app = typer.Typer(
    help="Simulated stores with ground truth.\n\nExample: storefleet sim run --out run --stores 1",
    no_args_is_help=True,
)
_err = Console(stderr=True)


def register(root: typer.Typer) -> None:
    """Add ``sim`` to the ``storefleet`` command."""
    root.add_typer(app, name="sim")


class ProtocolChoice(StrEnum):
    rtsp = "rtsp"
    mjpeg = "mjpeg"
    file = "file"


class LightingChoice(StrEnum):
    day = "day"
    night = "night"
    cycle = "cycle"


RunDir = Annotated[Path, typer.Option("--run", help="The --out directory of a sim run.")]


@contextmanager
def _explained() -> Iterator[None]:
    """Turn errors into one line on standard error and exit status 1."""
    try:
        yield
    except (SimulatorError, OSError) as error:
        _err.print(f"[red]error:[/] {error}", highlight=False, soft_wrap=True)
        raise typer.Exit(1) from error


@app.command("run")
def run_command(
    out: Annotated[Path, typer.Option(help="Directory for sim.json, configurations and truth.")],
    stores: Annotated[int, typer.Option(min=1, max=64)] = 2,
    cameras: Annotated[int, typer.Option(min=1, max=64, help="Cameras per store.")] = 2,
    seed: Annotated[
        int, typer.Option(min=0, max=FIRST_RESERVED - 100, help="Store N has seed SEED + N - 1.")
    ] = 7,
    activity: Annotated[float, typer.Option(min=0, max=20, help="How busy: 1 ordinary, 0 nobody.")] = 1.0,
    lighting: LightingChoice = LightingChoice.day,
    speed: Annotated[float, typer.Option(help="Seconds of scene time per second.")] = 1.0,
    protocol: ProtocolChoice = ProtocolChoice.rtsp,
    fps: Annotated[float, typer.Option(help="Pictures per second.")] = 10.0,
    duration: Annotated[float | None, typer.Option(min=0.1, help="Seconds; default: until Ctrl-C.")] = None,
    bind: Annotated[str, typer.Option(help="Address the cameras listen on.")] = "127.0.0.1",
    username: Annotated[str | None, typer.Option(help="Readers must log in as this user.")] = None,
    password_env: Annotated[
        str, typer.Option(help="Environment variable that holds the password for --username.")
    ] = PASSWORD_ENV,
    fault: Annotated[
        list[str] | None, typer.Option(help="store/camera:fault:at:seconds, e.g. sim-1/cam-1:black:20:10")
    ] = None,
) -> None:
    """Stream simulated stores until Ctrl-C or for --duration seconds.

    Writes DIR/STORE/store.yaml (configuration with the real URLs), DIR/STORE/truth.jsonl (ground truth,
    as it happens) and DIR/sim.json (URLs and control endpoint, once everything streams).

    Example: storefleet sim run --out run --stores 2 --cameras 2 --seed 7 --duration 60
    """
    if protocol is ProtocolChoice.file and duration is None:
        raise typer.BadParameter("--protocol file needs --duration")
    with _explained():
        options = SimOptions(
            out=out,
            stores=stores,
            cameras=cameras,
            seed=seed,
            activity=activity,
            lighting=lighting.value,
            speed=speed,
            fps=fps,
            protocol=protocol.value,
            bind=bind,
            username=username,
            password=os.environ.get(password_env),
            password_env=password_env,
            faults=tuple(map(PlannedFault.parse, fault or ())),
        )
        if protocol is ProtocolChoice.file and duration is not None:
            _show_run(record(options, duration, build_shop), out)
            return
        with SimRun(options, build_shop) as run:
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, lambda *_: run.request_stop())
            _show_run(run.info, out)
            run.wait(duration)


@app.command("faults")
def faults_command(
    run: RunDir,
    store: Annotated[str | None, typer.Option(help="Only this store.")] = None,
    camera: Annotated[str | None, typer.Option(help="Only this camera.")] = None,
    set_: Annotated[Fault | None, typer.Option("--set", help="Give the chosen cameras this fault.")] = None,
    seconds: Annotated[float | None, typer.Option(min=0.1, help="How long; default: until --clear.")] = None,
    clear: Annotated[bool, typer.Option("--clear", help="End the faults of the chosen cameras.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the cameras of a run with their faults, or set and clear faults.

    Example: storefleet sim faults --run run --store sim-1 --camera cam-1 --set black --seconds 10
    """
    if clear and set_ is not None:
        raise typer.BadParameter("--set and --clear exclude each other")
    if set_ is None and seconds is not None:
        raise typer.BadParameter("--seconds goes with --set")
    if set_ is not None and camera is None and store is None:
        raise typer.BadParameter("--set needs --store, --camera or both")
    with _explained():
        client = SimClient(run)
        chosen = _choose(client.state().cameras, store, camera)
        wanted = Fault.NONE if clear else set_
        if wanted is not None:
            for one in chosen:
                client.set_fault(one.store, one.camera, wanted, seconds)
            chosen = _choose(client.state().cameras, store, camera)
    if as_json:
        typer.echo(json.dumps([one.model_dump(mode="json") for one in chosen], indent=2))
        return
    table = Table("store", "camera", "fault", "for another", "watched", "pictures", _url_column())
    for one in chosen:
        remaining = "" if one.remaining_s is None else f"{one.remaining_s:.0f} s"
        watched = "yes" if one.watched else "no"
        style = "" if one.fault is Fault.NONE else "yellow"
        table.add_row(
            one.store, one.camera, one.fault, remaining, watched, str(one.pictures), one.url, style=style
        )
    Console().print(table)


@app.command("truth")
def truth_command(
    file: Annotated[Path | None, typer.Argument(help="A truth.jsonl, instead of --run.")] = None,
    run: Annotated[Path | None, typer.Option("--run", help="The --out directory of a sim run.")] = None,
    store: Annotated[str | None, typer.Option(help="Only this store.")] = None,
    events: Annotated[bool, typer.Option("--events", help="Only what a perfect observer reports.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON lines.")] = False,
) -> None:
    """Show the ground truth of a run, also while it goes on.

    Example: storefleet sim truth --run run --store sim-1 --events
    """
    if (file is None) == (run is None):
        raise typer.BadParameter("give either --run DIR or a truth file")
    with _explained():
        paths = {file.parent.name: file} if file is not None else truth_files(run, store) if run else {}
        lines = [
            {"store": name, **one}
            for name, path in paths.items()
            for one in read_truth(path)
            if not events or one["record"] == "event"
        ]
    lines.sort(key=lambda one: float(one["time"]))
    if as_json:
        for one in lines:
            typer.echo(json.dumps(one))
        return
    table = Table("time", "record", "store", "camera", "zone", "details")
    for one in lines:
        table.add_row(*_truth_row(one))
    Console().print(table)


def _truth_row(line: dict[str, Any]) -> tuple[str, ...]:
    time = datetime.fromtimestamp(float(line["time"]), UTC).strftime("%H:%M:%S.%f")[:-5]
    match line["record"]:
        case "event":
            details = str(line.get("type"))
        case "fault":
            details = f"{line['fault']} {'begins' if line['began'] else 'ends'}"
        case _:
            details = "in view" if line.get("observable") else "hidden"
    if line.get("facings") is not None:
        details += f", {line['facings']} of {line['capacity']} {line['sku']}"
    return time, line["record"], line["store"], line["camera"], line.get("zone", ""), details


@app.command("dataset")
def dataset_command(
    out: Annotated[Path, typer.Option(help="Directory to write; must be new or empty.")],
    train: Annotated[int, typer.Option(min=1, max=len(TRAINING), help="Shops to train on.")] = 600,
    val: Annotated[int, typer.Option(min=1, max=len(VALIDATION), help="Shops to watch training with.")] = 60,
    test: Annotated[int, typer.Option(min=0, max=len(EVALUATION), help="Shops for the last judgement.")] = 0,
    skip: Annotated[
        tuple[int, int, int], typer.Option(help="Leave out this many shops of each kind first.")
    ] = (0, 0, 0),
    crop: Annotated[int, typer.Option(min=64, max=640, help="Side of a training picture in pixels.")] = 320,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Processes.")] = 2,
) -> None:
    """Write labelled pictures of simulated shelves, in YOLO's format, for training a detector.

    Its seeds are reserved: no demo or test uses them. Training pictures are square crops; those for the last
    judgement are whole frames.

    Example: storefleet sim dataset --out shelves --train 600 --val 60
    """
    from camera_sims.dataset import Crops, write_dataset

    chosen = []
    for kind, count, first in zip((TRAINING, VALIDATION, EVALUATION), (train, val, test), skip, strict=True):
        if first < 0 or first + count > len(kind):
            raise typer.BadParameter(f"--skip {first} leaves fewer than {count} of {len(kind)} shops")
        chosen.append(kind[first : first + count])
    with _explained(), Progress(console=_err) as bar:
        task = bar.add_task("writing pictures")
        write_dataset(
            out,
            *chosen,
            crops=Crops(size=crop),
            workers=workers,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    Console().print(f"dataset in {out}", highlight=False, soft_wrap=True)


def _choose(
    cameras: tuple[CameraState, ...], store: str | None, camera: str | None
) -> tuple[CameraState, ...]:
    chosen = tuple(one for one in cameras if store in (None, one.store) and camera in (None, one.camera))
    if not chosen:
        known = ", ".join(f"{one.store}/{one.camera}" for one in cameras)
        raise SimulatorError(f"no camera {store or '*'}/{camera or '*'} in this run: there are {known}")
    return chosen


def _url_column() -> Column:
    return Column("url", overflow="fold")  # whole, to be copied


def _show_run(info: RunInfo, out: Path) -> None:
    table = Table(
        "store", "camera", _url_column(), title=f"seed {info.seed}, {info.fps:g} fps, speed {info.speed:g}"
    )
    for store in info.stores:
        for camera in store.cameras:
            table.add_row(store.store, camera.id, camera.url)
    console = Console()
    console.print(table)
    console.print(f"configurations and truth in {out}", highlight=False, soft_wrap=True)
