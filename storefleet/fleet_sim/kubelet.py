"""A fake kubelet for all simulated nodes at once, as kwok does it: it runs nothing and reports everything.

One watch sees every pod of the fleet. What is due is kept in a heap and sent by a few threads over
connections that stay open: a thousand idle stores cost one watch and no heartbeat, because the control plane
is told to do without (``objects.ARGUMENTS``).
"""

import heapq
import logging
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from controller.domain.workload import MODEL_ANNOTATION, NAME, ROLLOUT_ANNOTATION, STORE_LABEL
from k3s.testbed.api import ApiError
from k3s.testbed.kubeconfig import Access
from k3s.testbed.session import Session
from storefleet.fleet_sim.failures import Character
from storefleet.fleet_sim.pods import Container, Status, containers_of, course, status_body

log = logging.getLogger(__name__)

SENDERS = 4
PAUSE_S = 1.0
"""Before a watch that broke is taken up again."""
MERGE = "application/merge-patch+json"
PODS = f"app.kubernetes.io/name={NAME}"


@dataclass(frozen=True, slots=True)
class Running:
    """What the agent of a store's Ready pod would know of itself."""

    store: str
    rollout_id: str
    model_digest: str


@dataclass
class Trace:
    """When the fake kubelet saw or did things to the pod of one store and one deployment. Wall clock, s."""

    created: float = 0.0
    """Seen without a node."""
    bound: float = 0.0
    """Seen with a node."""
    ready: float = 0.0
    """Its readiness was reported."""
    old_ordered: float = 0.0
    """The pod before it was seen to be ending."""
    old_gone: float = 0.0


@dataclass
class _Pod:
    namespace: str
    name: str
    store: str
    rollout_id: str
    model_digest: str
    bound: bool = False
    ending: bool = False
    ready: bool = False


@dataclass(order=True)
class _Due:
    at: float
    number: int
    act: Callable[[], None] = field(compare=False)


