"""One camera as the pipeline sees it: the newest frame, and how reading goes. Nothing here blocks.

A thread looks after the camera's worker process: it bounds opening and reading, kills a worker that
hangs, starts another one when it crashed, and tries again after a while when the camera failed.
"""

import os
import random
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from agent.adapters.opencv import shared_frames
from agent.adapters.opencv.backoff import Backoff
from agent.adapters.opencv.complaints import explain, is_decode_error
from agent.adapters.opencv.worker import Request
from agent.adapters.opencv.worker_process import WorkerProcess
from agent.camera_url import CameraAddress, parse, redact
from agent.errors import CameraError, TransientError
from agent.ports import Frame, SourceHealth

DECODE_ERROR_WINDOW_S = 2.0
FPS_WINDOW_S = 3.0
_TICK_S = 0.25
_GRACE_S = 0.5
"""The worker's own time limits come first; the kill is for one that does not keep them."""
_START_S = 10.0
"""Time for a new worker to load its libraries on a busy machine."""
_COMPLAINTS_KEPT = 40
_FLOOD = 100
"""Complaints at a time, after which the worker is not heard for a moment."""
_STEADY_S = 3.0
"""A connection that lasted this long ends a failing streak."""


@dataclass(frozen=True, slots=True)
class ReadingLimits:
    """Seconds. A camera that sends a picture every few seconds is slow, not gone: its frames say so, and
    connecting again would only cost the little that it sends."""

    open_s: float = 5.0
    read_s: float = 6.0


@dataclass(frozen=True, slots=True)
class _Failure:
    text: str
    worker_usable: bool = True
    final: bool = False


