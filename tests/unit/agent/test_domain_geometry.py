"""Where things are, and what covers what."""

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from agent.domain import geometry
from agent.domain.geometry import Box, Point

SQUARE = ((100.0, 100.0), (200.0, 100.0), (200.0, 200.0), (100.0, 200.0))
L_SHAPE = ((0.0, 0.0), (100.0, 0.0), (100.0, 50.0), (50.0, 50.0), (50.0, 100.0), (0.0, 100.0))
U_SHAPE = (
    (0.0, 0.0), (90.0, 0.0), (90.0, 90.0), (60.0, 90.0),
    (60.0, 30.0), (30.0, 30.0), (30.0, 90.0), (0.0, 90.0),
)  # fmt: skip


@pytest.mark.parametrize(
    ("polygon", "point", "inside"),
    [
        pytest.param(SQUARE, (150, 150), True, id="middle"),
        pytest.param(SQUARE, (99, 150), False, id="left of it"),
        pytest.param(SQUARE, (150, 201), False, id="below"),
        pytest.param(L_SHAPE, (25, 75), True, id="leg of the L"),
        pytest.param(L_SHAPE, (75, 75), False, id="notch of the L"),
        pytest.param(U_SHAPE, (45, 60), False, id="between the legs of the U"),
        pytest.param(U_SHAPE, (75, 60), True, id="right leg of the U"),
        pytest.param(tuple(reversed(SQUARE)), (150, 150), True, id="either direction"),
    ],
)
def test_contains(polygon: tuple[Point, ...], point: Point, inside: bool) -> None:
    assert geometry.contains(geometry.shape_of(polygon), point) is inside


@pytest.mark.parametrize(
    ("polygon", "box", "share"),
    [
        pytest.param(SQUARE, (0, 0, 50, 50), 0.0, id="apart"),
        pytest.param(SQUARE, (0, 0, 100, 300), 0.0, id="side by side"),
        pytest.param(SQUARE, (0, 0, 300, 300), 1.0, id="all"),
        pytest.param(SQUARE, (150, 0, 300, 300), 0.5, id="half"),
        pytest.param(SQUARE, (120, 120, 130, 130), 0.01, id="box within"),
        pytest.param(L_SHAPE, (50, 50, 100, 100), 0.0, id="notch of the L"),
        pytest.param(L_SHAPE, (0, 50, 100, 100), 1 / 3, id="leg of the L"),
        pytest.param(U_SHAPE, (0, 60, 90, 90), 1800 / 6300, id="both legs of the U"),
        pytest.param(((0, 0), (10, 0), (0, 10)), (0, 0, 5, 5), 0.5, id="triangle"),
        pytest.param(((0, 0), (1, 0), (2, 0)), (0, 0, 5, 5), 0.0, id="no area"),
    ],
)
def test_covered_share(polygon: tuple[Point, ...], box: Box, share: float) -> None:
    assert geometry.covered_share(geometry.shape_of(polygon), box) == pytest.approx(share)


@pytest.mark.parametrize(
    ("a", "b", "iou"),
    [
        ((0, 0, 10, 10), (0, 0, 10, 10), 1.0),
        ((0, 0, 10, 10), (5, 0, 15, 10), 1 / 3),
        ((0, 0, 10, 10), (10, 0, 20, 10), 0.0),
        ((0, 0, 0, 0), (0, 0, 0, 0), 0.0),
    ],
)
def test_overlap(a: Box, b: Box, iou: float) -> None:
    assert geometry.overlap(a, b) == pytest.approx(iou)


def test_frame_share_counts_only_what_is_inside_the_frame() -> None:
    assert geometry.frame_share([(-50, 0, 50, 100)], (100, 100)) == pytest.approx(0.5)
    assert geometry.frame_share([(0, 0, 100, 100), (0, 0, 100, 100)], (100, 100)) == 1.0
    assert geometry.frame_share([], (0, 0)) == 0.0


coordinate = st.floats(-50, 350, allow_nan=False)
boxes = st.tuples(coordinate, coordinate, coordinate, coordinate).map(
    lambda b: (min(b[0], b[2]), min(b[1], b[3]), max(b[0], b[2]), max(b[1], b[3]))
)
stars = st.lists(st.floats(5, 150), min_size=3, max_size=12).map(
    lambda radii: tuple(
        (150 + r * math.cos(2 * math.pi * i / len(radii)), 150 + r * math.sin(2 * math.pi * i / len(radii)))
        for i, r in enumerate(radii)
    )
)


@given(stars, boxes)
def test_share_lies_between_nothing_and_all(polygon: tuple[Point, ...], box: Box) -> None:
    assert 0.0 <= geometry.covered_share(geometry.shape_of(polygon), box) <= 1.0


@given(stars, boxes, st.floats(0.01, 0.99))
def test_the_shares_of_two_halves_add_up(polygon: tuple[Point, ...], box: Box, cut: float) -> None:
    shape = geometry.shape_of(polygon)
    assume(shape.area > 1)
    left, top, right, bottom = box
    middle = left + cut * (right - left)
    halves = geometry.covered_share(shape, (left, top, middle, bottom)) + geometry.covered_share(
        shape, (middle, top, right, bottom)
    )
    assert halves == pytest.approx(geometry.covered_share(shape, box), abs=1e-6)
