"""Drawn frames: the original is untouched, and what is written can be read again."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from agent.adapters.opencv.annotate import AnnotatedWriter, DrawnZone, annotate
from agent.domain.detection import Detection
from agent.errors import PermanentError

FRAME = np.full((360, 640, 3), 120, np.uint8)
DETECTIONS = [
    Detection((10, 10, 60, 90), 0.9, 0, "cola-can"),
    Detection((600, 300, 700, 400), 0.5, 4, "person"),
]
ZONES = [DrawnZone([(5, 5), (300, 5), (300, 100), (5, 100)], "low", "a1-cola 1/6")]


def test_drawing_leaves_the_frame_alone() -> None:
    before = FRAME.copy()
    drawn = annotate(FRAME, DETECTIONS, ZONES, "aisle-1 online")
    assert (before == FRAME).all()
    assert drawn.shape == FRAME.shape
    assert (drawn != FRAME).any()


@pytest.mark.parametrize("name", ["out.mp4", "out.avi", "deep/er/out.MP4"])
def test_a_video_holds_every_frame_at_one_size(tmp_path: Path, name: str) -> None:
    with AnnotatedWriter(tmp_path / name, fps=5) as writer:
        for _ in range(4):
            writer.write(FRAME)
        writer.write(np.zeros((480, 640, 3), np.uint8))
    video = cv2.VideoCapture(str(tmp_path / name))
    shapes = []
    while (read := video.read())[0]:
        shapes.append(read[1].shape)
    video.release()
    assert shapes == [(360, 640, 3)] * 5


def test_a_directory_gets_numbered_pictures(tmp_path: Path) -> None:
    with AnnotatedWriter(tmp_path / "frames") as writer:
        writer.write(FRAME)
        writer.write(FRAME)
    names = sorted(path.name for path in (tmp_path / "frames").iterdir())
    assert names == ["frame-000001.jpg", "frame-000002.jpg"]
    assert cv2.imread(str(tmp_path / "frames" / names[0])) is not None


def test_a_place_that_cannot_be_written_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PermanentError, match="cannot write annotated frames"):
        AnnotatedWriter(tmp_path / "file" / "frames")
