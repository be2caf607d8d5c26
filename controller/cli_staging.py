"""``storefleet stage`` and ``storefleet stagings``: models brought to stores ahead of a release."""

import time
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import typer
from rich.console import Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from controller.cli_queries import AsJson, Limit, StoreOption, asking, console, print_json
from controller.cli_tables import age
from controller.client import Client
from controller.errors import InvalidError, TransientError

POLL_S = 0.5
SHOWN = 30
"""Rows of the live table; stores that are done are left out first."""


def register(root: typer.Typer) -> None:
    root.command()(stage)
    root.command()(stagings)


def stage(
    release: Annotated[str, typer.Option(help="The release whose model shall be brought.")],
    store: Annotated[list[str] | None, typer.Option(help="A store, repeatable; default: all.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Watch until every node has the model.")] = False,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds to wait at most.")] = 3600.0,
    as_json: AsJson = False,
) -> None:
    """Bring a release's model to stores ahead of its deployment. With --wait, exit code 1 when a node did
    not get it. Example: storefleet stage --store berlin-01 --release v2 --wait"""
    with asking() as client:
        body = {"release": release} | ({"stores": store} if store else {})
        items = client.post("/v1/stagings", body)["items"]
        if wait:
            items = _watch(client, release, items, timeout, show=not as_json)
        if as_json:
            print_json({**_summary(items), "items": items})
        elif not wait:
            console.print(
                f"The model of {release} is on its way to {len(items)} stores. "
                f"Watch it: storefleet stagings --release {release}"
            )
        missing = [item for item in items if not item["complete"]]
        if wait and missing:
            words = [f"{item['store']}: {item['message']}" for item in missing]
            raise InvalidError(f"{release} is not staged in {len(missing)} of {len(items)} stores", words)


def stagings(
    release: Annotated[str | None, typer.Option(help="Only this release.")] = None,
    store: StoreOption = None,
    limit: Limit = 200,
    as_json: AsJson = False,
) -> None:
    """How far releases are staged, in percent by store. Example: storefleet stagings --release v2"""
    with asking() as client:
        items = list(client.pages("/v1/stagings", limit=limit, release=release, store=store))
    if as_json:
        print_json({**_summary(items), "items": items})
        return
    if not items:
        console.print("Nothing is staged. Stage: storefleet stage --release RELEASE --store STORE")
        return
    console.print(_table(items))
    for name in sorted({item["release"] for item in items}):
        console.print(_total([item for item in items if item["release"] == name], name))


def _watch(
    client: Client, release: str, items: Sequence[dict[str, Any]], timeout: float, show: bool
) -> list[dict[str, Any]]:
    last = list(items)
    with Live(console=console, refresh_per_second=4, auto_refresh=False) as live:
        for last in _progress(client, release, items, timeout):
            if show:
                shown = sorted(last, key=lambda item: item["complete"])[:SHOWN]
                bar = ProgressBar(total=100, completed=_summary(last)["percent"], width=40)
                total = Text("  ").append_text(_total(last, release))
                live.update(Group(_table(shown), bar, total), refresh=True)
    return last


def _progress(
    client: Client, release: str, items: Sequence[dict[str, Any]], timeout: float
) -> Iterator[list[dict[str, Any]]]:
    """The stagings as they are, twice a second. A controller that restarts is waited for."""
    end = time.monotonic() + timeout
    wanted = {item["store"]: item for item in items}
    one = next(iter(wanted)) if len(wanted) == 1 else None
    while True:
        try:
            for item in client.pages("/v1/stagings", release=release, store=one):
                if item["store"] in wanted:
                    wanted[item["store"]] = item
        except TransientError:
            if time.monotonic() > end:
                raise
        yield list(wanted.values())
        if all(item["complete"] for item in wanted.values()) or time.monotonic() > end:
            return
        time.sleep(POLL_S)


def _summary(items: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Over all nodes of all stores; a store without any counts as one node that has nothing."""
    nodes = [node for item in items for node in item["nodes"]]
    unknown = sum(not item["nodes"] for item in items)
    count = len(nodes) + unknown
    share = sum(node["share"] for node in nodes) / count if count else 0.0
    complete = bool(items) and all(item["complete"] for item in items)
    return {
        "percent": 100.0 if complete else min(99.9, round(100 * share, 1)),
        "stores": len(items),
        "stores_complete": sum(item["complete"] for item in items),
        "nodes": len(nodes),
        "nodes_staged": sum(node["staged"] for node in nodes),
    }


def _total(items: Sequence[dict[str, Any]], release: str) -> Text:
    total = _summary(items)
    return Text(
        f"{release}: {total['percent']:g} % staged, {total['nodes_staged']} of {total['nodes']} nodes, "
        f"{total['stores_complete']} of {total['stores']} stores"
    )


def _table(items: Sequence[dict[str, Any]]) -> Table:
    table = Table("store", "release", "staged", "nodes", "since", "message", box=None)
    for item in items:
        percent = Text(f"{item['percent']:g} %", "green" if item["complete"] else "cyan")
        nodes = f"{sum(node['staged'] for node in item['nodes'])}/{len(item['nodes'])}"
        since = age(item["created_at"])
        table.add_row(item["store"], item["release"], percent, nodes, since, Text(item["message"]))
    return table
