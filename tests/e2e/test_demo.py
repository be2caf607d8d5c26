"""The main job as a user runs it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

DEMO = [sys.executable, "-m", "storefleet", "demo"]


@pytest.mark.timeout(180)
def test_the_demo_reports_nothing_lost_and_nothing_twice(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    options = ["--stores", "2", "--cameras", "2", "--duration", "60", "--seed", "20207"]
    done = subprocess.run(
        [*DEMO, *options, "--dir", str(tmp_path / "demo"), "--report", str(report)],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads(report.read_text())
    assert figures["events_in_db"] > 0
    assert figures["alerts_expected"] > 0
    assert (figures["lost"], figures["duplicated"], figures["sequence_gaps"]) == (0, 0, 0)
    # Few events in a minute, so one mistake weighs much; benchmarks.inventory measures accuracy.
    assert figures["precision"] >= 0.8
    assert figures["recall"] >= 0.7
    assert figures["handovers"] == 4, "v1 to v2 on four cameras"
    assert figures["blind_gap_max_s"] < 10
    assert figures["dead_letters"] == 0
    assert no_process_uses(tmp_path), "the demo leaves no process behind"


def no_process_uses(directory: Path) -> bool:
    commands = [path / "cmdline" for path in Path("/proc").iterdir() if path.name.isdigit()]
    for command in commands:
        try:
            if str(directory).encode() in command.read_bytes():
                return False
        except OSError:  # it ended meanwhile
            continue
    return True


def test_a_foreign_directory_is_not_emptied(tmp_path: Path) -> None:
    (tmp_path / "precious").touch()
    done = subprocess.run(
        [*DEMO, "--dir", str(tmp_path), "--duration", "10"], check=False, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "choose another --dir" in done.stderr
    assert (tmp_path / "precious").exists()
