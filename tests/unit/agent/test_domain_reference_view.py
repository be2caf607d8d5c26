"""Which reference view serves which zones."""

from collections.abc import Mapping

import pytest

from agent.domain.reference_view import Drawing, drawing_of, drawn_anew
from contract.store_config import Camera, Product, StoreConfig, Zone

SIZE = (1280, 720)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ({"a": 1, "b": 2}, {"a": 1, "b": 2}, False),
        ({"a": 1}, {"a": 1, "b": 2}, False),
        ({"a": 1, "b": 2}, {"a": 1}, False),
        ({"a": 1, "b": 2}, {"a": 1, "b": 3}, True),
        ({"a": 1, "b": 2}, {"c": 1, "b": 2}, False),
        ({"a": 1, "b": 2}, {"c": 3, "d": 4}, True),
        ({"a": 1}, {"c": 1}, False),
        ({}, {"a": 1}, True),
        ({"a": 1}, {}, False),
        ({}, {}, False),
    ],
    ids=[
        "same", "one added", "one removed", "one redrawn", "one renamed", "all replaced", "all renamed",
        "first ones", "all removed", "none",
    ],
)  # fmt: skip
def test_zones_are_drawn_anew_when_an_outline_changed_or_none_is_left(
    before: Mapping[str, int], after: Mapping[str, int], expected: bool
) -> None:
    assert drawn_anew(before, after) is expected
    assert Drawing(SIZE, after).replaces(Drawing(SIZE, before)) is expected


def test_another_frame_size_is_another_drawing() -> None:
    assert Drawing((640, 360), {"a": 1}).replaces(Drawing(SIZE, {"a": 1}))


def test_a_drawing_holds_the_zones_of_its_camera_only() -> None:
    zones = [
        Zone(id=name, camera=camera, sku="cola", capacity=4, polygon=((0, 0), (90, 0), (90, 90)))
        for name, camera in [("a1", "cam-1"), ("b1", "cam-2"), ("a2", "cam-1")]
    ]
    cameras = tuple(Camera(id=name, url="file:x", frame_size=SIZE) for name in ("cam-1", "cam-2"))
    product = Product(sku="cola", gtin="04012345678901", name="Cola")
    config = StoreConfig(
        version=1, store="berlin-01", planogram=(product,), cameras=cameras, zones=tuple(zones)
    )
    drawing = drawing_of(config, cameras[0])
    assert drawing.frame_size == SIZE
    assert set(drawing.outlines) == {"a1", "a2"}
    assert drawing == drawing_of(config.model_copy(update={"zones": tuple(reversed(zones))}), cameras[0])
