"""``storefleet release …``, ``storefleet deploy`` and ``storefleet deployments``."""

import time
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import typer
from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from controller.cli_queries import AsJson, Limit, StoreOption, Zone, asking, console, listing, print_json
from controller.cli_tables import Clock, add_plain_row, age, clock_for, short
from controller.client import Client
from controller.domain.deployment import State
from controller.domain.release import is_pinned
from controller.errors import InvalidError, PermanentError, TransientError

POLL_S = 0.5
STATE_COLOURS = {
    State.READY: "green",
    State.PROGRESSING: "cyan",
    State.PENDING: "bright_black",
    State.BLOCKED: "red",
    State.FAILED: "red",
    State.UNREACHABLE: "yellow",
    State.SUPERSEDED: "bright_black",
}
HOPELESS = frozenset({State.FAILED, State.SUPERSEDED})
"""States that ``--wait`` does not wait out."""
BLOCKED_FOR_S = 20.0
"""How long ``--wait`` gives someone to remove what blocks a store."""

release_app = typer.Typer(
    name="release", help="Releases: a model and the agent that runs it.", no_args_is_help=True
)


def register(root: typer.Typer) -> None:
    root.add_typer(release_app, name="release")
    root.command()(deploy)
    root.command()(deployments)


@release_app.command("create")
def release_create(
    name: Annotated[str, typer.Argument(help="a-z, 0-9, '-' and '.'.")],
    model: Annotated[str, typer.Option(help="Digest or NAME:VERSION of an imported model.")],
    image: Annotated[str, typer.Option(help="Agent image; best by digest. Local stores ignore it.")],
    notes: Annotated[str, typer.Option(help="What changed, for people.")] = "",
    setting: Annotated[list[str] | None, typer.Option(help="NAME=VALUE for the agent, repeatable.")] = None,
    as_json: AsJson = False,
) -> None:
    """Make a release. Example: storefleet release create v2 --model shelf:2 --image example.org/agent:2"""
    with asking() as client:
        body = {
            "name": name,
            "model": model,
            "image": image,
            "notes": notes,
            "settings": _pairs(setting or []),
        }
        release = client.post("/v1/releases", body)
    if as_json:
        print_json(release)
        return
    console.print(f"Release {name}: model {short(release['model_digest'])}, image {image}.", highlight=False)
    if not is_pinned(image):
        console.print(
            "A tag may move: name the image by digest (…@sha256:…) so that every node runs the same."
        )


@release_app.command("list")
def release_list(limit: Limit = 200, as_json: AsJson = False, tz: Zone = "local") -> None:
    """All releases. Example: storefleet release list"""
    with asking() as client:
        clock = clock_for(tz)
        items = list(client.pages("/v1/releases", limit=limit))

    def row(release: dict[str, Any]) -> Sequence[str]:
        made, by = clock.show(release["created_at"]), release["created_by"]
        model = short(release["model_digest"])
        return release["name"], model, release["agent_image"], made, by, release["notes"]

    empty = "No releases yet. Make one: storefleet release create NAME --model REF --image IMAGE"
    listing(items, as_json, empty, ("release", "model", "image", "made", "by", "notes"), row)


@release_app.command("show")
def release_show(name: str, as_json: AsJson = False, tz: Zone = "local") -> None:
    """One release and the stores that shall run it. Example: storefleet release show v2"""
    with asking() as client:
        clock = clock_for(tz)
        release = client.get(f"/v1/releases/{name}")
        current = client.get("/v1/deployments/current")["items"]
    stores = [d for d in current if d["release"] == name and d["desired"] == "present"]
    if as_json:
        print_json({**release, "deployments": stores})
        return
    for key in ("name", "model_digest", "agent_image", "notes", "created_by"):
        console.print(f"{key.replace('_', ' '):<14}{release[key]}", highlight=False, markup=False)
    for key, value in release["settings"].items():
        console.print(f"setting       {key}={value}", highlight=False, markup=False)
    console.print(f"made          {clock.show(release['created_at'])}", highlight=False)
    console.print(_table(stores) if stores else "No store shall run it.")


