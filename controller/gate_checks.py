"""Asks the outside world for gates that only the customer can answer: webhooks and Prometheus queries.

Whatever goes wrong out there is an inconclusive answer with words, never an exception: a monitoring system
that is down must neither pass a release nor stop the controller. Each call is bounded in time and size;
whoever calls ``ask`` does it outside of any database transaction, and not in the thread that plans.
"""

import json
import math
import operator
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, Protocol

from controller.domain.rollout.evidence import External
from controller.domain.rollout.spec import PrometheusGate, WebhookGate
from controller.domain.rollout.state import Rollout, Verdict
from controller.errors import ControllerError

ASK_EVERY = timedelta(minutes=1)
REASON_LENGTH = 300
_COMPARE: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


class GateCaller(Protocol):
    """Both return the body of a successful answer. Raise ``TransientError`` or ``PermanentError``."""

    def post(self, url: str, body: bytes, timeout_s: float) -> bytes: ...

    def query(self, url: str, query: str, timeout_s: float) -> bytes:
        """``url`` is the Prometheus server's, without ``/api/v1/query``."""


def due(rollout: Rollout, wave_index: int, known: Sequence[External], now: datetime) -> list[int]:
    """Indexes of the gates to ask now: external ones, not asked about this wave in the last minute."""
    found = []
    for index, gate in enumerate(rollout.spec.gates):
        asked = [answer.at for answer in known if (answer.gate, answer.wave) == (index, wave_index)]
        recent = bool(asked) and timedelta(0) <= now - max(asked) < ASK_EVERY
        if isinstance(gate, WebhookGate | PrometheusGate) and not recent:
            found.append(index)
    return found


def ask(caller: GateCaller, rollout: Rollout, wave_index: int, index: int, now: datetime) -> External:
    """``now`` becomes the time of the answer: what the answer rests on may be as old as the question."""
    gate = rollout.spec.gates[index]
    try:
        if isinstance(gate, WebhookGate):
            body = _question(rollout, wave_index, now)
            verdict, reason = read_webhook(caller.post(gate.url, body, gate.timeout.total_seconds()))
        elif isinstance(gate, PrometheusGate):
            answer = caller.query(gate.url, gate.query, gate.timeout.total_seconds())
            verdict, reason = read_prometheus(answer, gate)
        else:
            verdict, reason = Verdict.INCONCLUSIVE, f"a {gate.kind} gate asks nobody"
    except ControllerError as error:
        verdict, reason = Verdict.INCONCLUSIVE, str(error)
    return External(index, verdict, reason[:REASON_LENGTH], now, wave_index)


def _question(rollout: Rollout, wave_index: int, now: datetime) -> bytes:
    wave = rollout.waves[wave_index]
    question = {
        "rollout": rollout.name,
        "release": rollout.spec.release,
        "wave": rollout.spec.waves[wave_index].name,
        "stores": list(wave.stores),
        "opened_at": wave.opened_at.isoformat() if wave.opened_at else None,
        "at": now.isoformat(),
    }
    return json.dumps(question).encode()


def read_webhook(body: bytes) -> tuple[Verdict, str]:
    """``{"verdict": "pass" | "fail" | "inconclusive", "reason": "..."}``; the reason may be missing."""
    answer = _json(body)
    if not isinstance(answer, dict) or answer.get("verdict") not in list(Verdict):
        return (
            Verdict.INCONCLUSIVE,
            'the webhook did not answer {"verdict": "pass", "fail" or "inconclusive"}',
        )
    verdict = Verdict(answer["verdict"])
    reason = answer.get("reason")
    return verdict, reason if isinstance(reason, str) and reason else f"the webhook says {verdict}"


def read_prometheus(body: bytes, gate: PrometheusGate) -> tuple[Verdict, str]:
    """An instant query's answer: a scalar, or a vector of exactly one element."""
    answer = _json(body)
    try:
        result, kind = answer["data"]["result"], answer["data"]["resultType"]
        if kind == "scalar":
            value = float(result[1])
        elif kind != "vector":
            return Verdict.INCONCLUSIVE, f"the query gives a {str(kind)[:40]}; it has to give one number"
        elif len(result) != 1:
            words = "no series matches the query" if not result else f"the query gives {len(result)} numbers"
            return Verdict.INCONCLUSIVE, f"{words}; it has to give one"
        else:
            value = float(result[0]["value"][1])
    except (KeyError, TypeError, IndexError, ValueError):
        return Verdict.INCONCLUSIVE, "the answer is not one of a Prometheus server"
    if math.isnan(value):
        return Verdict.INCONCLUSIVE, "the query gives NaN"
    holds = _COMPARE[gate.op](value, gate.value)
    words = f"{gate.query} is {value:g} ({'as' if holds else 'not'} {gate.op} {gate.value:g})"
    return (Verdict.PASS if holds else Verdict.FAIL), words


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None
