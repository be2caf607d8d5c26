"""Reads truth files, also while they are being written."""

import json
from pathlib import Path
from typing import Any

from camera_sims.errors import SimulatorError
from camera_sims.run_info import read_run_info


def truth_files(run: Path, store: str | None = None) -> dict[str, Path]:
    """The truth files of a run, or of one of its stores, by store. Raises ``SimulatorError``."""
    stores = {one.store: one.truth for one in read_run_info(run).stores}
    if store is not None and store not in stores:
        raise SimulatorError(f"no store {store!r} in {run}: there are {', '.join(stores)}")
    return {name: path for name, path in stores.items() if store in (None, name)}


def read_truth(path: Path) -> list[dict[str, Any]]:
    """All complete records of a truth file. Raises ``SimulatorError`` for a line that is no record."""
    records = []
    text = path.read_text(encoding="utf-8")
    complete, _, _ = text.rpartition("\n")  # the rest is still being written
    for number, line in enumerate(complete.splitlines(), 1):
        try:
            value = json.loads(line)
        except ValueError as error:
            raise SimulatorError(f"{path}, line {number}: not JSON ({error})") from error
        if not isinstance(value, dict) or not {"record", "time", "camera"} <= value.keys():
            raise SimulatorError(f"{path}, line {number}: not a truth record")
        records.append(value)
    return records
