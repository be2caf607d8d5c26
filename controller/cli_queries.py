"""Commands that ask a running controller: ``status``, ``fleet``, ``stores``, ``stock``, ``events``,
``audit``, ``dead-letters``. What they print is for people; ``--json`` is for programs."""

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table
from rich.text import Text

from controller.cli_tables import Clock, add_plain_row, age, clock_for, event_row, level_text, plain, short
from controller.client import Client, connect
from controller.domain.event_log import kind_of
from controller.errors import ClientError, ControllerError, InvalidError, PermanentError
from controller.settings import ClientSettings

FOLLOW_EVERY_S = 1.0
MAX_UNREADY = 20
"""So many stores with trouble does ``status`` name."""

console = Console()
errors = Console(stderr=True)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Limit = Annotated[int, typer.Option(min=1, help="At most this many rows.")]
Zone = Annotated[str, typer.Option("--tz", help="Time zone of shown times, such as Europe/Berlin or UTC.")]
StoreOption = Annotated[str | None, typer.Option("--store", help="Only this store.")]

stores_app = typer.Typer(name="stores", help="Register stores and configure them.", no_args_is_help=True)


def register(root: typer.Typer) -> None:
    root.command()(status)
    root.command()(fleet)
    root.command()(stock)
    root.command()(events)
    root.command()(audit)
    root.command("dead-letters")(dead_letters)
    root.add_typer(stores_app, name="stores")


@contextmanager
def reported() -> Iterator[None]:
    """Errors of ours as a few lines for people, and exit code 1."""
    try:
        yield
    except ControllerError as error:
        errors.print(plain(f"error: {error}"), style="red", highlight=False, markup=False)
        problems = error.problems if isinstance(error, ClientError | InvalidError) else ()
        for problem in problems:
            errors.print(plain(f"  {problem}"), highlight=False, markup=False)
        raise typer.Exit(1) from error


@contextmanager
def asking() -> Iterator[Client]:
    """A client as the environment says; errors are reported."""
    with reported():
        try:
            settings = ClientSettings()
        except ValidationError as error:
            raise PermanentError(f"settings: {error.errors(include_input=False)[0]['msg']}") from error
        with connect(settings) as client:
            yield client


def status(as_json: AsJson = False, tz: Zone = "local") -> None:
    """Whether the controller does its work (exit code 1 when not), and which stores do not run what they
    should, with the reason. Example: storefleet status"""
    with asking() as client:
        clock = clock_for(tz)
        health = client.health()
        open_gaps = list(client.pages("/v1/gaps", open_only=True, limit=1000))
        deployed = _deployed(client) if health["ready"] else []
    unready = [d for d in deployed if d["state"] != "ready"]
    if as_json:
        print_json(health | {"open_gaps": len(open_gaps), "stores_not_ready": unready})
    else:
        ingest = health["ingest"]
        console.print("[green]ready[/]" if health["ready"] else "[red]not ready[/]")
        for problem in health["problems"]:
            console.print(plain(f"  {problem}"), style="red", markup=False)
        console.print(
            f"ingest: {ingest['stored']} events stored, {ingest['duplicates']} duplicates, "
            f"{ingest['refused']} refused, {ingest['queued']} queued, {ingest['lag_s']:.1f} s behind"
        )
        console.print(f"last commit: {clock.show(ingest['last_commit_at'])}, open gaps: {len(open_gaps)}")
        if deployed:
            console.print(f"stores: {len(deployed) - len(unready)} of {len(deployed)} run what they should")
        for one in unready[:MAX_UNREADY]:
            words = f"  {one['store']}: {one['release']} {one['state']}: {one['message']}"
            console.print(plain(words), style="yellow", markup=False, highlight=False)
        if len(unready) > MAX_UNREADY:
            console.print(f"  and {len(unready) - MAX_UNREADY} more: storefleet deployments")
    if not health["ready"]:
        raise typer.Exit(1)


def _deployed(client: Client) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = client.get("/v1/deployments/current")["items"]
    return found


def fleet(store: StoreOption = None, limit: Limit = 100, as_json: AsJson = False) -> None:
    """Stores with their devices and cameras. Example: storefleet fleet --store berlin-01"""
    with asking() as client:
        items = list(client.pages("/v1/fleet", store=store, limit=limit))
    if as_json:
        print_json({"items": items})
        return
    if not items:
        console.print("No stores yet. Register one: storefleet stores add NAME --config FILE")
        return
    table = Table("store", "device", "camera", "status", "last seen", "model", "note", box=None)
    for entry in items:
        if not entry["devices"]:
            add_plain_row(table, entry["store"], "-", "-", Text("no device has reported yet", "dim"))
        for device in entry["devices"]:
            _add_device(table, entry["store"], device)
    console.print(table)


