"""One store's cameras: which picture goes out when, with which fault.

A feed has no thread and no clock of its own: whoever runs it calls ``tick`` with the time, so that the
same code paces a live stream and records a file faster than real time.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from camera_sims.faults import (
    SLOW_PERIOD_S,
    Fault,
    FaultBoard,
    FaultChange,
    Image,
    apply_to_picture,
)
from camera_sims.gate import Gate
from camera_sims.streamer import Streamer

UNREACHABLE = frozenset({Fault.DROP, Fault.HANG})
NEVER = float("-inf")


class Scene(Protocol):
    """What a feed needs of ``camera_sims.shop.Shop``."""

    def frame(self, camera: str, at: float) -> Image:
        """The view of ``camera`` (its id within the store) at scene time ``at``, in seconds since the
        epoch; never called with an earlier time than before."""
        ...


@dataclass
class _Camera:
    id: str
    key: str
    rng: np.random.Generator
    audience: int = 0
    fresh: bool = True
    """The next picture must not need an earlier one."""
    sent_at: float = NEVER
    frozen: Image | None = None
    pictures: int = 0


class StoreFeed:
    """Feeds the cameras of one store, to be ticked by one thread.

    ``gates`` by ``store/camera``; empty where nothing connects (files). ``on_change`` is told of every
    fault that begins or ends, with the scene time.
    """

    def __init__(
        self,
        store: str,
        cameras: tuple[str, ...],
        scene: Scene,
        streamer: Streamer,
        board: FaultBoard,
        gates: Mapping[str, Gate],
        on_change: Callable[[str, FaultChange, float], None],
    ) -> None:
        self.store = store
        self._scene = scene
        self._streamer = streamer
        self._board = board
        self._gates = gates
        self._on_change = on_change
        self._cameras = [
            _Camera(camera, f"{store}/{camera}", np.random.default_rng(i)) for i, camera in enumerate(cameras)
        ]

    def pictures(self) -> dict[str, int]:
        """How many pictures each ``store/camera`` has streamed."""
        return {camera.key: camera.pictures for camera in self._cameras}

    def watched(self) -> list[str]:
        """The ``store/camera`` that somebody watched at the last tick."""
        return [camera.key for camera in self._cameras if camera.audience]

    def tick(self, now: float, at: float) -> None:
        """Stream what is due at ``now`` (seconds, the fault board's clock), which is ``at`` in the scene.

        Pictures are made only of cameras that somebody watches. Raises ``SimulatorError`` when streaming
        has broken down.
        """
        for camera in self._cameras:
            fault, changes = self._board.advance(camera.key, now)
            for change in changes:
                self._on_change(camera.id, change, at)
            if changes and camera.key in self._gates:
                gate = self._gates[camera.key]
                gate.set_mode(fault.gate)
                if any(change.fault is Fault.RESOLUTION for change in changes):
                    gate.cut()  # as cameras do; and many readers scale a size that changes midway
            self._stream(camera, fault, now, at, changed=bool(changes))

    def _stream(self, camera: _Camera, fault: Fault, now: float, at: float, *, changed: bool) -> None:
        if fault is not Fault.FREEZE:
            camera.frozen = None
        elif camera.frozen is None:
            camera.frozen = self._scene.frame(camera.id, at)
        audience = self._streamer.audience(camera.key)
        camera.fresh |= changed or audience != camera.audience
        camera.audience = audience
        if not audience or fault in UNREACHABLE:
            return
        if fault is Fault.SLOW and now - camera.sent_at < SLOW_PERIOD_S:
            return
        if camera.frozen is None:
            picture = apply_to_picture(self._scene.frame(camera.id, at), fault, camera.rng)
            self._streamer.send(camera.key, picture, fresh=camera.fresh, damage=fault is Fault.CORRUPT)
        elif camera.fresh:
            self._streamer.send(camera.key, camera.frozen, fresh=True)
        else:
            self._streamer.repeat(camera.key)
        camera.fresh = False
        camera.sent_at = now
        camera.pictures += 1
