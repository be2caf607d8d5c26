"""The inference loop: whose turn is it, and is there a new frame?

Cameras take turns by due time at their configured rate, one frame each, newest only; under overload all
of them get slower together and none starves. Due times run on a steady clock, so that setting the wall
clock neither stops the loop nor makes it race; ``now`` is wall time, as the frames' capture times are.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass

from agent.domain.sharing import ALL_CAMERAS, Share
from agent.pipeline import Pipeline
from agent.sources import Sources
from contract.store_config import Camera, StoreConfig

LOOK_AGAIN_S = 0.02
"""When a due camera has no new frame yet, it is asked again after this time."""
SILENCE_EVERY_S = 0.5
"""How often the pipeline hears that a camera has nothing new."""
IDLE_S = 0.25
OPENING_S = 6.0
"""A camera that is taken over from another node is not said to be silent before it could be opened."""

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Turn:
    """A camera's place in the queue. Times of the steady clock."""

    period: float
    due: float
    quiet_since: float
    last_number: int = 0


class Loop:
    """Belongs to one thread, but for ``reconfigure``, ``reassign`` and ``turned_at``. ``sources`` and
    ``pipeline`` have ``config`` and ``share`` already."""

    def __init__(
        self,
        config: StoreConfig,
        pipeline: Pipeline,
        sources: Sources,
        *,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
        share: Share = ALL_CAMERAS,
    ) -> None:
        self.turned_at = monotonic()
        """When the loop last came round, by the steady clock: the sign of life for the probes."""
        self._pipeline = pipeline
        self._sources = sources
        self._clock = clock
        self._monotonic = monotonic
        self._turns: dict[str, _Turn] = {}
        self._config = config
        self._share = share
        self._next_config: StoreConfig | None = None
        self._next_share: Share | None = None
        self._config_lock = threading.Lock()
        self._queue_up()

    def run(self, stop: threading.Event) -> None:
        """Turn until ``stop`` is set, then store the state. Raises ``PermanentError`` when the outbox is
        unusable."""
        while not stop.is_set():
            wait = self.turn()
            if wait > 0:
                stop.wait(wait)
        self._pipeline.save(self._clock())

    def reconfigure(self, config: StoreConfig) -> None:
        """Change to ``config`` before the next frame."""
        with self._config_lock:
            self._next_config = config

    def reassign(self, share: Share) -> None:
        """Watch the cameras of ``share`` from the next frame on."""
        with self._config_lock:
            self._next_share = share

    def turn(self) -> float:
        """Give every due camera its turn; returns the seconds until the next one is due."""
        self.turned_at = self._monotonic()
        self._take_config()
        due = [item for item in self._turns.items() if item[1].due <= self.turned_at]
        for camera, turn in sorted(due, key=lambda item: item[1].due):
            self._look(camera, turn)
        next_due = min((turn.due for turn in self._turns.values()), default=self._monotonic() + IDLE_S)
        return min(IDLE_S, max(0.0, next_due - self._monotonic()))

    def _look(self, camera: str, turn: _Turn) -> None:
        source = self._sources.by_camera[camera]
        frame = source.latest(turn.last_number)
        now = self._monotonic()
        if frame is not None:
            turn.last_number = frame.number
            turn.quiet_since = now
            turn.due = max(turn.due + turn.period, now)
            self._pipeline.process(camera, frame, source.health(), self._clock())
            return
        turn.due = now + LOOK_AGAIN_S
        if now - turn.quiet_since >= SILENCE_EVERY_S:
            turn.quiet_since = now
            self._pipeline.silence(camera, source.health(), self._clock())

    def _take_config(self) -> None:
        with self._config_lock:
            config, self._next_config = self._next_config, None
            share, self._next_share = self._next_share, None
        if config is None and share is None:
            return
        self._config, self._share = config or self._config, share or self._share
        changed = self._sources.apply(opened(self._config, self._share))
        for camera in changed:
            self._turns.pop(camera, None)
        if share is not None:
            self._pipeline.reassign(share)
        if config is not None:
            self._pipeline.configure(config)
            extra = {"digest": config.digest, "cameras_changed": sorted(changed)}
            _log.info("configuration in force", extra=extra)
        self._queue_up(OPENING_S if share is not None else 0.0)

    def _queue_up(self, opening_s: float = 0.0) -> None:
        now = self._monotonic()
        ours = [camera for camera in self._config.cameras if self._share.has(camera.id)]
        for gone in self._turns.keys() - {camera.id for camera in ours}:
            del self._turns[gone]
        for camera in ours:
            self._turns.setdefault(camera.id, _Turn(1.0 / camera.fps, now, now + opening_s))


def opened(config: StoreConfig, share: Share) -> list[Camera]:
    """The cameras whose pictures are wanted."""
    return [camera for camera in config.cameras if share.opens(camera.id)]