def deploy(
    store: Annotated[list[str], typer.Option(help="A store, repeatable.")],
    release: Annotated[str, typer.Option(help="The release they shall run.")],
    wait: Annotated[bool, typer.Option("--wait", help="Watch until every store is ready.")] = False,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds to wait at most.")] = 600.0,
    as_json: AsJson = False,
) -> None:
    """Send a release to stores. With --wait, exit code 1 when a store did not become ready.
    Example: storefleet deploy --store berlin-01 --store paris-02 --release v2 --wait"""
    with asking() as client:
        made = client.post("/v1/deployments", {"release": release, "stores": store})["items"]
        if wait:
            made = _watch(client, made, timeout, show=not as_json)
        if as_json:
            print_json({"items": made})
        elif not wait:
            names = ", ".join(deployment["store"] for deployment in made)
            console.print(f"{release} is on its way to {names}. Watch it: storefleet deployments")
        unready = [d for d in made if d["state"] != State.READY]
        if wait and unready:
            words = [f"{d['store']}: {d['state']}: {d['message']}" for d in unready]
            raise InvalidError(f"{len(unready)} of {len(made)} stores are not ready", words)


def deployments(
    store: StoreOption = None,
    history: Annotated[bool, typer.Option("--history", help="Superseded ones too, newest first.")] = False,
    limit: Limit = 200,
    as_json: AsJson = False,
    tz: Zone = "local",
) -> None:
    """What each store shall run and how far it is. Example: storefleet deployments"""
    with asking() as client:
        clock = clock_for(tz)
        if history:
            items = list(client.pages("/v1/deployments", limit=limit, store=store))
        else:
            items = client.get("/v1/deployments/current", store=store)["items"][:limit]
    if as_json:
        print_json({"items": items})
        return
    if not items:
        console.print("Nothing is deployed. Deploy: storefleet deploy --store STORE --release RELEASE")
        return
    console.print(_table(items, clock if history else None))


def _watch(
    client: Client, made: Sequence[dict[str, Any]], timeout: float, show: bool
) -> list[dict[str, Any]]:
    """Follow these deployments until all are ready, one is beyond hope, or time is up."""
    last = list(made)
    with Live(console=console, refresh_per_second=4, transient=False, auto_refresh=False) as live:
        for last in _progress(client, made, timeout):
            if show:
                done = sum(d["state"] == State.READY for d in last)
                live.update(Group(_table(last), Text(f"{done} of {len(last)} ready")), refresh=True)
    if show and not console.is_terminal:  # there, Live ends its last picture without a new line
        console.line()
    return last


def _progress(
    client: Client, made: Sequence[dict[str, Any]], timeout: float
) -> Iterator[list[dict[str, Any]]]:
    """The deployments as they are, twice a second. A controller that restarts is waited for."""
    end = time.monotonic() + timeout
    wanted = {deployment["rollout_id"]: deployment for deployment in made}
    names = [deployment["store"] for deployment in made]
    moving = time.monotonic()  # when no store was blocked
    while True:
        try:
            for first in range(0, len(names), 500):
                items = client.get("/v1/deployments/current", store=names[first : first + 500])["items"]
                found = {item["store"]: item for item in items}
                for rollout_id, before in wanted.items():
                    item = found.get(before["store"])
                    if item is not None:
                        wanted[rollout_id] = item if item["rollout_id"] == rollout_id else _superseded(before)
        except TransientError:
            if time.monotonic() > end:
                raise
        yield list(wanted.values())
        left = [d for d in wanted.values() if d["state"] != State.READY]
        if not any(d["state"] == State.BLOCKED for d in left):
            moving = time.monotonic()
        if not left or any(d["state"] in HOPELESS for d in left):
            return
        if time.monotonic() > min(end, moving + BLOCKED_FOR_S):
            return
        time.sleep(POLL_S)


def _superseded(deployment: dict[str, Any]) -> dict[str, Any]:
    message = "another deployment took its place"
    return {**deployment, "state": State.SUPERSEDED.value, "message": message}


def _table(items: Sequence[dict[str, Any]], clock: Clock | None = None) -> Table:
    table = Table("store", "release", "state", "nodes", "since", "message", box=None)
    for item in items:
        detail = item["detail"]
        nodes = f"{detail['updated']}/{detail['nodes']}" if "nodes" in detail else "-"
        created = item["created_at"]
        state = Text(item["state"], STATE_COLOURS.get(item["state"], ""))
        since = clock.show(created) if clock else age(created)
        release = item["release"] if item["desired"] == "present" else "nothing"
        add_plain_row(table, item["store"], release, state, nodes, since, item["message"])
    return table


def _pairs(given: Sequence[str]) -> dict[str, str]:
    pairs = [text.partition("=") for text in given]
    for text, (key, equals, _) in zip(given, pairs, strict=True):
        if not key or not equals:
            raise PermanentError(f"setting {text!r}: write NAME=VALUE")
    return {key: value for key, _, value in pairs}
