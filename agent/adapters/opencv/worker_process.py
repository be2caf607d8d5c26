"""The agent's end of one camera worker: start it, give it a camera, hear it, end it.

Reading never blocks longer than asked: both pipes are non-blocking, and no line can grow without bound.
"""

import contextlib
import json
import os
import selectors
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from typing import IO, Any

from agent.adapters.opencv.worker import Request
from agent.errors import TransientError

_MAX_LINE = 4096
_READ = 65536
_PASSED_ON = (
    "PATH",
    "HOME",
    "LANG",
    "LC_ALL",
    "LD_LIBRARY_PATH",
    "PYTHONPATH",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "TZ",
)
"""The decoder parses what strangers send; the agent's secrets are not in its environment."""
_SETTINGS = {
    "OPENCV_LOG_LEVEL": "WARNING",
    "OPENCV_FFMPEG_LOGLEVEL": "24",  # AV_LOG_WARNING: HTTP answers such as 401 are warnings
    "OPENCV_FFMPEG_SKIP_LOG_CALLBACK": "1",  # FFmpeg's own log goes to standard error
    "OPENCV_IO_MAX_IMAGE_PIXELS": str(2**25),  # four times 4K: a JPEG's header can claim any size
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "PYTHONUNBUFFERED": "1",
}


@dataclass(slots=True)
class Heard:
    events: list[dict[str, Any]] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    """Lines from standard error; may hold credentials."""
    ended: bool = False
    """The process is gone."""


class WorkerProcess:
    """One running worker. Belongs to one thread: the kernel kills the worker when that thread ends."""

    def __init__(self, frames_fd: int) -> None:
        """Raises ``TransientError`` when no process can be started."""
        environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "agent.adapters.opencv.worker", str(frames_fd)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=(frames_fd,),
                env=environment | _SETTINGS,
                start_new_session=True,
            )
        except OSError as error:
            raise TransientError(f"cannot start a camera worker: {error}", retry_after=2.0) from error
        pipes = self._process.stdin, self._process.stdout, self._process.stderr
        if pipes[0] is None or pipes[1] is None or pipes[2] is None:
            raise TransientError("a camera worker was started without its pipes", retry_after=2.0)
        self._commands: IO[bytes] = pipes[0]
        self._reports: IO[bytes] = pipes[1]
        self._complaints: IO[bytes] = pipes[2]
        self._selector = selectors.DefaultSelector()
        self._rest: dict[int, bytes] = {}
        for pipe in (self._reports, self._complaints):
            os.set_blocking(pipe.fileno(), False)
            self._selector.register(pipe, selectors.EVENT_READ)
            self._rest[pipe.fileno()] = b""

    @property
    def pid(self) -> int:
        return self._process.pid

    def watch(self, request: Request) -> None:
        """Start on a camera. Raises ``TransientError`` when the worker is gone."""
        try:
            self._commands.write(json.dumps(asdict(request)).encode() + b"\n")
            self._commands.flush()
        except OSError as error:
            raise TransientError("the camera worker is gone", retry_after=0.1) from error

    def hear(self, timeout: float) -> Heard:
        """What the worker said, waiting up to ``timeout`` seconds for it to say something."""
        heard = Heard()
        if not self._selector.get_map():  # both pipes are closed: it is about to be gone
            self._wait(timeout)
        elif self._selector.select(timeout):
            # Reports first: a failure's reasons are written before it is reported, so they are there then.
            heard.events = self._events()
            heard.complaints = [line.decode(errors="replace") for line in self._lines(self._complaints)]
        heard.ended = self._process.poll() is not None
        return heard

    def _events(self) -> list[dict[str, Any]]:
        """What it reported. A worker that talks rubbish is not to be trusted with anything: it is killed."""
        events = []
        for line in self._lines(self._reports):
            try:
                event = json.loads(line)
            except (ValueError, RecursionError):
                event = None
            if not isinstance(event, dict) or not isinstance(event.get("event"), str):
                self._process.kill()
                self._process.wait()
                return []
            events.append(event)
        return events

    def end(self, patience_s: float = 0.0) -> int:
        """Close its input, wait up to ``patience_s`` for it to go, then kill it; returns its exit status."""
        with contextlib.suppress(BrokenPipeError):  # it may have gone first
            self._commands.close()
        self._wait(patience_s)
        self._process.kill()
        status = self._process.wait()
        self._selector.close()
        self._reports.close()
        self._complaints.close()
        return status

    def _wait(self, timeout: float) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout)

    def _lines(self, pipe: IO[bytes]) -> list[bytes]:
        fd = pipe.fileno()
        if fd not in self._rest:
            return []
        try:
            data = os.read(fd, _READ)
        except BlockingIOError:
            return []
        if not data:
            self._selector.unregister(pipe)
            return [line for line in (self._rest.pop(fd),) if line]
        *lines, rest = (self._rest[fd] + data).split(b"\n")
        self._rest[fd] = rest[:_MAX_LINE]
        return [line[:_MAX_LINE] for line in lines]
