"""Fetches the models of a staging order ahead of time, in a thread of its own, so that a later release finds
them on the node.

The nodes of a store get an order in the same moment. Each begins after a pause of its own, drawn from its
name and the model's digest: the first fetches from the centre, the others then find it at their neighbour.
"""

import hashlib
import logging
import threading
from collections.abc import Callable, Sequence

from agent.delivery import Delivery
from agent.errors import AgentError, ModelError, TransientError
from agent.ports import ArtifactCache
from contract.errors import MessageError
from contract.messages import MAX_CACHED_MODELS, DeliveryTelemetry, decode_staging
from contract.signing import Signed
from contract.workload import ModelManifest

AGAIN_S = 10.0
AGAIN_MAX_S = 300.0
JOIN_S = 2.0

_log = logging.getLogger(__name__)


def spread(device: str, digest: str, within_s: float) -> float:
    """Seconds in [0, ``within_s``), the same for the same device and digest, spread evenly over devices."""
    drawn = hashlib.sha256(f"{device} {digest}".encode()).digest()
    return within_s * int.from_bytes(drawn[:4], "big") / 2**32


class Stager:
    """Implements ``agent.ports.Staging``. ``start`` begins the thread, ``close`` ends it."""

    def __init__(
        self,
        delivery: Delivery,
        cache: ArtifactCache,
        *,
        believe: Callable[[Signed], ModelManifest],
        running: Callable[[], Sequence[str]],
        part_size: Callable[[ModelManifest], int],
        traffic: Callable[[], tuple[int, int]],
        delay_s: Callable[[str], float],
        stop: threading.Event,
    ) -> None:
        """``believe`` raises ``ModelError``; ``running``: digests that this node's release needs;
        ``traffic``: bytes from the centre and from neighbours; ``delay_s``: how long to leave a digest to
        others."""
        self._delivery = delivery
        self._cache = cache
        self._believe = believe
        self._running = running
        self._part_size = part_size
        self._traffic = traffic
        self._delay_s = delay_s
        self._stop = stop
        self._lock = threading.Lock()
        self._changed = threading.Event()
        self._order: bytes | None = None
        self._fetching: ModelManifest | None = None
        self._problem = ""
        self._thread = threading.Thread(target=self._run, name="staging", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """The ``stop`` event is to be set before. A download ends at its next chunk; one whose source says
        nothing is left to itself, it has only a part file that the next one resumes."""
        self._changed.set()
        if self._thread.is_alive():
            self._thread.join(JOIN_S)

    def obey(self, order: bytes) -> None:
        with self._lock:
            self._order = order
        self._changed.set()

    def cached(self) -> list[str]:
        try:
            return self._cache.digests()[:MAX_CACHED_MODELS]
        except TransientError as error:
            _log.warning("cached models not listed", extra={"detail": str(error)})
            return []

    def delivery(self) -> DeliveryTelemetry:
        centre_bytes, peer_bytes = self._traffic()
        with self._lock:
            fetching, problem = self._fetching, self._problem
        return DeliveryTelemetry(
            centre_bytes=centre_bytes,
            peer_bytes=peer_bytes,
            fetching=fetching.digest if fetching else None,
            fetched_bytes=self._part_size(fetching) if fetching else 0,
            problem=problem,
        )

    def _run(self) -> None:
        again_s = AGAIN_S
        while not self._stop.is_set():
            self._changed.clear()
            if self._fetch_all():
                again_s = AGAIN_S
                self._changed.wait()
            elif self._changed.wait(again_s):
                again_s = AGAIN_S
            else:
                again_s = min(AGAIN_MAX_S, 2 * again_s)

    def _fetch_all(self) -> bool:
        """Go through the order once; False when something is to be tried again. A model that cannot be had
        does not hold up the others."""
        with self._lock:
            order = self._order
        problems: list[str] = []
        manifests = self._manifests(order, problems) if order else []
        refused = len(problems)
        keep = [manifest.digest for manifest in manifests]
        for manifest in manifests:
            if self._stop.is_set() or self._changed.is_set():
                break
            try:
                self._fetch(manifest, [*keep, *self._running()])
            except AgentError as error:
                problems.append(str(error))
                _log.warning("model not staged", extra={"digest": manifest.digest, "detail": str(error)})
        with self._lock:
            self._fetching, self._problem = None, "; ".join(problems)[:2000]
        return len(problems) == refused

    def _manifests(self, order: bytes, problems: list[str]) -> list[ModelManifest]:
        try:
            signed = decode_staging(order).models
        except MessageError as error:
            problems.append(f"staging order refused: {error}")
            _log.warning("staging order refused", extra={"detail": str(error)})
            return []
        manifests = []
        for one in signed:
            try:
                manifests.append(self._believe(one))
            except ModelError as error:
                problems.append(str(error))
                _log.warning("staged model refused", extra={"detail": str(error)})
        return manifests

    def _fetch(self, manifest: ModelManifest, keep: Sequence[str]) -> None:
        if self._cache.holds(manifest):
            return
        if self._stop.wait(self._delay_s(manifest.digest)):
            return
        with self._lock:
            self._fetching = manifest
        self._delivery.bring(manifest, keep=keep, within_limit=True)
        _log.info("model staged", extra={"digest": manifest.digest})
