"""The probe's short way says what the full command says, or nothing."""

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from agent.cli import app
from agent.cli_health import answer_plain, read_plain
from contract.errors import MessageError
from contract.workload import AgentHealth, Env, decode_health

GOOD: dict[str, Any] = {
    "pid": 7,
    "at": "2026-05-04T12:00:00.25Z",
    "phase": "active",
    "model_digest": "sha256:" + "a" * 64,
    "rollout_id": "00000000-0000-0000-0000-000000000001",
    "cameras": 3,
    "last_inference_at": "2026-05-04T12:00:00Z",
    "error": "",
}
HEAVY = (
    "pydantic",
    "typer",
    "click",
    "cv2",
    "numpy",
    "paho",
    "yaml",
    "cryptography",
    "httpx",
    "rich",
    "inspect",
)

ODD_VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text("ab\n\u00e9", max_size=5),
    st.lists(st.none(), max_size=1),
    st.sampled_from(
        ["active", "2026-05-04T12:00:00", "0000-05-04T12:00:00Z", "2026-13-04T12:00:00Z", "\ud800"]
    ),
)


def test_what_agents_write_is_read_without_the_full_command() -> None:
    now = datetime.now(UTC)
    full = AgentHealth(
        pid=1, at=now, phase="failed", error="camera aisle-1: no route to host", last_inference_at=now,
        model_digest=GOOD["model_digest"], rollout_id=GOOD["rollout_id"], cameras=2, cameras_fresh=1,
    )  # fmt: skip
    plain = read_plain(full.to_bytes())
    assert plain is not None
    assert (plain.at, plain.phase, plain.error) == (full.at, full.phase, full.error)


@given(
    changed=st.dictionaries(st.sampled_from([*GOOD, "cameras_fresh", "more"]), ODD_VALUES, max_size=3),
    missing=st.sets(st.sampled_from(list(GOOD)), max_size=1),
    cut=st.integers(0, 400),
)
def test_short_way_accepts_nothing_that_the_contract_refuses(
    changed: dict[str, Any], missing: set[str], cut: int
) -> None:
    fields = {key: value for key, value in {**GOOD, **changed}.items() if key not in missing}
    content = json.dumps(fields).encode()[: cut if cut > 100 else None]
    plain = read_plain(content)
    try:
        full = decode_health(content)
    except MessageError:
        assert plain is None
    else:
        assert plain is None or (plain.at, plain.phase, plain.error) == (full.at, full.phase, full.error)


@given(st.binary(max_size=60))
def test_any_bytes_are_left_to_the_full_command(content: bytes) -> None:
    assert read_plain(content) is None


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"[" * 4000, id="nested"),
        pytest.param(json.dumps({**GOOD, "error": "x" * 5000}).encode(), id="large"),
        pytest.param(json.dumps({**GOOD, "error": "two\nlines"}).encode(), id="control characters"),
        pytest.param(json.dumps(GOOD).encode("utf-16"), id="another encoding"),
        pytest.param(json.dumps(GOOD).replace('"pid": 7', '"pid": ' + "9" * 3900).encode(), id="digits"),
        pytest.param(b'{"pid": NaN}', id="no number"),
    ],
)  # fmt: skip
def test_hostile_files_are_left_to_the_full_command(content: bytes) -> None:
    plain = read_plain(content)
    assert plain is None or decode_health(content).phase == plain.phase


@pytest.mark.parametrize("question", [["--live"], ["--ready"], []], ids=["live", "ready", "default"])
@pytest.mark.parametrize(
    ("phase", "age_s", "error"),
    [
        ("active", 1, ""),
        ("active", 30, ""),
        ("active", -3600, ""),
        ("standby", 1, ""),
        ("starting", 1, ""),
        ("draining", 1, ""),
        ("failed", 1, "out of memory"),
    ],
)
def test_both_ways_give_the_same_words_and_status(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    question: list[str],
    phase: Any,
    age_s: float,
    error: str,
) -> None:
    file = tmp_path / "health.json"
    at = datetime.now(UTC) - timedelta(seconds=age_s)
    file.write_bytes(AgentHealth(pid=1, at=at, phase=phase, error=error).to_bytes())
    words = [*question, "--file", str(file)]
    full = CliRunner().invoke(app, ["health", *words])
    assert answer_plain(words) == full.exit_code
    assert capsys.readouterr().out == full.output


def test_missing_file_is_told_by_both_ways(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--live", "--file", str(tmp_path / "none")]
    full = CliRunner().invoke(app, ["health", *words])
    assert (answer_plain(words), capsys.readouterr().out) == (1, full.output)


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["--ready", "--live"],
        ["--file"],
        ["--file", ""],
        ["--live", "--live"],
        ["--file", "/"],
        ["x"],
        [],
    ],
    ids=lambda words: " ".join(words) or "without a file",
)
def test_unusual_calls_are_left_to_the_full_command(
    monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    monkeypatch.delenv(Env.HEALTH_FILE, raising=False)
    assert answer_plain(words) is None


def test_file_of_the_pod_is_found_by_its_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "health.json"
    file.write_bytes(AgentHealth(pid=1, at=datetime.now(UTC), phase="active").to_bytes())
    monkeypatch.setenv(Env.HEALTH_FILE, str(file))
    assert answer_plain(["--ready"]) == 0


@pytest.mark.parametrize("program", ["storefleet.cli", "agent"])
@pytest.mark.parametrize(("phase", "status"), [("active", 0), ("starting", 1), (None, 1)])
def test_probe_imports_no_large_module(tmp_path: Path, program: str, phase: Any, status: int) -> None:
    file = tmp_path / "health.json"
    if phase is not None:
        file.write_bytes(AgentHealth(pid=1, at=datetime.now(UTC), phase=phase).to_bytes())
    call = (
        "storefleet.cli.main()"
        if program == "storefleet.cli"
        else "runpy.run_module('agent', run_name='__main__')"
    )
    words = ["agent", "health"] if program == "storefleet.cli" else ["health"]
    code = (
        f"import runpy, sys, storefleet.cli\nsys.argv[1:] = {[*words, '--ready', '--file', str(file)]!r}\n"
        f"try:\n    {call}\nexcept SystemExit as error:\n    status = error.code\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules], status)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == f"[] {status}"
    assert done.stderr == ""


def test_garbled_file_is_refused_in_the_full_commands_words(tmp_path: Path) -> None:
    file = tmp_path / "health.json"
    file.write_text('{"pid": 1, "at": "now"}')
    done = subprocess.run(
        [sys.executable, "-m", "storefleet", "agent", "health", "--file", str(file)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "is not a health file: at:" in done.stderr
