"""Reads one camera in a process of its own: ``python -m agent.adapters.opencv.worker FD``.

Decoders hang on silent sockets, crash on broken streams and hold locks while they do; none of that may
touch another camera. The agent gives this process a descriptor of shared memory for frames, commands
as JSON lines on standard input (so that a password is never in the process list) and reads JSON lines
from standard output. FFmpeg's complaints go to standard error, which the agent reads too.

The process ends when its standard input does, that is also when the agent is killed.
"""

import ctypes
import json
import os
import queue
import signal
import sys
import threading
import time
from dataclasses import dataclass
from typing import IO, Any

import cv2
import numpy as np

from agent.adapters.opencv.shared_frames import FrameWriter, fits
from agent.ports import Image

_PR_SET_PDEATHSIG = 1
_TEARDOWN_S = 0.7
"""Time to say goodbye to the camera after the agent closed the pipe; some cameras count sessions."""
_CAUGHT_UP_S = 0.001
"""A read that waited longer than this for the network found no backlog of older frames."""
_AT_THE_LIMIT_S = 0.1
# ``fpsprobesize;0``: not waiting for twenty frames to learn the frame rate opens a stream seconds sooner.
_OPTIONS = {
    "rtsp": "rtsp_transport;tcp|fflags;nobuffer|fpsprobesize;0"
    "|protocol_whitelist;rtsp,rtsps,rtp,tcp,tls,crypto",
    "http": "fflags;nobuffer|fpsprobesize;0|protocol_whitelist;http,https,httpproxy,tcp,tls,crypto",
    "file": "protocol_whitelist;file",
}


@dataclass(frozen=True, slots=True)
class Request:
    kind: str
    target: str
    fps: float
    """How many frames a second are wanted; the others are decoded but not converted."""
    loop: bool
    open_timeout_s: float
    read_timeout_s: float


class Reports:
    """JSON lines to the agent."""

    def __init__(self, out: IO[str]) -> None:
        self._out = out

    def send(self, event: str, **fields: Any) -> None:
        self._out.write(json.dumps({"event": event, **fields}) + "\n")
        self._out.flush()


class Commands:
    """Requests from standard input. When it ends, so does this process, soon and whatever it is doing."""

    def __init__(self, source: IO[bytes]) -> None:
        self.closing = threading.Event()
        self._queue: queue.Queue[Request | None] = queue.Queue()
        self._source = source
        threading.Thread(target=self._listen, name="commands", daemon=True).start()

    def next(self) -> Request | None:
        """Wait for the next request; None when there will be no more."""
        return self._queue.get()

    def _listen(self) -> None:
        for line in self._source:
            self._queue.put(Request(**json.loads(line)))
        self.closing.set()
        self._queue.put(None)
        time.sleep(_TEARDOWN_S)
        os._exit(0)


class Schedule:
    """Which frames to publish: ``fps`` a second of those that come, the newest ones."""

    def __init__(self, fps: float) -> None:
        self._period = 1.0 / fps
        self._due = 0.0

    def wants(self, now: float, caught_up: bool) -> bool:
        """Whether to publish the frame read at ``now``. While older frames are still queued
        (not ``caught_up``), only enough are published to keep signs of life."""
        late = now - self._due
        if late < -0.25 * self._period or (not caught_up and late < self._period):
            return False
        self._due = self._due + self._period if late < self._period else now + self._period
        return True


def open_capture(request: Request) -> cv2.VideoCapture:
    """An opened capture, or one that is not ``isOpened()``."""
    os.environ["OPENCV_FFMPEG_CAPTURE_OPTIONS"] = _OPTIONS.get(request.kind, "")
    if request.kind == "device":
        return cv2.VideoCapture(int(request.target), cv2.CAP_V4L2)
    parameters = [
        *(cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, int(request.open_timeout_s * 1000)),
        *(cv2.CAP_PROP_READ_TIMEOUT_MSEC, int(request.read_timeout_s * 1000)),
        *(cv2.CAP_PROP_N_THREADS, 1),
    ]
    return cv2.VideoCapture(request.target, cv2.CAP_FFMPEG, parameters)


def watch(request: Request, frames: FrameWriter, reports: Reports, closing: threading.Event) -> None:
    """Read until the stream ends, fails or the agent closes. Every way out but the last is reported."""
    if request.kind == "file" and not os.access(request.target, os.R_OK):
        return reports.send("failed", reason="missing")
    capture = open_capture(request)
    try:
        if not capture.isOpened():
            return reports.send("failed", reason="open")
        stream_fps = capture.get(cv2.CAP_PROP_FPS)
        width, height = (
            int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)),
            int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT)),
        )
        if width * height and not fits(width, height):
            return reports.send("failed", reason="too_large", width=width, height=height)
        reports.send("opened", width=width, height=height, fps=stream_fps if 0 < stream_fps < 1000 else 0.0)
        _read_frames(request, capture, (width, height), frames, reports, closing)
    finally:
        capture.release()