class CameraSource:
    """Reads ``url`` (see ``agent.camera_url``) until closed; implements ``FrameSource``.

    ``fps`` is how many frames a second are wanted. Files play at their own speed, over and over, or
    once with ``loop=False``; then ``ended`` becomes true. Raises ``CameraError`` for a URL that can
    never work; everything else that goes wrong is in ``health()`` and is tried again.
    """

    def __init__(
        self,
        url: str,
        fps: float = 5.0,
        *,
        environment: Mapping[str, str] = os.environ,
        loop: bool = True,
        limits: ReadingLimits = ReadingLimits(),
    ) -> None:
        self._address: CameraAddress = parse(url, environment)
        self._fps = fps
        self._loop = loop
        self._limits = limits
        try:
            self._fd = shared_frames.create()
        except OSError as error:
            raise CameraError(
                f"no memory or descriptor is left for camera {self._address.shown} ({error.strerror}); "
                "raise the limit of open files or configure fewer cameras"
            ) from error
        self._frames = shared_frames.FrameReader(self._fd)
        self._closing = threading.Event()
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._connected = False
        self._error = "not opened yet"
        self._worker_pid: int | None = None
        self._decode_errors: deque[float] = deque(maxlen=1000)
        self._read_counts: deque[tuple[float, int]] = deque(maxlen=32)
        self._opening_took_s: float | None = None
        self._thread = threading.Thread(target=self._run, name=f"camera {self._address.shown}", daemon=True)
        self._thread.start()

    @property
    def ended(self) -> bool:
        """True when a file that plays once has been read to its end."""
        return self._ended.is_set()

    @property
    def worker_pid(self) -> int | None:
        """The worker process, for resource accounting; None while there is none."""
        with self._lock:
            return self._worker_pid

    def latest(self, after: int) -> Frame | None:
        return self._frames.latest(after)

    def health(self) -> SourceHealth:
        progress = self._frames.progress()
        now = time.monotonic()
        with self._lock:
            recent = [(at, n) for at, n in self._read_counts if now - at <= FPS_WINDOW_S]
            fps = 0.0
            if recent and now - recent[0][0] > _TICK_S:
                fps = (progress.read - recent[0][1]) / (now - recent[0][0])
            return SourceHealth(
                connected=self._connected,
                fps_read=fps,
                last_frame_at=progress.read_at or None,
                decode_errors=sum(now - at <= DECODE_ERROR_WINDOW_S for at in self._decode_errors),
                error="" if self._connected else self._error,
            )

    def close(self) -> None:
        """Stop reading and end the worker; returns within about a second."""
        self._closing.set()
        self._thread.join()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _run(self) -> None:
        backoff = Backoff(random.random)
        worker: WorkerProcess | None = None
        try:
            while not self._closing.is_set():
                started = time.monotonic()
                try:
                    worker = worker or self._start_worker()
                    failure = self._follow(worker, backoff.early(started))
                except TransientError as error:
                    failure = _Failure(str(error), worker_usable=False)
                if self._connected:
                    if time.monotonic() - started > _STEADY_S:
                        backoff.succeeded()
                    started = time.monotonic()
                self._disconnected(failure.text)
                if worker and not failure.worker_usable:
                    self._end_worker(worker)
                    worker = None
                if failure.final:
                    return
                self._closing.wait(backoff.failed(started, time.monotonic()))
        finally:  # also after a mistake in here: hold no worker, and do not claim to be connected
            if worker:
                self._end_worker(worker, patience_s=0.8)
            with self._lock:
                self._connected = False

    def _start_worker(self) -> WorkerProcess:
        worker = WorkerProcess(self._fd)
        with self._lock:
            self._worker_pid = worker.pid
        limit = time.monotonic() + _START_S
        complaints: deque[str] = deque(maxlen=_COMPLAINTS_KEPT)
        while time.monotonic() < limit and not self._closing.is_set():
            heard = worker.hear(_TICK_S)
            complaints.extend(heard.complaints)
            if heard.events:
                return worker
            if heard.ended:
                break
        status = self._end_worker(worker)
        last = redact(complaints[-1]) if complaints else f"exit status {status}"
        raise TransientError(f"the camera worker did not start: {last}", retry_after=2.0)

    def _end_worker(self, worker: WorkerProcess, patience_s: float = 0.0) -> int:
        status = worker.end(patience_s)
        with self._lock:
            self._worker_pid = None
        return status

    def _open_limit_s(self, early: bool) -> float:
        """A camera that opened quickly before and has just failed is asked again soon rather than
        waited for, so that the end of its fault does not fall into a long wait."""
        if early and self._opening_took_s is not None:
            return min(self._limits.open_s, max(2.0, 1.0 + 2 * self._opening_took_s))
        return self._limits.open_s

    def _follow(self, worker: WorkerProcess, early: bool) -> _Failure:
        """One connection, from opening to the failure that ends it."""
        open_s = self._open_limit_s(early)
        worker.watch(
            Request(
                self._address.kind, self._address.target, self._fps, self._loop, open_s, self._limits.read_s
            )
        )
        complaints: deque[str] = deque(maxlen=_COMPLAINTS_KEPT)
        started = last_read = time.monotonic()
        read = self._frames.progress().read
        opened = False
        while not self._closing.is_set():
            heard = worker.hear(_TICK_S)
            now = time.monotonic()
            complaints.extend(heard.complaints)
            if len(heard.complaints) > _FLOOD:  # the worker then waits for us, and no other camera does
                self._closing.wait(_TICK_S)
            count = self._frames.progress().read
            if count > read:
                if not self._connected:
                    self._opening_took_s = now - started
                read, last_read = count, now
                self._reading(now, count, heard.complaints)
            elif self._connected:
                self._reading(now, count, heard.complaints)
            for event in heard.events:
                if event["event"] == "opened":
                    opened, last_read = True, now
                elif event["event"] == "failed":
                    return self._failure(event, list(complaints), opened)
            if heard.ended:
                return _Failure("the camera worker crashed; it is started again", worker_usable=False)
            if not opened and now - started > open_s + _GRACE_S:
                return _Failure(f"did not open within {open_s:g} s", worker_usable=False)
            if opened and now - last_read > self._limits.read_s + _GRACE_S:
                return _Failure(f"no frame for {now - last_read:.1f} s", worker_usable=False)
        return _Failure("closed", final=True)

    def _failure(self, event: dict[str, object], complaints: list[str], opened: bool) -> _Failure:
        match event.get("reason"):
            case "ended":
                if not self._loop:
                    self._ended.set()
                return _Failure("the file has ended", final=not self._loop)
            case "missing":
                return _Failure(f"{self._address.shown}: no such file, or it may not be read")
            case "too_large":
                limit = f"{shared_frames.MAX_WIDTH}x{shared_frames.MAX_HEIGHT}"
                return _Failure(
                    f"frames of {event.get('width')}x{event.get('height')} are larger than {limit}; "
                    "choose the camera's smaller stream"
                )
            case "silent":
                return _Failure(f"no frame for {event.get('silent_s')} s; connecting again")
            case "lost":
                return _Failure(explain(complaints, "the camera ended the stream"))
        if self._address.kind == "device":
            return _Failure(f"webcam {self._address.target} cannot be opened: not there, or in use")
        if self._address.kind == "file":
            return _Failure(explain(complaints, f"{self._address.shown} is not a video that can be decoded"))
        return _Failure(
            explain(complaints, "the connection ended before a picture came; check the path of the URL")
        )

    def _reading(self, now: float, count: int, complaints: list[str]) -> None:
        with self._lock:
            if self._connected:  # what is missing before the first whole picture is no error
                self._decode_errors.extend(now for line in complaints if is_decode_error(line))
            self._connected = True
            if not self._read_counts or now - self._read_counts[-1][0] >= _TICK_S / 2:
                self._read_counts.append((now, count))

    def _disconnected(self, text: str) -> None:
        with self._lock:
            self._connected = False
            self._error = text
            self._read_counts.clear()
