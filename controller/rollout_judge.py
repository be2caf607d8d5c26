"""Judges the gates of a rollout: gathers the evidence, asks outside where a gate wants that, and has the pure
``gates.judge`` decide. Called by the executor in threads of its own pool."""

import threading
from collections.abc import Iterable, Mapping
from datetime import datetime

from controller.domain.rollout.evidence import External
from controller.domain.rollout.gates import judge
from controller.domain.rollout.spec import BEFORE_WAVE
from controller.domain.rollout.state import GateVerdict, Rollout, StoreNow
from controller.errors import NotFoundError
from controller.gate_checks import GateCaller, ask, due
from controller.gate_evidence import EvidenceReader
from controller.ports import Repositories, Transactions
from controller.rollout_picture import Picture, stores_now


class GateJudge:
    def __init__(self, transactions: Transactions, caller: GateCaller) -> None:
        self._transactions = transactions
        self._caller = caller
        self._reader = EvidenceReader()
        self._lock = threading.Lock()
        self._answers: dict[str, dict[tuple[int, int], External]] = {}
        """Rollout → wave and gate → the last answer; forgotten when its wave is not judged any more."""

    def __call__(self, picture: Picture, now: datetime) -> dict[int, tuple[GateVerdict, ...]]:
        """Verdicts by wave. Raises as the ports say."""
        rollout = picture.rollout
        waves = waves_to_judge(rollout)
        external = self._ask_outside(rollout, waves, now)
        if not waves:
            return {}
        with self._transactions.reading() as repositories:
            release = repositories.releases.get(rollout.spec.release)
            if release is None:
                raise NotFoundError(f"release {rollout.spec.release} is gone, so nothing can be judged")
            stores = _with_controls(repositories, picture, now)
            evidence = {
                wave: self._reader.read(
                    repositories, rollout, wave, picture.records, stores, release.model_digest, now
                )
                for wave in waves
            }
        return {wave: judge(rollout, wave, evidence[wave], external, now) for wave in waves}

    def _ask_outside(self, rollout: Rollout, waves: Iterable[int], now: datetime) -> list[External]:
        with self._lock:
            before = self._answers.get(rollout.name, {})
        answers = {key: answer for key, answer in before.items() if key[0] in waves}
        for wave in waves:
            for gate in due(rollout, wave, list(answers.values()), now):
                answers[wave, gate] = ask(self._caller, rollout, wave, gate, now)
        with self._lock:
            if answers:
                self._answers[rollout.name] = answers
            else:
                self._answers.pop(rollout.name, None)
        return list(answers.values())


def waves_to_judge(rollout: Rollout) -> list[int]:
    """Those that are open, and the next one, if some gate is asked before a wave begins."""
    found = []
    for number, wave in enumerate(rollout.waves):
        if wave.passed_at is not None:
            continue
        if wave.opened_at is not None:
            found.append(number)
            continue
        if any(gate.kind in BEFORE_WAVE for gate in rollout.spec.gates):
            found.append(number)
        break
    return found


def _with_controls(repositories: Repositories, picture: Picture, now: datetime) -> Mapping[str, StoreNow]:
    """The rollout's stores, and all others too where a gate compares with them."""
    if not any(gate.kind == "quality" for gate in picture.rollout.spec.gates):
        return picture.stores
    others = [store.name for store in repositories.stores.several() if store.name not in picture.stores]
    return {**picture.stores, **stores_now(repositories, picture.rollout, others, {}, now)}
