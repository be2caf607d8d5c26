"""Runs the H.264 program and feeds it pictures; the RTSP and the file streamers share it.

See ``camera_sims.h264_server`` for why it is a program of its own.
"""

import json
import subprocess
import threading
from pathlib import Path
from typing import IO, Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from camera_sims.errors import SimulatorError
from camera_sims.faults import Image
from camera_sims.h264_server import HEADER

SYSTEM_PYTHON = "/usr/bin/python3"
"""Distributions build GStreamer's Python bindings for this interpreter only."""
CRF = 23
"""x264's default constant quality: with ``ultrafast`` about 3 Mbit/s for a 720p shelf at 10 fps."""


class H264Program:
    """The running program. Settings, a password among them, go through its input, never its arguments.

    ``log`` receives what it writes to standard error. Raises ``SimulatorError`` if it cannot start, and
    from ``write`` when it has ended.
    """

    def __init__(self, settings: dict[str, Any], log: Path) -> None:
        self._log = log
        self._lock = threading.Lock()
        program = Path(__file__).with_name("h264_server.py")
        try:
            with log.open("ab") as errors:
                self._process = subprocess.Popen(
                    [SYSTEM_PYTHON, "-I", str(program)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    bufsize=0,
                    start_new_session=True,  # Ctrl-C reaches only us; it ends when its input does
                )
        except OSError as error:
            raise SimulatorError(f"cannot start {SYSTEM_PYTHON}: {error}") from error
        self._input = cast(IO[bytes], self._process.stdin)
        self.output = cast(IO[bytes], self._process.stdout)
        self._write(json.dumps({**settings, "crf": CRF}).encode() + b"\n")

    @property
    def pid(self) -> int:
        return self._process.pid

    def picture(self, index: int, image: Image, flags: int) -> None:
        """Hand over one picture (BGR, height x width x 3, both even)."""
        height, width = image.shape[:2]
        picture: NDArray[np.uint8] = np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2YUV_I420), np.uint8)
        header = HEADER.pack(index, width, height, flags, picture.nbytes)
        self._write(header, picture.data.cast("B"))

    def command(self, index: int, flags: int) -> None:
        self._write(HEADER.pack(index, 0, 0, flags, 0))

    def finish(self, timeout_s: float) -> int:
        """Close the program's input and wait; kills it after ``timeout_s``. Returns its exit status."""
        with self._lock:
            self._input.close()
        try:
            return self._process.wait(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def last_words(self) -> str:
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"it left no message in {self._log}"

    def _write(self, *parts: bytes | memoryview) -> None:
        with self._lock:
            try:
                for part in parts:
                    rest = memoryview(part)
                    while rest:
                        rest = rest[self._input.write(rest) :]
            except (OSError, ValueError) as error:
                raise SimulatorError(f"the H.264 program has ended: {self.last_words()}") from error
