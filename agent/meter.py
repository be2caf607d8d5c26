"""Counts what one camera's inference does, for telemetry."""

import threading
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from agent.domain.detection import Detection
from contract.messages import CONFIDENCE_BINS

TIMES_KEPT = 100
"""Inference times that percentiles are taken from."""
FPS_WINDOW_S = 5.0


@dataclass(frozen=True, slots=True)
class Counts:
    frames: int
    histogram: tuple[int, ...]
    """Detections by confidence, in ten bins of equal width over [0, 1]."""
    classes: Mapping[str, int]
    """Detections by class."""
    classes_left_out: int


class CameraMeter:
    """Written by the inference loop, read by the publisher. Counters run from the start of the process.

    ``previous_at`` is when the previous agent process last looked at this camera (seconds since the
    epoch), None when unknown.
    """

    def __init__(self, previous_at: float | None = None) -> None:
        self._lock = threading.Lock()
        self._previous_at = previous_at
        self._times_ms: deque[float] = deque(maxlen=TIMES_KEPT)
        self._looked_at: deque[float] = deque(maxlen=int(FPS_WINDOW_S * 60))
        self._histogram = [0] * CONFIDENCE_BINS
        self._classes: Counter[str] = Counter()
        self._frames = 0
        self.last_inference_at: float | None = None
        self.last_frame_at: float | None = None
        """Capture time of the last frame that was understood."""
        self.handover_gap_s: float | None = None
        self.errors = 0
        """Frames that the detector failed on."""
        self.last_error = ""

    def note(
        self, detections: Sequence[Detection], *, took_ms: float, captured_at: float, now: float
    ) -> None:
        with self._lock:
            if self.last_inference_at is None and self._previous_at is not None:
                self.handover_gap_s = max(0.0, now - self._previous_at)
            self.last_inference_at = now
            self.last_frame_at = captured_at
            self.last_error = ""
            self._frames += 1
            self._times_ms.append(took_ms)
            self._looked_at.append(now)
            for detection in detections:
                self._histogram[min(CONFIDENCE_BINS - 1, int(detection.confidence * CONFIDENCE_BINS))] += 1
                self._classes[detection.label] += 1

    def failed(self, error: str) -> None:
        with self._lock:
            self.errors += 1
            self.last_error = error

    def fps(self, now: float) -> float:
        """Inferences a second over the last ``FPS_WINDOW_S`` seconds."""
        with self._lock:
            return sum(0 <= now - at <= FPS_WINDOW_S for at in self._looked_at) / FPS_WINDOW_S

    def percentile_ms(self, share: float) -> float | None:
        """The inference time that ``share`` of the last ones did not exceed (nearest rank)."""
        with self._lock:
            times = sorted(self._times_ms)
        return times[min(len(times) - 1, int(share * len(times)))] if times else None

    def counts(self, most_classes: int) -> "Counts":
        """All counters at one moment, with at most ``most_classes`` classes: the frequent ones."""
        with self._lock:
            return Counts(
                self._frames,
                tuple(self._histogram),
                dict(self._classes.most_common(most_classes)),
                max(0, len(self._classes) - most_classes),
            )
