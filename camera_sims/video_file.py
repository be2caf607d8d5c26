"""Cameras recorded into video files (H.264 in Matroska), for readers that take a file for a camera."""

from pathlib import Path

from camera_sims.errors import SimulatorError
from camera_sims.faults import Image
from camera_sims.h264 import H264Program

FINISH_TIMEOUT_S = 60.0


class FileStreamer:
    """One file per camera, complete after ``close``. Raises ``SimulatorError`` when one cannot be written."""

    def __init__(self, files: dict[str, Path], fps: float, log: Path) -> None:
        self._index = {camera: i for i, camera in enumerate(files)}
        self._last: dict[str, Image] = {}
        self._program = H264Program({"files": [str(path) for path in files.values()], "fps": fps}, log)
        self.pid = self._program.pid

    def audience(self, camera: str) -> int:
        return 1

    def send(self, camera: str, image: Image, *, fresh: bool = False, damage: bool = False) -> None:
        self._last[camera] = image
        self._program.picture(self._index[camera], image, 0)

    def repeat(self, camera: str) -> None:
        self._program.picture(self._index[camera], self._last[camera], 0)

    def close(self) -> None:
        status = self._program.finish(FINISH_TIMEOUT_S)
        self._program.output.close()
        if status != 0:
            raise SimulatorError(f"the video files are incomplete: {self._program.last_words()}")
