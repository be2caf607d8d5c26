"""``storefleet sim fleet``: hundreds of simulated stores to try rollouts on."""

import json
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml
from rich.console import Console

from camera_sims.cli import app
from contract.errors import ContractError
from storefleet.fleet_sim.failures import DEFAULT, NONE, Failures, read_failures

if TYPE_CHECKING:
    from storefleet.fleet_sim.stage import FleetStage

WATCH_S = 2.0
ENDED = ("succeeded", "rolled_back", "aborted", "superseded", "paused")
EXAMPLE: dict[str, Any] = {
    "version": 1,
    "name": "spring",
    "release": "v2",
    "strata": ["hardware"],
    "waves": [
        {"name": "canary", "size": "5%"},
        {"name": "half", "size": "45%"},
        {"name": "rest"},
    ],
    "limits": {"concurrency": "25%", "failures": "5%", "offline": "10%", "store_deadline": "2m"},
    "gates": [],
}


def register(root: typer.Typer) -> None:
    """``fleet`` joins the commands of ``camera_sims.cli`` when this module is imported."""


@app.command("fleet")
def fleet(
    stores: Annotated[int, typer.Option(min=1, max=20_000)] = 100,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same stores and same failures.")] = 7,
    failures: Annotated[
        str, typer.Option(help="File with shares of stores for each failure; 'default', or 'none'.")
    ] = "default",
    in_memory: Annotated[
        bool, typer.Option("--in-memory", help="No cluster: planner and database alone, in simulated time.")
    ] = False,
    rollout: Annotated[
        Path | None, typer.Option(help="Start this rollout (YAML of release v2), and end with it.")
    ] = None,
    start: Annotated[float, typer.Option(min=0, help="Seconds a pod takes to be Ready.")] = 2.0,
    heartbeat: Annotated[float, typer.Option(min=1, help="Seconds between an agent's heartbeats.")] = 10.0,
    duration: Annotated[float | None, typer.Option(min=1, help="Seconds; default: until Ctrl-C.")] = None,
    directory: Annotated[Path, typer.Option("--dir", help="Logs and data; emptied at the start.")] = Path(
        ".storefleet/fleet"
    ),
    name: Annotated[str, typer.Option(help="Of the testbed, if you run several.")] = "fleet",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """A fleet of simulated stores on one real control plane, with a real controller; all of them run v1.

    Example: sudo storefleet sim fleet --stores 100 --seed 7
    Example: storefleet sim fleet --in-memory --stores 10000 --seed 7
    """
    from controller.errors import ControllerError  # these need more than the simulated cameras do
    from k3s.testbed import TestbedError
    from storefleet.demo.processes import DemoError

    say = _teller(as_json)
    try:
        wanted = _failures(failures)
        spec = _rollout(rollout)
        if in_memory:
            from storefleet.fleet_sim.memory import simulate

            simulate(stores, seed, wanted, spec or EXAMPLE, say)
            return
        from storefleet.fleet_sim.stage import FleetOptions, FleetStage

        options = FleetOptions(stores, seed, wanted, name, directory, start_s=start, heartbeat_s=heartbeat)
        with FleetStage(options, lambda words: say("stage", words, {})) as stage:
            _play(stage, spec, duration, say)
    except KeyboardInterrupt:
        say("end", "stopped; everything is taken down", {})
    except (DemoError, TestbedError, ControllerError, ContractError, OSError) as error:
        Console(stderr=True).print(f"[red]error:[/] {error}", highlight=False, soft_wrap=True)
        raise typer.Exit(1) from error


Say = Callable[[str, str, dict[str, Any]], None]
"""(kind, words for people, figures for programs)."""


def _play(stage: "FleetStage", spec: dict[str, Any] | None, duration: float | None, say: Say) -> None:
    stage.deploy("v1")
    seconds = stage.await_ready("v1")
    stage.arm()
    kinds = Counter(c.kind.value for c in stage.characters.values() if c.kind is not None)
    example = stage.root / "rollout.yaml"
    example.write_text(yaml.safe_dump(EXAMPLE, sort_keys=False))
    troubles = ", ".join(f"{number} {kind}" for kind, number in sorted(kinds.items())) or "nothing"
    say(
        "ready",
        f"all stores run v1 ({seconds:.1f} s); what goes wrong: {troubles}",
        {"failures": dict(kinds)},
    )
    place = {"url": stage.url, "token_file": str(stage.token_file), "example": str(example)}
    words = (
        f"export STOREFLEET_CONTROLLER_URL={stage.url} STOREFLEET_API_TOKEN_FILE={stage.token_file}\n"
        f"storefleet rollout create {example} && storefleet rollout start spring"
    )
    say("api", words, place)
    rollout = None
    if spec is not None:
        stage.start_rollout(spec)
        rollout = str(spec["name"])
    _watch(stage, rollout, duration, say)


def _watch(stage: "FleetStage", rollout: str | None, duration: float | None, say: Say) -> None:
    """Tell what changes, until ``rollout`` ends, ``duration`` is over or somebody presses Ctrl-C."""
    end = time.monotonic() + duration if duration is not None else None
    before = None
    while end is None or time.monotonic() < end:
        stage.check()
        current = stage.client.get("/v1/deployments/current")["items"]
        seen = Counter(f"{one['release']} {one['state']}" for one in current)
        if seen != before:
            before = seen
            say("stores", ", ".join(f"{n} {what}" for what, n in sorted(seen.items())), dict(seen))
        if rollout is not None:
            shown = stage.client.get(f"/v1/rollouts/{rollout}")
            if shown["status"] in ENDED:
                say("rollout", f"{rollout}: {shown['status']}: {shown['reason']}", shown)
                return
        time.sleep(WATCH_S)


def _failures(text: str) -> Failures:
    if text in ("none", "default"):
        return NONE if text == "none" else DEFAULT
    return read_failures(Path(text).read_text(encoding="utf-8"))


def _rollout(file: Path | None) -> dict[str, Any] | None:
    if file is None:
        return None
    spec = yaml.safe_load(file.read_text(encoding="utf-8"))
    if not isinstance(spec, dict) or "name" not in spec:
        raise ContractError(f"{file} is no rollout; see storefleet rollout create --help")
    return spec


def _teller(as_json: bool) -> Say:
    console = Console(highlight=False)
    began = time.monotonic()

    def say(kind: str, words: str, figures: dict[str, Any]) -> None:
        at = time.monotonic() - began
        if as_json:
            typer.echo(json.dumps({"kind": kind, "at_s": round(at, 1), "words": words, **figures}))
        else:
            console.print(f"{at:7.1f} s  {words}", soft_wrap=True, markup=False)

    return say
