"""The life of one agent process: get ready, take the node, look and report, leave.

Phases, as the health file tells them: ``starting`` → ``standby`` (all ready, the node still belongs to
the previous release) → ``active`` → ``draining``; or ``failed``, when the release cannot run here. A
failed agent stays up and says why, takes no lock, and so leaves the node to the release before it.
See ``agent.handover`` for the order of things when a node changes hands.
"""

import functools
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol
from uuid import UUID, uuid4

import numpy as np

from agent.config_watch import ConfigWatch
from agent.domain.model_fit import describe_misfit
from agent.envelope import Origin
from agent.errors import PermanentError, TransientError
from agent.handover import Claim, leave
from agent.health import HealthKeeper
from agent.loop import Loop, opened
from agent.pipeline import MakeInspector, Pipeline
from agent.ports import Broker, Detector, Outbox, ReferenceViews, Shadow, Staging
from agent.publisher import Publisher
from agent.sharing import Sharing, Solo
from agent.sources import OpenSource, Sources
from agent.telemetry import DeviceReporter, Probe
from contract.errors import Problem
from contract.golden import GoldenReport
from contract.messages import DeviceState
from contract.store_config import StoreConfig
from contract.topics import DeviceTopics, shadow_topic, staging_topic
from contract.workload import HEALTH_STALE_S, AgentHealth, Phase

CHORES_EVERY_S = 1.0
"""How often the configuration file is looked at and the health file written."""
WARM_UP_RUNS = 2
PICTURES_WITHIN_S = 6.0
"""Opening an RTSP camera takes about 2 s to its first picture."""

_log = logging.getLogger(__name__)


class DurableOutbox(Outbox, Protocol):
    damage: str

    def close(self) -> None: ...


class ConnectBroker(Protocol):
    def __call__(self, session_id: UUID, *, will: tuple[str, bytes], subscriptions: list[str]) -> Broker:
        """``will`` is topic and payload. Raises ``PermanentError`` for an unusable address."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What a runtime is made of; the composition root fills it with adapters."""

    store: str
    device: str
    rollout_id: UUID | None
    agent_version: str
    config_file: Path
    telemetry_s: float
    drain_s: float
    load_model: Callable[[], Detector]
    """Verifies and loads. Raises ``ModelError``."""
    model_works: Callable[[], None]
    """Called once the model has taken over the node."""
    open_source: OpenSource
    make_inspector: MakeInspector
    references: ReferenceViews
    open_outbox: Callable[[Origin], DurableOutbox]
    new_id: Callable[[], UUID]
    connect: ConnectBroker
    claim: Claim
    probe: Probe
    write_health: Callable[[AgentHealth], None]
    """Raises ``TransientError``."""
    staging: Staging | None = None
    """None: this agent cannot fetch models."""
    shadow: Shadow | None = None
    """None: this agent cannot fetch candidates."""
    golden: Callable[[], GoldenReport | None] | None = None
    """How the release did on its golden set."""
    sharing: Sharing = field(default_factory=Solo)
    """Which of the store's cameras are this node's."""
    clock: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic


