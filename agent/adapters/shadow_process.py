"""The agent's end of the process that runs a candidate model (``agent.cli_shadow`` is the other).

One frame at a time lies in memory that both share (memfd); questions and answers are JSON lines. Reading
never waits longer than asked, and no answer can grow without bound. A process that crashes, hangs or talks
rubbish is ended, and that is all that comes of it.
"""

import contextlib
import json
import os
import selectors
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, Any

from pydantic import TypeAdapter, ValidationError

from agent.domain.detection import Detection
from agent.errors import ModelError, TransientError
from agent.ports import Image, Look
from contract.workload import ModelManifest

START_S = 120.0
ANSWER_S = 60.0
"""The candidate has the lowest priority: on a busy node an answer takes its time."""
_MAX_LINE = 512 * 1024
_READ = 65536
_PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "PYTHONPATH", "TZ")
"""The agent's secrets are not in its environment."""
_SETTINGS = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}

_FOUND: TypeAdapter[list[tuple[str, float, float, float, float, float]]] = TypeAdapter(
    list[tuple[str, float, float, float, float, float]]
)


class ShadowProcess:
    """Implements ``agent.ports.Candidate``. Belongs to one thread: the kernel kills the process when that
    thread ends. Raises ``ModelError`` when the model cannot be loaded, ``TransientError``."""

    def __init__(self, model: Path, manifest: ModelManifest, runtime: str, *, memory_mb: int) -> None:
        self._rest = b""
        self._spent_s = 0.0
        self._frame = os.memfd_create("shadow-frame", os.MFD_CLOEXEC)
        environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "agent.cli_shadow", str(self._frame), str(memory_mb)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                pass_fds=(self._frame,),
                env=environment | _SETTINGS,
                start_new_session=True,
            )
        except OSError as error:
            os.close(self._frame)
            raise TransientError(f"cannot start a process for the candidate: {error}", 10.0) from error
        pipes = self._process.stdin, self._process.stdout
        if pipes[0] is None or pipes[1] is None:
            raise TransientError("the candidate's process was started without its pipes", 10.0)
        self._questions: IO[bytes] = pipes[0]
        self._answers: IO[bytes] = pipes[1]
        os.set_blocking(self._answers.fileno(), False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._answers, selectors.EVENT_READ)
        try:
            self._ask({"path": str(model), "runtime": runtime, "version": manifest.version}, START_S)
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        return self._process.pid

    def look(self, image: Image) -> Look:
        height, width = image.shape[:2]
        os.pwrite(self._frame, image.tobytes(), 0)
        answer = self._ask({"width": width, "height": height}, ANSWER_S)
        try:
            found = _FOUND.validate_python(answer["detections"])
            took_ms, cpu_s = float(answer["took_ms"]), float(answer["look_cpu_s"])
        except (ValidationError, ValueError, TypeError, KeyError) as error:
            raise TransientError("the candidate's process talks rubbish", 10.0) from error
        return Look([Detection((a, b, c, d), p, 0, name) for name, p, a, b, c, d in found], took_ms, cpu_s)

    def cpu_s(self) -> float:
        spent, self._spent_s = self._spent_s, 0.0
        return spent

    def close(self) -> None:
        with contextlib.suppress(OSError):  # it may have gone first
            self._questions.close()
        self._process.kill()
        self._process.wait()
        self._selector.close()
        self._answers.close()
        if self._frame >= 0:
            os.close(self._frame)
            self._frame = -1

    def _ask(self, question: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        try:
            self._questions.write(json.dumps(question).encode() + b"\n")
            self._questions.flush()
        except OSError as error:
            raise self._gone() from error
        answer = self._hear(timeout_s)
        if "failed" in answer:
            raise ModelError(f"the candidate cannot be used: {str(answer['failed'])[:500]}")
        try:
            self._spent_s += max(0.0, float(answer["cpu_s"]))
        except (KeyError, TypeError, ValueError) as error:
            raise TransientError("the candidate's process talks rubbish", 10.0) from error
        return answer

    def _hear(self, timeout_s: float) -> dict[str, Any]:
        end = time.monotonic() + timeout_s
        while b"\n" not in self._rest:
            left = end - time.monotonic()
            if left <= 0:
                raise TransientError(f"the candidate did not answer within {timeout_s:g} s", 10.0)
            if not self._selector.select(left):
                continue
            data = os.read(self._answers.fileno(), _READ)
            if not data:
                raise self._gone()
            self._rest += data
            if len(self._rest) > _MAX_LINE:
                raise TransientError("the candidate's process talks without end", 10.0)
        line, _, self._rest = self._rest.partition(b"\n")
        try:
            answer = json.loads(line)
        except (ValueError, RecursionError):
            answer = None
        if not isinstance(answer, dict):
            raise TransientError("the candidate's process talks rubbish", 10.0)
        return answer

    def _gone(self) -> TransientError:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(1.0)
        status = self._process.poll()
        how = f"was ended by signal {-status}" if status is not None and status < 0 else f"ended ({status})"
        return TransientError(f"the candidate's process {how}; it is started again later", 10.0)
