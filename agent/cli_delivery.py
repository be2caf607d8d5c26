"""Builds what brings models to the node and gives them to its neighbours, for ``agent run`` and ``fetch``."""

import logging
import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from agent.adapters.artifact_http import HttpArtifacts, resolve
from agent.adapters.model_cache import ModelCache, believe, believed_text, read_manifest
from agent.adapters.peer_server import PeerServer
from agent.adapters.shadow_process import ShadowProcess
from agent.adapters.traffic_file import TrafficFile
from agent.delivery import Delivery, Limits, peer_token
from agent.errors import ModelError, TransientError
from agent.ports import Artifact
from agent.settings import ModelSettings, RunSettings, read_secret
from agent.shadow import ShadowRunner, Tools
from agent.staging import Stager, spread
from contract.workload import PEER_PORT, ModelManifest

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Models:
    """What a running agent does about models; without a controller's URL and token, nothing."""

    bring: Callable[[ModelManifest], None] | None = None
    """Fetch, for as long as it takes. Raises ``PermanentError``, or ``TransientError`` when told to stop."""
    stager: Stager | None = None
    shadow: ShadowRunner | None = None


def build_cache(settings: ModelSettings) -> ModelCache:
    return ModelCache(settings.data_dir, max_bytes=settings.cache_max_bytes)


def build_delivery(
    settings: ModelSettings, cache: ModelCache, controller_url: str, token: str, stop: threading.Event
) -> Delivery:
    traffic = TrafficFile(settings.data_dir)
    for_peers = peer_token(token)

    def peers() -> Sequence[HttpArtifacts]:
        addresses = resolve(settings.peers_host, settings.peer_port or PEER_PORT)
        return [HttpArtifacts.peer(address, for_peers) for address in addresses]

    return Delivery(
        cache,
        HttpArtifacts.centre(controller_url, token, settings.fetch_rate),
        peers,
        limits=Limits(settings.fetch_rate),
        count=lambda centre, peer: traffic.add(centre_bytes=centre, peer_bytes=peer),
        monotonic=time.monotonic,
        pause=stop.wait,
    )


def insist(delivery: Delivery, manifest: Artifact, timeout_s: float, stop: threading.Event) -> None:
    """Bring the model, trying again for ``timeout_s``. Raises as ``Delivery.bring``."""
    end = time.monotonic() + timeout_s
    while True:
        try:
            delivery.bring(manifest)
        except TransientError as error:
            if stop.is_set() or time.monotonic() + error.retry_after > end:
                raise
            _log.warning("model not fetched yet", extra={"detail": str(error)})
            stop.wait(error.retry_after)
        else:
            return


@contextmanager
def models_for(settings: RunSettings, cache: ModelCache, stop: threading.Event) -> Iterator[Models]:
    """Staging and the server for neighbours, running until the block ends. Raises ``PermanentError``."""
    token = read_secret(settings.artifact_token_file, "artifact token")
    if settings.controller_url is None or token is None:
        yield Models()
        return
    url, over, server = settings.controller_url, threading.Event(), None
    delivery = build_delivery(settings, cache, url, token, stop)
    stager = _stager(settings, cache, build_delivery(settings, cache, url, token, over), over)
    if settings.peer_port:
        server = PeerServer("", settings.peer_port, peer_token(token), cache.offer)
        server.start()
    shadow = _shadow(settings, cache, build_delivery(settings, cache, url, token, over), over)
    stager.start()
    shadow.start()
    try:
        yield Models(lambda manifest: insist(delivery, manifest, math.inf, stop), stager, shadow)
    finally:
        over.set()
        stager.close()
        shadow.close()
        if server is not None:
            server.close()
        cache.close()


def _stager(settings: RunSettings, cache: ModelCache, delivery: Delivery, stop: threading.Event) -> Stager:
    traffic = TrafficFile(settings.data_dir)

    def counts() -> tuple[int, int]:
        now = traffic.read()
        return now.centre_bytes, now.peer_bytes

    def running() -> Sequence[str]:
        try:
            return [read_manifest(settings.model_manifest_file, settings.trusted_keys_file).digest]
        except ModelError:
            return []  # Then this release runs no model, and says so itself.

    return Stager(
        delivery,
        cache,
        believe=lambda signed: believe(signed, settings.trusted_keys_file, "staged model"),
        running=running,
        part_size=cache.part_size,
        traffic=counts,
        delay_s=lambda digest: (
            spread(settings.device, digest, settings.stage_spread_s) if settings.peers_host else 0.0
        ),
        stop=stop,
    )


def _shadow(
    settings: RunSettings, cache: ModelCache, delivery: Delivery, stop: threading.Event
) -> ShadowRunner:
    def bring(manifest: ModelManifest) -> Path:
        delivery.bring(manifest, within_limit=True)
        return cache.verified(manifest)

    def start(path: Path, manifest: ModelManifest) -> ShadowProcess:
        return ShadowProcess(path, manifest, settings.runtime, memory_mb=settings.shadow_memory_mb)

    tools = Tools(
        believe=lambda signed: believed_text(signed, settings.trusted_keys_file, "shadow order"),
        bring=bring,
        start=start,
        clock=time.time,
        monotonic=time.monotonic,
        thread_time=time.thread_time,
    )
    return ShadowRunner(settings.store, tools, stop)
