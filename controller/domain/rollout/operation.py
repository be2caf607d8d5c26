"""Gates on how a release runs: health, and performance by stratum."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from statistics import median

from contract.names import CameraStatus
from controller.domain.deployment import State
from controller.domain.rollout.evidence import CameraNow, Heartbeat, StoreEvidence
from controller.domain.rollout.fresh import Fresh, listed, share, strata
from controller.domain.rollout.spec import HealthGate, PerformanceGate, RolloutSpec, format_duration
from controller.domain.rollout.state import Verdict
from controller.domain.rollout.statistics import theil_sen, theil_sen_lower

WARM_UP = timedelta(minutes=5)
"""Start-up is slower and its memory grows; nothing of it is held against a release."""
TREND_SPAN = timedelta(minutes=30)
"""A shorter trend of memory is noise."""
TREND_POINTS = 5
TREND_NEEDS = WARM_UP + TREND_SPAN + timedelta(minutes=5)

Said = tuple[Verdict, str, dict[str, object]]


def health(gate: HealthGate, spec: RolloutSpec, fresh: Fresh, wave_size: int) -> Said:
    """Fails when more stores are unhealthy than the rollout allows to fail."""
    bad, unsure = [], []
    for store in fresh.stores:
        restarts = sum(heartbeat.restarts for heartbeat in _own(store))
        cluster = store.cluster
        if restarts > gate.max_restarts:
            bad.append(f"{store.store}: the agent was restarted {restarts} times")
        elif cluster is None or cluster.deployment != store.deployment:
            unsure.append(f"{store.store}: its cluster has not told of this deployment")
        elif cluster.state == State.FAILED:
            bad.append(f"{store.store}: {cluster.message or 'failed'}")
        elif cluster.state != State.READY:
            unsure.append(f"{store.store}: {cluster.message or cluster.state}")
    allowed = spec.limits.failures.at_most(wave_size)
    figures: dict[str, object] = {"unhealthy": len(bad), "allowed": allowed, "stores": len(fresh.stores)}
    if len(bad) > allowed:
        return Verdict.FAIL, f"{share(len(bad), wave_size)} stores unhealthy: {listed(bad)}", figures
    if unsure:
        return Verdict.INCONCLUSIVE, listed(unsure), figures
    words = f"{len(fresh.stores) - len(bad)} stores healthy"
    return Verdict.PASS, words + (f"; unhealthy: {listed(bad)}" if bad else ""), figures


@dataclass(frozen=True, slots=True)
class _Metric:
    name: str
    of_store: Callable[[StoreEvidence], Sequence[float | None]]
    """The store's values: of its cameras or nodes, None where one is missing."""
    limit: float
    at_least: bool
    unit: str = ""

    certain: Callable[[StoreEvidence], Sequence[float | None]] | None = None
    """Values that are surely reached, where the metric is an estimate: only those fail a gate."""

    def broken(self, value: float) -> bool:
        return value < self.limit if self.at_least else value > self.limit


