"""How a model comes to the node: from a neighbour if one has it, else from the centre, at a capped rate.

The store's link is what is scarce. So neighbours are asked first, and one that says that it is fetching the
model itself is waited for. But a neighbour is never trusted and never needed: what it sends is checked like
everything else, it cannot touch what the centre sent, and all neighbours together get a bounded time.
"""

import hashlib
import hmac
import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from agent.domain.token_bucket import Bucket, full, take
from agent.errors import AgentError, ModelError, SourceBusy, TransientError
from agent.ports import Artifact, ArtifactCache, ArtifactSource, Part

MAX_PEERS = 8
"""Neighbours asked for one model, in the order in which they were found."""
PEERS_SETUP_S = 30.0
PEER_MIN_RATE = 256 * 1024
"""Bytes a second that a neighbour has to manage, on average, before the centre is asked instead."""
ASK_AGAIN_S = 2.0

_log = logging.getLogger(__name__)


def peer_token(artifact_token: str) -> str:
    """What nodes of a store show one another. Made from the artifact token, so that nothing else needs to be
    handed out; one-way, so that a false neighbour does not learn what opens the centre."""
    return hmac.new(artifact_token.encode(), b"storefleet peer v1", hashlib.sha256).hexdigest()


@dataclass(frozen=True, slots=True)
class Limits:
    rate: int = 0
    """Bytes a second from the centre; 0: no cap."""

    def patience_s(self, size_bytes: int) -> float:
        """How long neighbours may take in all. One that fetches from the centre at the capped rate itself is
        given twice the time that this takes."""
        slowest = min(PEER_MIN_RATE, self.rate / 2) if self.rate else PEER_MIN_RATE
        return PEERS_SETUP_S + size_bytes / slowest


class Delivery:
    """``bring`` may be called from several threads and processes; the cache lets one of them write."""

    def __init__(
        self,
        cache: ArtifactCache,
        centre: ArtifactSource,
        peers: Callable[[], Sequence[ArtifactSource]],
        *,
        limits: Limits,
        count: Callable[[int, int], None],
        monotonic: Callable[[], float],
        pause: Callable[[float], bool],
    ) -> None:
        """``count`` is told of bytes fetched from the centre and from neighbours; ``pause`` waits some
        seconds and says True when it is time to give up."""
        self._cache = cache
        self._centre = centre
        self._peers = peers
        self._limits = limits
        self._count = count
        self._monotonic = monotonic
        self._pause = pause

    def bring(self, manifest: Artifact, *, keep: Collection[str] = (), within_limit: bool = False) -> None:
        """Fetch what is missing. Raises ``TransientError`` when trying again may help (network, disk space),
        ``ModelError`` when the artifact is not what the manifest says, ``PermanentError`` when the centre
        refuses. ``keep`` and ``within_limit``: see ``ArtifactCache.make_room``."""
        if self._cache.holds(manifest):
            return
        self._cache.make_room(manifest, keep, within_limit=within_limit)
        if not self._from_peers(manifest):
            self._from_centre(manifest)

    def _from_peers(self, manifest: Artifact) -> bool:
        patience_s = self._limits.patience_s(manifest.size_bytes)
        end = self._monotonic() + patience_s
        useless: set[str] = set()
        while True:
            busy = False
            for peer in [p for p in self._peers() if p.name not in useless][:MAX_PEERS]:
                try:
                    # Half of the time, so that one who drips leaves some for another.
                    self._from_peer(manifest, peer, min(end, self._monotonic() + patience_s / 2))
                    return True
                except _Stopped:
                    raise
                except SourceBusy as error:
                    busy = True
                    _log.info("neighbour is busy with the model", extra={"detail": str(error)})
                except AgentError as error:
                    useless.add(peer.name)
                    _log.info("neighbour is of no help", extra={"detail": str(error)})
                if self._monotonic() >= end:
                    return False
            if not busy:
                return False
            self._wait(ASK_AGAIN_S)

    def _from_peer(self, manifest: Artifact, peer: ArtifactSource, end: float) -> None:
        got = 0
        try:
            with self._cache.receive(manifest, resumable=False) as part:
                if part is None:
                    return
                with peer.open(manifest.digest, 0) as stream:
                    for chunk in stream.chunks:
                        got += len(chunk)
                        self._write(part, chunk, manifest, peer)
                        self._wait(0)
                        if self._monotonic() > end:
                            raise TransientError(f"{peer.name} is too slow: {part.size} bytes so far")
                self._complete(part, manifest, peer)
        finally:
            self._count(0, got)
        _log.info("model fetched from a neighbour", extra={"digest": manifest.digest, "bytes": got})

    def _from_centre(self, manifest: Artifact) -> None:
        got = 0
        try:
            with self._cache.receive(manifest, resumable=True) as part:
                if part is None or part.size == manifest.size_bytes:
                    return
                bucket: Bucket = full(self._limits.rate, self._monotonic())
                with self._centre.open(manifest.digest, part.size) as stream:
                    if stream.start != part.size:
                        part.restart()
                    for chunk in stream.chunks:
                        got += len(chunk)
                        self._write(part, chunk, manifest, self._centre)
                        bucket, wait_s = take(bucket, len(chunk), self._monotonic())
                        self._wait(wait_s)
                self._complete(part, manifest, self._centre)
        finally:
            self._count(got, 0)
        _log.info("model fetched from the centre", extra={"digest": manifest.digest, "bytes": got})

    def _write(self, part: Part, chunk: bytes, manifest: Artifact, source: ArtifactSource) -> None:
        part.write(chunk)
        if part.size > manifest.size_bytes:
            part.restart()
            raise ModelError(
                f"{source.name}: artifact {manifest.digest} is larger than the {manifest.size_bytes} bytes "
                "of its manifest"
            )

    def _complete(self, part: Part, manifest: Artifact, source: ArtifactSource) -> None:
        if part.size < manifest.size_bytes:
            where = f"byte {part.size} of {manifest.size_bytes}"
            raise TransientError(f"{source.name}: artifact {manifest.digest} ended at {where}", 2.0)

    def _wait(self, seconds: float) -> None:
        if self._pause(seconds):
            raise _Stopped("stopped while a model was being fetched; it goes on at the next start")


class _Stopped(TransientError):
    """The program ends."""