def _add_device(table: Table, store: str, device: dict[str, Any]) -> None:
    state = Text("online", "green") if device["online"] else Text("offline", "red")
    note = (
        device["offline_reason"] or device["config_error"] or ("disk full" if device["outbox_full"] else "")
    )
    model = device["model_version"] or short(device["model_digest"])
    add_plain_row(table, store, device["device"], "", state, age(device["last_seen"]), model, note)
    for camera in device["cameras"]:
        shown = camera["status"] if device["online"] else f"{camera['status']} (last known)"
        colour = "green" if camera["status"] == "online" and device["online"] else "yellow"
        add_plain_row(table, "", "", camera["camera"], Text(shown, colour), "", "", camera["reason"])


def stock(store: StoreOption = None, limit: Limit = 200, as_json: AsJson = False, tz: Zone = "local") -> None:
    """Current stock per zone. Example: storefleet stock --store berlin-01"""
    with asking() as client:
        clock = clock_for(tz)
        items = list(client.pages("/v1/stock", store=store, limit=limit))

    def row(zone: dict[str, Any]) -> Sequence[str | Text]:
        seen = "?" if zone["facings"] is None else str(zone["facings"])
        return (
            zone["store"], zone["zone"], zone["sku"], level_text(zone["level"], zone["reason"]),
            f"{seen} of {zone['capacity']}", clock.show(zone["level_since"]), zone["camera"],
        )  # fmt: skip

    columns = ("store", "zone", "SKU", "level", "facings", "since", "camera")
    listing(items, as_json, "No stock known yet: no camera has reported a zone.", columns, row)


