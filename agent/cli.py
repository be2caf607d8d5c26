"""``storefleet agent …`` and ``storefleet try``: the command line of the in-store agent.

Probes run every few seconds on small machines, so the heavy imports (runtimes, OpenCV) wait until a
command needs them.
"""

import json
import os
import time
from pathlib import Path
from typing import Annotated

import typer

from agent.config_watch import read_config_file
from agent.errors import AgentError, PermanentError, TransientError
from contract.errors import ConfigError, Problem
from contract.store_config import load_store_config
from contract.workload import Env

app = typer.Typer(help="The in-store agent: reads cameras, reports inventory events.", no_args_is_help=True)


def register(root: typer.Typer) -> None:
    """Add the agent's commands to the ``storefleet`` command line."""
    root.add_typer(app, name="agent")
    root.command("try")(try_command)


@app.command()
def run() -> None:
    """Run the agent of this node, as set by STOREFLEET_... environment variables."""
    from agent import cli_run
    from agent.json_log import log_json
    from agent.settings import RunSettings, load_settings

    log_json("info")
    try:
        settings = load_settings(RunSettings)
        log_json(settings.log_level)
        status = cli_run.run(settings)
    except (PermanentError, TransientError) as error:
        status = cli_run.report_failure(error)
    raise typer.Exit(status)


@app.command()
def fetch() -> None:
    """Bring the model of this release onto the node, verified; resumes what an earlier run began."""
    from agent import cli_run
    from agent.json_log import log_json
    from agent.settings import FetchSettings, load_settings

    log_json("info")
    try:
        path = cli_run.fetch(load_settings(FetchSettings))
    except (PermanentError, TransientError) as error:
        raise typer.Exit(cli_run.report_failure(error)) from error
    typer.echo(str(path))


@app.command()
def golden() -> None:
    """Replay the release's golden set with its model on this node; exit status 1 when it does not pass."""
    from agent import cli_run
    from agent.cli_golden import golden as replay_golden
    from agent.json_log import log_json
    from agent.settings import RunSettings, load_settings

    log_json("info")
    try:
        report = replay_golden(load_settings(RunSettings))
    except (PermanentError, TransientError) as error:
        raise typer.Exit(cli_run.report_failure(error)) from error
    typer.echo(report.model_dump_json() if report else "no golden set is configured")


@app.command()
def health(
    ready: Annotated[
        bool, typer.Option("--ready", help="Does it watch its cameras, or stand by to?")
    ] = False,
    live: Annotated[bool, typer.Option("--live", help="Does it turn at all? (default)")] = False,
    file: Annotated[
        Path | None, typer.Option(help=f"Health file; default: ${Env.HEALTH_FILE.value}.")
    ] = None,
) -> None:
    """For probes: exit status 0 when the agent of this pod is well, 1 when not."""
    from agent.adapters.health_file import read_health
    from agent.domain.probe import judge

    path = file or Path(os.environ.get(Env.HEALTH_FILE, ""))
    if ready and live:
        raise typer.BadParameter("ask for one of --ready and --live")
    if path == Path():
        raise typer.BadParameter(f"give --file or set {Env.HEALTH_FILE.value}")
    try:
        answer = judge(read_health(path), "ready" if ready else "live", time.time())
    except TransientError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error
    typer.echo(answer.reason)
    raise typer.Exit(0 if answer.ok else 1)


@app.command("check-config")
def check_config(
    file: Annotated[Path, typer.Argument(help="Store configuration (YAML).")],
    model: Annotated[
        Path | None, typer.Option(help="Also check that this model knows the planogram.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print problems as JSON.")] = False,
) -> None:
    """Check a store configuration; prints every problem with its line, exit status 1 if there is one."""
    problems = _problems_of(file, model)
    if as_json:
        keys = ("path", "message", "line", "column")
        found = [{key: getattr(problem, key) for key in keys} for problem in problems]
        typer.echo(json.dumps({"file": str(file), "ok": not problems, "problems": found}, indent=2))
    else:
        for problem in problems:
            typer.echo(f"{file}: {problem}", err=True)
        if not problems:
            typer.echo(f"{file}: no problems")
    raise typer.Exit(1 if problems else 0)


def try_command(
    source: Annotated[
        str, typer.Argument(help="RTSP or HTTP URL, a webcam's index such as 0, or a video file.")
    ],
    model: Annotated[
        Path | None, typer.Option(help="Your own exported model; default: the shipped one.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="Store configuration with the camera's zones.")] = None,
    save: Annotated[
        Path | None, typer.Option(help="Write annotated frames: .mp4 or .avi for a video, else a directory.")
    ] = None,
    write_config: Annotated[
        Path | None, typer.Option(help="Write a first configuration with the proposed zones.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Let --write-config replace a file.")] = False,
    duration: Annotated[
        float, typer.Option(min=0.0, help="Seconds to run; 0: until Ctrl-C or the end.")
    ] = 0.0,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object a line instead of a live view.")
    ] = False,
) -> None:
    """Try the agent on your own camera: detections and events live in the terminal.

    Example: storefleet try rtsp://viewer:PASSWORD@10.0.4.11/stream --write-config store.yaml
    """
    from agent import cli_run
    from agent.try_source import Request

    request = Request(source, model, config, save, write_config, duration, as_json, force)
    try:
        cli_run.try_source(request)
    except (AgentError, ConfigError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error


def _problems_of(file: Path, model: Path | None) -> tuple[Problem, ...]:
    try:
        config = load_store_config(read_config_file(file))
    except OSError as error:
        return (Problem("", f"cannot be read: {error.strerror}"),)
    except ConfigError as error:
        return error.problems
    if model is None:
        return ()
    from agent.adapters.model_file import open_detector
    from agent.domain.model_fit import describe_misfit

    try:
        names = open_detector(model).info.names
    except PermanentError as error:
        return (Problem("", str(error)),)
    misfit = describe_misfit(names, [product.sku for product in config.planogram])
    return (Problem("planogram", misfit),) if misfit else ()