class Runtime:
    """One process's life; ``run`` returns its exit status."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._health = HealthKeeper(os.getpid(), parts.rollout_id, parts.clock)
        self._watch = ConfigWatch(parts.config_file, check=self._wrong_store)
        self._sources = Sources(parts.open_source)
        self._pipeline: Pipeline | None = None
        self._loop: Loop | None = None
        self._crash: Exception | None = None
        self._over = threading.Event()
        self._poke = threading.Event()
        """Set when the health file must not wait for its turn."""
        self._watching = threading.Event()
        """Set when the thread of ``_watch_config`` owns ``_watch``."""

    def run(self, stop: threading.Event) -> int:
        """Live until ``stop`` is set; 0 after an orderly end, 1 when something made it impossible."""
        health = threading.Thread(target=self._keep_health, name="health")
        health.start()
        # Not waited for at the end: a large file takes seconds, and a disk that hangs takes for ever.
        threading.Thread(target=self._watch_config, args=(stop,), name="configuration", daemon=True).start()
        try:
            self._live(stop)
        except Exception as error:  # noqa: BLE001 - reported in health and log
            self._crashed(error)
        finally:
            self._parts.claim.release()
            self._sources.close()
            self._over.set()
            self._poke.set()
            health.join()
        return 1 if self._crash else 0

    def _live(self, stop: threading.Event) -> None:
        try:
            ready = self._get_ready(stop)
        except Exception as error:  # noqa: BLE001 - reported in health and log
            self._crashed(error)  # What was refused stays refused: this release cannot run here.
            stop.wait()
            return
        if ready is None:
            return
        self._enter("standby")
        if self._parts.claim.wait(stop):
            self._own_the_node(*ready, stop)

    def _get_ready(self, stop: threading.Event) -> tuple[Detector, StoreConfig] | None:
        """The loaded model and a configuration that fits it; None when ``stop`` was set first."""
        detector = self._parts.load_model()
        _warm_up(detector, [(detector.info.image_size[1], detector.info.image_size[0])])
        self._health.loaded(detector.info.digest)
        _log.info("model loaded", extra={"digest": detector.info.digest, "runtime": detector.info.runtime})
        self._watch.recheck(lambda config: [*self._wrong_store(config), *_misfit(detector, config)])
        while not self._watch.poll() or (config := self._watch.config) is None:
            self._enter("failed", self._watch.error)
            if stop.wait(CHORES_EVERY_S):
                return None
        self._watching.set()
        self._sources.apply(opened(config, self._parts.sharing.foresee(_names(config))))
        _warm_up(detector, {camera.frame_size for camera in config.cameras})
        self._await_pictures(stop)
        return detector, config

    def _await_pictures(self, stop: threading.Event) -> None:
        """While the previous release still watches: be ready only when our cameras deliver too, so that none
        goes unwatched. A camera that does not is not waited for long."""
        end = self._parts.monotonic() + PICTURES_WITHIN_S
        while self._parts.claim.owned_by_another() and self._parts.monotonic() < end:
            if all(source.latest(0) is not None for source in self._sources.by_camera.values()):
                return
            if stop.wait(0.05):
                return

    def _own_the_node(self, detector: Detector, config: StoreConfig, stop: threading.Event) -> None:
        parts = self._parts
        info = detector.info
        origin = Origin(parts.store, parts.device, info.version, info.digest, parts.rollout_id)
        outbox = self._open_outbox(origin, stop)
        if outbox is None:
            return
        config = self._watch.config or config
        share = parts.sharing.begin(_names(config))
        self._sources.apply(opened(config, share))
        pipeline = Pipeline(
            config,
            detector,
            outbox,
            make_inspector=parts.make_inspector,
            references=parts.references,
            new_id=parts.new_id,
            share=share,
            tenure=parts.sharing,
            shadow=parts.shadow,
        )
        self._pipeline = pipeline
        self._loop = loop = Loop(
            config, pipeline, self._sources, clock=parts.clock, monotonic=parts.monotonic, share=share
        )
        if self._watch.config is not None and self._watch.config is not config:
            # It may have changed before the loop was there to be told.
            parts.sharing.configure(_names(self._watch.config))
            loop.reconfigure(self._watch.config)
        broker, publisher = self._publisher(pipeline, outbox, origin)
        self._enter("active", outbox.damage)
        parts.model_works()
        self._work(loop, publisher, stop)
        self._loop = None  # It no longer turns, and need not.
        if self._crash is None:
            self._enter("draining")
            if not parts.claim.successor_waits():
                parts.sharing.resign()
            leave(
                parts.claim,
                publisher,
                broker,
                drain_s=parts.drain_s,
                monotonic=parts.monotonic,
                reason="stopped",
            )
        outbox.close()

    def _publisher(
        self, pipeline: Pipeline, outbox: DurableOutbox, origin: Origin
    ) -> tuple[Broker, Publisher]:
        """A new session with the broker, and what publishes on it."""
        parts = self._parts
        session_id = uuid4()
        reporter = DeviceReporter(
            session_id=session_id,
            origin=origin,
            agent_version=parts.agent_version,
            interval_s=parts.telemetry_s,
            pipeline=pipeline,
            sources=self._sources,
            outbox=outbox,
            watch=self._watch,
            probe=parts.probe,
            clock=parts.clock,
            note=outbox.damage,
            staging=parts.staging,
            golden_told=parts.golden,
            shadow=parts.shadow,
        )
        topics = DeviceTopics(parts.store, parts.device)
        broker = parts.connect(
            session_id,
            will=(topics.state, _death(reporter.birth())),
            subscriptions=[
                topics.acks,
                topics.state,
                staging_topic(parts.store),
                shadow_topic(parts.store),
            ],
        )
        publisher = Publisher(
            broker,
            outbox,
            topics,
            reporter,
            clock=parts.clock,
            monotonic=parts.monotonic,
            telemetry_s=parts.telemetry_s,
            on_staging=parts.staging.obey if parts.staging else None,
            on_shadow=parts.shadow.obey if parts.shadow else None,
        )
        return broker, publisher

    def _work(self, loop: Loop, publisher: Publisher, stop: threading.Event) -> None:
        """The inference loop in this thread, the publisher and the sharing of cameras in threads of their
        own, until ``stop`` or a crash."""
        over = threading.Event()

        def beside(work: Callable[[], None]) -> Callable[[], None]:
            def run() -> None:
                try:
                    work()
                except Exception as error:  # noqa: BLE001 - reported in health and log
                    self._crashed(error)
                    stop.set()

            return run

        def turns() -> bool:
            return self._parts.monotonic() - loop.turned_at < HEALTH_STALE_S

        share = functools.partial(self._parts.sharing.run, over, loop.reassign, turns)
        publish = functools.partial(publisher.run, over)
        threads = [
            threading.Thread(target=beside(publish), name="publisher"),
            threading.Thread(target=beside(share), name="sharing"),
        ]
        for thread in threads:
            thread.start()
        try:
            loop.run(stop)
        except Exception as error:  # noqa: BLE001 - reported in health and log
            self._crashed(error)
        finally:
            over.set()
            for thread in threads:
                thread.join()

    def _open_outbox(self, origin: Origin, stop: threading.Event) -> DurableOutbox | None:
        while True:
            try:
                return self._parts.open_outbox(origin)
            except TransientError as error:
                self._enter("standby", str(error))
                _log.error("outbox cannot be opened", extra={"detail": str(error)})
                if stop.wait(error.retry_after):
                    return None

    def _watch_config(self, stop: threading.Event) -> None:
        try:
            while not self._over.wait(CHORES_EVERY_S):
                changed = self._watching.is_set() and self._watch.poll()
                loop, config = self._loop, self._watch.config
                if changed and loop is not None and config is not None:
                    self._parts.sharing.configure(_names(config))
                    loop.reconfigure(config)
        except Exception as error:  # noqa: BLE001 - reported in health and log
            self._crashed(error)
            stop.set()

    def _keep_health(self) -> None:
        while not self._over.is_set():
            self._write_health()
            self._poke.wait(CHORES_EVERY_S)
            self._poke.clear()
        self._write_health()

    def _enter(self, phase: Phase, error: str = "") -> None:
        self._health.enter(phase, error)
        self._poke.set()

    def _write_health(self) -> None:
        reports = self._pipeline.reports if self._pipeline else []
        loop = self._loop
        turned = None if loop is None else self._parts.monotonic() - loop.turned_at
        try:
            self._parts.write_health(self._health.report(reports, turned))
        except TransientError as error:
            _log.error("health not written", extra={"detail": str(error)})

    def _crashed(self, error: Exception) -> None:
        """An unusable release or a damaged disk is told in words; anything else is a mistake of ours."""
        self._crash = error
        expected = isinstance(error, PermanentError)
        self._enter("failed", str(error) if expected else f"{type(error).__name__}: {error}")
        _log.error("agent cannot go on", extra={"detail": str(error)}, exc_info=None if expected else error)

    def _wrong_store(self, config: StoreConfig) -> list[Problem]:
        if config.store == self._parts.store:
            return []
        return [Problem("store", f"this node belongs to store {self._parts.store}, not {config.store}")]


def _warm_up(detector: Detector, sizes: Iterable[tuple[int, int]]) -> None:
    """Run the model on blank frames of ``sizes`` (width, height), so that the first real one is not slow."""
    for width, height in sizes:
        for _ in range(WARM_UP_RUNS):
            detector.detect(np.zeros((height, width, 3), np.uint8))


def _names(config: StoreConfig) -> list[str]:
    return [camera.id for camera in config.cameras]


def _misfit(detector: Detector, config: StoreConfig) -> list[Problem]:
    text = describe_misfit(detector.info.names, [product.sku for product in config.planogram])
    return [Problem("planogram", text)] if text else []


def _death(birth: DeviceState) -> bytes:
    return birth.model_copy(update={"status": "offline", "reason": "connection lost"}).to_bytes()
