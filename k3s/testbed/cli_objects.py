"""The testbed's commands about objects in a store, for machines without kubectl."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from rich.console import Console
from rich.table import Table

from k3s.testbed.errors import TestbedError
from k3s.testbed.reporting import reported
from k3s.testbed.status import describe_pod
from k3s.testbed.testbed import Options, Testbed

StoreName = Annotated[str, typer.Argument(metavar="STORE", help="A store's name.")]
Name = Annotated[str, typer.Option("--name", help="Which testbed, if you run several.")]
DEFAULT = "default"


def register(app: typer.Typer) -> None:
    for command in (apply, get, pods, logs):
        app.command()(command)


def apply(
    store: StoreName,
    files: Annotated[list[Path], typer.Argument(help="Manifests in YAML or JSON.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only ask whether the server would.")] = False,
    name: Name = DEFAULT,
) -> None:
    """Apply manifests (server-side). Example: apply store-1 manifest.yaml"""
    with reported():
        api = Testbed(Options(name)).store(store).api
        for file in files:
            for manifest in read_manifests(file):
                done = api.apply(manifest, dry_run=dry_run)
                typer.echo(
                    f"{done['kind']} {done['metadata']['name']} {'accepted' if dry_run else 'applied'}"
                )


def get(
    store: StoreName,
    path: Annotated[str, typer.Argument(help="As in the API: /apis/apps/v1/daemonsets")],
    name: Name = DEFAULT,
) -> None:
    """Print an object or a list of them as JSON. Example: get store-1 /api/v1/nodes"""
    with reported():
        typer.echo(json.dumps(Testbed(Options(name)).store(store).api.get(path), indent=2))


def pods(
    store: StoreName,
    namespace: Annotated[str, typer.Option("--namespace", "-n", help="All of them if left out.")] = "",
    name: Name = DEFAULT,
) -> None:
    """List pods with what keeps them from running."""
    with reported():
        found = [describe_pod(pod) for pod in Testbed(Options(name)).store(store).pods(namespace)]
    table = Table("namespace", "pod", "node", "phase", "ready", "restarts", "reason")
    for pod in found:
        table.add_row(
            *(str(pod[key]) for key in ("namespace", "name", "node", "phase", "ready", "restarts", "reason"))
        )
    Console(file=sys.stdout, width=None if sys.stdout.isatty() else 200).print(table)


def logs(
    store: StoreName,
    pod: Annotated[str, typer.Argument(metavar="NAMESPACE/POD")],
    previous: Annotated[
        bool, typer.Option("--previous", help="Of the container before the last restart.")
    ] = False,
    name: Name = DEFAULT,
) -> None:
    """Print a pod's log."""
    with reported():
        namespace, _, pod_name = pod.rpartition("/")
        query = {"previous": "true"} if previous else {}
        api = Testbed(Options(name)).store(store).api
        typer.echo(
            api.text(f"/api/v1/namespaces/{namespace or 'default'}/pods/{pod_name}/log", **query), nl=False
        )


def read_manifests(file: Path) -> list[dict[str, Any]]:
    """Every object in a file of one or more YAML documents (JSON is YAML).

    Raises:
        TestbedError: the file is missing or no YAML.
    """
    try:
        return [document for document in yaml.safe_load_all(file.read_text()) if document]
    except OSError as error:
        raise TestbedError(f"cannot read {file}: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise TestbedError(f"{file} is no YAML: {error}") from error
