"""Where the zones of one gondola are, on the shelf and in the camera's picture.

Two coordinate frames: the *shelf plane*, in which the gondola is drawn upright at about one pixel per
frame pixel, and the *frame*, 1280x720 pixels, x to the right and y down in both. A camera's homography
takes the first to the second; it is slightly different for every seed, as cameras hang slightly askew.
"""

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
import numpy.typing as npt

from camera_sims.catalogue import CATALOGUE, Package
from contract.store_config import Point, Zone

FRAME_WIDTH, FRAME_HEIGHT = 1280, 720
PLANE_WIDTH, PLANE_HEIGHT = 1440, 880
"""Size of the shelf plane's picture: the gondola with some wall and floor around it."""

GONDOLA = (110, 100, 1330, 790)
"""Left, top, right, bottom of the gondola in the shelf plane."""
HEADER_HEIGHT = 40
BOARD_HEIGHT = 30
SHELVES = 3
SHELF_PITCH = (GONDOLA[3] - GONDOLA[1] - HEADER_HEIGHT) // SHELVES
SIDE = 18
"""Thickness of the gondola's side walls."""

Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ZonePlan:
    """One zone in the shelf plane: ``left`` to ``right`` is its stretch of board, ``floor`` the board's
    upper edge on which packages stand, ``ceiling`` the underside of the board above."""

    id: str
    package: Package
    capacity: int
    left: float
    right: float
    ceiling: float
    floor: float

    @property
    def low_at(self) -> int:
        return max(1, self.capacity // 3)

    def slot_x(self, slot: int) -> float:
        """Middle of place ``slot`` (from 0 at the left)."""
        return self.left + (slot + 0.5) * (self.right - self.left) / self.capacity

    @property
    def corners(self) -> list[Point]:
        """Clockwise from top left: just above the tallest package down to the board."""
        top = max(self.ceiling + 4, self.floor - 172)
        return [
            (self.left, top),
            (self.right, top),
            (self.right, self.floor + 4),
            (self.left, self.floor + 4),
        ]


@dataclass(frozen=True)
class Gondola:
    """What one camera looks at. ``homography`` takes shelf plane to frame."""

    camera: str
    zones: tuple[ZonePlan, ...]
    homography: Matrix

    def to_frame(self, points: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Points (n, 2) of the shelf plane in frame pixels."""
        plane = np.asarray(points, np.float64).reshape(-1, 1, 2)
        return np.asarray(cv2.perspectiveTransform(plane, self.homography), np.float64).reshape(-1, 2)

    @cached_property
    def polygons(self) -> dict[str, tuple[Point, ...]]:
        """Each zone's polygon in frame pixels."""
        return {
            zone.id: tuple((round(float(x), 1), round(float(y), 1)) for x, y in self.to_frame(zone.corners))
            for zone in self.zones
        }

    def zone_configs(self) -> list[Zone]:
        return [
            Zone(
                id=zone.id,
                camera=self.camera,
                sku=zone.package.sku,
                capacity=zone.capacity,
                low_at=zone.low_at,
                polygon=self.polygons[zone.id],
            )
            for zone in self.zones
        ]


def plan_gondola(camera: str, rng: np.random.Generator) -> Gondola:
    """A gondola of three shelves with three or four zones each; every SKU in at most one zone."""
    skus = list(rng.permutation(len(CATALOGUE)))
    zones: list[ZonePlan] = []
    for shelf in range(SHELVES):
        count = int(rng.integers(3, 5))
        packages = [CATALOGUE[skus.pop()] for _ in range(min(count, len(skus)))]
        zones += _plan_shelf(camera, shelf, packages, rng)
    return Gondola(camera, tuple(zones), _homography(rng))


def _plan_shelf(camera: str, shelf: int, packages: list[Package], rng: np.random.Generator) -> list[ZonePlan]:
    ceiling = GONDOLA[1] + HEADER_HEIGHT + shelf * SHELF_PITCH
    floor = ceiling + SHELF_PITCH - BOARD_HEIGHT
    room = GONDOLA[2] - GONDOLA[0] - 2 * SIDE
    gap = 14.0
    pitches = [package.width * float(rng.uniform(1.10, 1.18)) + 4 for package in packages]
    capacities = [int(n) for n in rng.integers(3, 7, len(packages))]
    while _length(pitches, capacities, gap) > room:
        widest = max(
            (i for i in range(len(packages)) if capacities[i] > 3),
            key=lambda i: pitches[i] * capacities[i],
        )
        capacities[widest] -= 1
    spare = (room - _length(pitches, capacities, gap)) / (len(packages) + 1)
    left = GONDOLA[0] + SIDE + gap
    plans = []
    for i, package in enumerate(packages):
        left += spare * float(rng.uniform(0.6, 1.0))
        right = left + pitches[i] * capacities[i]
        zone_id = f"{camera}-{'abc'[shelf]}{i + 1}"
        plans.append(ZonePlan(zone_id, package, capacities[i], left, right, ceiling, floor))
        left = right + gap
    return plans


def _length(pitches: list[float], capacities: list[int], gap: float) -> float:
    return sum(p * c for p, c in zip(pitches, capacities, strict=True)) + gap * (len(pitches) + 1)


def _homography(rng: np.random.Generator) -> Matrix:
    """Gondola corners to frame corners, each drawn in by up to 6 percent on its own: mild perspective,
    a little tilt, and never a zone outside the frame."""
    left, top, right, bottom = GONDOLA
    source = np.array([(left, top), (right, top), (right, bottom), (left, bottom)], np.float32)
    base = rng.uniform((10, 6), (50, 26))
    inset = base + rng.uniform((0, 0), (28, 18), (4, 2))
    signs = np.array([(1, 1), (-1, 1), (-1, -1), (1, -1)])
    edge = np.array([(0, 0), (FRAME_WIDTH, 0), (FRAME_WIDTH, FRAME_HEIGHT), (0, FRAME_HEIGHT)])
    target = (edge + signs * inset).astype(np.float32)
    return np.asarray(cv2.getPerspectiveTransform(source, target), np.float64)
