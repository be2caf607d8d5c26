"""What every gate says of one wave: a pure function of what is known.

``judge`` may be asked at any time and as often as wanted. Before the soak is over a gate says ``fail`` as
soon as fresh evidence shows it, but never ``pass``.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from controller.domain.rollout import fresh as fresh_evidence
from controller.domain.rollout import operation, quality
from controller.domain.rollout.candidate import golden, shadow, staged
from controller.domain.rollout.evidence import Evidence, External
from controller.domain.rollout.fresh import Fresh, listed
from controller.domain.rollout.hours import NEAR, Hours, choose, pairs
from controller.domain.rollout.operation import Said
from controller.domain.rollout.spec import (
    BEFORE_WAVE,
    Gate,
    GoldenGate,
    HealthGate,
    PerformanceGate,
    PrometheusGate,
    QualityGate,
    ShadowGate,
    StagedGate,
    WebhookGate,
)
from controller.domain.rollout.state import GateVerdict, Rollout, Verdict

EXTERNAL_STALE = timedelta(minutes=10)
EARLY = 0.1
"""Share of ``alpha`` that looks before the end of the soak may use, so that looking often does not turn
chance into a failure."""
LEAST_AFTER = 2
"""Full quarters of an hour before the quality gate says anything."""


def judge(
    rollout: Rollout, wave_index: int, evidence: Evidence, external: Sequence[External], now: datetime
) -> tuple[GateVerdict, ...]:
    """One verdict for each gate of the spec, in its order. Those of ``BEFORE_WAVE`` speak of a wave that has
    not begun, the others of one whose stores have been changed."""
    wave = rollout.waves[wave_index]
    soak = rollout.spec.waves[wave_index].soak
    fresh = fresh_evidence.of_wave(evidence, wave.stores, soak, now)
    since = rollout.started_at or rollout.created_at
    verdicts = []
    for index, gate in enumerate(rollout.spec.gates):
        verdict, reason, figures, observed_at = _judge(
            gate, index, rollout, wave_index, evidence, fresh, external, now
        )
        if verdict is Verdict.PASS and gate.kind not in BEFORE_WAVE and fresh.waiting:
            verdict, reason = Verdict.INCONCLUSIVE, f"{listed(fresh.waiting)}. So far: {reason}"
        if fresh.away and gate.kind not in BEFORE_WAVE:
            reason += f". Out of reach, not judged: {listed(fresh.away, ', ')}"
        seen = observed_at or fresh.observed_at or wave.opened_at or since
        verdicts.append(GateVerdict(index, gate.kind, verdict, reason, min(seen, now), figures))
    return tuple(verdicts)


def _judge(
    gate: Gate,
    index: int,
    rollout: Rollout,
    wave_index: int,
    evidence: Evidence,
    fresh: Fresh,
    external: Sequence[External],
    now: datetime,
) -> tuple[Verdict, str, dict[str, object], datetime | None]:
    spec, wave = rollout.spec, rollout.waves[wave_index]
    since = rollout.started_at or rollout.created_at
    if isinstance(gate, StagedGate):
        return (*staged(gate, evidence, wave.stores, since), None)
    if isinstance(gate, ShadowGate):
        return shadow(gate, spec, evidence, since)
    if isinstance(gate, WebhookGate | PrometheusGate):
        return _outside(index, wave_index, fresh, external, now)
    if isinstance(gate, GoldenGate):
        return golden(gate, evidence, wave.stores, fresh, since)
    if not fresh.stores:
        return Verdict.INCONCLUSIVE, listed(fresh.waiting), {}, None
    soak = spec.waves[wave_index].soak
    if isinstance(gate, HealthGate):
        return (*operation.health(gate, spec, fresh, len(wave.stores)), fresh.observed_at)
    if isinstance(gate, PerformanceGate):
        return (*operation.performance(gate, spec, fresh, soak, now), fresh.observed_at)
    return (*_quality(gate, rollout, evidence, fresh, now), fresh.observed_at)


def hours_of(evidence: Evidence, fresh: Fresh, now: datetime) -> Hours | None:
    """Which hours the quality gate compares; None before any store is ready. ``quality`` of the wave's stores
    has to reach back to ``hours.LOOK_BACK`` before the first was ready."""
    changed = [s for s in fresh.stores if s.brought]
    ready = {s.store: s for s in changed if s.ready_at is not None and s.deployment is not None}
    if not ready:
        return None
    times = [store.ready_at for store in ready.values() if store.ready_at is not None]
    deployments = {name: s.deployment for name, s in ready.items() if s.deployment is not None}
    return choose({name: s.quality for name, s in ready.items()}, deployments, min(times), max(times), now)


def _quality(gate: QualityGate, rollout: Rollout, evidence: Evidence, fresh: Fresh, now: datetime) -> Said:
    if not any(store.brought for store in fresh.stores):
        return Verdict.PASS, "every store ran the release before", {}
    fresh = replace(fresh, stores=tuple(store for store in fresh.stores if store.brought))
    hours = hours_of(evidence, fresh, now)
    if hours is None or len(hours.after) < LEAST_AFTER:
        words = f"waits for {LEAST_AFTER} full quarters of an hour of the new model"
        return Verdict.INCONCLUSIVE, words, {"after": len(hours.after) if hours else 0}
    if not hours.before:
        return Verdict.INCONCLUSIVE, "the updated stores were not watched in the day before the release", {}
    least = gate.min_frames // 10
    samples = [_sample(evidence, fresh, hours.near(), least, near=True)]
    if len(hours.after) > NEAR:
        samples.append(_sample(evidence, fresh, hours, least, near=False))
    judged, controls = samples[-1].updated, samples[-1].controls
    frames = sum(days[0].after.frames for days in judged.values())
    control_frames = sum(days[0].after.frames for days in controls.values() if 0 in days)
    if control_frames < gate.min_frames:
        samples = [replace(sample, controls={}) for sample in samples]
    figures: dict[str, object] = {
        "frames": frames,
        "control_frames": control_frames,
        "stores": len(judged),
        "controls": len(controls),
        "before": [at.isoformat() for at in hours.before],
        "after": [at.isoformat() for at in hours.after],
    }
    if frames < gate.min_frames:
        words = (
            f"{frames} frames of the new model from cameras that were online; {gate.min_frames} are needed"
        )
        return Verdict.INCONCLUSIVE, words, figures
    groups = {
        name: frozenset(store.store for store in members)
        for name, members in fresh_evidence.strata(
            rollout.spec, [s for s in fresh.stores if s.store in judged]
        ).items()
        if name != "all stores"
    }
    alpha = gate.alpha * EARLY if fresh.waiting else gate.alpha
    done = quality.compare(samples, groups, alpha=alpha, min_change=gate.min_change)
    figures["findings"] = [
        {
            "measure": ":".join(filter(None, finding.measure)),
            "group": finding.group,
            "near": finding.near,
            "stores": finding.stores,
            "deviation": round(finding.deviation, 4),
            "adjusted_p": finding.adjusted_p,
            "visible": None if finding.visible is None else round(finding.visible, 2),
            "failed": finding.failed,
        }
        for finding in done.findings
    ]
    against = f"compared with {done.controls} stores not updated and {done.days} earlier days"
    if not done.controls:
        against = f"no store left to compare with; compared with {done.days} earlier days of the same stores"
    if done.failed:
        return Verdict.FAIL, f"{listed([f.words() for f in done.failed])}; {against}", figures
    classes = [f for f in done.findings if f.measure[0] == "class" and f.group == quality.ALL]
    silent = f"; not judged: {_reasons(done)}" if done.not_judged else ""
    if not classes:
        return Verdict.INCONCLUSIVE, f"no class can be judged{silent}; {against}", figures
    visible: dict[str, float] = {}
    for f in classes:
        visible[f.measure[1]] = min(f.visible or 2.0, visible.get(f.measure[1], 2.0))
    blind = sorted(name for name, least in visible.items() if least > 1)
    if 2 * len(blind) > len(visible):
        words = f"too few stores and days: {len(blind)} of {len(visible)} classes could vanish unnoticed"
        return Verdict.INCONCLUSIVE, f"{words}{silent}; {against}", figures
    seen = f"{len(visible)} classes in {len(judged)} stores as expected"
    limit = f"a fall of {max(visible.values()):.0%} of any would have been seen"
    if blind:
        limit = f"{listed(blind, ', ')} vary too much to be watched"
    return Verdict.PASS, f"{seen}; {limit}{silent}; {against}", figures


def _sample(evidence: Evidence, fresh: Fresh, hours: Hours, least: int, *, near: bool) -> quality.Sample:
    updated = {s.store: pairs(s.quality, hours, s.deployment, least) for s in fresh.stores}
    others = [s for s in evidence.stores.values() if s.deployment is None]
    controls = {s.store: pairs(s.quality, hours, None, least) for s in others}
    return quality.Sample(
        near,
        {name: days for name, days in updated.items() if 0 in days},
        {name: days for name, days in controls.items() if days},
    )


def _reasons(done: quality.Comparison) -> str:
    return listed([f"{name} ({why})" for name, why in done.not_judged.items()], ", ")


def _outside(
    index: int, wave_index: int, fresh: Fresh, external: Sequence[External], now: datetime
) -> tuple[Verdict, str, dict[str, object], datetime | None]:
    """An answer counts when it was asked for after the last store of the wave was ready, and lately."""
    ready = [store.ready_at for store in fresh.stores if store.ready_at is not None]
    answers = [e for e in external if e.gate == index and e.wave == wave_index and e.at <= now]
    if not answers or not ready:
        return Verdict.INCONCLUSIVE, "not asked yet" if ready else listed(fresh.waiting), {}, None
    newest = max(answers, key=lambda answer: answer.at)
    if newest.at < max(ready):
        return Verdict.INCONCLUSIVE, "asked before the wave's last store was ready", {}, newest.at
    if now - newest.at > EXTERNAL_STALE:
        return Verdict.INCONCLUSIVE, f"last asked at {newest.at:%H:%M:%S} UTC", {}, newest.at
    return newest.verdict, newest.reason, {}, newest.at
