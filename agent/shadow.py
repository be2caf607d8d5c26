"""Tries a candidate model on a sample of live frames, beside the model that runs and never in its way.

The candidate runs in a process of its own (``Candidate``), which has the lowest priority and may take no more
memory than it is given, so that neither its crash nor its appetite reaches the live loop. That loop only
hands over a reference to a frame that it has finished with, and only when one is wanted. Everything else
happens in this runner's thread: fetching the model, waiting for the answer, comparing, and waiting again
until the budget of processor time has paid for it.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from agent.domain.detection import Detection
from agent.domain.golden import percentile
from agent.domain.shadow import Totals, Turns, compare, microseconds
from agent.domain.token_bucket import Bucket, full, take
from agent.envelope import utc
from agent.errors import AgentError, ModelError, TransientError
from agent.ports import Candidate, Image
from contract.errors import MessageError
from contract.shadow import MAX_SHADOW_CLASSES, ShadowClass, ShadowOrder, ShadowTelemetry, decode_shadow_order
from contract.signing import Signed
from contract.workload import ModelManifest, decode_signed

IDLE_S = 1.0
"""How often the order's end is looked at while there is nothing to do."""
AGAIN_S, AGAIN_MAX_S = 10.0, 300.0
MAX_CRASHES = 5
"""In a row, without a frame between them; then the candidate is not tried again under this order."""
TIMES_KEPT = 200
JOIN_S = 2.0

