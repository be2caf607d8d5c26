"""Detection through Ultralytics' own ``predict``, to compare with, and for its newest model families.

Needs the ``models`` extra (PyTorch). Loads exported models only: a ``.pt`` file is a pickle, and
unpickling runs whatever code is in it.
"""

import importlib
import os
from pathlib import Path
from typing import Any

import numpy as np

from agent.domain.detection import Detection
from agent.errors import ModelError
from agent.ports import Image, ModelInfo
from agent.yolo import DEFAULT_LIMITS, Limits, Metadata


def _library() -> Any:
    # Read once, at import: no look at the internet, no package installed behind our back.
    os.environ.setdefault("YOLO_OFFLINE", "true")
    os.environ.setdefault("YOLO_AUTOINSTALL", "false")
    try:
        return importlib.import_module("ultralytics")
    except ImportError as error:
        raise ModelError(
            "Ultralytics is not installed; install storefleet[models], or use runtime openvino or onnxruntime"
        ) from error


class UltralyticsDetector:
    """Implements ``Detector`` for one thread. ``path`` is an ``.onnx`` file or a directory whose name ends
    in ``_openvino_model``."""

    def __init__(
        self,
        path: Path,
        info: ModelInfo,
        metadata: Metadata,
        *,
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        self._info = info
        self._metadata = metadata
        self._limits = limits
        try:
            self._model = _library().YOLO(str(path), task="detect")
        except ModelError:
            raise
        except Exception as error:  # its loaders raise whatever their libraries do
            raise ModelError(f"Ultralytics cannot load the model: {str(error)[:200]}") from error
        # It reads the file at its first prediction only; a broken one should be refused now.
        self.detect(np.zeros((*metadata.image_size, 3), np.uint8))

    @property
    def info(self) -> ModelInfo:
        return self._info

    def detect(self, image: Image) -> list[Detection]:
        try:
            boxes = self._model.predict(
                image,
                imgsz=list(self._metadata.image_size),
                conf=self._limits.confidence,
                iou=self._limits.iou,
                agnostic_nms=self._limits.class_agnostic,
                max_det=self._limits.max_boxes,
                device="cpu",
                verbose=False,
            )[0].boxes
        except Exception as error:  # its backends raise whatever their libraries do
            raise ModelError(f"inference with Ultralytics failed: {str(error)[:200]}") from error
        rows = zip(boxes.xyxy.tolist(), boxes.conf.tolist(), boxes.cls.tolist(), strict=True)
        return [
            Detection(
                (box[0], box[1], box[2], box[3]), score, int(class_id), self._metadata.names[int(class_id)]
            )
            for box, score, class_id in rows
        ]
