"""Pictures of one gondola.

The still part (gondola and goods, in perspective, lit) is kept and only the zones that changed are drawn
again, so that a frame costs a copy, the people, one look-up table and one addition of noise.
"""

import cv2
import numpy as np
import numpy.typing as npt

from camera_sims.appearance import (
    Lighting,
    Look,
    light_field,
    noise,
    noise_level,
    tone_curve,
)
from camera_sims.artwork import OVERSAMPLING, front
from camera_sims.backdrop import draw_backdrop
from camera_sims.figures import Mask, draw_person
from camera_sims.people import Box, Pose
from camera_sims.planogram import FRAME_HEIGHT, FRAME_WIDTH, Gondola, Matrix, ZonePlan
from camera_sims.prints import Image
from camera_sims.stockbook import Slots
from camera_sims.visits import Change, Item


class Renderer:
    """Draws what stands on ``gondola``; owns the picture of its shelf."""

    def __init__(
        self,
        gondola: Gondola,
        look: Look,
        lighting: Lighting,
        contents: Slots,
        seed: tuple[int, ...],
    ) -> None:
        self._gondola = gondola
        self._look = look
        self._lighting: Lighting = lighting
        self._bare = draw_backdrop(gondola, np.random.default_rng(seed))
        self._plane = self._bare.copy()
        self._field = light_field(look)
        self._maps = _plane_pixels(gondola.homography)
        self._still = np.empty((FRAME_HEIGHT, FRAME_WIDTH, 3), np.uint8)
        for zone in range(len(gondola.zones)):
            self._stock_zone(zone, contents)
        self._project(0, 0, FRAME_WIDTH, FRAME_HEIGHT)

    def update(self, changes: list[Change], contents: Slots) -> None:
        """Redraw the zones named by ``changes`` as ``contents`` has them."""
        for zone in {change.zone for change in changes}:
            plan = self._gondola.zones[zone]
            self._stock_zone(zone, contents)
            x0, y0, x1, y1 = _zone_rect(plan)
            corners = self._gondola.to_frame([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])
            left, top = np.maximum(0, np.floor(corners.min(axis=0)).astype(int) - 4)
            right, bottom = np.ceil(corners.max(axis=0)).astype(int) + 4
            self._project(
                int(left),
                int(top),
                min(FRAME_WIDTH, int(right)),
                min(FRAME_HEIGHT, int(bottom)),
            )

    def frame(self, t: float, poses: list[Pose]) -> Image:
        """The picture at scene time ``t`` with these people in it (720, 1280, 3)."""
        picture = self._still.copy()
        for pose in poses:
            box = pose.box
            if box is None:
                continue
            _cast_shadow(picture, box)
            draw_person(picture, pose, carried_sprite(pose.carried, self._gondola))
        cv2.GaussianBlur(picture, (3, 3), self._look.blur, dst=picture)
        cv2.LUT(picture, tone_curve(self._look, self._lighting, t), dst=picture)
        cv2.add(picture, noise(noise_level(self._look, self._lighting, t), t), dst=picture)
        return picture

    def _stock_zone(self, zone: int, contents: Slots) -> None:
        plan = self._gondola.zones[zone]
        x0, y0, x1, y1 = _zone_rect(plan)
        self._plane[y0:y1, x0:x1] = self._bare[y0:y1, x0:x1]
        for slot, item in enumerate(contents[zone]):
            if item is not None:
                _draw_item(self._plane, plan, slot, item)

    def _project(self, left: int, top: int, right: int, bottom: int) -> None:
        """Bring a rectangle of the frame up to date with the shelf plane."""
        part = (slice(top, bottom), slice(left, right))
        coarse, fine = (pixels[part] for pixels in self._maps)
        seen = cv2.remap(self._plane, coarse, fine, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
        self._still[part] = cv2.multiply(seen, self._field[part], scale=1 / 255)


def _plane_pixels(homography: Matrix) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.uint16]]:
    """Which pixel of the shelf plane each pixel of the frame shows, as ``cv2.remap`` wants it."""
    y, x = np.mgrid[0:FRAME_HEIGHT, 0:FRAME_WIDTH]
    frame = np.stack([x, y], axis=2).astype(np.float32)
    plane = np.asarray(cv2.perspectiveTransform(frame, np.linalg.inv(homography)), np.float32)
    coarse, fine = cv2.convertMaps(plane[:, :, 0], plane[:, :, 1], cv2.CV_16SC2)
    return np.asarray(coarse, np.int16), np.asarray(fine, np.uint16)


