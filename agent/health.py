"""Keeps the health file fresh, as long as the agent really turns.

The file's ``at`` is refreshed only while the inference loop comes round: a loop that hangs lets it grow
stale, and the liveness probe then has the pod restarted.
"""

import threading
from collections.abc import Callable
from uuid import UUID

from agent.envelope import utc
from agent.pipeline import CameraReport
from contract.names import CameraStatus
from contract.workload import HEALTH_STALE_S, AgentHealth, Phase


class HealthKeeper:
    """Phase and error are set by the runtime; ``report`` builds what the file says."""

    def __init__(self, pid: int, rollout_id: UUID | None, clock: Callable[[], float]) -> None:
        self._pid = pid
        self._rollout_id = rollout_id
        self._clock = clock
        self._lock = threading.Lock()
        self._phase: Phase = "starting"
        self._error = ""
        self._model_digest: str | None = None
        self._last: AgentHealth | None = None

    def enter(self, phase: Phase, error: str = "") -> None:
        with self._lock:
            self._phase, self._error = phase, error

    def loaded(self, model_digest: str) -> None:
        with self._lock:
            self._model_digest = model_digest

    def report(self, reports: list[CameraReport], turned_s_ago: float | None) -> AgentHealth:
        """``turned_s_ago``: seconds since the inference loop last came round, None before it runs."""
        now = self._clock()
        statuses = [report.condition.status for report in reports if report.condition is not None]
        looked_at = [r.meter.last_inference_at for r in reports if r.meter.last_inference_at is not None]
        hangs = turned_s_ago is not None and turned_s_ago > HEALTH_STALE_S / 2
        with self._lock:
            health = AgentHealth(
                pid=self._pid,
                at=utc(now),
                phase=self._phase,
                model_digest=self._model_digest,
                rollout_id=self._rollout_id,
                cameras=len(reports),
                cameras_fresh=statuses.count(CameraStatus.ONLINE),
                cameras_unreachable=statuses.count(CameraStatus.OFFLINE),
                last_inference_at=utc(max(looked_at)) if looked_at else None,
                error=self._error,
            )
            if hangs and self._last is not None:
                error = f"the inference loop has not turned for {turned_s_ago:.0f} s"
                return health.model_copy(update={"at": self._last.at, "error": error})
            self._last = health
            return health
