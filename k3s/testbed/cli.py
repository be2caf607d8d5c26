"""``storefleet testbed …``: real store clusters on this machine, for development and tests."""

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from k3s.testbed import cli_objects, network
from k3s.testbed.binaries import find_kubernetes
from k3s.testbed.errors import TestbedError
from k3s.testbed.ledger import exclusive
from k3s.testbed.node import Node
from k3s.testbed.progress import Progress
from k3s.testbed.reporting import reported
from k3s.testbed.status import read_status
from k3s.testbed.store import Store
from k3s.testbed.testbed import Options, Testbed

app = typer.Typer(
    name="testbed",
    help="Real Kubernetes clusters, one for each store, on this machine. Needs root.\n\n"
    "Example: storefleet testbed up --stores 3 --nodes 1,1,2",
    no_args_is_help=True,
)

Name = Annotated[str, typer.Option("--name", help="Which testbed, if you run several.")]
StoreName = Annotated[str, typer.Argument(metavar="STORE", help="A store's name.")]
Target = Annotated[str, typer.Argument(metavar="STORE|NODE", help="A store's or a node's name.")]
What = Annotated[
    str,
    typer.Option(
        "--what",
        help="Of a node: kubelet, containerd or node (all of it). "
        "Of a store: etcd, apiserver, controller-manager or scheduler.",
    ),
]
DEFAULT = "default"


def register(root: typer.Typer) -> None:
    """Add ``testbed`` to the one command line."""
    root.add_typer(app, name="testbed")


@app.command()
def up(
    stores: Annotated[str, typer.Option(help="How many, or their names: 3 or berlin-01,paris-02.")] = "1",
    nodes: Annotated[
        str, typer.Option(help="Nodes of each store; the last number holds for the rest.")
    ] = "1",
    kubeconfig: Annotated[
        list[Path] | None, typer.Option(help="Use a cluster that exists already. May be repeated.")
    ] = None,
    name: Name = DEFAULT,
) -> None:
    """Bring stores up, or complete what is missing. Builds Kubernetes first if the machine has none."""
    with reported():
        options = Options(name, parse_stores(stores), parse_nodes(nodes), tuple(kubeconfig or ()))
        Testbed(options, Progress()).up()
        _show(options, as_json=False, memory=False)


@app.command()
def build() -> None:
    """Find the Kubernetes that stores will run, or build it ahead of ``up``."""
    with reported():
        typer.echo(find_kubernetes(Progress(), os.environ).origin)


@app.command()
def down(
    name: Name = DEFAULT,
    everyone: Annotated[
        bool, typer.Option("--all", help="Every testbed on this machine, such as those of killed test runs.")
    ] = False,
) -> None:
    """Remove everything, also what a crash left behind."""
    with reported():
        for each in network.testbeds() if everyone else [name]:
            Testbed(Options(each), Progress()).down()


@app.command()
def status(
    as_json: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
    memory: Annotated[bool, typer.Option("--memory", help="Measure it as well.")] = False,
    name: Name = DEFAULT,
) -> None:
    """Each store's apiserver, nodes and pods. Exit status 1 if a store or node is not ready."""
    with reported():
        healthy = _show(Options(name), as_json=as_json, memory=memory)
    raise typer.Exit(0 if healthy else 1)


@app.command()
def cut(store: StoreName, name: Name = DEFAULT) -> None:
    """Sever the link between a store and the centre. Inside the store all goes on."""
    with reported():
        Testbed(Options(name)).store(store).cut()


@app.command()
def heal(store: StoreName, name: Name = DEFAULT) -> None:
    """Mend the link that ``cut`` severed."""
    with reported():
        Testbed(Options(name)).store(store).heal()


@app.command()
def kill(target: Target, what: What, name: Name = DEFAULT) -> None:
    """Kill a program without notice, or pull a node's plug. Example: kill store-1-node-1 --what kubelet"""
    with reported():
        found = find_target(name, target)
        with exclusive(Options(name).place):
            found.kill(what)


@app.command()
def restart(target: Target, what: What, name: Name = DEFAULT) -> None:
    """Kill it if it runs, and start it."""
    with reported():
        found = find_target(name, target)
        with exclusive(Options(name).place):
            found.kill(what)
            found.start(what)


