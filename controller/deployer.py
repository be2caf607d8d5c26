"""The in-store deployer: runs what the centre signed, for stores that the centre cannot reach.

Level-triggered like the centre's reconciler, and by the same decisions: it looks at the store's own
cluster, applies the newest state that it took in, repairs drift, and reports. What it took in is on disk,
so that it does all of this without a connection too. A state is written down before it is acted upon:
after a power cut at any moment, an older one is refused.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from contract.deployment import DesiredState, ReportedState, Trouble, decode_envelope, open_desired
from contract.errors import ContractError
from contract.signing import digest_bytes
from controller.cluster import Cluster
from controller.domain.deployment import (
    Action,
    Attempts,
    Desired,
    Observed,
    backoff,
    decide,
)
from controller.domain.pull import refusal_of, workload_report
from controller.domain.workload import Workload
from controller.errors import ControllerError, PermanentError, TransientError

log = logging.getLogger(__name__)

TAKE_S = 0.5
"""How long one wait for a message is, so that a stop is noticed."""


class Channel(Protocol):
    """The connection to the centre."""

    def take(self, wait_s: float) -> bytes | None:
        """The newest desired state that came in since, or None after ``wait_s`` seconds."""

    def report(self, payload: bytes) -> bool:
        """Publish this retained, without waiting; whether there is a connection to do so."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What the disk has: the highest generation ever taken in, and its message as it came."""

    generation: int = 0
    message: bytes | None = None


class Shelf(Protocol):
    """Where the newest state is kept across restarts and power cuts."""

    def load(self) -> Kept: ...

    def save(self, kept: Kept) -> None:
        """Durable when it returns. Raises ``TransientError``."""


@dataclass(frozen=True, slots=True)
class Accepted:
    state: DesiredState
    digest: str


@dataclass(frozen=True, slots=True)
class DeployerTempo:
    report_s: float = 10.0
    """How often at least a report is sent: the deployer's heartbeat."""
    resync_s: float = 30.0
    """How often the workload is looked at when all is as it should be."""