State = Literal["waiting", "fetching", "loading", "running", "ended", "failed"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Tools:
    believe: Callable[[Signed], bytes]
    """The text that a trusted key signed. Raises ``ModelError``."""
    bring: Callable[[ModelManifest], Path]
    """Fetch the model; where it lies, verified. Raises ``AgentError``."""
    start: Callable[[Path, ModelManifest], Candidate]
    """Load it. Raises ``ModelError``, ``TransientError``."""
    clock: Callable[[], float]
    monotonic: Callable[[], float]
    thread_time: Callable[[], float]
    """Processor time of the calling thread."""


@dataclass(slots=True)
class _Run:
    """What is known of one candidate. ``cpu_s`` is all processor time spent on it, ours included."""

    order: ShadowOrder
    since: float
    began: float
    bucket: Bucket
    totals: Totals = field(default_factory=Totals)
    turns: Turns = field(default_factory=Turns)
    times_ms: deque[float] = field(default_factory=lambda: deque(maxlen=TIMES_KEPT))
    inference_cpu_s: float = 0.0
    cpu_s: float = 0.0
    crashes: int = 0
    state: State = "waiting"
    problem: str = ""


class ShadowRunner:
    """Implements ``agent.ports.Shadow``. ``start`` begins the thread, ``close`` ends it."""

    def __init__(self, store: str, tools: Tools, stop: threading.Event) -> None:
        self._store = store
        self._tools = tools
        self._stop = stop
        self._lock = threading.Lock()
        self._changed = threading.Event()
        self._wanted = threading.Event()
        """A frame would be looked at now."""
        self._offered = threading.Event()
        self._frame: tuple[Image, tuple[Detection, ...]] | None = None
        self._order: ShadowOrder | None = None
        self._run: _Run | None = None
        self._thread = threading.Thread(target=self._work, name="shadow", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """The ``stop`` event is to be set before."""
        self._changed.set()
        self._offered.set()
        if self._thread.is_alive():
            self._thread.join(JOIN_S)

    def obey(self, order: bytes) -> None:
        """Take a signed ``ShadowOrder`` as it came from the broker, empty: none any more. A bad one is logged
        and changes nothing."""
        try:
            taken = self._read(order) if order else None
        except (MessageError, ModelError) as error:
            _log.warning("shadow order refused", extra={"detail": str(error)})
            return
        with self._lock:
            same = taken == self._order  # The broker sends it again with every connection.
            self._order = taken
        if not same:
            self._changed.set()
            self._offered.set()

    def offer(self, camera: str, image: Image, detections: Sequence[Detection]) -> None:
        """A frame of a camera that is online, with what the current model sees in it. Nobody may write to
        ``image`` afterwards. Returns at once."""
        if not self._wanted.is_set():
            return
        with self._lock:
            run = self._run
            if run is None or not run.turns.offer(camera, self._tools.monotonic()):
                return
            self._frame = image, tuple(detections)
        self._wanted.clear()
        self._offered.set()

    def report(self) -> ShadowTelemetry | None:
        with self._lock:
            return None if self._run is None else _told(self._run, self._tools.monotonic())

    def _read(self, payload: bytes) -> ShadowOrder:
        order = decode_shadow_order(self._tools.believe(decode_signed(payload)))
        if order.store != self._store:
            raise ModelError(f"it is for store {order.store}, not for {self._store}")
        return order

    def _work(self) -> None:
        while not self._stop.is_set():
            self._changed.clear()
            run = self._present()
            if run is None or run.state == "failed":
                self._changed.wait(IDLE_S)
                continue
            try:
                self._try(run)
            except AgentError as error:
                self._failed(run, error)

    def _present(self) -> _Run | None:
        """The run of the order in force; None when there is none. A new order for the same model goes on with
        what was counted."""
        now, steady = self._tools.clock(), self._tools.monotonic()
        with self._lock:
            order, run = self._order, self._run
            if order is None or order.until.timestamp() <= now:
                if run is not None and run.state != "ended":
                    run.state, run.problem = "ended", ""
                return None
            rate = order.cpu_percent * 1e4
            if run is None or run.order.model.digest != order.model.digest:
                run = _Run(order, since=now, began=steady, bucket=full(rate, steady))
            elif run.order != order:
                run.bucket = replace(run.bucket, rate=rate)
                run.crashes = 0
                run.order, run.state, run.problem = order, "waiting", ""
            elif run.state == "ended":
                run.state = "waiting"
            self._run = run
            return run

    def _in_force(self, run: _Run) -> bool:
        with self._lock:
            same = self._order == run.order
        return same and run.order.until.timestamp() > self._tools.clock() and not self._stop.is_set()

    def _try(self, run: _Run) -> None:
        """Load the candidate and show it frames until the order changes. Raises ``AgentError``."""
        self._enter(run, "fetching")
        path = self._tools.bring(run.order.model)
        self._enter(run, "loading")
        mark = self._tools.thread_time()
        candidate = self._tools.start(path, run.order.model)
        try:
            while True:
                spent = candidate.cpu_s() + self._tools.thread_time() - mark
                mark = self._tools.thread_time()
                if not self._pay(run, spent):
                    return
                frame = self._next_frame(run)
                if frame is None:
                    return
                self._compare(run, candidate, *frame)
        finally:
            candidate.close()
            self._wanted.clear()

    def _compare(self, run: _Run, candidate: Candidate, image: Image, current: Sequence[Detection]) -> None:
        look = candidate.look(image)
        found = compare(current, look.detections)
        with self._lock:
            run.totals.add(found)
            run.times_ms.append(look.took_ms)
            run.inference_cpu_s += look.cpu_s
            run.crashes, run.problem, run.state = 0, "", "running"

    def _pay(self, run: _Run, spent_s: float) -> bool:
        """Take it out of the budget and wait until that is covered; False when the order changed."""
        with self._lock:
            run.cpu_s += spent_s
            run.bucket, wait_s = take(run.bucket, microseconds(spent_s), self._tools.monotonic())
        end = self._tools.monotonic() + wait_s
        while self._in_force(run):
            left = end - self._tools.monotonic()
            if left <= 0:
                return True
            self._changed.wait(min(left, IDLE_S))
            if self._changed.is_set() and not self._in_force(run):
                return False
        return False

    def _next_frame(self, run: _Run) -> tuple[Image, tuple[Detection, ...]] | None:
        """None when the order changed before a camera offered one."""
        self._offered.clear()
        self._wanted.set()
        waited = 0.0
        while self._in_force(run):
            if self._offered.wait(IDLE_S):
                with self._lock:
                    frame, self._frame = self._frame, None
                if frame is not None:
                    return frame
                self._offered.clear()
            waited += IDLE_S
            if waited > 2 * IDLE_S:
                self._enter(run, "waiting")
        return None

    def _failed(self, run: _Run, error: AgentError) -> None:
        with self._lock:
            run.crashes += 1
            run.problem = str(error)[:1000]
            final = isinstance(error, ModelError) or run.crashes >= MAX_CRASHES
            run.state = "failed" if final else "waiting"
            pause = min(AGAIN_MAX_S, AGAIN_S * 2.0 ** (run.crashes - 1))
        _log.warning("candidate not tried", extra={"digest": run.order.model.digest, "detail": str(error)})
        if not final:
            after = error.retry_after if isinstance(error, TransientError) else 0.0
            self._changed.wait(max(pause, after))

    def _enter(self, run: _Run, state: State) -> None:
        with self._lock:
            run.state = state


def _told(run: _Run, now: float) -> ShadowTelemetry:
    totals, times = run.totals, list(run.times_ms)
    matched = totals.matched.total()
    names = totals.worst(MAX_SHADOW_CLASSES)
    return ShadowTelemetry(
        model=run.order.model.digest,
        rollout_id=run.order.rollout_id,
        state=run.state,
        problem=run.problem,
        since=utc(run.since),
        frames=totals.frames,
        matched=matched,
        only_current=totals.only_current.total(),
        only_candidate=totals.only_candidate.total(),
        classes={
            name: ShadowClass(
                matched=totals.matched[name],
                only_current=totals.only_current[name],
                only_candidate=totals.only_candidate[name],
            )
            for name in names
        },
        confidence_delta=totals.confidence_delta / matched if matched else None,
        inference_ms_p50=percentile(times, 0.5) if times else None,
        inference_ms_p95=percentile(times, 0.95) if times else None,
        cpu_ms=1000 * run.inference_cpu_s / totals.frames if totals.frames else None,
        cpu_percent=100 * run.cpu_s / max(1.0, now - run.began),
    )
