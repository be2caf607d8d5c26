"""``storefleet models train``: from a dataset directory to a checkpoint with its figures.

The run is decided by the data, the settings and the seed. Unless told otherwise the initial weights are
random, so no model of another party, and no licence but our own and Ultralytics', is inside.
"""

import json
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from controller.models import yolo
from controller.models.dataset import count_images, read_dataset
from controller.models.yolo import Metrics, Report, TrainSettings


@dataclass(frozen=True, slots=True)
class TrainResult:
    checkpoint: Path
    """``OUT/best.pt``; a pickle, so hand it only to ``storefleet models export``."""
    metrics_file: Path
    metrics: Metrics
    seconds: float


def train(data: Path, out: Path, settings: TrainSettings, report: Report) -> TrainResult:
    """Train on ``data`` and write ``best.pt`` and ``training.json`` into ``out``.

    Raises ``DatasetError``, ``CheckpointError``, ``MissingExtra``.
    """
    dataset = read_dataset(data)
    validation = dataset.images("val")
    dataset.images("train")
    out.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    best, metrics = yolo.train(dataset.write_for_ultralytics(out), out, settings, report)
    seconds = time.monotonic() - began
    checkpoint = out / "best.pt"
    shutil.copyfile(best, checkpoint)
    summary = {
        "architecture": yolo.ARCHITECTURE.removesuffix(".yaml"),
        "weights": settings.weights.name if settings.weights else None,
        "names": list(dataset.names),
        "settings": {k: v for k, v in asdict(settings).items() if k not in {"resume", "workers", "weights"}},
        "seconds": round(seconds, 1),
        "validation": {"images": count_images(validation)} | asdict(metrics),
        "dataset": dataset.card,
    }
    metrics_file = out / "training.json"
    metrics_file.write_text(json.dumps(summary, indent=2) + "\n")
    return TrainResult(checkpoint, metrics_file, metrics, seconds)
