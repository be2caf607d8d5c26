"""What can go wrong with a simulated camera, and what that does to its pictures.

Network faults (``DROP``, ``HANG``) happen in ``camera_sims.gate``, damage to the encoded stream
(``CORRUPT``, ``FREEZE``) in the streamers; here are the picture faults and the record of who has which
fault for how long. Nothing here reads a clock: ``now`` is a parameter, in seconds of any steady clock.
"""

import threading
from dataclasses import dataclass
from enum import StrEnum

import cv2
import numpy as np
from numpy.typing import NDArray

from camera_sims.gate import GateMode

Image = NDArray[np.uint8]
"""BGR, height x width x 3."""

SLOW_PERIOD_S = 4.0
"""Seconds between two pictures of a camera with ``Fault.SLOW``."""
LOW_RESOLUTION = (640, 480)
MOVED_BY = (170.0, -60.0)
"""Pixels, right and down, that the view of a moved camera is shifted by."""
MOVED_DEGREES = 6.0


class Fault(StrEnum):
    NONE = "none"
    DROP = "drop"
    """The connection is cut and new ones are refused."""
    FREEZE = "freeze"
    """The stream goes on with the same encoded picture."""
    BLACK = "black"
    BLOCKED = "blocked"
    """Something covers the lens: nearly uniform, not black, with sensor noise."""
    MOVED = "moved"
    """The camera was knocked: the view is shifted by ``MOVED_BY`` and turned by ``MOVED_DEGREES``."""
    CORRUPT = "corrupt"
    """Bytes of the encoded stream are damaged."""
    RESOLUTION = "resolution"
    """The camera restarts its stream with ``LOW_RESOLUTION``, the middle of its view."""
    SLOW = "slow"
    """One picture every ``SLOW_PERIOD_S``."""
    HANG = "hang"
    """Connections are accepted and never answered."""

    @property
    def gate(self) -> GateMode:
        """What the camera's gate does to connections meanwhile."""
        return {Fault.DROP: GateMode.REFUSE, Fault.HANG: GateMode.HANG}.get(self, GateMode.OPEN)


FILE_FAULTS = frozenset({Fault.BLACK, Fault.BLOCKED, Fault.MOVED, Fault.FREEZE})
"""Those that make sense in a recorded video."""


def apply_to_picture(image: Image, fault: Fault, rng: np.random.Generator) -> Image:
    """``image`` as a camera with ``fault`` takes it; a new array if anything changed.

    Other faults than the four picture faults leave it as it is.
    """
    height, width = image.shape[:2]
    if fault is Fault.BLACK:
        # A sensor in the dark still reads a level or two of noise.
        return rng.integers(0, 3, size=image.shape, dtype=np.uint8)
    if fault is Fault.BLOCKED:
        return _covered(image, rng)
    if fault is Fault.MOVED:
        turn = cv2.getRotationMatrix2D((width / 2, height / 2), MOVED_DEGREES, 1.0)
        turn[:, 2] += np.array(MOVED_BY)
        moved = cv2.warpAffine(image, turn, (width, height), borderMode=cv2.BORDER_REFLECT_101)
        return np.asarray(moved, np.uint8)
    if fault is Fault.RESOLUTION:
        side = max(0, (width - height * LOW_RESOLUTION[0] // LOW_RESOLUTION[1]) // 2)
        middle = image[:, side : width - side]
        return np.asarray(cv2.resize(middle, LOW_RESOLUTION, interpolation=cv2.INTER_AREA), np.uint8)
    return image


def _covered(image: Image, rng: np.random.Generator) -> Image:
    """A hand or a bag on the lens: skin-dark, a soft gradient of leaking light, sensor noise."""
    height, width = image.shape[:2]
    light = float(np.clip(image.mean() / 110.0, 0.5, 1.2))
    corners = np.array([[[1.15, 1.0], [0.95, 0.85]]], np.float32).reshape(2, 2)
    shade = cv2.resize(corners, (width, height), interpolation=cv2.INTER_LINEAR)
    colour = np.array([44.0, 50.0, 66.0], np.float32) * light
    noise = rng.normal(0.0, 2.5, size=(height, width, 1)).astype(np.float32)
    return np.clip(shade[:, :, None] * colour + noise, 0, 255).astype(np.uint8)


@dataclass(frozen=True)
class ActiveFault:
    fault: Fault
    since: float
    until: float | None
    """When it ends by itself; ``None``: when somebody clears it."""


@dataclass(frozen=True)
class FaultChange:
    """A fault began (``began``) or ended on ``camera``, at ``at``."""

    camera: str
    fault: Fault
    began: bool
    at: float


class FaultBoard:
    """The faults asked for, per camera. Safe to use from several threads."""

    def __init__(self, cameras: tuple[str, ...]) -> None:
        self._lock = threading.Lock()
        self._wanted: dict[str, ActiveFault | None] = dict.fromkeys(cameras)
        self._current: dict[str, ActiveFault | None] = dict.fromkeys(cameras)

    def ask(self, camera: str, fault: Fault, now: float, seconds: float | None = None) -> None:
        """Replace whatever fault ``camera`` has. ``KeyError``: no such camera."""
        with self._lock:
            if camera not in self._wanted:
                raise KeyError(camera)
            until = None if seconds is None else now + seconds
            self._wanted[camera] = None if fault is Fault.NONE else ActiveFault(fault, now, until)

    def state(self) -> dict[str, ActiveFault | None]:
        with self._lock:
            return dict(self._wanted)

    def advance(self, camera: str, now: float) -> tuple[Fault, list[FaultChange]]:
        """The fault of ``camera`` at ``now`` and what changed since the last call, in order."""
        with self._lock:
            wanted = self._wanted[camera]
            if wanted is not None and wanted.until is not None and now >= wanted.until:
                wanted = self._wanted[camera] = None
            current = self._current[camera]
            if wanted is current:
                return (current.fault if current else Fault.NONE), []
            changes = []
            if current is not None:
                ended = now if current.until is None else min(now, current.until)
                changes.append(FaultChange(camera, current.fault, False, ended))
            if wanted is not None:
                changes.append(FaultChange(camera, wanted.fault, True, now))
            self._current[camera] = wanted
            return (wanted.fault if wanted else Fault.NONE), changes
