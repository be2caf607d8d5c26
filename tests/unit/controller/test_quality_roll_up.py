"""Telemetry into quarters of an hour: nothing twice, nothing of cameras that show nothing."""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.messages import Telemetry
from controller.domain.quality import (
    NOT_DEPLOYED,
    Mark,
    QualityBucket,
    Taken,
    add,
    begin_of,
    of_events,
    take_in,
)

MINUTE = timedelta(minutes=1)
ROLLOUT = UUID(int=7)


def heartbeat(device: Any, at: datetime, frames: int | None, cans: int = 0, **changes: Any) -> Telemetry:
    figures = {
        "camera": "cam-1",
        "status": "online",
        "fps_read": 5,
        "fps_inferred": 5,
        "inference_ms_p50": 20,
        "confidence_histogram": [0] * 9 + [cans],
        "detections_per_class": {"cola": cans},
        "frames_inferred": frames,
        "zones": 4,
        "zones_unknown": 1,
    } | changes.pop("camera", {})
    made: Telemetry = device.heartbeat(at=at, cameras=[figures], **changes)
    return made


def fold(device: Any, said: list[Telemetry], now: datetime) -> tuple[Mark | None, QualityBucket | None]:
    mark, sum_ = None, None
    for telemetry in said:
        taken = take_in(mark, device.store, device.device, telemetry, now)
        if isinstance(taken, Taken):
            mark = taken.mark
            for part in taken.quality:
                sum_ = part if sum_ is None else add(sum_, part)
    return mark, sum_


def test_counts_are_differences_between_heartbeats(device: Any, now: datetime) -> None:
    said = [heartbeat(device, now + i * MINUTE, 300 * (i + 1), 900 * (i + 1)) for i in range(3)]
    mark, bucket = fold(device, said, now + timedelta(hours=1))
    assert mark is not None
    assert bucket is not None
    assert (bucket.frames, bucket.detections, bucket.histogram[9]) == (900, {"cola": 2700}, 2700)
    assert (bucket.deployment, bucket.inference_samples, mark.restarts) == (NOT_DEPLOYED, 3, 0)
    assert bucket.unknown_s / bucket.observed_s == pytest.approx(0.25)


@given(order=st.permutations(range(5)), twice=st.integers(0, 4))
def test_repeated_and_late_heartbeats_never_count_twice(
    order: list[int], twice: int, new_device: Any, now: datetime
) -> None:
    device = new_device()
    said = [heartbeat(device, now + i * MINUTE, 300 * (i + 1), 900 * (i + 1)) for i in range(5)]
    arrived = [said[i] for i in order] + [said[twice], said[4]]
    _, bucket = fold(device, arrived, now + timedelta(hours=1))
    assert bucket is not None
    assert (bucket.frames, bucket.detections["cola"]) == (1500, 4500)


def test_heartbeats_within_a_minute_wait_for_the_next_one(device: Any, now: datetime) -> None:
    mark, bucket = fold(
        device, [heartbeat(device, now + timedelta(seconds=5 * i), 25 * (i + 1)) for i in range(11)], now
    )
    assert mark is not None
    assert bucket is not None
    assert bucket.frames == 25


def test_a_new_process_counts_from_zero_and_is_a_restart(device: Any, now: datetime) -> None:
    later = now + timedelta(hours=1)
    said = [heartbeat(device, now, 300, rollout_id=ROLLOUT)]
    said += [heartbeat(device, now + MINUTE, 40, rollout_id=ROLLOUT, session_id=uuid4())]
    mark, bucket = fold(device, said, later)
    assert mark is not None
    assert bucket is not None
    assert (bucket.frames, mark.restarts) == (340, 1)
    old = heartbeat(device, now + MINUTE / 2, 310, rollout_id=ROLLOUT)
    assert take_in(mark, device.store, device.device, old, later) is None
    other = heartbeat(device, now + 2 * MINUTE, 10, rollout_id=UUID(int=8), session_id=uuid4())
    taken = take_in(mark, device.store, device.device, other, later)
    assert taken is not None
    assert (taken.mark.restarts, taken.mark.deployment) == (0, UUID(int=8))


def test_a_camera_that_another_node_gave_back_counts_anew(device: Any, now: datetime) -> None:
    said = [heartbeat(device, now, 3000, 9000), heartbeat(device, now + MINUTE, 200, 600)]
    _, bucket = fold(device, said, now + timedelta(hours=1))
    assert bucket is not None
    assert (bucket.frames, bucket.detections) == (3200, {"cola": 9600})


@pytest.mark.parametrize("bad", [0, 1])
def test_frames_of_a_camera_that_shows_nothing_are_unknown_time(device: Any, now: datetime, bad: int) -> None:
    said = [
        heartbeat(device, now + i * MINUTE, 300 * i, camera={"status": "dark" if i == bad else "online"})
        for i in range(2)
    ]
    _, bucket = fold(device, said, now + timedelta(hours=1))
    assert bucket is not None
    assert bucket.frames == 0
    assert bucket.unknown_s > 0


def test_an_older_agent_tells_of_no_frames(device: Any, now: datetime) -> None:
    said = [
        heartbeat(device, now, None, 10, camera={"zones": None}),
        heartbeat(device, now + MINUTE, None, 20, camera={"zones": None}),
    ]
    _, bucket = fold(device, said, now + timedelta(hours=1))
    assert bucket is not None
    assert (bucket.frames, bucket.detections, bucket.observed_s) == (0, {}, 0)


def test_a_clock_ahead_counts_as_now(device: Any, now: datetime) -> None:
    taken = take_in(None, "a", "b", heartbeat(device, now + timedelta(days=400), 5), now)
    assert taken is not None
    assert taken.mark.at == now
    assert taken.quality[0].start == begin_of(now, timedelta(minutes=15))


def test_a_long_silence_says_nothing_of_unknown_time(device: Any, now: datetime) -> None:
    first = heartbeat(device, now, 5)
    taken = take_in(None, "a", "b", first, now)
    assert taken is not None
    after = heartbeat(device, now + timedelta(hours=2), 36_005)
    later = take_in(taken.mark, "a", "b", after, now + timedelta(hours=3))
    assert later is not None
    assert (later.quality[0].frames, later.quality[0].observed_s) == (36_000, 0)


def test_events_are_counted_when_they_happened_but_those_of_the_agent_are_not(device: Any) -> None:
    events = [
        device.event(1, "picked", rolloutid=ROLLOUT),
        device.event(2, "zone_known"),
        device.event(3, "picked"),
    ]
    found = of_events(events)
    assert [(part.deployment, dict(part.events)) for part in found] == [
        (ROLLOUT, {"picked": 1}),
        (NOT_DEPLOYED, {"picked": 1}),
    ]