class Deployer:
    def __init__(
        self,
        store: str,
        namespace: str,
        *,
        cluster: Cluster,
        channel: Channel,
        shelf: Shelf,
        trusted: Callable[[], list[Ed25519PublicKey]],
        clock: Callable[[], datetime],
        chance: Callable[[], float],
        tempo: DeployerTempo = DeployerTempo(),
        version: str = "",
    ) -> None:
        """``trusted`` reads the keys that may sign, each time anew. Raises ``TransientError`` when the
        disk cannot be read."""
        self._store = store
        self._namespace = namespace
        self._cluster = cluster
        self._channel = channel
        self._shelf = shelf
        self._trusted = trusted
        self._clock = clock
        self._chance = chance
        self._tempo = tempo
        self._version = version
        self._accepted: Accepted | None = None
        self._newest = 0
        self._refused: bytes | None = None
        self._refused_digest: str | None = None
        self._refusal = ""
        self._fresh = False
        self._since = clock()
        self._attempts = Attempts()
        self._degraded: tuple[str, ...] = ()
        self._report = self._blank()
        self._sent: ReportedState | None = None
        self._sent_at = 0.0
        self._restore()

    def run(self, stop: threading.Event, alive: Callable[[], None] = lambda: None) -> None:
        """Until ``stop``; then says so. Every error is reported and tried again. ``alive`` is called in
        every turn, for whoever watches that it turns."""
        due = 0.0
        while not stop.is_set():
            alive()
            payload = self._channel.take(TAKE_S)
            if payload is not None or time.monotonic() >= due:
                due = time.monotonic() + self.look(payload)
            self._send(self._report)
        self._send(self._report.model_copy(update={"status": "stopped"}))

    def look(self, payload: bytes | None = None) -> float:
        """Take ``payload`` in, look at the cluster, report and act. Seconds until the next look."""
        if payload is not None:
            self._receive(payload)
        elif self._refused is not None:  # the keys may have been renewed meanwhile
            self._receive(self._refused)
        if self._accepted is None:
            self._tell(Observed(rollout_id=None), None)
            return self._tempo.resync_s
        try:
            pause = self._reconcile(self._accepted)
        except ControllerError as error:
            permanent = isinstance(error, PermanentError)
            self._fail(str(error), permanent)
            wait = error.retry_after if isinstance(error, TransientError) else 0.0
            pause = max(backoff(self._attempts.failures, self._chance()), wait)
            self._attempts = replace(self._attempts, failures=self._attempts.failures + 1)
            return min(pause, self._tempo.resync_s)
        self._attempts = replace(self._attempts, failures=0)
        return min(pause, self._tempo.resync_s)

    def _reconcile(self, accepted: Accepted) -> float:
        if self._fresh:
            self._act(accepted.state)
            self._fresh = False
        observed = replace(self._cluster.observe(self._store), degraded=self._degraded)
        self._tell(observed, None)
        state = accepted.state
        if state.rollout_id is None:
            if observed.rollout_id is not None:
                self._cluster.remove(self._store)
                return 1.0
            return self._tempo.resync_s
        decision = decide(
            Desired(str(state.rollout_id), str(state.rollout_id), self._since),
            observed,
            self._clock(),
            attempts=self._attempts,
            jitter=self._chance(),
            resync_s=self._tempo.resync_s,
        )
        if decision.action in (Action.APPLY, Action.REPAIR_DRIFT):
            log.warning("store %s: %s", self._store, decision.reason)
            self._send(self._report)  # so that the centre sees it before it is repaired
            self._act(state)
            self._attempts = replace(self._attempts, repairs=self._attempts.repairs + 1)
        elif decision.action is Action.READY:
            self._attempts = replace(self._attempts, repairs=0)
        return decision.check_after

    def _act(self, state: DesiredState) -> None:
        if state.rollout_id is None or state.daemon_set is None or state.config_map is None:
            self._cluster.remove(self._store)
            self._degraded = ()
            return
        rollout_id = str(state.rollout_id)
        workload = Workload(self._store, rollout_id, self._namespace, state.config_map, state.daemon_set)
        self._degraded = self._cluster.apply(workload).degraded

    def _receive(self, payload: bytes) -> None:
        """Take this state in, or note why not."""
        digest: str | None = None
        try:
            signed = decode_envelope(payload)
            digest = digest_bytes(signed.payload.encode())
            if self._accepted is not None and digest == self._accepted.digest:
                self._forget_refusal()  # the broker sends what it retains after every connection
                return
            state = open_desired(signed, self._trusted())
            newest = self._newest if self._accepted is not None else self._newest - 1
            refusal = refusal_of(state, self._store, self._namespace, newest)
            if refusal:
                self._refuse(payload, digest, refusal)
                return
            self._shelf.save(Kept(state.generation, payload))
        except (ContractError, ControllerError) as error:
            self._refuse(payload, digest, str(error))
            return
        self._forget_refusal()
        self._accepted, self._newest = Accepted(state, digest), state.generation
        self._fresh, self._since, self._attempts = True, self._clock(), Attempts()
        log.info("store %s: took in generation %d, rollout %s", self._store, self._newest, state.rollout_id)

    def _restore(self) -> None:
        """What was taken in before. What the keys of today did not sign is not used, but still counts."""
        kept = self._shelf.load()
        self._newest = kept.generation
        if kept.message is None:
            return
        try:
            signed = decode_envelope(kept.message)
            state = open_desired(signed, self._trusted())
            refusal = refusal_of(state, self._store, self._namespace, 0)
        except (ContractError, ControllerError) as error:
            refusal = str(error)
        if refusal:
            log.error("the state on disk is not used, waiting for the centre: %s", refusal)
            return
        self._accepted = Accepted(state, digest_bytes(signed.payload.encode()))
        self._newest = max(self._newest, state.generation)

    def _refuse(self, payload: bytes, digest: str | None, reason: str) -> None:
        if reason != self._refusal or digest != self._refused_digest:
            log.error("store %s: refused a desired state: %s", self._store, reason)
        self._refused, self._refused_digest, self._refusal = payload, digest, reason[:2000]

    def _forget_refusal(self) -> None:
        self._refused, self._refused_digest, self._refusal = None, None, ""

    def _fail(self, error: str, permanent: bool) -> None:
        trouble = Trouble(error=error[:2000], permanent=permanent)
        if trouble != self._report.trouble:
            log.error("store %s: %s", self._store, error)
        self._tell(None, trouble)

    def _blank(self) -> ReportedState:
        return ReportedState(
            store=self._store,
            at=self._clock(),
            interval_s=self._tempo.report_s,
            deployer_version=self._version,
        )

    def _tell(self, observed: Observed | None, trouble: Trouble | None) -> None:
        """Compose the report; ``observed`` None leaves in it what was seen last."""
        workload = self._report.workload if observed is None else workload_report(observed)
        self._report = self._blank().model_copy(
            update={
                "generation": self._newest if self._accepted is None else self._accepted.state.generation,
                "digest": self._accepted.digest if self._accepted else None,
                "refused_digest": self._refused_digest,
                "refusal": self._refusal,
                "workload": workload,
                "trouble": trouble,
            }
        )
        self._send(self._report)

    def _send(self, report: ReportedState) -> None:
        """Unless the centre has just been told the same."""
        same = self._sent is not None and _without_time(self._sent) == _without_time(report)
        if same and time.monotonic() - self._sent_at < self._tempo.report_s:
            return
        report = report.model_copy(update={"at": self._clock()})
        if self._channel.report(report.to_bytes()):
            self._sent, self._sent_at = report, time.monotonic()


def _without_time(report: ReportedState) -> ReportedState:
    return report.model_copy(update={"at": None})