class FakeKubelet:
    """``characters`` by store. ``on_ready`` and ``on_ended`` are called in one of its threads, ``on_second``
    when a store gets a pod of another deployment than its first, which is when its failure begins."""

    def __init__(
        self,
        access: Access,
        characters: Mapping[str, Character],
        on_ready: Callable[[Running], None],
        on_ended: Callable[[str], None],
        on_second: Callable[[str], None] = lambda store: None,
        is_off: Callable[[str], bool] = lambda store: False,
    ) -> None:
        self._access = access
        self._characters = characters
        self._on_ready = on_ready
        self._on_ended = on_ended
        self._on_second = on_second
        self._is_off = is_off
        self._stop = threading.Event()
        self._wake = threading.Condition()
        self._heap: list[_Due] = []
        self._number = 0
        self._pods: dict[str, _Pod] = {}
        """By uid."""
        self._first: dict[str, str] = {}
        """Store → its first rollout id."""
        self._ordered: dict[str, float] = {}
        self._gone: dict[str, float] = {}
        self._local = threading.local()
        self._senders = ThreadPoolExecutor(SENDERS, thread_name_prefix="kubelet")
        self._threads: list[threading.Thread] = []
        self.traces: dict[tuple[str, str], Trace] = {}
        """By store and rollout id."""
        self.reports = 0
        self.failures = 0

    def start(self) -> None:
        for target in (self._watch, self._run):
            thread = threading.Thread(target=target, name=f"kubelet-{target.__name__}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def close(self) -> None:
        self._stop.set()
        with self._wake:
            self._wake.notify_all()
        self._senders.shutdown(wait=True, cancel_futures=True)

    def after(self, seconds: float, act: Callable[[], None]) -> None:
        """Call ``act`` in one of the senders' threads, unless closed by then."""
        with self._wake:
            self._number += 1
            heapq.heappush(self._heap, _Due(time.monotonic() + seconds, self._number, act))
            self._wake.notify()

    def send(self, method: str, path: str, body: Any = None, content_type: str = "application/json") -> Any:
        """A request on this thread's connection. Raises ``ApiError``."""
        session: Session | None = getattr(self._local, "session", None)
        if session is None:
            session = self._local.session = Session(self._access)
        self.reports += 1
        return session.request(method, path, body, content_type=content_type)

    def armed(self, store: str, rollout_id: str) -> bool:
        """Whether the store's failure has begun, as it has for every deployment but the first."""
        return self._first.get(store, rollout_id) != rollout_id

    def _watch(self) -> None:
        session = Session(self._access)
        while not self._stop.is_set():
            try:
                for change, pod in session.watch("/api/v1/pods", {"labelSelector": PODS}):
                    self._take(change, pod)
                    if self._stop.is_set():
                        return
            except ApiError as error:
                if not self._stop.is_set():
                    log.warning("%s", error)
                    self._stop.wait(PAUSE_S)

    def _take(self, change: str, pod: Mapping[str, Any]) -> None:
        metadata, now = pod["metadata"], time.time()
        uid = metadata["uid"]
        if change == "DELETED":
            gone = self._pods.pop(uid, None)
            if gone is not None and gone.bound:
                self._gone[gone.store] = now
                if gone.ready:
                    self._on_ended(gone.store)
            return
        if metadata["labels"].get(STORE_LABEL) not in self._characters:
            return
        known = self._pods.get(uid)
        if known is None:
            annotations = metadata.get("annotations", {})
            known = self._pods[uid] = _Pod(
                metadata["namespace"],
                metadata["name"],
                metadata["labels"][STORE_LABEL],
                annotations.get(ROLLOUT_ANNOTATION, ""),
                annotations.get(MODEL_ANNOTATION, ""),
            )
            self._begin(known, now)
        if metadata.get("deletionTimestamp") and not known.ending:
            known.ending = True
            self._ordered[known.store] = now
            self.after(self._characters[known.store].stop_s, partial(self._end, uid, known))
        elif pod["spec"].get("nodeName") and not known.bound:
            known.bound = True
            self._trace(known).bound = now
            containers = containers_of(pod)
            character = self._characters[known.store]
            for status in course(character, self.armed(known.store, known.rollout_id)):
                self.after(status.after_s, partial(self._report, uid, known, status, containers))

    def _begin(self, pod: _Pod, now: float) -> None:
        trace = self._trace(pod)
        trace.created = trace.created or now
        trace.old_ordered = trace.old_ordered or self._ordered.get(pod.store, 0.0)
        trace.old_gone = trace.old_gone or self._gone.get(pod.store, 0.0)
        first = self._first.setdefault(pod.store, pod.rollout_id)
        if first != pod.rollout_id:
            self._on_second(pod.store)

    def _trace(self, pod: _Pod) -> Trace:
        return self.traces.setdefault((pod.store, pod.rollout_id), Trace())

    def _run(self) -> None:
        while not self._stop.is_set():
            with self._wake:
                now = time.monotonic()
                if not self._heap or self._heap[0].at > now:
                    self._wake.wait(self._heap[0].at - now if self._heap else None)
                    continue
                due = heapq.heappop(self._heap)
            self._senders.submit(self._act, due.act)

    def _act(self, act: Callable[[], None]) -> None:
        try:
            act()
        except ApiError as error:
            self.failures += 1
            log.warning("%s", error)
        except Exception:  # a thread of a pool that dies would die unheard
            self.failures += 1
            log.exception("the fake kubelet failed")

    def _report(self, uid: str, pod: _Pod, status: Status, containers: tuple[Container, ...]) -> None:
        if uid not in self._pods or pod.ending:
            return
        if self._is_off(pod.store):
            self.after(PAUSE_S, partial(self._report, uid, pod, status, containers))
            return
        clock = datetime.now(UTC) + timedelta(seconds=self._characters[pod.store].skew_s)
        body = status_body(status, containers, clock)
        path = f"/api/v1/namespaces/{pod.namespace}/pods/{pod.name}/status"
        try:
            self.send("PATCH", path, body, MERGE)
        except ApiError as error:
            if error.status != 404:
                raise
            return  # deleted at the same moment
        pod.ready = status.ready
        if status.ready:
            trace = self._trace(pod)
            trace.ready = trace.ready or time.time()
            self._on_ready(Running(pod.store, pod.rollout_id, pod.model_digest))

    def _end(self, uid: str, pod: _Pod) -> None:
        if self._is_off(pod.store):
            self.after(PAUSE_S, partial(self._end, uid, pod))
            return
        path = f"/api/v1/namespaces/{pod.namespace}/pods/{pod.name}"
        options = {"kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 0}
        try:
            self.send("DELETE", path, {**options, "preconditions": {"uid": uid}})
        except ApiError as error:
            if error.status not in (404, 409):  # gone already
                raise
