"""Replays a golden set with the release's model on the node's own hardware, before cameras are handed over.

The step runs as an init container of the pod: while it does, and for as long as it refuses, the agent of the
release before goes on. What it finds goes to the centre twice over: from here, because a refused release
never gets further, and from the agent with each of its births, because the broker may have been away.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO, Protocol
from uuid import UUID

from agent.domain.golden import Tally, Thresholds, percentile, refusal
from agent.envelope import utc
from agent.errors import ModelError
from agent.ports import Broker, Detector, Image
from contract.errors import MessageError
from contract.golden import GoldenArchive, GoldenManifest, GoldenReport

WARM_UP = 2
"""Frames that are looked at once more than counted: the first inferences are slow on every runtime."""
CONNECT_S = 15.0
"""How long the broker is waited for. It is no reason to fail: the result is told again later."""
TURN_S = 0.25
FLUSH_S = 5.0

_log = logging.getLogger(__name__)


class ReportFiles(Protocol):
    def load(self, key: tuple[str, ...]) -> GoldenReport | None: ...

    def save(self, key: tuple[str, ...], report: GoldenReport) -> None:
        """Raises ``OSError``."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What is judged: whatever could change the result."""

    model: str
    """Digest."""
    runtime: str
    """As asked for, ``auto`` included: it means the same for the same agent."""
    agent_version: str
    rollout_id: UUID | None

    def key(self, golden: str) -> tuple[str, ...]:
        return (self.model, golden, self.runtime, self.agent_version)


@dataclass(frozen=True, slots=True)
class Tools:
    open_detector: Callable[[], Detector]
    """Raises ``ModelError``."""
    open_set: Callable[[], BinaryIO]
    """The verified artifact. Raises ``ModelError``."""
    decode: Callable[[bytes, tuple[int, int]], Image]
    files: ReportFiles
    clock: Callable[[], float]
    timer: Callable[[], float]


def judge(subject: Subject, manifest: GoldenManifest, thresholds: Thresholds, tools: Tools) -> GoldenReport:
    """The report of this pod: an earlier replay of the very same, or one now. Raises ``ModelError``."""
    key = subject.key(manifest.digest)
    kept = tools.files.load(key)
    if kept is None:
        kept = replay(subject, manifest, tools)
        try:
            tools.files.save(key, kept)
        except OSError as error:
            _log.warning("golden result not kept; a restart replays", extra={"detail": str(error)})
    return _judged(kept, subject, thresholds, tools.clock())


def replay(subject: Subject, manifest: GoldenManifest, tools: Tools) -> GoldenReport:
    """Look at every frame. Raises ``ModelError`` for a set or a model that cannot be used."""
    detector = tools.open_detector()
    times: list[float] = []
    with tools.open_set() as file:
        try:
            archive = GoldenArchive(file)
            content = archive.content
            if content.counts != manifest.counts:
                raise ModelError("golden set: it does not hold what its manifest says; make it again")
            unknown = [name for name in content.classes if name not in detector.info.names]
            if unknown:
                raise ModelError(
                    f"the model has no class for {', '.join(unknown[:5])}, which the golden set "
                    f"{manifest.name} {manifest.version} expects"
                )
            tally = Tally(content.classes)
            for number, frame in enumerate(content.frames):
                image = tools.decode(archive.picture(frame), (frame.width, frame.height))
                if number == 0:
                    for _ in range(WARM_UP):
                        detector.detect(image)
                started = tools.timer()
                detections = detector.detect(image)
                times.append((tools.timer() - started) * 1000)
                tally.add(frame, detections)
        except MessageError as error:
            raise ModelError(f"{error}; make it again") from error
    now = utc(tools.clock())
    return GoldenReport(
        rollout_id=subject.rollout_id,
        at=now,
        replayed_at=now,
        model=subject.model,
        golden=manifest.digest,
        runtime=detector.info.runtime,
        agent_version=subject.agent_version,
        frames=tally.frames,
        inference_ms_p50=percentile(times, 0.5),
        inference_ms_p95=percentile(times, 0.95),
        classes=tally.result(),
        passed=True,
    )


class AcknowledgedBroker(Broker, Protocol):
    def flush(self, timeout: float) -> bool: ...


def tell(
    broker: AcknowledgedBroker, topic: str, report: GoldenReport, monotonic: Callable[[], float]
) -> bool:
    """Publish the report, retained; whether the broker has it. Waits no longer than ``CONNECT_S`` for one."""
    end = monotonic() + CONNECT_S
    while monotonic() < end:
        incoming = broker.take(TURN_S)
        if broker.connected and broker.publish(topic, report.to_bytes(), qos=1, retain=True):
            return broker.flush(FLUSH_S)
        if incoming is not None and incoming.kind == "disconnected":
            _log.info("no broker for the golden result", extra={"detail": incoming.detail})
    return False


def kept_report(
    files: ReportFiles, subject: Subject, golden: str, thresholds: Thresholds, now: float
) -> GoldenReport | None:
    """What the init step of this pod found, for the running agent to tell again."""
    kept = files.load(subject.key(golden))
    return None if kept is None else _judged(kept, subject, thresholds, now)


def insist_on(report: GoldenReport) -> None:
    """Raises ``ModelError`` in words for the operator when the report is a refusal."""
    if not report.passed:
        raise ModelError(f"the golden set is not passed: {report.reason}")


def _judged(kept: GoldenReport, subject: Subject, thresholds: Thresholds, now: float) -> GoldenReport:
    """Thresholds may differ from those of the pod that replayed."""
    reason = refusal(kept.classes, thresholds)
    fresh = {"at": utc(now), "rollout_id": subject.rollout_id, "passed": not reason, "reason": reason}
    return kept.model_copy(update=fresh)
