"""Measures what a picture says about its camera, cheaply, on a grey thumbnail.

The view is compared with its reference by image gradients: they say where edges are and which way they
run, hardly depend on light, and a lamp or a shadow adds few. Phase correlation of the two gradient fields
(Argyriou and Vlachos, "Estimation of sub-pixel motion using gradient cross-correlation", 2003) finds how
far the picture moved; then tiles are compared one by one and the better half counts, so that people
or emptied shelves do not look like another view, while a turned camera, which leaves only the tiles at
the centre of the turn in place, does.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from agent.domain.detection import FrameStats
from agent.ports import Image, Thumbnail

THUMBNAIL_WIDTH = 320
_EDGE = 12.0
"""Grey levels per pixel of the thumbnail that make an edge: above sensor noise after averaging, below a
package's outline under night lighting."""
_TILES = (6, 10)
"""Rows and columns."""
_TEXTURED = 2.0
"""Mean edge strength from which a tile of the reference says anything."""
_ENOUGH_TILES = 6
_CHANCE = 0.3
"""Correlation that the better half of tiles reaches by chance: views of 4 simulated shops turned by 4
degrees or more, or against other shops, gave 0.12 to 0.3 (0.5 at most), the same view with people,
other goods or night lighting 0.89 to 1."""
_MATCHED = 0.1
"""With a match below this no shift was found."""

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class _View:
    """A picture as its gradient field: height x width x 2 (x and y), and its windowed spectrum."""

    gradient: Floats
    energy: Floats
    """Per tile."""
    spectrum: Floats


class CvInspector:
    """Implements ``Inspector`` for one camera and one thread."""

    def __init__(self) -> None:
        self._previous: tuple[Image, Thumbnail] | None = None
        self._reference: _View | None = None
        self._window: Floats = np.empty((0, 0), np.float32)

    def adopt_reference(self, image: Image) -> Thumbnail:
        thumbnail = _thumbnail(image)
        self._reference = self._view(_gradient(thumbnail))
        return thumbnail

    def restore_reference(self, thumbnail: Thumbnail) -> bool:
        height, width = thumbnail.shape
        if width != THUMBNAIL_WIDTH or height % _TILES[0] or not height:
            return False
        self._reference = self._view(_gradient(thumbnail))
        return True

    def inspect(self, image: Image) -> FrameStats:
        thumbnail = _thumbnail(image)
        mean, deviation = cv2.meanStdDev(thumbnail)
        gradient = _gradient(thumbnail)
        strength = cv2.magnitude(gradient[..., 0], gradient[..., 1])
        edges = float(np.count_nonzero(strength > _EDGE) / strength.size)
        shift, match = self._compare(gradient, image.shape[1] / thumbnail.shape[1])
        changed = self._changed(image, thumbnail)
        return FrameStats(float(mean[0, 0]), float(deviation[0, 0]), edges, changed, shift, match)

    def _changed(self, image: Image, thumbnail: Thumbnail) -> float:
        """Noise may vanish in a thumbnail: only the frames themselves can say that nothing changed."""
        previous, self._previous = self._previous, (image, thumbnail)
        if previous is None or previous[0].shape != image.shape:
            return 255.0
        changed = cv2.norm(thumbnail, previous[1], cv2.NORM_L1) / thumbnail.size
        return changed or cv2.norm(image, previous[0], cv2.NORM_L1) / image.size

    def _compare(self, gradient: Floats, scale: float) -> tuple[float | None, float | None]:
        reference = self._reference
        if reference is None:
            return None, None
        if reference.gradient.shape != gradient.shape:
            return None, 0.0
        view = self._view(gradient)
        dx, dy = _displacement(reference.spectrum, view.spectrum)
        here = _agreement(reference, view)
        step = round(dx), round(dy)
        if step != (0, 0):
            there = _agreement(reference, self._view(_moved(gradient, step), spectrum=False))
            if there <= here:
                dx = dy = 0.0
        else:
            there = here
        match = max(here, there)
        return (None if match < _MATCHED else float(np.hypot(dx, dy)) * scale), match

    def _view(self, gradient: Floats, spectrum: bool = True) -> _View:
        height, width = gradient.shape[:2]
        if self._window.shape != (height, width):
            self._window = np.asarray(cv2.createHanningWindow((width, height), cv2.CV_32F), np.float32)
        energy = _per_tile(gradient * gradient)
        if not spectrum:
            return _View(gradient, energy, self._window)
        windowed = gradient * self._window[..., None]
        return _View(gradient, energy, np.asarray(cv2.dft(windowed), np.float32))


