"""What the probes of a pod are told by the health file that the agent writes."""

from datetime import datetime
from typing import Literal, NamedTuple, Protocol

from contract.pod import HEALTH_STALE_S, Phase

Question = Literal["ready", "live"]


class Health(Protocol):
    """What counts of ``contract.workload.AgentHealth``, which probes do not import: it is slow to."""

    @property
    def at(self) -> datetime: ...
    @property
    def phase(self) -> Phase: ...
    @property
    def error(self) -> str: ...


class Answer(NamedTuple):
    ok: bool
    reason: str


def judge(health: Health | None, question: Question, now: float) -> Answer:
    """What a probe at ``now`` (seconds since the epoch) is told. Live: the agent turns. Ready: it also
    watches its cameras, or is about to take over."""
    if health is None:
        return Answer(False, "no agent has written its health yet")
    age = now - health.at.timestamp()
    if age > HEALTH_STALE_S:
        return Answer(False, f"health is {age:.0f} s old: the agent does not turn")
    if age < -HEALTH_STALE_S:
        return Answer(
            False, f"health is {-age:.0f} s from the future: not written since the clock was set back"
        )
    if question == "ready" and health.phase not in ("standby", "active"):
        return Answer(False, f"{health.phase}: {health.error}" if health.error else health.phase)
    return Answer(True, health.phase)
