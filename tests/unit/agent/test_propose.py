"""Zones proposed from detections: what a person would have drawn."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.domain.detection import Detection
from agent.domain.geometry import overlap
from agent.domain.propose import propose_zones

SIZE = (1280, 720)


def row(sku: str, left: float, top: float, count: int, pitch: float = 60, w: float = 50) -> list[Detection]:
    return [
        Detection((left + i * pitch, top, left + i * pitch + w, top + 100), 0.9, 0, sku) for i in range(count)
    ]


def frames_of(shelf: list[Detection], count: int = 10, miss: float = 0.0) -> list[list[Detection]]:
    rng = random.Random(3)
    frames = []
    for _ in range(count):
        frame = []
        for item in shelf:
            if rng.random() >= miss:
                dx, dy = rng.uniform(-2, 2), rng.uniform(-2, 2)
                x1, y1, x2, y2 = item.xyxy
                frame.append(Detection((x1 + dx, y1 + dy, x2 + dx, y2 + dy), 0.9, 0, item.label))
        frames.append(frame)
    return frames


def summary(frames: list[list[Detection]]) -> list[tuple[str, int]]:
    return [(zone.sku, zone.facings) for zone in propose_zones(frames, SIZE)]


@pytest.mark.parametrize(
    ("shelf", "expected"),
    [
        ([], []),
        (row("cola", 100, 100, 4), [("cola", 4)]),
        (row("cola", 100, 100, 3) + row("tea", 280, 100, 2), [("cola", 3), ("tea", 2)]),
        (row("cola", 100, 100, 3) + row("cola", 100, 300, 2), [("cola", 3), ("cola", 2)]),
        (
            row("cola", 100, 100, 2) + row("tea", 220, 100, 1) + row("cola", 280, 100, 2),
            [("cola", 2), ("tea", 1), ("cola", 2)],
        ),
        (row("cola", 100, 100, 2) + row("cola", 600, 100, 2), [("cola", 2), ("cola", 2)]),
    ],
    ids=["nothing", "one run", "two SKUs", "two shelves", "another SKU between", "far apart"],
)
def test_runs_of_one_sku_become_zones(shelf: list[Detection], expected: list[tuple[str, int]]) -> None:
    assert summary(frames_of(shelf)) == expected


def test_overlooked_and_flickering_detections_do_not_matter() -> None:
    frames = frames_of(row("cola", 100, 100, 4), count=30, miss=0.15)
    for frame in frames[::6]:
        frame += row("tea", 700, 500, 1)
    assert summary(frames) == [("cola", 4)]


@pytest.mark.parametrize(
    ("missing", "capacity"), [((), 5), ((2,), 5), ((1, 3), 5), ((2, 3), 5), ((0,), 4), ((0, 1, 2), 2)]
)
def test_missing_facings_count_for_the_capacity(missing: tuple[int, ...], capacity: int) -> None:
    shelf = [item for i, item in enumerate(row("cola", 100, 100, 5)) if i not in missing]
    assert max(zone.capacity for zone in propose_zones(frames_of(shelf), SIZE)) == capacity


def test_people_are_no_stock() -> None:
    assert summary(frames_of(row("person", 100, 100, 2))) == []


def test_single_frame_proves_nothing() -> None:
    assert summary(frames_of(row("cola", 100, 100, 4), count=1)) == []


def test_outline_holds_its_items_and_stays_clear_of_neighbours() -> None:
    frames = frames_of(row("cola", 0, 0, 3) + row("tea", 180, 0, 3) + row("milk", 0, 110, 3))
    cola, tea, milk = propose_zones(frames, SIZE)
    assert cola.box[0] == 0
    assert cola.box[1] == 0
    assert cola.box[2] <= tea.box[0]
    assert cola.box[3] <= milk.box[1]
    assert tea.box[2] > 350


skus = st.sampled_from(["cola", "tea", "milk"])


@given(
    st.lists(st.tuples(st.integers(0, 15), st.integers(0, 4), skus), max_size=40, unique_by=lambda t: t[:2])
)
def test_zones_stay_in_the_frame_apart_and_hold_each_item_once(places: list[tuple[int, int, str]]) -> None:
    shelf = [item for x, y, sku in places for item in row(sku, x * 75, y * 140, 1)]
    zones = propose_zones([shelf, shelf, shelf], SIZE)
    assert sum(zone.facings for zone in zones) == len(shelf)
    for i, zone in enumerate(zones):
        left, top, right, bottom = zone.box
        assert 0 <= left < right <= SIZE[0]
        assert 0 <= top < bottom <= SIZE[1]
        assert all(overlap(zone.box, other.box) < 1e-9 for other in zones[i + 1 :])
        inside = [d for d in shelf if left < d.centre[0] < right and top < d.centre[1] < bottom]
        assert [d.label for d in inside] == [zone.sku] * zone.facings
