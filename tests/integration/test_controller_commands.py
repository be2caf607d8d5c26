"""The commands that ask a running controller, and what they print."""

import json
import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import typer
from typer.testing import CliRunner, Result

from contract.messages import CameraStatusMessage
from controller import cli
from controller.adapters.database import Database, open_database
from controller.ingest_batch import ingest_batch
from controller.ports import Received
from storefleet.demo.processes import free_port

Run = Callable[..., Result]

CONFIG = """\
version: 1
store: berlin-01
planogram: [{sku: cola, gtin: "04012345678901", name: Cola}]
cameras: [{id: cam-1, url: "rtsp://10.0.4.11/stream", frame_size: [1280, 720]}]
zones: [{id: zone-1, camera: cam-1, sku: cola, capacity: 6, polygon: [[10, 10], [90, 10], [90, 90]]}]
"""


@pytest.fixture(scope="module")
def centre(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A controller without a broker; gives its data directory, with its URL in ``url``."""
    directory = tmp_path_factory.mktemp("centre")
    port = free_port()
    environment = os.environ | {
        "STOREFLEET_CONTROLLER_DATA_DIR": str(directory),
        "STOREFLEET_CONTROLLER_API_PORT": str(port),
        "STOREFLEET_CONTROLLER_MQTT_URL": "mqtt://127.0.0.1:9",
    }
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "controller", "controller", "run"], env=environment, stderr=log
        )
    url = f"http://127.0.0.1:{port}"
    (directory / "url").write_text(url)
    end = time.monotonic() + 30
    while not _has_database(url):
        assert time.monotonic() < end, (directory / "log").read_text()
        time.sleep(0.1)
    yield directory
    process.terminate()
    assert process.wait(20) == 0, (directory / "log").read_text()


def _has_database(url: str) -> bool:
    try:
        return bool(httpx.get(f"{url}/health", timeout=5).json()["database"])
    except httpx.TransportError:
        return False


@pytest.fixture
def run(centre: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("STOREFLEET_CONTROLLER_URL", (centre / "url").read_text())
    monkeypatch.setenv("STOREFLEET_API_TOKEN_FILE", str(centre / "admin.token"))
    monkeypatch.setenv("COLUMNS", "200")
    root = typer.Typer()
    cli.register(root)

    def run(*words: str, code: int = 0) -> Result:
        result = CliRunner().invoke(root, words)
        assert result.exit_code == code, result.output
        return result

    return run


@pytest.fixture
def database(centre: Path) -> Iterator[Database]:
    database = open_database(f"sqlite:///{centre / 'controller.db'}")
    yield database
    database.close()


@pytest.fixture
def berlin(run: Run, tmp_path: Path) -> Run:
    if not json.loads(run("stores", "list", "--json").output)["items"]:
        file = tmp_path / "berlin.yaml"
        file.write_text(CONFIG)
        run("stores", "add", "berlin-01", "--config", str(file), "--label", "region=north")
    return run


@pytest.mark.parametrize("command", [["fleet"], ["stock"], ["events"], ["audit"], ["dead-letters"]])
def test_empty_answers_say_so_and_are_valid_json(run: Run, command: list[str]) -> None:
    if not json.loads(run("stores", "list", "--json").output)["items"]:
        output = run(*command).output
        assert "yet" in output or "No " in output
        assert run(*command, "--json").output.strip() in ("", '{\n  "items": []\n}')


def test_status_fails_and_names_the_missing_broker(run: Run) -> None:
    result = run("status", code=1)
    assert "not ready" in result.output
    assert "no MQTT broker answers at 127.0.0.1:9" in result.output
    assert json.loads(run("status", "--json", code=1).output)["database"] is True


def test_a_store_is_registered_shown_and_written_down(berlin: Run) -> None:
    (store,) = json.loads(berlin("stores", "list", "--json").output)["items"]
    assert store["labels"] == {"region": "north"}
    assert berlin("stores", "config", "berlin-01").output == CONFIG
    assert "no device has reported yet" in berlin("fleet").output
    assert "store.register" in berlin("audit").output


def test_refusals_are_explained(berlin: Run, tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text(CONFIG.replace("version: 1", "version: 2"))
    refused = berlin("stores", "config", "berlin-01", str(bad), code=1)
    assert "line 1, column 10" in refused.output
    assert "exists already" in berlin("stores", "add", "berlin-01", code=1).output
    assert "KEY=VALUE" in berlin("stores", "add", "x", "--label", "north", code=1).output
    assert "nowhere.yaml" in berlin("stores", "add", "x", "--config", "nowhere.yaml", code=1).output
    assert "time zone 'Mars'" in berlin("events", "--tz", "Mars", code=1).output
    for command in ("stock", "events"):
        assert "'nope' does not exist" in berlin(command, "--store", "nope", code=1).output
    usage = berlin("events", "--type", "nope", code=2).output
    assert "out_of_stock" in usage
    assert "status_changed" in usage


def test_stock_and_events_are_shown_in_the_wanted_time_zone(
    berlin: Run, database: Database, new_device: Any
) -> None:
    device = new_device()
    at = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
    event = device.event(1, "low_stock", time=at, data={"facings": 1, "level": "low"})
    ingest_batch(database, [device.sent(device.birth()), device.sent(event)], datetime.now(UTC))
    assert "low" in berlin("stock").output
    assert "1 of 6" in berlin("stock", "--store", "berlin-01").output
    line = berlin("events", "--type", "low_stock", "--tz", "Europe/Berlin").output
    assert line.startswith("2026-05-04 14:00:00  berlin-01/zone-1")
    assert "cola: low, 1 of 6 facings" in line
    filtered = berlin("events", "--since", "2026-05-04T14:00:00", "--tz", "Europe/Berlin", "--json").output
    assert [json.loads(text)["kind"] for text in filtered.splitlines()] == ["low_stock"]
    assert berlin("events", "--since", "2026-05-04T14:00:01", "--tz", "Europe/Berlin", "--json").output == ""
    assert "node-1" in berlin("fleet").output


def test_following_prints_new_events_as_they_come(berlin: Run, database: Database, new_device: Any) -> None:
    device = new_device(device="node-9")
    first, *later = [device.sent(device.event(n)) for n in (1, 2, 3)]
    ingest_batch(database, [first], datetime.now(UTC))
    process = subprocess.Popen(
        [sys.executable, "-m", "controller", "events", "--follow", "--json", "--limit", "1"],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    watchdog = threading.Timer(40, process.kill)
    watchdog.start()
    try:
        assert json.loads(process.stdout.readline())["sequence"] == 1
        ingest_batch(database, later, datetime.now(UTC))
        assert [json.loads(process.stdout.readline())["sequence"] for _ in later] == [2, 3]
    finally:
        watchdog.cancel()
        process.terminate()
        process.wait(10)
        process.stdout.close()


def test_without_a_token_or_a_controller_the_remedy_is_named(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("STOREFLEET_API_TOKEN_FILE", str(tmp_path / "none"))
    assert "STOREFLEET_API_TOKEN" in run("stock", code=1).output
    monkeypatch.setenv("STOREFLEET_API_TOKEN", "wrong-token")
    assert "a valid bearer token is needed" in run("stock", code=1).output
    monkeypatch.setenv("STOREFLEET_CONTROLLER_URL", "http://127.0.0.1:9")
    assert "is it running" in run("stock", code=1).output


MIGRATIONS = Path(__file__).parents[2] / "controller/adapters/database/migrations/versions"


def test_migrate_tells_the_schema(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("STOREFLEET_CONTROLLER_DATA_DIR", str(tmp_path / "new"))
    assert "was empty" in run("controller", "migrate").output
    newest = max(path.stem[:5] for path in MIGRATIONS.glob("v*.py"))
    assert f"was {newest}" in run("controller", "migrate").output


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("MQTT_URL", "mqtt://user:secret@host", "no credentials in the URL"),
        ("AGENT_MQTT_URL", "mqtt://user:secret@host", "no credentials in the URL"),
        ("MQTT_URL", "http://host", "write mqtt://host:port"),
        ("API_PORT", "0", "STOREFLEET_CONTROLLER_API_PORT"),
        ("DATABASE_URL", "mysql://root:secret@host/x", "use sqlite or postgresql"),
        ("LOG_LEVEL", "loud", "'DEBUG', 'INFO'"),
        ("DATABASE_URL", "postgresql://root:secret@host:port/x", "the database URL cannot be read"),
        ("MQTT_URL", "mqtt://host:99999", "write mqtt://host:port"),
        ("DATA_DIR", "/dev/null", "/dev/null: "),
        ("DATA_DIR", "/dev/null/below", "/dev/null/below: "),
    ],
)
def test_bad_settings_are_refused_by_name(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, value: str, text: str
) -> None:
    monkeypatch.setenv("STOREFLEET_CONTROLLER_DATA_DIR", str(tmp_path / "new"))
    monkeypatch.setenv(f"STOREFLEET_CONTROLLER_{name}", value)
    output = run("controller", "run", code=1).output
    assert text in output
    assert "secret" not in output


@pytest.mark.parametrize("damage", ["no database", "newer schema"])
def test_a_database_that_cannot_be_used_ends_the_controller_with_one_line(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, damage: str
) -> None:
    monkeypatch.setenv("STOREFLEET_CONTROLLER_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("STOREFLEET_CONTROLLER_API_PORT", str(free_port()))
    file = tmp_path / "controller.db"
    if damage == "no database":
        file.write_bytes(b"not a database at all" * 100)
    else:
        run("controller", "migrate")
        with sqlite3.connect(file) as connection:
            connection.execute("UPDATE alembic_version SET version_num = 'v9999'")
        connection.close()
    command = [sys.executable, "-m", "controller", "controller", "run"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=40)
    assert done.returncode == 1
    words = "file is not a database" if damage == "no database" else "start the version that wrote it"
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert "refused a value" not in done.stderr


def test_every_route_asks_for_the_right_token(centre: Path) -> None:
    url = (centre / "url").read_text()
    paths = httpx.get(f"{url}/openapi.json").json()["paths"]
    values = defaultdict(lambda: "x", digest="sha256:" + "0" * 64)
    answers = {}
    for path, methods in paths.items():
        for method in methods:
            for who in ("nobody", "artifact", "admin"):
                token = (centre / f"{who}.token").read_text().strip() if who != "nobody" else ""
                headers = {"Authorization": f"Bearer {token}"} if token else {}
                answer = httpx.request(method, url + path.format_map(values), headers=headers)
                answers[path, method, who] = answer.status_code
    refused = {place: code for place, code in answers.items() if code in (401, 403)}
    guarded = [(path, method) for path, methods in paths.items() for method in methods if "/v1/" in path]
    downloads = ("/v1/artifacts/{digest}", "get")
    expected = {(*place, "nobody"): 401 for place in guarded}
    expected |= {(*place, "artifact"): 403 for place in guarded if place != downloads}
    assert len(guarded) > 20
    assert refused == expected


def test_what_stores_say_is_shown_as_it_is(berlin: Run, database: Database, new_device: Any) -> None:
    """No markup, and nothing that a terminal obeys."""
    device = new_device(device="node-7")
    said = "zones[a].x [/x] [red]\x1b[31m"
    camera = {"camera": "cam-1", "status": "dark", "reason": said, "since": datetime.now(UTC)}
    messages = [
        device.heartbeat(config_error=said, at=datetime.now(UTC)),
        CameraStatusMessage.model_validate(camera | {"at": datetime.now(UTC)}),
    ]
    bad = Received(f"storefleet/v1/berlin-01/node-7/{said}", b"{", datetime.now(UTC))
    ingest_batch(database, [*map(device.sent, messages), bad], datetime.now(UTC))
    for command in ("fleet", "dead-letters"):
        output = berlin(command).output
        assert "zones[a].x [/x] [red]" in output
        assert "\x1b" not in output


def test_a_refused_event_is_replayed_by_command(berlin: Run, database: Database, new_device: Any) -> None:
    device, now = new_device(device="node-8"), datetime.now(UTC)
    event = device.event(1, time=now)
    ingest_batch(database, [device.sent(event)], now - timedelta(hours=1))
    done = json.loads(berlin("dead-letters", "--replay", "--store", "berlin-01", "--json").output)
    assert done["taken_in"] == 1
    assert str(event.id) in berlin("events", "--json").output
    assert "0 events taken in" in berlin("dead-letters", "--replay").output


def test_a_token_that_no_header_can_carry_is_refused(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STOREFLEET_API_TOKEN", "töken")
    assert "API token" in run("stock", code=1).output


def test_tokens_are_private_and_a_readable_one_is_refused(
    centre: Path, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert (centre / "admin.token").stat().st_mode & 0o777 == 0o600
    token = tmp_path / "admin.token"
    token.write_text("a-token-of-some-length\n")
    token.chmod(0o644)
    monkeypatch.setenv("STOREFLEET_CONTROLLER_DATA_DIR", str(tmp_path / "new"))
    monkeypatch.setenv("STOREFLEET_CONTROLLER_ADMIN_TOKEN_FILE", str(token))
    assert "chmod 600" in run("controller", "run", code=1).output.replace("\n", " ")
