"""``storefleet quarantine`` and ``storefleet unquarantine``: events of a bad release."""

from typing import Annotated

import typer

from controller.cli_queries import AsJson, asking, console, print_json

ByRollout = Annotated[str | None, typer.Option("--rollout", help="Of what this rollout brought.")]
ByRelease = Annotated[str | None, typer.Option("--release", help="Of every deployment of this release.")]


def register(root: typer.Typer) -> None:
    root.command()(quarantine)
    root.command()(unquarantine)


def quarantine(
    rollout: ByRollout = None,
    release: ByRelease = None,
    reason: Annotated[str, typer.Option(help="Why; shown with the events.")] = "",
    as_json: AsJson = False,
) -> None:
    """Mark every event that a bad release produced, also those that still come in. Example: storefleet
    quarantine --rollout spring --reason "blind to cola" """
    _suspect("/v1/quarantine", rollout, release, reason, "in quarantine", as_json)


def unquarantine(rollout: ByRollout = None, release: ByRelease = None, as_json: AsJson = False) -> None:
    """Trust these events again. Example: storefleet unquarantine --rollout spring"""
    _suspect("/v1/quarantine/end", rollout, release, "", "trusted again", as_json)


def _suspect(
    path: str, rollout: str | None, release: str | None, reason: str, done: str, as_json: bool
) -> None:
    with asking() as client:
        if (rollout is None) == (release is None):
            raise typer.BadParameter("say either --rollout NAME or --release NAME")
        result = client.post(path, {"rollout": rollout, "release": release, "reason": reason})
    if as_json:
        print_json(result)
        return
    which = f"{result['deployments']} deployments in {result['stores']} stores"
    console.print(f"{result['events']} events of {which} are {done}.")
