"""Whether a wave's stores have shown that the release is good.

Evidence counts only if it is newer than what it is to prove: a gate may pass a wave on what was observed
after its last store had been ready for the whole soak, and fail it on anything that was observed since its
first store was touched.
"""

from dataclasses import dataclass
from datetime import datetime

from controller.domain.rollout.board import Board, count, named, stores
from controller.domain.rollout.spec import BEFORE_WAVE, format_duration
from controller.domain.rollout.state import GateVerdict, Phase, Verdict


@dataclass(frozen=True, slots=True)
class Hold:
    """Why a wave does not open, or not pass, yet."""

    reason: str
    check_at: datetime | None = None
    pause: bool = False
    """A person has to decide."""
    settles: bool = False
    """Stores or evidence that are on their way decide it, without another store being changed."""
    barren: bool = False
    """No store of the wave runs the release, and none is going to."""


def judge_wave(board: Board, number: int) -> Hold | str:
    """What an open wave waits for, or in words why it passes."""
    wave, spec = board.rollout.spec.waves[number], board.rollout.spec
    sights = board.stores_of(number)
    members = [s for s in sights if s.phase not in (Phase.SKIPPED, Phase.SUPERSEDED)]
    if updating := sum(s.phase == Phase.UPDATING or s.busy for s in members):
        ready = count(members, Phase.READY)
        return Hold(f"{stores(updating)} being updated, {ready} of {len(members)} ready", settles=True)
    waiting = [s for s in members if s.phase == Phase.WAITING and not s.deferred]
    if waiting:
        first = waiting[0]
        return Hold(f"{stores(len(waiting))} waiting; {first.record.store}: {first.reason}")
    offline = [
        s.record.store for s in members if s.phase == Phase.OFFLINE or (s.away and s.phase == Phase.READY)
    ]
    budget = spec.limits.offline.at_most(len(sights))
    if len(offline) > budget:
        return Hold(f"{stores(len(offline))} out of reach, at most {budget} may be: {named(offline)}")
    running = [s for s in members if s.phase == Phase.READY]
    if not running:
        if not any(s.phase != Phase.SKIPPED for s in sights):
            return "it has no store" if not sights else "all its stores are skipped"
        words = "no store of it runs the release, so nothing is known of it; retry, wait for or skip them"
        return Hold(words, barren=True)
    newest = max(s.record.ready_at for s in running if s.record.ready_at is not None)
    soaked = newest + wave.soak
    if board.now < soaked:
        return Hold(
            f"soaks for {format_duration(wave.soak)}, until {soaked:%H:%M:%S} UTC", soaked, settles=True
        )
    since = max(filter(None, (soaked, board.rollout.status_since)))
    hold = first_hold(board, number, before=False, evidence_since=soaked, patience_since=since)
    if hold is not None:
        return hold
    words = f"{len(running)} of {stores(len(sights))} ready"
    if offline:
        words += f", {len(offline)} out of reach"
    failed = count(members, Phase.FAILED)
    return words + (f", {failed} failed within the budget" if failed else "")


def failing_gate(board: Board, number: int) -> GateVerdict | None:
    """A gate of an open wave that says no, on evidence of this wave and of this run."""
    exposed = [s.record.exposed_at for s in board.stores_of(number) if s.record.exposed_at is not None]
    if not exposed:
        return None
    since = max(filter(None, (min(exposed), board.rollout.status_since)))
    for verdict in board.verdicts.get(number, ()):
        late = verdict.kind in BEFORE_WAVE  # asked before the wave; what came after is not its question
        if verdict.verdict == Verdict.FAIL and not late and verdict.observed_at > since:
            return verdict
    return None


def first_hold(
    board: Board, number: int, *, before: bool, evidence_since: datetime, patience_since: datetime
) -> Hold | None:
    """The first gate that does not pass. ``before``: of those that are asked before a wave opens, else of the
    others. One that is undecided for ``gate_timeout`` after ``patience_since`` needs a person."""
    spec = board.rollout.spec
    said = {verdict.gate: verdict for verdict in board.verdicts.get(number, ())}
    for index, gate in enumerate(spec.gates):
        if (gate.kind in BEFORE_WAVE) != before:
            continue
        verdict = said.get(index)
        if verdict is not None and verdict.observed_at >= evidence_since:
            if verdict.verdict == Verdict.PASS:
                continue
            words = verdict.reason
            if verdict.verdict == Verdict.FAIL:
                words = f"failed, and must be judged anew: {words}"
                if before:
                    return Hold(f"gate {gate.kind} {words}", pause=True)
        else:
            words = "no evidence that is new enough yet"
        until = patience_since + spec.gate_timeout
        if board.now >= until:
            limit = format_duration(spec.gate_timeout)
            return Hold(f"gate {gate.kind} undecided for {limit}: {words}", pause=True)
        return Hold(f"gate {gate.kind}: {words}", until, settles=True)
    return None
