"""``storefleet models import|list|show``: the model store of a running controller."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from controller.cli_queries import AsJson, Limit, Zone, asking, console, print_json
from controller.cli_tables import add_plain_row, clock_for, short
from controller.models.artifact import inspect_artifact


def register(app: typer.Typer) -> None:
    """Add the commands to ``storefleet models``."""
    app.command("import")(import_model)
    app.command("list")(list_models)
    app.command("show")(show_model)


def import_model(
    path: Annotated[Path, typer.Argument(help="Exported artifact: OpenVINO bundle (.zip) or .onnx.")],
    name: Annotated[str, typer.Option(help="Name of the model.")],
    version: Annotated[str, typer.Option(help="Version of the model.")],
    as_json: AsJson = False,
) -> None:
    """Upload an exported model; the controller checks, signs and keeps it.
    Example: storefleet models import shelf.zip --name shelf --version 1"""
    with asking() as client:
        inspect_artifact(path)
        model = client.upload("/v1/models", path, name=name, version=version)
    if as_json:
        print_json(model)
        return
    console.print(f"Model {name}:{version}: {model['digest']}", highlight=False)


def list_models(limit: Limit = 200, as_json: AsJson = False, tz: Zone = "local") -> None:
    """All models of the controller. Example: storefleet models list"""
    with asking() as client:
        clock = clock_for(tz)
        items = list(client.pages("/v1/models", limit=limit))
    if as_json:
        print_json({"items": items})
        return
    if not items:
        console.print("No models yet. Import one: storefleet models import FILE --name shelf --version 1")
        return
    table = Table("model", "format", "input", "classes", "bytes", "digest", "imported", "by", box=None)
    for model in items:
        height, width = model["image_size"]
        made, by = clock.show(model["created_at"]), model["created_by"]
        kind = (f"{model['name']}:{model['version']}", model["format"], f"{height}x{width}")
        size = (str(len(model["names"])), str(model["size_bytes"]))
        add_plain_row(table, *kind, *size, short(model["digest"]), made, by)
    console.print(table)


def show_model(
    digest: Annotated[str, typer.Argument(help="sha256:… of the artifact.")],
    as_json: AsJson = False,
    tz: Zone = "local",
) -> None:
    """One model. Example: storefleet models show sha256:…"""
    with asking() as client:
        clock = clock_for(tz)
        model = client.get(f"/v1/models/{digest}")
    if as_json:
        print_json(model)
        return
    for key in ("name", "version", "format", "digest", "size_bytes", "created_by"):
        console.print(f"{key.replace('_', ' '):<12}{model[key]}", highlight=False, markup=False)
    console.print(f"imported    {clock.show(model['created_at'])}", highlight=False)
    console.print(f"signed by   {model['signed']['key_id']}", highlight=False)
    console.print(f"classes     {', '.join(model['names'])}", highlight=False, markup=False)
