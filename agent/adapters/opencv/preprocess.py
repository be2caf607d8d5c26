"""Scales frames for a network. The only part of detection that needs OpenCV."""

import cv2
import numpy as np

from agent.ports import Image
from agent.yolo import PAD_GREY, Floats, Placement, place


class CvPreprocessor:
    """Implements ``agent.yolo.Preprocessor``. Keeps one canvas, so its grey bars are painted once and a
    frame is scaled straight into it. Belongs to one detector and one thread."""

    def __init__(self) -> None:
        self._canvas: Image = np.empty((0, 0, 3), np.uint8)
        self._placement: Placement | None = None

    def letterbox(self, image: Image, size: tuple[int, int]) -> tuple[Image, Placement]:
        height, width = image.shape[:2]
        placement = place((height, width), size)
        if placement != self._placement or self._canvas.shape[:2] != size:
            self._canvas = np.full((*size, 3), PAD_GREY, np.uint8)
            self._placement = placement
        rows = slice(placement.top, placement.top + placement.height)
        columns = slice(placement.left, placement.left + placement.width)
        inner = self._canvas[rows, columns]
        if inner.shape == image.shape:
            np.copyto(inner, image)
        else:
            cv2.resize(image, (placement.width, placement.height), inner, interpolation=cv2.INTER_LINEAR)
        return self._canvas, placement

    def blob(self, canvas: Image) -> Floats:
        blob: Floats = np.asarray(cv2.dnn.blobFromImage(canvas, 1 / 255, swapRB=True), np.float32)
        return blob
