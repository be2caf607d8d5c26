"""What a training or evaluation dataset directory must look like.

The layout is Ultralytics': a YAML file (``data.yaml`` for training, ``eval.yaml`` for the held-out
frames) with ``train``/``val`` image directories and ``names``; labels lie in a parallel ``labels``
directory. ``dataset.json`` beside it, if present, says how the data came to be and becomes the
dataset card.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from controller.models.errors import DatasetError

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp"})


@dataclass(frozen=True, slots=True)
class Dataset:
    """Directories of images are absolute; labels lie where ``images`` is replaced by ``labels``."""

    file: Path
    train: Path | None
    val: Path
    names: tuple[str, ...]
    """Class names by class id."""
    card: dict[str, Any]
    """Contents of ``dataset.json``, empty when there is none."""

    def write_for_ultralytics(self, directory: Path) -> Path:
        """A data YAML with nothing but absolute directories and names.

        The original may hold ``download:``, which Ultralytics executes, and a relative ``path``,
        which it resolves against the working directory.
        """
        file = directory / "data.yaml"
        raw = {"train": str(self.train or self.val), "val": str(self.val), "names": list(self.names)}
        file.write_text(yaml.safe_dump(raw))
        return file


def read_dataset(path: Path, preferred: str = "data.yaml") -> Dataset:
    """Find and check a dataset: a YAML file, or a directory that holds ``preferred`` or ``data.yaml``.

    Raises ``DatasetError``.
    """
    if path.is_dir():
        candidates = [path / preferred, path / "data.yaml"]
        file = next((c for c in candidates if c.is_file()), candidates[0])
    else:
        file = path
    try:
        raw = yaml.safe_load(file.read_text())
    except FileNotFoundError as error:
        raise DatasetError(f"no {file.name} in {path}: is this a dataset directory?") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DatasetError(f"cannot read {file}: {error}") from error
    if not isinstance(raw, dict):
        raise DatasetError(f"{file} is not a mapping with train, val and names")
    names = _names(raw.get("names"), file)
    root = file.parent.resolve()
    train = _images(root, raw, "train", file) if raw.get("train") else None
    return Dataset(file, train, _images(root, raw, "val", file), names, _card(root / "dataset.json"))


def count_images(directory: Path) -> int:
    """Images directly inside ``directory`` (0 if there is no such directory)."""
    if not directory.is_dir():
        return 0
    return sum(1 for entry in directory.iterdir() if entry.suffix.lower() in IMAGE_SUFFIXES)


def _images(root: Path, raw: dict[str, Any], split: str, file: Path) -> Path:
    value = raw.get(split)
    if not isinstance(value, str):
        raise DatasetError(f"{file} has no {split!r} image directory")
    directory = root / value
    if not count_images(directory):
        raise DatasetError(f"{file}: no images in {directory}")
    return directory


def _names(raw: object, file: Path) -> tuple[str, ...]:
    if isinstance(raw, dict):
        if sorted(raw) != list(range(len(raw))):
            raise DatasetError(f"{file}: names must be numbered 0 to {len(raw) - 1} without holes")
        raw = [raw[i] for i in range(len(raw))]
    if not isinstance(raw, list) or not raw or not all(isinstance(name, str) for name in raw):
        raise DatasetError(f"{file} has no list of class names")
    if len(set(raw)) != len(raw):
        raise DatasetError(f"{file} names a class twice")
    return tuple(raw)


def _card(file: Path) -> dict[str, Any]:
    try:
        raw = json.loads(file.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise DatasetError(f"cannot read {file}: {error}") from error
    if not isinstance(raw, dict):
        raise DatasetError(f"{file} is not a JSON object")
    return raw
