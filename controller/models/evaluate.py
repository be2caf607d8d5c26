"""``storefleet models evaluate``: how well an exported artifact detects, on images with labels.

What is measured is the artifact that stores run, not the checkpoint it came from, through
Ultralytics' own validator, so that the figures compare with everyone else's.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contract.signing import digest_file
from controller.models import yolo
from controller.models.artifact import ArtifactInfo, inspect_artifact, read_bundle
from controller.models.dataset import count_images, read_dataset
from controller.models.errors import DatasetError
from controller.models.yolo import Metrics


@dataclass(frozen=True, slots=True)
class Evaluation:
    digest: str
    info: ArtifactInfo
    data: str
    """Name of the dataset's YAML file."""
    split: str
    images: int
    metrics: Metrics
    dataset: dict[str, Any]
    """The dataset's card."""


def evaluate(artifact: Path, data: Path, split: str | None = None) -> Evaluation:
    """Measure ``artifact`` (OpenVINO bundle or ONNX) on the images of one split of the dataset ``data``.

    Without ``split``, on what was held out: ``val`` of ``eval.yaml`` if there is one, else ``test``,
    else ``val``.

    Raises ``ArtifactError``, ``DatasetError``, ``CheckpointError``, ``MissingExtra``.
    """
    info = inspect_artifact(artifact)
    held_out = data / "eval.yaml"
    if split is None and held_out.is_file():
        data, split = held_out, "val"
    dataset = read_dataset(data)
    split = split or ("test" if "test" in dataset.splits else "val")
    images = dataset.images(split)
    if dataset.names != info.names:
        raise DatasetError(
            f"{dataset.file} has classes {', '.join(dataset.names)}; the model has {', '.join(info.names)}"
        )
    with tempfile.TemporaryDirectory(prefix="storefleet-evaluate-") as directory:
        work = Path(directory)
        model = _unpack(artifact, info, work)
        yaml_file = dataset.write_for_ultralytics(work)
        metrics = yolo.evaluate(model, yaml_file, split, info.image_size, work)
    return Evaluation(
        digest_file(artifact), info, dataset.file.name, split, count_images(images), metrics, dataset.card
    )


def _unpack(artifact: Path, info: ArtifactInfo, work: Path) -> Path:
    """Put the artifact where Ultralytics tells formats by their names."""
    if info.format == "onnx":
        target = work / "model.onnx"
        target.write_bytes(artifact.read_bytes())
        return target
    target = work / "model_openvino_model"
    target.mkdir()
    with artifact.open("rb") as file:
        for name, data in read_bundle(file).items():
            (target / name).write_bytes(data)
    return target
