"""What one frame says of each zone."""

import time

import pytest

from agent.domain.detection import PERSON, Detection
from agent.domain.zones import ZoneLook, distinct, look_at
from contract.store_config import Zone


def zone(name: str = "a1", sku: str = "cola", left: float = 100, capacity: int = 6) -> Zone:
    polygon = ((left, 100.0), (left + 300, 100.0), (left + 300, 200.0), (left, 200.0))
    return Zone(id=name, camera="cam-1", sku=sku, capacity=capacity, polygon=polygon)


def item(
    x: float, y: float = 150, label: str = "cola", confidence: float = 0.9, size: float = 20
) -> Detection:
    half = size / 2
    return Detection((x - half, y - half, x + half, y + half), confidence, 0, label)


def person(
    left: float, right: float, top: float = 0, bottom: float = 700, confidence: float = 0.8
) -> Detection:
    return Detection((left, top, right, bottom), confidence, 9, PERSON)


def one_look(*detections: Detection, capacity: int = 6) -> ZoneLook:
    return look_at([zone(capacity=capacity)], detections, 5.0)["a1"]


@pytest.mark.parametrize(
    ("detections", "count", "at_most", "others"),
    [
        pytest.param([], 0, 0, {}, id="empty"),
        pytest.param([item(120), item(200), item(280)], 3, 3, {}, id="three"),
        pytest.param([item(90), item(410)], 0, 0, {}, id="centres outside, though boxes reach in"),
        pytest.param([item(105, size=30)], 1, 1, {}, id="centre inside, though the box reaches out"),
        pytest.param([item(120), item(200, confidence=0.35)], 1, 2, {}, id="an unsure one"),
        pytest.param([item(120), item(200, confidence=0.2)], 1, 1, {}, id="too unsure"),
        pytest.param([item(120), item(200, label="chips")], 1, 1, {"chips": 1}, id="a stranger"),
        pytest.param([item(120, label="chips", confidence=0.35)], 0, 0, {}, id="an unsure stranger"),
        pytest.param([item(120), item(121, confidence=0.8)], 1, 1, {}, id="one item seen twice"),
        pytest.param(
            [item(120), item(121, label="chips", confidence=0.95)],
            0,
            0,
            {"chips": 1},
            id="the surer class wins",
        ),
        pytest.param([item(120), item(132)], 2, 2, {}, id="close neighbours stay two"),
    ],
)
def test_counting(detections: list[Detection], count: int, at_most: int, others: dict[str, int]) -> None:
    look = one_look(*detections)
    assert (look.count, look.count_at_most, dict(look.others)) == (count, at_most, others)


@pytest.mark.parametrize(
    ("people", "capacity", "hidden", "near"),
    [
        pytest.param([], 6, False, False, id="nobody"),
        pytest.param([person(600, 900)], 6, False, False, id="somebody far away"),
        pytest.param([person(430, 600)], 6, False, True, id="somebody beside"),
        pytest.param([person(390, 600)], 6, False, True, id="a sliver"),
        pytest.param([person(370, 600)], 6, True, True, id="more than a sliver"),
        pytest.param(
            [person(390, 600)], 12, True, True, id="the sliver could hide one of many narrow facings"
        ),
        pytest.param([person(0, 1280)], 6, True, True, id="all of it"),
        pytest.param([person(390, 600), person(0, 110)], 6, True, True, id="two slivers"),
        pytest.param([person(0, 1280, confidence=0.2)], 6, False, False, id="hardly a person"),
        pytest.param([person(0, 1280, top=300)], 6, False, False, id="well below the zone"),
    ],
)
def test_people(people: list[Detection], capacity: int, hidden: bool, near: bool) -> None:
    look = one_look(item(250), *people, capacity=capacity)
    assert (look.hidden_by_person, look.person_near) == (hidden, near)


def test_confidence_is_the_mean_of_what_was_counted() -> None:
    assert one_look(item(120, confidence=0.9), item(200, confidence=0.7)).confidence == pytest.approx(0.8)
    assert one_look(item(200, confidence=0.35)).confidence is None


def test_each_zone_counts_its_own() -> None:
    looks = look_at(
        [zone(), zone("a2", "chips", left=400)], [item(390), item(420), item(430, 120, "chips")], 5.0
    )
    assert (looks["a1"].count, looks["a2"].count, dict(looks["a2"].others)) == (1, 1, {"cola": 1})


def test_of_three_boxes_on_one_item_the_surest_stays() -> None:
    boxes = [item(100, confidence=0.5), item(101, confidence=0.9), item(102, confidence=0.7)]
    assert [d.confidence for d in distinct(boxes)] == [0.9]


def test_a_crowded_frame_takes_no_time() -> None:
    zones = [zone(f"z{i}", left=90.0 * i) for i in range(12)]
    detections = [item(13.0 * i, 100 + i % 7 * 20) for i in range(98)] + [person(300, 500), person(900, 990)]
    best = min(_seconds(zones, detections) for _ in range(20))
    assert best < 0.01, "a frame leaves 200 ms; this takes about 0.7 ms on a laptop"


def _seconds(zones: list[Zone], detections: list[Detection]) -> float:
    began = time.perf_counter()
    look_at(zones, detections, 0.0)
    return time.perf_counter() - began