def _read_frames(
    request: Request,
    capture: cv2.VideoCapture,
    size: tuple[int, int],
    frames: FrameWriter,
    reports: Reports,
    closing: threading.Event,
) -> None:
    schedule = Schedule(request.fps)
    jpeg = request.kind in {"http", "rtsp"} and _passes_jpegs_through(capture)
    pace = _FilePace(capture.get(cv2.CAP_PROP_FPS)) if request.kind == "file" else None
    previous: float | None = None
    while not closing.is_set():
        started, worked = time.monotonic(), time.thread_time()
        if not capture.grab():
            if pace and request.loop and pace.frames and capture.set(cv2.CAP_PROP_POS_FRAMES, 0):
                pace.frames = 0
                pace.origin = time.monotonic()
                continue
            silent_s = time.monotonic() - started
            reason = "ended" if pace and pace.frames else "silent" if silent_s > 1.0 else "lost"
            return reports.send("failed", reason=reason, silent_s=round(silent_s, 1))
        silent_s = time.monotonic() - started
        if not pace and silent_s > request.read_timeout_s - _AT_THE_LIMIT_S:
            # The time limit ended the stream, and the decoder let go of the picture that it still held.
            return reports.send("failed", reason="silent", silent_s=round(silent_s, 1))
        waited = silent_s - (time.thread_time() - worked)
        if pace:
            pace.wait(closing)
        now = time.time()
        # FFmpeg knows that a live picture is complete when the next one begins: this one arrived about when
        # the last one was given out. From a camera that stutters it is that much older.
        arrived, previous = (now if pace or previous is None else previous), now
        frames.count_read(arrived)
        if not schedule.wants(now, caught_up=pace is not None or waited > _CAUGHT_UP_S):
            continue
        image = _retrieve(capture, jpeg)
        if image is None:
            continue
        if image.ndim != 3 or image.shape[2] != 3:
            return reports.send("failed", reason="open")
        height, width = image.shape[:2]
        if not fits(width, height):
            return reports.send("failed", reason="too_large", width=width, height=height)
        if (width, height) != size:
            size = (width, height)
            reports.send("size", width=width, height=height)
        frames.publish(image, arrived)
    return None


def _passes_jpegs_through(capture: cv2.VideoCapture) -> bool:
    """Whether the stream is Motion JPEG, whose pictures are then decoded here: only those that are wanted,
    and at their own size. (OpenCV scales every picture of a stream to the size of its first one. With
    H.264 and H.265 that keeps the view, and with it the zones, where they were.)"""
    codec = int(capture.get(cv2.CAP_PROP_FOURCC)).to_bytes(4, "little", signed=True)
    return codec == b"MJPG" and capture.set(cv2.CAP_PROP_FORMAT, -1)


def _retrieve(capture: cv2.VideoCapture, jpeg: bool) -> Image | None:
    ok, data = capture.retrieve()
    if not ok or data is None:
        return None
    if not jpeg:
        return np.asarray(data, np.uint8)
    try:
        picture = cv2.imdecode(data, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:  # of more pixels than are allowed
        picture = None
    if picture is None:
        sys.stderr.write("[mjpeg @ 0x0] a picture cannot be decoded\n")
        return None
    return np.asarray(picture, np.uint8)


class _FilePace:
    """Plays a file at its own speed; when decoding is slower than that, frames are not slept for."""

    def __init__(self, fps: float) -> None:
        self._period = 1.0 / fps if 0 < fps < 1000 else 0.04
        self.frames = 0
        self.origin = time.monotonic()

    def wait(self, closing: threading.Event) -> None:
        ahead = self.origin + self.frames * self._period - time.monotonic()
        self.frames += 1
        if ahead > 0:
            closing.wait(ahead)


def main() -> int:
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    reports = Reports(os.fdopen(os.dup(1), "w"))
    os.dup2(2, 1)
    cv2.setNumThreads(1)
    frames = FrameWriter(int(sys.argv[1]))
    commands = Commands(sys.stdin.buffer)
    reports.send("ready")
    while (request := commands.next()) is not None:
        watch(request, frames, reports, commands.closing)
    return 0


if __name__ == "__main__":
    sys.exit(main())
