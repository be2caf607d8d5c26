"""``storefleet golden``: makes golden sets, from labelled pictures or from simulated shops.

It composes: pictures and truth come from ``camera_sims``, everything else from ``controller``.
"""

from pathlib import Path
from typing import Annotated

import typer

from contract.golden import pack
from controller.cli_golden import golden_app, make_from_dataset, write_set
from controller.cli_queries import console, print_json, reported
from controller.errors import InvalidError


def register(root: typer.Typer) -> None:
    root.add_typer(golden_app, name="golden")


@golden_app.command()
def make(
    out: Annotated[Path, typer.Option(help="Archive to write.")] = Path("golden.zip"),
    source: Annotated[
        Path | None, typer.Option("--from", help="Labelled pictures in Ultralytics' layout (data.yaml).")
    ] = None,
    split: Annotated[str, typer.Option(help="Of these: train, val or test; default: held-out ones.")] = "",
    simulated: Annotated[bool, typer.Option("--simulated", help="Simulated shops instead.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same shops.")] = 900_000,
    clips: Annotated[int, typer.Option(min=1, help="Simulated shops, a clip of each.")] = 4,
    frames: Annotated[int, typer.Option(min=1, help="Frames in each clip.")] = 6,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was made as JSON.")] = False,
) -> None:
    """Write a golden set: pictures, and what has to be seen in each of them.

    Example: storefleet golden make --simulated --seed 900000 --out golden.zip
    """
    with reported():
        if simulated == (source is not None):
            raise InvalidError("give one of --from DIR and --simulated")
        if source is not None:
            size = make_from_dataset(source, split, out)
        else:
            size = _make_simulated(out, seed, clips, frames)
    if as_json:
        print_json({"file": str(out), "size_bytes": size})
        return
    console.print(
        f"{out}: {size} bytes. Import it: storefleet golden import {out} --name shelf --version 1",
        highlight=False,
    )


def _make_simulated(out: Path, seed: int, clips: int, frames: int) -> int:
    from camera_sims.errors import SimulatorError  # slow to import, and an extra of its own
    from camera_sims.golden import golden_set

    try:
        content, pictures = golden_set(seed, clips=clips, frames=frames)
    except SimulatorError as error:
        raise InvalidError(str(error)) from error
    data = pack(content, pictures)
    write_set(out, data)
    return len(data)
