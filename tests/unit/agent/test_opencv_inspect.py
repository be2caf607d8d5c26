"""What pictures say about their camera: the same view whatever stands in it, and another view."""

import cv2
import numpy as np
import pytest

from agent.adapters.opencv.inspect import CvInspector
from agent.ports import Image

HEIGHT, WIDTH = 720, 1280


def shelf(seed: int = 1, goods: int = 2) -> Image:
    """Three boards with boxes of random colour and print; ``goods`` varies what stands where."""
    fixed, stock = np.random.default_rng(seed), np.random.default_rng((seed, goods))
    picture = np.full((HEIGHT, WIDTH, 3), (150, 145, 140), np.uint8)
    for board in (60, 270, 480, 690):
        cv2.rectangle(picture, (20, board), (WIDTH - 20, board + 20), (90, 100, 105), cv2.FILLED)
        for x in range(60, WIDTH - 80, int(fixed.integers(90, 140))):
            cv2.rectangle(picture, (x, board + 3), (x + 34, board + 16), (235, 235, 235), cv2.FILLED)
            cv2.putText(
                picture, str(int(fixed.integers(100, 999))), (x + 2, board + 15), 0, 0.4, (0, 0, 0), 1
            )
    for top in (80, 290, 500):
        x = 50
        while x < WIDTH - 120:
            width, height = int(stock.integers(50, 90)), int(stock.integers(100, 170))
            if stock.random() < 0.75:
                colour = tuple(int(c) for c in stock.integers(20, 240, 3))
                cv2.rectangle(picture, (x, top + 190 - height), (x + width, top + 190), colour, cv2.FILLED)
                cv2.circle(picture, (x + width // 2, top + 190 - height // 2), width // 3, (250, 250, 250), 3)
            x += width + int(stock.integers(8, 30))
    return picture


def sensor(picture: Image, seed: int, gain: float = 1.0, sigma: float = 3.0) -> Image:
    noise = np.random.default_rng(seed).normal(0, sigma, picture.shape)
    return np.clip(picture * gain + noise, 0, 255).astype(np.uint8)


def u8(picture: object) -> Image:
    return np.asarray(picture, np.uint8)


def moved(picture: Image, right: float = 0, down: float = 0, degrees: float = 0) -> Image:
    turn = np.asarray(cv2.getRotationMatrix2D((WIDTH / 2, HEIGHT / 2), degrees, 1.0), np.float64)
    turn[:, 2] += np.array((right, down))
    return u8(cv2.warpAffine(picture, turn, (WIDTH, HEIGHT), borderMode=cv2.BORDER_REFLECT_101))


def with_person(picture: Image) -> Image:
    """Somebody close to the lens, over a third of the view."""
    picture = picture.copy()
    cv2.ellipse(picture, (640, 620), (300, 430), 0, 0, 360, (60, 40, 120), cv2.FILLED)
    cv2.circle(picture, (640, 160), 110, (150, 170, 210), cv2.FILLED)
    for y in range(300, 720, 40):
        cv2.line(picture, (380, y), (900, y), (220, 220, 90), 12)
    return picture


@pytest.fixture
def inspector() -> CvInspector:
    result = CvInspector()
    result.adopt_reference(sensor(shelf(), 0))
    return result


@pytest.mark.parametrize(
    "picture",
    [
        sensor(shelf(), 1),
        sensor(shelf(goods=3), 1),
        sensor(shelf(goods=4), 1),
        sensor(with_person(shelf()), 1),
        sensor(with_person(shelf(goods=5)), 1),
        sensor(shelf(), 1, gain=0.5, sigma=6.0),
        sensor(shelf(), 1, gain=1.4),
    ],
    ids=["same", "other goods", "yet others", "person", "person, goods", "night", "bright"],
)
def test_the_same_view_matches_whatever_stands_in_it(inspector: CvInspector, picture: Image) -> None:
    stats = inspector.inspect(picture)
    assert stats.match is not None
    assert stats.match > 0.4
    assert stats.shift_px is not None
    assert stats.shift_px < 3
    assert stats.edge_density > 0.05


@pytest.mark.parametrize(("right", "down"), [(20, 0), (0, -24), (60, 30), (-120, 0), (120, 45)])
def test_a_shift_is_measured_in_pixels_of_the_frame(inspector: CvInspector, right: int, down: int) -> None:
    stats = inspector.inspect(moved(sensor(shelf(goods=3), 1), right, down))
    assert stats.shift_px == pytest.approx(np.hypot(right, down), abs=3)


@pytest.mark.parametrize(("right", "degrees"), [(0, 4), (0, -6), (40, 4), (170, 6)])
def test_a_turned_camera_does_not_match(inspector: CvInspector, right: int, degrees: int) -> None:
    stats = inspector.inspect(moved(sensor(shelf(), 1), right, 0, degrees))
    assert stats.match is not None
    assert stats.match < 0.12 or (stats.shift_px or 0) > 15


def test_a_covered_lens_has_no_edges_and_matches_nothing(inspector: CvInspector) -> None:
    covered = np.full((HEIGHT, WIDTH, 3), (44, 50, 66), np.uint8)
    stats = inspector.inspect(sensor(covered, 1))
    assert stats.edge_density < 0.012
    assert stats.match == 0.0
    assert stats.shift_px is None


def test_a_black_picture_is_dark_and_flat(inspector: CvInspector) -> None:
    stats = inspector.inspect(sensor(np.zeros((HEIGHT, WIDTH, 3), np.uint8), 1, sigma=1.0))
    assert stats.luma_mean < 3
    assert stats.luma_std < 3


def test_only_the_very_same_picture_counts_as_unchanged() -> None:
    inspector, still = CvInspector(), sensor(shelf(), 1)
    inspector.inspect(still)
    assert inspector.inspect(still.copy()).changed == 0.0
    touched = still.copy()
    touched[700, 1200, 1] ^= 1  # one grey level in one pixel, too little for the thumbnail
    assert 0 < inspector.inspect(touched).changed < 0.01
    assert inspector.inspect(sensor(shelf(), 2)).changed > 0.05


@pytest.mark.parametrize(
    "picture",
    [
        sensor(shelf(goods=4), 1),
        sensor(shelf(), 1, gain=0.5, sigma=6.0),
        moved(sensor(shelf(), 1), 60, 30),
        moved(sensor(shelf(), 1), 0, 0, 6),
    ],
    ids=["other goods", "night", "shifted", "turned"],
)
def test_a_restored_reference_measures_as_the_adopted_one_did(picture: Image) -> None:
    first, second = CvInspector(), CvInspector()
    assert second.restore_reference(first.adopt_reference(sensor(shelf(), 0)))
    assert second.inspect(picture) == first.inspect(picture)


@pytest.mark.parametrize("shape", [(180, 640), (181, 320), (0, 320)])
def test_a_reference_of_another_make_is_not_taken(shape: tuple[int, int]) -> None:
    inspector = CvInspector()
    assert not inspector.restore_reference(np.zeros(shape, np.uint8))
    assert inspector.inspect(shelf()).match is None


def test_without_a_reference_nothing_is_said_about_the_view() -> None:
    stats = CvInspector().inspect(shelf())
    assert stats.shift_px is None
    assert stats.match is None


def test_another_proportion_of_the_frame_is_another_view(inspector: CvInspector) -> None:
    assert inspector.inspect(u8(cv2.resize(shelf(), (640, 480)))).match == 0.0


def test_a_scaled_stream_of_the_same_view_still_matches(inspector: CvInspector) -> None:
    smaller = u8(cv2.resize(shelf(), (640, 360), interpolation=cv2.INTER_AREA))
    match = inspector.inspect(smaller).match
    assert match is not None
    assert match > 0.4