def events(
    store: StoreOption = None,
    camera: Annotated[str | None, typer.Option(help="Only this camera.")] = None,
    zone: Annotated[str | None, typer.Option(help="Only this zone.")] = None,
    kind: Annotated[str | None, typer.Option("--type", help="Only this type, such as out_of_stock.")] = None,
    release: Annotated[str | None, typer.Option(help="Only of this release.")] = None,
    since: Annotated[datetime | None, typer.Option(help="Only at or after this time, in --tz.")] = None,
    until: Annotated[datetime | None, typer.Option(help="Only before this time, in --tz.")] = None,
    quarantined: Annotated[
        bool | None,
        typer.Option("--quarantined/--not-quarantined", help="Only, or without, those in quarantine."),
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with new ones.")] = False,
    limit: Limit = 50,
    as_json: AsJson = False,
    tz: Zone = "local",
) -> None:
    """The newest events, oldest of them first. Example: storefleet events --type out_of_stock --follow"""
    if kind is not None:
        try:
            kind_of(kind)
        except InvalidError as error:
            raise typer.BadParameter(str(error), param_hint="--type") from error
    with asking() as client:
        clock = clock_for(tz)
        wanted = {
            "store": store, "camera": camera, "zone": zone, "type": kind, "release": release,
            "since": clock.parse(since), "until": clock.parse(until), "quarantined": quarantined,
        }  # fmt: skip
        newest = list(client.pages("/v1/events", limit=limit, newest_first=True, **wanted))
        if not newest and not follow and not as_json:
            console.print("No events match.")
        _print_events(reversed(newest), as_json, clock)
        if follow:
            _follow(client, wanted, newest[0]["id"] if newest else 0, as_json, clock)


def _follow(client: Client, wanted: dict[str, Any], after: int, as_json: bool, clock: Clock) -> None:
    """New events until Ctrl-C."""
    try:
        while True:
            page = client.get("/v1/events", after=after, limit=500, **wanted)
            _print_events(iter(page["items"]), as_json, clock)
            after = page["items"][-1]["id"] if page["items"] else after
            if page["next_cursor"] is None:
                time.sleep(FOLLOW_EVERY_S)
    except KeyboardInterrupt:
        raise typer.Exit(0) from None


def _print_events(items: Iterator[dict[str, Any]], as_json: bool, clock: Clock) -> None:
    for event in items:
        if as_json:
            sys.stdout.write(json.dumps(event) + "\n")
        else:
            console.print(event_row(event, clock), highlight=False)
    sys.stdout.flush()


def audit(limit: Limit = 50, as_json: AsJson = False, tz: Zone = "local") -> None:
    """Who did what, newest first. Example: storefleet audit --limit 20"""
    with asking() as client:
        clock = clock_for(tz)
        items = list(client.pages("/v1/audit", limit=limit))

    def row(entry: dict[str, Any]) -> Sequence[str]:
        detail = ", ".join(f"{name}={value}" for name, value in entry["detail"].items())
        return clock.show(entry["at"]), entry["actor"], entry["action"], entry["target"], detail

    listing(items, as_json, "Nothing has been done yet.", ("time", "who", "action", "target", "detail"), row)


def dead_letters(
    store: StoreOption = None,
    limit: Limit = 50,
    replay: Annotated[
        bool, typer.Option("--replay", help="Take in refused events that are no longer objected to.")
    ] = False,
    as_json: AsJson = False,
    tz: Zone = "local",
) -> None:
    """Messages that were refused, and why. Example: storefleet dead-letters --store berlin-01

    With --replay, events are tried again: after the centre's clock was wrong, or after an update.
    """
    with asking() as client:
        clock = clock_for(tz)
        if replay:
            done = client.post("/v1/dead-letters/replay", {"store": store})
            if as_json:
                print_json(done)
            else:
                console.print(f"{done['taken_in']} events taken in, {done['refused']} still refused.")
            return
        items = list(client.pages("/v1/dead-letters", store=store, limit=limit))

    def row(letter: dict[str, Any]) -> Sequence[str]:
        figures = str(letter["size"]), str(letter["times"])
        return clock.show(letter["received_at"]), letter["topic"], *figures, letter["reason"]

    listing(items, as_json, "No message was refused.", ("time", "topic", "bytes", "times", "reason"), row)


@stores_app.command("list")
def stores_list(limit: Limit = 200, as_json: AsJson = False, tz: Zone = "local") -> None:
    """Registered stores. Example: storefleet stores list"""
    with asking() as client:
        clock = clock_for(tz)
        items = list(client.pages("/v1/stores", limit=limit))

    def row(store: dict[str, Any]) -> Sequence[str]:
        labels = ", ".join(f"{name}={value}" for name, value in store["labels"].items())
        return (
            store["name"], store["cluster"].get("kind", "-"), store["timezone"],
            short(store["config_digest"]), labels, clock.show(store["created_at"]),
        )  # fmt: skip

    empty = "No stores yet. Register one: storefleet stores add NAME --config FILE"
    listing(
        items, as_json, empty, ("store", "cluster", "time zone", "configuration", "labels", "registered"), row
    )


@stores_app.command("add")
def stores_add(
    name: Annotated[str, typer.Argument(help="a-z, 0-9 and '-'.")],
    config: Annotated[Path | None, typer.Option(help="Store configuration (YAML).")] = None,
    label: Annotated[list[str] | None, typer.Option(help="KEY=VALUE, repeatable.")] = None,
    cluster: Annotated[str, typer.Option(help="local, kubernetes or deployer.")] = "local",
    kubeconfig: Annotated[str | None, typer.Option(help="Kubeconfig file at the controller.")] = None,
    context: Annotated[str | None, typer.Option(help="Context in the kubeconfig.")] = None,
    namespace: Annotated[str | None, typer.Option(help="Namespace in the store's cluster.")] = None,
    node_label: Annotated[
        list[str] | None, typer.Option(help="KEY=VALUE of its camera nodes, in a cluster of several stores.")
    ] = None,
    share_cameras: Annotated[
        bool, typer.Option("--share-cameras", help="Several camera nodes: each camera is watched by one.")
    ] = False,
    accelerator: Annotated[
        str | None, typer.Option(help="intel, intel-xe or nvidia: what its nodes have beside the processor.")
    ] = None,
    device_group: Annotated[
        int | None, typer.Option(help="Number of the group of its nodes that may use the accelerator.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Register a store. Example: storefleet stores add berlin-01 --config berlin-01.yaml"""
    with asking() as client:
        where: dict[str, Any] = {
            "kind": cluster,
            "kubeconfig": kubeconfig,
            "context": context,
            "namespace": namespace,
            "accelerator": accelerator,
            "device_group": device_group,
        }
        shared: dict[str, Any] = {"share_cameras": True} if share_cameras else {}
        if node_label:
            shared["node_selector"] = _labels(node_label)
        body: dict[str, Any] = {
            "name": name,
            "labels": _labels(label or []),
            "cluster": {key: value for key, value in where.items() if value is not None} | shared,
        }
        if config is not None:
            body["config"] = read_text(config)
        store = client.post("/v1/stores", body)
    print_json(store) if as_json else console.print(f"Registered store {name}.")


@stores_app.command("config")
def stores_config(
    name: Annotated[str, typer.Argument(help="The store.")],
    file: Annotated[Path | None, typer.Argument(help="New configuration (YAML); without it, show.")] = None,
) -> None:
    """Show or change a store's configuration. Example: storefleet stores config berlin-01 new.yaml"""
    with asking() as client:
        if file is None:
            sys.stdout.write(client.get(f"/v1/stores/{name}/config")["yaml"].rstrip("\n") + "\n")
            return
        version = client.put(f"/v1/stores/{name}/config", {"yaml": read_text(file)})
    console.print(
        f"Store {name} has configuration {short(version['digest'])}; deploy to bring it to the store."
    )


def listing(
    items: Sequence[dict[str, Any]],
    as_json: bool,
    empty: str,
    columns: Sequence[str],
    row: Callable[[dict[str, Any]], Sequence[str | Text]],
) -> None:
    """A listing as JSON or as a table; ``empty`` says what to do where there is nothing."""
    if as_json:
        print_json({"items": list(items)})
        return
    if not items:
        console.print(empty)
        return
    table = Table(*columns, box=None)
    for item in items:
        add_plain_row(table, *row(item))
    console.print(table)


def print_json(value: Any) -> None:
    sys.stdout.write(json.dumps(value, indent=2) + "\n")


def _labels(given: list[str]) -> dict[str, str]:
    pairs = [text.partition("=") for text in given]
    for text, (key, equals, _) in zip(given, pairs, strict=True):
        if not key or not equals:
            raise InvalidError(f"label {text!r}: write KEY=VALUE")
    return {key: value for key, _, value in pairs}


def read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PermanentError(f"{path}: {error}") from error
