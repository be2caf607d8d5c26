"""Liveness of devices and the status of cameras."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from contract.messages import CameraStatusMessage, CameraTelemetry
from controller.domain.fleet import (
    Device,
    apply_camera_status,
    apply_camera_telemetry,
    apply_state,
    apply_telemetry,
    handovers_of,
    liveness,
    seen,
)


@pytest.fixture
def blank(now: datetime) -> Device:
    return seen(None, "berlin-01", "node-1", now, fresh=True)


def test_a_device_is_online_from_birth_to_death(blank: Device, device: Any, now: datetime) -> None:
    born = apply_state(blank, device.birth())
    dead = apply_state(born, device.birth(status="offline", reason="power cut"))
    assert not liveness(blank, now).online
    assert liveness(born, now).online
    assert liveness(dead, now).reason == "power cut"


def test_the_late_will_of_an_older_session_changes_nothing(blank: Device, device: Any) -> None:
    born = apply_state(blank, device.birth())
    newer = apply_state(born, device.birth(session_id=uuid4()))
    assert apply_state(newer, device.birth(status="offline")) == newer


@pytest.mark.parametrize(("silent_s", "online"), [(5.9, True), (6.0, True), (6.1, False)])
def test_three_missed_heartbeats_mean_offline(
    blank: Device, device: Any, now: datetime, silent_s: float, online: bool
) -> None:
    alive = apply_telemetry(apply_state(blank, device.birth()), device.heartbeat(), now)
    verdict = liveness(alive, now + timedelta(seconds=silent_s))
    assert verdict.online is online
    assert online or "no heartbeat for 6 s" in verdict.reason


def test_a_centre_whose_clock_was_set_back_does_not_take_the_dead_for_alive(
    blank: Device, device: Any, now: datetime
) -> None:
    alive = apply_telemetry(apply_state(blank, device.birth()), device.heartbeat(), now)
    back = now - timedelta(hours=1)
    assert not liveness(alive, back).online
    assert liveness(seen(alive, "berlin-01", "node-1", back, fresh=True), back).online


def test_a_heartbeat_after_the_will_brings_the_device_back(blank: Device, device: Any, now: datetime) -> None:
    dead = apply_state(blank, device.birth(status="offline"))
    assert liveness(apply_telemetry(dead, device.heartbeat(), now), now).online


def test_a_heartbeat_of_an_older_session_changes_nothing(blank: Device, device: Any, now: datetime) -> None:
    newer = apply_state(blank, device.birth(session_id=uuid4(), at=now + timedelta(seconds=1)))
    assert apply_telemetry(newer, device.heartbeat(), now) == newer


def test_a_retained_message_proves_no_life(blank: Device, now: datetime) -> None:
    later = now + timedelta(hours=1)
    assert seen(blank, "berlin-01", "node-1", later, fresh=False) == blank
    assert seen(blank, "berlin-01", "node-1", later, fresh=True).last_seen == later


def test_an_older_camera_status_does_not_replace_a_newer_one(now: datetime) -> None:
    def said(status: str, seconds: int) -> CameraStatusMessage:
        at = now + timedelta(seconds=seconds)
        return CameraStatusMessage.model_validate(
            {"camera": "cam-1", "status": status, "since": at, "at": at}
        )

    dark = apply_camera_status(None, "berlin-01", "node-1", said("dark", 5))
    assert apply_camera_status(dark, "berlin-01", "node-1", said("online", 4)) is dark
    assert apply_camera_status(dark, "berlin-01", "node-1", said("online", 6)).status == "online"


def test_telemetry_keeps_the_reason_while_the_status_is_the_same(now: datetime) -> None:
    def figures(status: str) -> CameraTelemetry:
        values = {"camera": "cam-1", "status": status, "fps_read": 5, "fps_inferred": 5}
        return CameraTelemetry.model_validate(values)

    first = apply_camera_telemetry(None, "berlin-01", "node-1", figures("dark"), now)
    first = replace(first, reason="night")
    same = apply_camera_telemetry(first, "berlin-01", "node-1", figures("dark"), now + timedelta(seconds=2))
    other = apply_camera_telemetry(same, "berlin-01", "node-1", figures("online"), now + timedelta(seconds=4))
    assert (same.reason, same.since) == ("night", now)
    assert (other.reason, other.since) == ("", now + timedelta(seconds=4))


def test_a_handover_is_told_per_camera_and_session(device: Any) -> None:
    rollout = uuid4()
    camera = {"camera": "cam-1", "status": "online", "fps_read": 5, "fps_inferred": 5}
    cameras = [camera | {"handover_gap_s": 0.4}, camera | {"camera": "cam-2"}]
    (told,) = handovers_of("berlin-01", "node-1", device.heartbeat(cameras=cameras, rollout_id=rollout))
    assert (told.camera, told.gap_s, told.rollout_id, told.session_id) == (
        "cam-1", 0.4, rollout, device.session,
    )  # fmt: skip
