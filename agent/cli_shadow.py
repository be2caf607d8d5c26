"""The process of a candidate model: ``python -m agent.cli_shadow FRAME_FD MEMORY_MB``.

It takes what nobody else wants of the processor (``SCHED_IDLE``, one thread), no more private memory than it
is told, and is the first that the kernel ends when the node has none left. It ends with its agent.

Standard input: a line that names the model, then a line for each frame, which lies in the memory of
FRAME_FD. Standard output: an answer for each. ``cpu_s`` is the processor time since the answer before.
"""

import contextlib
import ctypes
import json
import os
import resource
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from agent.adapters.model_file import open_detector
from agent.adapters.opencv.threads import use_one_thread
from agent.errors import ModelError
from agent.ports import Detector

_PR_SET_PDEATHSIG = 1
_MOST = 300
"""Detections of one frame that are told."""


def main() -> int:
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    step_aside(int(sys.argv[2]) * 1024**2)
    use_one_thread()
    told = 0.0

    def answer(**fields: Any) -> None:
        nonlocal told
        spent, told = time.process_time() - told, time.process_time()
        answers.write(json.dumps({"cpu_s": spent, **fields}) + "\n")
        answers.flush()

    try:
        detector: Detector | None = None
        for line in sys.stdin:
            question = json.loads(line)
            if detector is None:
                detector = _load(question)
                answer(ready=True)
            else:
                answer(**_look(detector, int(sys.argv[1]), question["width"], question["height"]))
    except (ModelError, MemoryError) as error:
        answer(failed=str(error) or "it needs more memory than it may have")
        return 1
    return 0


def step_aside(memory_bytes: int) -> None:
    """Lowest priority, bounded memory, no core dumps. What the system refuses of the priority is left."""
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, 19)
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Private writable memory; the address space is no measure, since runtimes reserve far more than they use.
    resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, memory_bytes))


def _load(question: dict[str, Any]) -> Detector:
    detector = open_detector(
        Path(question["path"]), question["runtime"], threads=1, version=question["version"]
    )
    height, width = detector.info.image_size
    detector.detect(np.zeros((height, width, 3), np.uint8))
    return detector


def _look(detector: Detector, frame: int, width: int, height: int) -> dict[str, Any]:
    data = os.pread(frame, width * height * 3, 0)
    image = np.frombuffer(data, np.uint8).reshape(height, width, 3)
    wall, spent = time.perf_counter(), time.process_time()
    found = detector.detect(image)
    took_ms = (time.perf_counter() - wall) * 1000
    return {
        "took_ms": took_ms,
        "look_cpu_s": time.process_time() - spent,
        "detections": [[d.label, d.confidence, *d.xyxy] for d in found[:_MOST]],
    }


if __name__ == "__main__":
    sys.exit(main())
