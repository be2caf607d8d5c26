"""Rollouts as operators type them, against the real API on a real HTTP server."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import typer
import uvicorn
from typer.testing import CliRunner, Result

from controller import cli_quarantine, cli_queries, cli_rollouts
from controller.api import inventory, rollouts
from controller.api.app import create_app
from controller.api.guard import Guard
from controller.ingest_batch import ingest_batch

FILE = """\
version: 1
name: spring
release: v2
waves:
  - {name: canary, size: 2}
  - {name: rest, approval: true}
limits: {concurrency: 6, offline: "50%"}
"""
TOKEN, ARTIFACT = "admin-token-of-a-test", "artifact-token-of-a-test"


@pytest.fixture
def small(world: Any) -> Any:
    """Six stores that run v1."""
    world.add_release("v1")
    world.add_release("v2")
    world.add_stores(6, region="north")
    world.deploy("v1")
    with world.working():
        world.until(lambda: all(d.state == "ready" for d in world.current().values()))
    return world


@pytest.fixture
def url(small: Any, now_utc: Callable[[], Any]) -> Iterator[str]:
    guard = Guard(TOKEN, ARTIFACT)
    routers = [
        rollouts.build_router(small.database, guard, now_utc, uuid4),
        inventory.build_router(small.database, guard, now_utc, "https://shop.example"),
    ]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    app = create_app(routers, max_body_bytes=4_000_000)
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_config=None, lifespan="off", ws="none"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join(10)


@pytest.fixture
def typed(url: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.setenv("STOREFLEET_CONTROLLER_URL", url)
    monkeypatch.setenv("STOREFLEET_API_TOKEN", TOKEN)
    monkeypatch.setenv("COLUMNS", "200")
    root = typer.Typer()
    cli_rollouts.register(root)
    cli_quarantine.register(root)
    cli_queries.register(root)

    def run(*words: str, exit_code: int = 0) -> Result:
        result = CliRunner().invoke(root, list(words))
        assert result.exit_code == exit_code, result.output
        return result

    return run


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "spring.yaml"
    path.write_text(FILE)
    return str(path)


def test_from_the_example_to_the_last_store(
    small: Any, typed: Callable[..., Result], file: str, tmp_path: Path
) -> None:
    assert "No rollouts" in typed("rollout", "list").output
    planned = json.loads(typed("rollout", "plan", file, "--json").output)
    assert [len(wave["stores"]) for wave in planned["waves"]] == [2, 4]
    assert planned["wan_bytes"] == 6 * 3
    assert "done about" in typed("rollout", "plan", file).output
    assert "draft" in typed("rollout", "create", file).output
    assert "approval" in typed("rollout", "plan", "spring").output
    assert "rollout spring is draft" in typed("rollout", "pause", "spring", exit_code=1).output
    changed = json.loads(typed("rollout", "diff", "spring", "--json").output)["items"]
    assert changed[0]["release"] == "v1"
    assert changed[0]["differences"]["image"] == ["agent:v1", "agent:v2"]
    with small.working():
        assert "running" in typed("rollout", "start", "spring").output
        small.until(lambda: small.rollout().waves[0].passed_at is not None)
        told = json.loads(typed("rollout", "show", "spring", "--json").output)
        assert "approval" in told["waiting_for"]
        waiting = small.rollout().waves[1].stores[0]
        assert "approval" in typed("rollout", "explain", "spring", waiting).output
        typed("rollout", "skip-store", "spring", waiting, "-m", "no power")
        typed("rollout", "approve", "spring", "--wave", "rest", "-m", "looks good")
        watched = typed("rollout", "watch", "spring", "--json", "--timeout", "60")
    assert json.loads(watched.output.splitlines()[-1])["status"] == "succeeded"
    assert "5 stores ready, 1 skipped" in typed("rollout", "show", "spring").output
    shown = json.loads(typed("rollout", "show", "spring", "--stores", "--phase", "skipped", "--json").output)
    assert [one["store"] for one in shown["items"]] == [waiting]
    assert "no power" in shown["items"][0]["reason"]
    story = json.loads(typed("rollout", "history", "spring", "--json").output)["items"]
    assert [e["action"] for e in story][-2:] == ["rollout.start", "rollout.create"]
    assert any(e["action"] == "rollout.approve" and e["detail"]["comment"] == "looks good" for e in story)
    listed = json.loads(typed("rollout", "list", "--json").output)["items"]
    assert [(one["name"], one["status"], one["ready"], one["stores"]) for one in listed] == [
        ("spring", "succeeded", 5, 6)
    ]
    assert typed("rollout", "list", "--tz", "Europe/Berlin").exit_code == 0
    assert "possible now: rollback" in typed("rollout", "abort", "spring", exit_code=1).output
    assert "Give the new one another name" in typed("rollout", "create", file, exit_code=1).output


def test_the_example_is_a_rollout_that_can_be_read(typed: Callable[..., Result]) -> None:
    from controller.rollout_file import load_rollout

    assert load_rollout(typed("rollout", "example").output).name == "spring"


def test_watch_says_by_its_exit_code_how_it_ended(
    small: Any, typed: Callable[..., Result], file: str
) -> None:
    typed("rollout", "create", file, "--start")
    typed("rollout", "abort", "spring", "-m", "no")
    assert "aborted" in typed("rollout", "watch", "spring", exit_code=1).output
    assert "does not exist" in typed("rollout", "watch", "nothing", exit_code=2).output


@pytest.mark.parametrize(
    ("change", "words"),
    [
        pytest.param(("release: v2", "release: v9"), "release 'v9' does not exist", id="unknown release"),
        pytest.param(("name: rest,", "name: rest, names: [nowhere],"), "nowhere", id="unknown store"),
        pytest.param(("size: 2", "size: 130%"), "line 5", id="percentage"),
        pytest.param(("limits: {", "limits: {{"), "line", id="malformed"),
        pytest.param(
            ("limits:", "select: {labels: {region: south}}\nlimits:"), "none of 6 stores", id="empty"
        ),
        pytest.param(("limits:", "strata: [hardware]\nlimits:"), "has no label hardware", id="strata"),
        pytest.param(("limits:", "after: [winter]\nlimits:"), "no rollout winter", id="dependency"),
    ],
)
def test_bad_files_are_refused_with_the_remedy(
    typed: Callable[..., Result], file: str, change: tuple[str, str], words: str
) -> None:
    path = Path(file)
    path.write_text(FILE.replace(*change))
    assert words in typed("rollout", "create", file, exit_code=1).output
    assert "No rollouts" in typed("rollout", "list").output


def test_a_draft_may_be_replaced_and_keeps_its_name(typed: Callable[..., Result], file: str) -> None:
    typed("rollout", "create", file)
    Path(file).write_text(FILE.replace("size: 2", "size: 3"))
    typed("rollout", "create", file)
    told = json.loads(typed("rollout", "show", "spring", "--json").output)
    assert told["spec"]["waves"][0]["size"] == 3
    story = json.loads(typed("rollout", "history", "spring", "--json").output)["items"]
    assert [entry["action"] for entry in story] == ["rollout.replace", "rollout.create"]


def test_a_deferred_store_is_left_alone(small: Any, typed: Callable[..., Result], file: str) -> None:
    assert "No store is deferred" in typed("rollout", "defer").output
    typed("rollout", "defer", "s001", "--for", "8h", "-m", "stocktaking")
    assert "stocktaking" in typed("rollout", "defer").output
    typed("rollout", "defer", "s001", exit_code=2)
    typed("rollout", "defer", "s001", "--for", "soon", exit_code=2)
    assert "in the past" in typed("rollout", "defer", "s002", "--until", "2020-01-01", exit_code=1).output
    assert "does not exist" in typed("rollout", "defer", "x", "--for", "1h", exit_code=1).output
    Path(file).write_text(FILE.replace("  - {name: rest, approval: true}\n", "  - {name: rest}\n"))
    with small.working():
        typed("rollout", "create", file, "--start")
        small.until(lambda: sum(r.ready_at is not None for r in small.records().values()) == 5)
        assert "deferred" in typed("rollout", "explain", "spring", "s001").output
        typed("rollout", "defer", "s001", "--cancel")
        small.until_status("succeeded")


def test_only_who_may_do_everything_may_approve(url: str, typed: Callable[..., Result], file: str) -> None:
    import httpx

    typed("rollout", "create", file, "--start")
    for token, status in ((ARTIFACT, 403), ("somebody-elses", 401)):
        answer = httpx.post(
            f"{url}/v1/rollouts/spring/approval/approve",
            json={},
            headers={"Authorization": f"Bearer {token}"},
        )
        assert answer.status_code == status


def test_events_of_a_bad_release_are_put_in_quarantine_also_late_ones(
    small: Any, typed: Callable[..., Result], file: str, new_device: Callable[..., Any]
) -> None:
    Path(file).write_text(FILE.replace(", approval: true", ""))
    with small.working():
        typed("rollout", "create", file, "--start")
        small.until_status("succeeded")
    records = small.records()
    device = new_device(store="s000")
    bad = {"rolloutid": records["s000"].deployment}

    def take_in(*events: Any) -> None:
        ingest_batch(small.database, [device.sent(event) for event in events], small.clock())

    take_in(device.event(1), device.event(2, **bad))
    assert "either" in typed("quarantine", exit_code=2).output
    done = json.loads(typed("quarantine", "--rollout", "spring", "--reason", "blind", "--json").output)
    assert done == {"deployments": 6, "stores": 6, "events": 1}
    take_in(device.event(3, **bad))

    def sequences(*options: str) -> list[int]:
        output = typed("events", "--json", *options).output
        return [json.loads(line)["sequence"] for line in output.splitlines()]

    assert sequences() == [1, 2, 3]
    assert sequences("--quarantined") == [2, 3]
    assert sequences("--not-quarantined") == [1]
    assert sequences("--release", "v2") == [2, 3]
    assert "(quarantined)" in typed("events", "--quarantined").output
    stock = json.loads(typed("stock", "--json").output)["items"]
    assert [(zone["level"], zone["reason"], zone["facings"]) for zone in stock] == [
        ("unknown", "quarantined", None)
    ]
    take_in(device.event(4))
    (zone,) = json.loads(typed("stock", "--json").output)["items"]
    assert zone["level"] == "stocked"
    typed("unquarantine", "--rollout", "spring")
    assert sequences("--quarantined") == []
    assert "is in quarantine" in typed("unquarantine", "--release", "v2", exit_code=1).output
