"""What a training or evaluation dataset directory must look like.

The layout is Ultralytics': ``data.yaml`` with the image directories ``train``, ``val`` and ``test`` and the
class ``names``; labels lie in a parallel ``labels`` directory. ``dataset.json`` beside it, if present,
says how the data came to be and becomes the dataset card.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from controller.models.errors import DatasetError

SPLITS = ("train", "val", "test")
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp"})


@dataclass(frozen=True, slots=True)
class Dataset:
    """Directories of images are absolute; labels lie where ``images`` is replaced by ``labels``."""

    file: Path
    splits: Mapping[str, Path]
    """Image directories of those of train, val and test that there are."""
    names: tuple[str, ...]
    """Class names by class id."""
    card: dict[str, Any]
    """Contents of ``dataset.json``, empty when there is none."""

    def images(self, split: str) -> Path:
        """Image directory of ``split``. Raises ``DatasetError``."""
        directory = self.splits.get(split)
        if directory is None:
            raise DatasetError(
                f"{self.file} has no {split!r} images; it has {', '.join(self.splits) or 'none'}"
            )
        return directory

    def write_for_ultralytics(self, directory: Path) -> Path:
        """A data YAML with nothing but absolute directories and names.

        The original may hold ``download:``, which Ultralytics executes, and a relative ``path``,
        which it resolves against the working directory.
        """
        file = directory / "data.yaml"
        raw: dict[str, object] = {split: str(images) for split, images in self.splits.items()}
        # Ultralytics insists on both of these, whichever it uses.
        anything = next(iter(raw.values()))
        raw = {"train": anything, "val": anything} | raw | {"names": list(self.names)}
        file.write_text(yaml.safe_dump(raw))
        return file


def read_dataset(path: Path) -> Dataset:
    """Find and check a dataset: its YAML file, or the directory that holds ``data.yaml``.

    Raises ``DatasetError``.
    """
    file = path / "data.yaml" if path.is_dir() else path
    try:
        raw = yaml.safe_load(file.read_text())
    except FileNotFoundError as error:
        raise DatasetError(f"there is no {file}: is {path} a dataset directory?") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DatasetError(f"cannot read {file}: {error}") from error
    if not isinstance(raw, dict):
        raise DatasetError(f"{file} is not a mapping with train, val and names")
    names = _names(raw.get("names"), file)
    root = file.parent.resolve()
    splits = {split: _images(root, raw[split], file) for split in SPLITS if raw.get(split)}
    if not splits:
        raise DatasetError(f"{file} names no images: expected some of {', '.join(SPLITS)}")
    return Dataset(file, splits, names, _card(root / "dataset.json"))


def count_images(directory: Path) -> int:
    """Images directly inside ``directory`` (0 if there is no such directory)."""
    if not directory.is_dir():
        return 0
    return sum(1 for entry in directory.iterdir() if entry.suffix.lower() in IMAGE_SUFFIXES)


def _images(root: Path, value: object, file: Path) -> Path:
    """Always relative to the file, so that a dataset directory can be moved."""
    if not isinstance(value, str):
        raise DatasetError(f"{file}: {value!r} is not an image directory")
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