def _thumbnail(image: Image) -> Thumbnail:
    height, width = image.shape[:2]
    size = (
        THUMBNAIL_WIDTH,
        max(_TILES[0] * 2, round(height * THUMBNAIL_WIDTH / width / _TILES[0]) * _TILES[0]),
    )
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.cvtColor(small, cv2.COLOR_BGR2GRAY), np.uint8)


def _gradient(thumbnail: Thumbnail) -> Floats:
    soft = cv2.GaussianBlur(thumbnail, (3, 3), 0)
    across = cv2.Sobel(soft, cv2.CV_32F, 1, 0, scale=0.25)
    down = cv2.Sobel(soft, cv2.CV_32F, 0, 1, scale=0.25)
    return np.asarray(cv2.merge([across, down]), np.float32)


def _displacement(reference: Floats, spectrum: Floats) -> tuple[float, float]:
    """Right and down, in thumbnail pixels, that the view has moved against its reference."""
    cross: Floats = np.asarray(cv2.mulSpectrums(spectrum, reference, 0, conjB=True), np.float32)
    length = np.asarray(cv2.magnitude(cross[..., 0], cross[..., 1]), np.float32)
    cross /= (length + float(length.mean()) * 0.1 + 1e-6)[..., None]
    surface = cv2.dft(cross, flags=cv2.DFT_INVERSE | cv2.DFT_SCALE)[..., 0]
    height, width = surface.shape
    top, left = divmod(int(surface.argmax()), width)
    rows, columns = np.arange(top - 2, top + 3), np.arange(left - 2, left + 3)
    around = np.clip(surface[np.ix_(rows % height, columns % width)], 0, None)
    weight = float(around.sum()) + 1e-9
    y = float((around.sum(axis=1) * rows).sum()) / weight
    x = float((around.sum(axis=0) * columns).sum()) / weight
    return (x - width if x > width / 2 else x), (y - height if y > height / 2 else y)


def _agreement(reference: _View, view: _View) -> float:
    """0 to 1: normalised correlation of gradients, mean of the better half of the textured tiles."""
    together = _per_tile(reference.gradient * view.gradient)
    tiles = reference.energy > _TEXTURED * _TEXTURED
    if np.count_nonzero(tiles) < _ENOUGH_TILES:
        return 0.0
    product = np.sqrt(reference.energy[tiles] * np.maximum(view.energy[tiles], 1e-3))
    scores = np.sort(together[tiles] / product)
    better = float(scores[len(scores) // 2 :].mean())
    return min(1.0, max(0.0, (better - _CHANCE) / (1 - _CHANCE)))


def _moved(gradient: Floats, step: tuple[int, int]) -> Floats:
    """Shifted back by ``step`` (right, down); what comes in from outside is flat."""
    back = np.array([[1, 0, -step[0]], [0, 1, -step[1]]], np.float32)
    size = (gradient.shape[1], gradient.shape[0])
    return np.asarray(cv2.warpAffine(gradient, back, size, flags=cv2.INTER_NEAREST), np.float32)


def _per_tile(field: Floats) -> Floats:
    """Mean over each tile of the sum of both channels."""
    means = cv2.resize(field, (_TILES[1], _TILES[0]), interpolation=cv2.INTER_AREA)
    return np.asarray(means.sum(axis=2), np.float32)