@app.command("load-image")
def load_image(
    archive: Annotated[Path, typer.Argument(metavar="FILE", help="An OCI or 'docker save' archive.")],
    store: Annotated[str, typer.Option(help="Only this store.")] = "",
    name: Name = DEFAULT,
) -> None:
    """Import an image archive into every node."""
    with reported():
        testbed, progress = Testbed(Options(name)), Progress()
        for each in [testbed.store(store)] if store else testbed.stores():
            with progress.step(f"{each.name}: {archive.name} on {len(each.nodes)} nodes"):
                each.load_image(archive)


@app.command()
def kubeconfig(
    store: StoreName,
    service_account: Annotated[
        str,
        typer.Option(metavar="NAMESPACE/NAME", help="With this account's rights, not the administrator's."),
    ] = "",
    name: Name = DEFAULT,
) -> None:
    """Print the path of a store's kubeconfig. Example: KUBECONFIG=$(storefleet testbed kubeconfig store-1)"""
    with reported():
        found = Testbed(Options(name)).store(store)
        path = found.kubeconfig
        if service_account:
            namespace, _, account = service_account.partition("/")
            path = found.service_account_kubeconfig(namespace, account)
        typer.echo(path)


@app.command(context_settings={"ignore_unknown_options": True})
def run(
    target: Target,
    command: Annotated[list[str], typer.Argument(help="A command line.")],
    name: Name = DEFAULT,
) -> None:
    """Run a command in a store's network, such as its cameras, or on a node.

    Example: run store-1-node-1 -- install -d -o 10001 -g 10001 /var/lib/storefleet
    """
    with reported():
        found = find_target(name, target)
        words = found.in_network(command) if isinstance(found, Store) else found.inside(command)
        os.execvp(words[0], words)  # noqa: S606 - the words are the user's own


def find_target(testbed: str, name: str) -> Store | Node:
    """The store or node called ``name``."""
    stores = Testbed(Options(testbed)).stores()
    candidates: list[Store | Node] = [*stores, *(node for store in stores for node in store.nodes)]
    for candidate in candidates:
        if candidate.name == name:
            return candidate
    known = ", ".join(candidate.name for candidate in candidates) or "none: run 'storefleet testbed up'"
    raise TestbedError(f"there is no store or node '{name}'; there are {known}")


def parse_stores(text: str) -> tuple[str, ...]:
    """("store-1", "store-2") of "2"; the names of "berlin-01,paris-02"."""
    if text.isdigit():
        return tuple(f"store-{number + 1}" for number in range(int(text)))
    return tuple(part.strip() for part in text.split(",") if part.strip())


def parse_nodes(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise TestbedError(f"--nodes takes numbers such as 1 or 1,1,2, not '{text}'") from error


def _show(options: Options, *, as_json: bool, memory: bool) -> bool:
    stores = read_status(Testbed(options).stores(), memory=memory)
    if as_json:
        typer.echo(json.dumps({"name": options.name, "stores": stores}, indent=2))
    elif not stores:
        typer.echo("No stores: bring some up with 'storefleet testbed up --stores 3'.")
    else:
        _print_table(stores, memory=memory)
    return all(store["ready"] and not store["trouble"] and all(store["nodes"].values()) for store in stores)


def _print_table(stores: list[dict[str, Any]], *, memory: bool) -> None:
    table = Table(
        "store", "apiserver", "nodes Ready", "pods running", *(["memory"] if memory else []), "kubeconfig"
    )
    for store in stores:
        running = sum(pod["phase"] == "Running" for pod in store["pods"])
        table.add_row(
            store["name"],
            ", ".join(filter(None, [store.get("version", ""), store["trouble"]])),
            f"{sum(store['nodes'].values())} of {len(store['nodes'])}",
            f"{running} of {len(store['pods'])}",
            *([f"{store['memory_mb']} MB"] if memory else []),
            store["kubeconfig"],
        )
    Console(file=sys.stdout, width=None if sys.stdout.isatty() else 200).print(table)


cli_objects.register(app)
