"""Draws what the agent sees onto frames, for people who try it out. Frames never leave the store by this."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import cv2
import numpy as np

from agent.domain.detection import PERSON, Detection
from agent.errors import PermanentError
from agent.ports import Image

Colour = tuple[int, int, int]

_LEVEL_COLOURS: dict[str, Colour] = {
    "stocked": (80, 200, 80),
    "low": (0, 190, 255),
    "out_of_stock": (60, 60, 235),
    "unknown": (170, 170, 170),
}
_PERSON_COLOUR: Colour = (255, 120, 180)
_OBJECT_COLOURS: tuple[Colour, ...] = (
    *((230, 180, 80), (80, 220, 220), (200, 120, 240), (140, 230, 140)),
    *((120, 160, 255), (240, 220, 120), (180, 200, 90), (220, 140, 140)),
)
_WHITE: Colour = (255, 255, 255)
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_VIDEO_CODECS = {".mp4": "mp4v", ".avi": "MJPG"}


@dataclass(frozen=True, slots=True)
class DrawnZone:
    """``polygon`` in pixels of the frame; ``level`` a ``StockLevel``; ``text`` stands at its top left."""

    polygon: Sequence[tuple[float, float]]
    level: str
    text: str


def annotate(
    image: Image, detections: Sequence[Detection], zones: Sequence[DrawnZone] = (), caption: str = ""
) -> Image:
    """A copy of ``image`` with boxes, zones and a caption drawn on it."""
    picture = image.copy()
    size = max(0.4, image.shape[1] / 2000)
    for zone in zones:
        colour = _LEVEL_COLOURS.get(zone.level, _WHITE)
        corners = np.round(np.asarray(zone.polygon)).astype(np.int32)
        cv2.polylines(picture, [corners.reshape(-1, 1, 2)], isClosed=True, color=colour, thickness=2)
        left, top = corners.min(axis=0).tolist()
        _label(picture, zone.text, (left, top), colour, size)
    for detection in detections:
        person = detection.label == PERSON
        colour = _PERSON_COLOUR if person else _OBJECT_COLOURS[detection.class_id % len(_OBJECT_COLOURS)]
        x1, y1, x2, y2 = (round(value) for value in detection.xyxy)
        cv2.rectangle(picture, (x1, y1), (x2, y2), colour, 2)
        _label(picture, f"{detection.label} {detection.confidence:.2f}", (x1, y2 + 1), colour, size * 0.8)
    if caption:
        _label(picture, caption, (0, image.shape[0]), _WHITE, size)
    return picture


def _label(picture: Image, text: str, at: tuple[int, int], colour: Colour, size: float) -> None:
    """Dark text on ``colour``; the lower left corner is ``at``, moved into the picture."""
    shown = text.encode("ascii", "replace").decode()  # the built-in font knows no more
    (width, height), below = cv2.getTextSize(shown, _FONT, size, 1)
    x = max(0, min(at[0], picture.shape[1] - width))
    y = max(height + below, min(at[1], picture.shape[0]))
    cv2.rectangle(picture, (x, y - height - below), (x + width, y), colour, cv2.FILLED)
    cv2.putText(picture, shown, (x, y - below // 2), _FONT, size, (20, 20, 20), 1, cv2.LINE_AA)


class AnnotatedWriter:
    """Writes frames to ``path``: a video for ``.mp4`` and ``.avi``, else numbered JPEGs in a directory.

    A video has the size of its first frame; later frames are scaled to it. Use as a context manager, or
    call ``close``. Raises ``PermanentError`` when nothing can be written there.
    """

    def __init__(self, path: Path, fps: float = 5.0) -> None:
        self._path = path
        self._fps = fps
        self._codec = _VIDEO_CODECS.get(path.suffix.lower())
        self._video: cv2.VideoWriter | None = None
        self._size = (0, 0)
        self._count = 0
        try:
            (path.parent if self._codec else path).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise PermanentError(f"cannot write annotated frames to {path}: {error.strerror}") from error

    def write(self, image: Image) -> None:
        self._count += 1
        if self._codec is None:
            target = self._path / f"frame-{self._count:06d}.jpg"
            encoded, data = cv2.imencode(".jpg", image)
            try:
                target.write_bytes(data.tobytes() if encoded else b"")
            except OSError as error:
                raise PermanentError(f"cannot write {target}: {error.strerror}") from error
            return
        if self._video is None:
            self._size = image.shape[1] // 2 * 2, image.shape[0] // 2 * 2
            code = cv2.VideoWriter.fourcc(*self._codec)
            self._video = cv2.VideoWriter(str(self._path), cv2.CAP_FFMPEG, code, self._fps, self._size)
            if not self._video.isOpened():
                raise PermanentError(
                    f"cannot write a video to {self._path}; check that this place may be written and has room"
                )
        if (image.shape[1], image.shape[0]) != self._size:
            self._video.write(cv2.resize(image, self._size))
        else:
            self._video.write(image)

    def close(self) -> None:
        if self._video is not None:
            self._video.release()
            self._video = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