def performance(
    gate: PerformanceGate, spec: RolloutSpec, fresh: Fresh, soak: timedelta, now: datetime
) -> Said:
    """A stratum's value is the median of its stores', a store's the median of its cameras' (memory: the worst
    node's), so that one broken camera is not the model's fault. Each stratum has to hold each floor."""
    stores = [s for s in fresh.stores if s.ready_at is not None and now - s.ready_at >= min(soak, WARM_UP)]
    metrics = [
        _Metric("frame rate", _of_cameras(_fps_ratio), gate.min_fps_ratio, True, " of what is asked for"),
        _Metric("frame age", _of_cameras(lambda c: c.frame_age_s), gate.max_frame_age_s, False, " s"),
        _Metric(
            "inference time",
            _of_cameras(_inference_ratio),
            gate.max_inference_ratio,
            False,
            " times that before",
        ),
        _Metric("memory", _of_nodes(lambda h: h.memory_percent), gate.max_memory_percent, False, "%"),
    ]
    trend = soak >= TREND_NEEDS
    if trend:
        limit = gate.max_memory_growth_mb_per_h
        growth = _Metric("memory growth", _growth, limit, False, " MB/h", _least_growth)
        metrics.append(growth)
    broken, missing = [], []
    worst: dict[str, tuple[float, str]] = {}
    for metric in metrics:
        for group, members in strata(spec, stores).items():
            known = [(value, s.store) for s in members if (value := _store_value(metric, s)) is not None]
            if not known:
                missing.append(f"{metric.name} is not known of {group}")
                continue
            value = median(value for value, _ in known)
            place = (min if metric.at_least else max)(known)[1]
            if metric.name not in worst or (value < worst[metric.name][0]) == metric.at_least:
                worst[metric.name] = value, group
            if metric.broken(value) and not _surely(metric, members):
                missing.append(f"{metric.name} may be {value:.3g}{metric.unit} in {group}; not certain yet")
            elif metric.broken(value):
                bound = f"{'at least' if metric.at_least else 'at most'} {metric.limit:g}"
                broken.append(f"{metric.name} {value:.3g}{metric.unit} in {group} ({bound}; worst: {place})")
    figures: dict[str, object] = {
        name: {"value": round(value, 4), "stratum": group} for name, (value, group) in worst.items()
    }
    if broken:
        return Verdict.FAIL, listed(broken), figures
    if missing:
        return Verdict.INCONCLUSIVE, listed(missing), figures
    words = "; ".join(f"{name} {value:.3g} at worst, in {group}" for name, (value, group) in worst.items())
    if not trend:
        words += f"; memory growth not judged, as that takes a soak of {format_duration(TREND_NEEDS)}"
    return Verdict.PASS, words, figures


def _surely(metric: _Metric, stores: Sequence[StoreEvidence]) -> bool:
    if metric.certain is None:
        return True
    sure = replace(metric, of_store=metric.certain)
    values = [value for store in stores if (value := _store_value(sure, store)) is not None]
    return bool(values) and metric.broken(median(values))


def _store_value(metric: _Metric, store: StoreEvidence) -> float | None:
    """None when any part of it is missing: what is not measured is not fine."""
    values = metric.of_store(store)
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return None
    return max(known) if metric.name.startswith("memory") else median(known)


def _of_cameras(value: Callable[[CameraNow], float | None]) -> Callable[[StoreEvidence], list[float | None]]:
    """Of the cameras that are ``online``: what a dark or unplugged one does is not the model's fault."""

    def values(store: StoreEvidence) -> list[float | None]:
        online = CameraStatus.ONLINE.value
        cameras = [c for c in store.cameras if c.deployment == store.deployment and c.status == online]
        return [value(camera) for camera in cameras]

    return values


def _of_nodes(value: Callable[[Heartbeat], float | None]) -> Callable[[StoreEvidence], list[float | None]]:
    return lambda store: [value(heartbeat) for heartbeat in _own(store)]


def _own(store: StoreEvidence) -> list[Heartbeat]:
    return [heartbeat for heartbeat in store.heartbeats if heartbeat.deployment == store.deployment]


def _fps_ratio(camera: CameraNow) -> float | None:
    return camera.fps_inferred / camera.fps_wanted if camera.fps_wanted else None


def _inference_ratio(camera: CameraNow) -> float | None:
    now, before = camera.inference_ms, camera.inference_ms_before
    return now / before if now is not None and before else None


def _growth(store: StoreEvidence) -> list[float | None]:
    """MB an hour, of each node: Theil-Sen over five-minute means after the warm-up."""
    return [theil_sen(points) if points else None for points in _trends(store)]


def _least_growth(store: StoreEvidence) -> list[float | None]:
    return [theil_sen_lower(points) if points else None for points in _trends(store)]


def _trends(store: StoreEvidence) -> list[list[tuple[float, float]]]:
    """Hours and MB, of each node; empty where it is too short."""
    found = []
    for heartbeat in _own(store):
        begin = (store.ready_at or heartbeat.observed_at) + WARM_UP
        points = [((at - begin).total_seconds() / 3600, mb) for at, mb in heartbeat.memory_mb if at >= begin]
        long_enough = len(points) >= TREND_POINTS and points[-1][0] >= TREND_SPAN.total_seconds() / 3600
        found.append(points if long_enough else [])
    return found
