"""Health as the probes see it, and logs as their collector does."""

import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.adapters.health_file import read_health, write_health
from agent.domain.camera_condition import CameraCondition
from agent.domain.detection import Detection
from agent.domain.probe import judge
from agent.errors import TransientError
from agent.health import HealthKeeper
from agent.json_log import log_json
from agent.meter import CameraMeter
from agent.pipeline import CameraReport
from contract.names import CameraStatus
from contract.workload import HEALTH_STALE_S

NOW = 1_700_000_000.0


def report(camera: str, status: CameraStatus | None, looked_at: float | None = None) -> CameraReport:
    meter = CameraMeter()
    if looked_at is not None:
        meter.note([], took_ms=5, captured_at=looked_at, now=looked_at)
    return CameraReport(camera, meter, CameraCondition(status, "", NOW) if status else None)


def test_health_counts_cameras() -> None:
    keeper = HealthKeeper(7, None, lambda: NOW)
    keeper.enter("active")
    health = keeper.report(
        [
            report("a", CameraStatus.ONLINE, NOW - 1),
            report("b", CameraStatus.OFFLINE, NOW - 60),
            report("c", CameraStatus.DARK),
            report("d", None),
        ],
        turned_s_ago=0.1,
    )
    assert (health.cameras, health.cameras_fresh, health.cameras_unreachable) == (4, 1, 1)
    assert health.last_inference_at is not None
    assert health.last_inference_at.timestamp() == NOW - 1


def test_hanging_loop_lets_health_grow_stale() -> None:
    now = [NOW]
    keeper = HealthKeeper(7, None, lambda: now[0])
    keeper.enter("active")
    keeper.report([], turned_s_ago=0.1)
    now[0] += 30
    health = keeper.report([], turned_s_ago=30.0)
    assert health.at.timestamp() == NOW
    assert "has not turned for 30 s" in health.error
    assert not judge(health, "live", now[0]).ok
    assert judge(keeper.report([], turned_s_ago=0.1), "live", now[0]).ok


def test_clock_set_back_does_not_keep_a_hanging_agent_alive() -> None:
    health = HealthKeeper(7, None, lambda: NOW).report([], None)
    assert judge(health, "live", NOW - HEALTH_STALE_S / 2).ok
    answer = judge(health, "live", NOW - 3600)
    assert not answer.ok
    assert "from the future" in answer.reason


def test_health_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "run" / "health.json"
    assert read_health(path) is None
    keeper = HealthKeeper(7, None, lambda: NOW)
    for _ in range(3):
        write_health(path, keeper.report([], None))
    assert read_health(path) == keeper.report([], None)
    assert [file.name for file in path.parent.iterdir()] == ["health.json"]


def test_rubbish_in_the_health_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "h").write_text("rubbish")
    with pytest.raises(TransientError, match="not a health file"):
        read_health(tmp_path / "h")
    with pytest.raises(TransientError, match="cannot write"):
        write_health(tmp_path / "h" / "below-a-file", HealthKeeper(7, None, lambda: NOW).report([], None))


def test_meter_counts_and_measures() -> None:
    meter = CameraMeter(previous_at=NOW - 0.4)
    for i in range(10):
        seen = [
            Detection((0, 0, 1, 1), 0.05 + i / 10, 0, "cola-can"),
            Detection((0, 0, 1, 1), 1.0, 1, "person"),
        ]
        meter.note(seen, took_ms=float(i), captured_at=NOW + i, now=NOW + i * 0.2)
    assert meter.handover_gap_s == pytest.approx(0.4)
    counts = meter.counts(10)
    assert counts.histogram == (1, 1, 1, 1, 1, 1, 1, 1, 1, 11)
    assert counts.classes == {"cola-can": 10, "person": 10}
    assert (counts.frames, counts.classes_left_out) == (10, 0)
    assert meter.counts(1).classes_left_out == 1
    assert (meter.percentile_ms(0.5), meter.percentile_ms(0.95)) == (5.0, 9.0)
    assert meter.fps(NOW + 2) == 2.0
    assert meter.fps(NOW + 60) == 0.0


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    stream = io.StringIO()
    log_json("info", stream)
    yield stream
    root.handlers[:] = before
    root.setLevel(level)


def test_log_lines_are_json_with_their_fields(log: io.StringIO) -> None:
    logging.getLogger("agent.x").info("camera status", extra={"camera": "aisle-1", "path": Path("/x")})
    try:
        raise ValueError("broken")
    except ValueError:
        logging.getLogger("agent.x").exception("failed")
    first, second = (json.loads(line) for line in log.getvalue().splitlines())
    assert (first["message"], first["camera"], first["path"], first["level"]) == (
        "camera status",
        "aisle-1",
        "/x",
        "info",
    )
    assert "ValueError: broken" in second["exception"]
