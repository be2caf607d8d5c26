"""The demo's report on a store of one zone whose shelf goes from three facings to one."""

from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest

from contract.store_config import Camera, Product, StoreConfig, Zone
from storefleet.demo.report import Facts, StoreTruth, build_report

STREAM = str(uuid4())
CONFIG = StoreConfig(
    version=1,
    store="sim-1",
    planogram=(Product(sku="cola", gtin="04012345678901", name="Cola"),),
    cameras=(Camera(id="cam-1", url="rtsp://127.0.0.1/x", frame_size=(1280, 720)),),
    zones=(
        Zone(
            id="z1", camera="cam-1", sku="cola", capacity=3, polygon=((0, 0), (100, 0), (100, 100), (0, 100))
        ),
    ),
)
TRUTH = [
    {"record": "zone", "time": 1000.0, "camera": "cam-1", "zone": "z1", "facings": 3, "observable": True},
    {"record": "zone", "time": 1020.0, "camera": "cam-1", "zone": "z1", "facings": 1, "observable": True},
]


def event(sequence: int, kind: str, time: float, **changes: Any) -> dict[str, Any]:
    at = datetime.fromtimestamp(time, UTC).isoformat()
    received = datetime.fromtimestamp(time + 0.5, UTC).isoformat()
    return {
        "event_id": str(uuid4()),
        "store": "sim-1",
        "device": "node-1",
        "camera": "cam-1",
        "zone": "z1",
        "kind": kind,
        "event_time": at,
        "received_at": received,
        "stream_id": STREAM,
        "sequence": sequence,
        "historical": False,
        "data": {"unknown_s": 3.0, "n": sequence},
    } | changes


def fleet(last_sequence: int) -> list[dict[str, Any]]:
    outbox = {"stream_id": STREAM, "last_sequence": last_sequence}
    return [{"store": "sim-1", "devices": [{"device": "node-1", "telemetry": {"outbox": outbox}}]}]


def report(events: list[dict[str, Any]], last_sequence: int = 0, ended_at: float = 1060.0) -> dict[str, Any]:
    facts = Facts(events, fleet(last_sequence), [], [], [])
    return build_report([StoreTruth(CONFIG, TRUTH)], facts, ended_at)


KNOWN = event(1, "zone_known", 1004.0)


def test_an_alert_in_time_is_right() -> None:
    figures = report([KNOWN, event(2, "low_stock", 1024.0)])
    assert (figures["precision"], figures["recall"]) == (1.0, 1.0)
    assert figures["capture_to_db_p95_s"] == pytest.approx(0.5)


def test_an_alert_that_never_came_is_missed() -> None:
    figures = report([KNOWN])
    assert figures["recall"] == 0.0
    assert figures["precision"] is None


def test_an_alert_without_cause_is_false() -> None:
    figures = report([KNOWN, event(2, "low_stock", 1024.0), event(3, "out_of_stock", 1040.0)])
    assert figures["precision"] == 0.5


def test_what_came_while_the_agents_were_stopped_is_not_scored() -> None:
    figures = report([KNOWN, event(2, "low_stock", 1024.0)], ended_at=1021.0)
    assert figures["alerts_expected"] == 0
    assert figures["precision"] is None


def test_a_change_before_the_camera_was_looked_at_is_what_the_first_look_shows() -> None:
    figures = report([event(1, "zone_known", 1034.0), event(2, "low_stock", 1034.0)])
    assert (figures["precision"], figures["recall"]) == (1.0, 1.0)


def test_numbered_events_that_are_not_stored_are_lost() -> None:
    assert report([KNOWN, event(4, "low_stock", 1024.0)], last_sequence=6)["lost"] == 4


def test_an_event_stored_twice_is_a_duplicate() -> None:
    twice = event(2, "low_stock", 1024.0)
    assert report([KNOWN, twice, twice])["duplicated"] == 1
    assert report([KNOWN, twice])["duplicated"] == 0