def _zone_rect(plan: ZonePlan) -> tuple[int, int, int, int]:
    """All that packages of a zone may touch in the shelf plane; no two zones share a pixel of it."""
    return int(plan.left) - 6, int(plan.ceiling), int(plan.right) + 6, int(plan.floor) + 5


def _placement(plan: ZonePlan, slot: int, item: Item) -> npt.NDArray[np.float64]:
    """Affine map (2, 3) from the package front's pixels to the shelf plane: turned about the middle of
    its lower edge, which stands on the board."""
    art = front(item.sku).image
    scale = item.scale / OVERSAMPLING
    angle = np.deg2rad(item.angle)
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    foot = np.array([art.shape[1] / 2, art.shape[0]])
    place = np.array([plan.slot_x(slot) + item.dx, plan.floor + 1])
    return np.hstack([turn, (place - turn @ foot)[:, None]])


def _draw_item(plane: Image, plan: ZonePlan, slot: int, item: Item) -> None:
    art = front(item.sku)
    matrix = _placement(plan, slot, item)
    corners = art.outline @ matrix[:, :2].T + matrix[:, 2]
    limits = _zone_rect(plan)
    x0, y0 = np.maximum(limits[:2], np.floor(corners.min(axis=0)).astype(int) - 6)
    x1, y1 = np.minimum(limits[2:], np.ceil(corners.max(axis=0)).astype(int) + 6)
    local = matrix.copy()
    local[:, 2] -= (x0, y0)
    # Shrinking by three would skip pixels: shrink with area weights first, then turn.
    small = cv2.resize(
        art.image,
        None,
        fx=1 / OVERSAMPLING,
        fy=1 / OVERSAMPLING,
        interpolation=cv2.INTER_AREA,
    )
    cover = cv2.resize(
        art.alpha,
        None,
        fx=1 / OVERSAMPLING,
        fy=1 / OVERSAMPLING,
        interpolation=cv2.INTER_AREA,
    )
    local[:, :2] *= OVERSAMPLING
    size = (int(x1 - x0), int(y1 - y0))
    image = cv2.warpAffine(small, local, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    alpha = np.asarray(cv2.warpAffine(cover, local, size, flags=cv2.INTER_LINEAR))
    target = plane[y0:y1, x0:x1]
    shade = cv2.GaussianBlur(np.roll(alpha, 4, axis=1), (9, 9), 3)[:, :, None] * 0.35
    lit = np.clip(np.asarray(image, np.float32) * item.brightness, 0, 255)
    blended = target * (1 - shade) * (1 - alpha[:, :, None]) + lit * alpha[:, :, None]
    target[:] = blended.astype(np.uint8)


def item_box(gondola: Gondola, zone: int, slot: int, item: Item) -> Box:
    """Bounding box of a package's silhouette in frame pixels."""
    matrix = _placement(gondola.zones[zone], slot, item)
    outline = front(item.sku).outline @ matrix[:, :2].T + matrix[:, 2]
    seen = gondola.to_frame(outline)
    x0, y0 = seen.min(axis=0)
    x1, y1 = seen.max(axis=0)
    return float(x0), float(y0), float(x1), float(y1)


def carried_sprite(sku: str | None, gondola: Gondola) -> tuple[Image, Mask] | None:
    """Picture and mask of a package in a hand, at the size it has on this gondola's shelf."""
    if sku is None:
        return None
    art = front(sku)
    (x0, _), (x1, _) = gondola.to_frame([(620, 440), (820, 440)])
    factor = float(x1 - x0) / 200 / OVERSAMPLING
    image = np.asarray(
        cv2.resize(art.image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA),
        np.uint8,
    )
    alpha = cv2.resize(art.alpha, (image.shape[1], image.shape[0]), interpolation=cv2.INTER_AREA)
    return image, (np.asarray(alpha) > 0.5).astype(np.uint8) * 255


def _cast_shadow(picture: Image, box: Box) -> None:
    """A soft shadow on the shelf, a little to the right of the person."""
    left, top, right, bottom = (int(v) for v in box)
    x0, x1 = max(0, left - 20), min(FRAME_WIDTH, right + 60)
    y0 = max(0, top - 10)
    region = picture[y0:bottom, x0:x1]
    if region.size == 0:
        return
    reach = min(40, max(1, region.shape[1] // 3))
    edge = np.interp(
        np.arange(region.shape[1]),
        [0, reach, region.shape[1] - reach, region.shape[1]],
        [0, 26, 26, 0],
    )
    rise = np.clip(np.arange(region.shape[0]) / 80, 0, 1)
    shadow = np.outer(rise, edge).astype(np.uint8)
    cv2.subtract(region, cv2.merge([shadow, shadow, shadow]), dst=region)
