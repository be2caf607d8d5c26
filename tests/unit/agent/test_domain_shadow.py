"""Comparing two models, and taking turns among cameras."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from agent.domain.detection import Detection
from agent.domain.matching import Box
from agent.domain.shadow import Totals, Turns, compare, microseconds
from agent.domain.token_bucket import full, take

UNIT: Box = (0.0, 0.0, 10.0, 10.0)
FAR: Box = (50.0, 50.0, 60.0, 60.0)


def seen(label: str, xyxy: Box, confidence: float = 0.5) -> Detection:
    return Detection(xyxy, confidence, 0, label)


def test_same_object_is_matched_and_its_confidence_compared() -> None:
    found = compare([seen("cola", UNIT, 0.6)], [seen("cola", (0.0, 0.0, 10.0, 9.0), 0.9)])
    assert found.matched == Counter(cola=1)
    assert not found.only_current
    assert not found.only_candidate
    assert round(found.confidence_delta, 6) == 0.3


def test_another_class_at_the_same_place_is_a_difference_of_both() -> None:
    found = compare([seen("cola", UNIT)], [seen("tea", UNIT)])
    assert (found.only_current, found.only_candidate) == (Counter(cola=1), Counter(tea=1))


def test_totals_name_the_classes_that_differ_most() -> None:
    totals = Totals()
    totals.add(compare([seen("cola", UNIT), seen("cola", FAR), seen("tea", UNIT)], [seen("tea", UNIT)]))
    totals.add(compare([], [seen("jam", UNIT)]))
    assert totals.frames == 2
    assert totals.worst(2) == ["cola", "jam"]
    assert totals.matched == Counter(tea=1)


labels = st.sampled_from(["cola", "tea"])
boxes = st.tuples(*[st.floats(0, 50)] * 2, *[st.floats(51, 100)] * 2)
detections = st.lists(st.builds(seen, labels, boxes, st.floats(0, 1)), max_size=6)


@given(detections, detections)
def test_every_detection_is_counted_once(current: list[Detection], candidate: list[Detection]) -> None:
    found = compare(current, candidate)
    assert found.matched + found.only_current == Counter(d.label for d in current)
    assert found.matched + found.only_candidate == Counter(d.label for d in candidate)


def test_cameras_take_turns() -> None:
    turns = Turns()
    taken = Counter(camera for n in range(40) for camera in "aab" if turns.offer(camera, n * 0.1))
    assert abs(taken["a"] - taken["b"]) <= 2  # a was alone at first
    assert taken["b"] == 40


def test_camera_that_fell_silent_is_not_waited_for() -> None:
    turns = Turns()
    for n in range(10):
        turns.offer("a", n * 0.1)
    turns.offer("b", 1.0)
    assert not turns.offer("b", 1.1) or turns.offer("a", 1.2)
    assert turns.offer("b", 60.0)
    assert turns.offer("b", 60.1)


@given(st.lists(st.floats(0.001, 3.0), min_size=5, max_size=40), st.floats(1, 100))
def test_budget_is_kept_whatever_frames_cost(costs: list[float], percent: float) -> None:
    """Spent processor time never exceeds the budget by more than the burst and the last frame."""
    now, spent = 0.0, 0.0
    bucket = full(percent * 1e4, now)
    for cost in costs:
        now += cost  # as if it had a whole core
        spent += cost
        bucket, wait_s = take(bucket, microseconds(cost), now)
        now += wait_s
        assert spent <= percent / 100 * now + 0.25 + 1e-3
