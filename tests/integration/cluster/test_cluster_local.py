"""The local cluster with real processes: hand-over, crashes, and who survives whom."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from controller.adapters.local.cluster import LocalCluster, stop_all
from controller.adapters.local.layout import StoreDir, holder, read_json, write_json
from controller.domain.deployment import Observed
from controller.domain.workload import Workload

MakeWorkload = Callable[..., Workload]


def rollout(number: int) -> str:
    return str(UUID(int=number))


@dataclass
class Store:
    cluster: LocalCluster
    directory: StoreDir

    def until(self, condition: Callable[[Observed], bool], what: str, timeout: float = 20.0) -> Observed:
        end = time.monotonic() + timeout
        while True:
            seen = self.cluster.observe("berlin-01")
            if condition(seen):
                return seen
            if time.monotonic() > end:
                pytest.fail(f"{what} not reached: {seen}\n{self.directory.node('node-1').log.read_text()}")
            time.sleep(0.05)

    def ready(self, number: int) -> Observed:
        return self.until(
            lambda seen: seen.rollout_id == rollout(number) and seen.updated == seen.desired,
            f"v{number} ready",
        )

    def pods(self, node: str = "node-1") -> list[dict[str, Any]]:
        seen = read_json(self.directory.node(node).observed)
        return list(seen["pods"]) if seen else []

    def watch_log(self, node: str = "node-1") -> list[list[str]]:
        path = self.directory.node(node).host("/var/lib/storefleet") / "watch.log"
        return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture
def store(tmp_path: Path, secrets: Path) -> Iterator[Store]:
    run_dir = tmp_path / "run"
    cluster = LocalCluster(run_dir, secrets=secrets)
    yield Store(cluster, StoreDir(run_dir / "berlin-01"))
    stop_all(run_dir, timeout_s=5)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_agent_runs_with_its_files_and_nobody_else_can_read_them(
    store: Store, workload: MakeWorkload
) -> None:
    store.cluster.apply(workload(1))
    seen = store.ready(1)
    assert (seen.desired, seen.ready, seen.updated, seen.images) == (1, 1, 1, ("example.org/agent:1",))
    assert seen.problems == ()
    assert store.watch_log()[0][1:3] == ["begin", rollout(1)]
    assert store.watch_log()[0][4] == "node-1"
    files = [f for kind in ("config", "secrets") for f in store.directory.root.rglob(f"volumes/{kind}/*")]
    assert len(files) == 5
    for path in [*files, *store.directory.root.rglob("pods/*"), store.directory.desired]:
        assert path.stat().st_mode & 0o077 == 0, path
    passwords = [file.read_text() for file in store.directory.root.rglob("mqtt-password")]
    assert passwords == ["hush"]


def test_each_node_has_its_own_agent_and_data(tmp_path: Path, secrets: Path, workload: MakeWorkload) -> None:
    cluster = LocalCluster(tmp_path / "run", nodes=("node-1", "node-2"), secrets=secrets)
    store = Store(cluster, StoreDir(tmp_path / "run" / "berlin-01"))
    try:
        cluster.apply(workload(1))
        assert store.ready(1).desired == 2
        assert store.watch_log("node-1")[0][4] == "node-1"
        assert store.watch_log("node-2")[0][4] == "node-2"
    finally:
        assert stop_all(tmp_path / "run", timeout_s=5) == 2


def test_old_agent_goes_only_when_the_new_one_stands_by(store: Store, workload: MakeWorkload) -> None:
    store.cluster.apply(workload(1))
    store.ready(1)
    store.cluster.apply(workload(2))
    store.ready(2)
    store.until(lambda _: len(store.pods()) == 1, "one pod left")
    begins_and_ends = [(line[1], line[2]) for line in store.watch_log()]
    assert begins_and_ends == [
        ("begin", rollout(1)),
        ("end", rollout(1)),
        ("begin", rollout(2)),
    ]
    ended, began = (float(line[0]) for line in store.watch_log()[1:3])
    assert 0 <= began - ended < 0.5, "the successor was standing by, so the gap is only the lock's hand-over"


def test_release_that_never_becomes_ready_leaves_the_old_one_watching(
    store: Store, workload: MakeWorkload
) -> None:
    store.cluster.apply(workload(1))
    store.ready(1)
    old = store.pods()[0]["pid"]
    store.cluster.apply(workload(2, mode="never_ready"))
    store.until(lambda _: len(store.pods()) == 2, "two pods")
    time.sleep(1)
    seen = store.cluster.observe("berlin-01")
    assert (seen.ready, seen.updated) == (1, 0)
    assert alive(old)
    store.cluster.apply(workload(3))
    store.ready(3)
    store.until(lambda _: len(store.pods()) == 1, "one pod left")
    assert not alive(old)


def test_crashing_release_is_named_and_the_old_one_stays(store: Store, workload: MakeWorkload) -> None:
    store.cluster.apply(workload(1))
    store.ready(1)
    store.cluster.apply(workload(2, mode="crash"))
    seen = store.until(lambda seen: any("code 3" in p for p in seen.problems), "crash reported")
    assert "no camera could be opened" in seen.problems[0]
    assert (seen.ready, seen.updated) == (1, 0)


def test_roll_back_to_the_running_release_keeps_its_process(store: Store, workload: MakeWorkload) -> None:
    store.cluster.apply(workload(1))
    store.ready(1)
    pid = store.pods()[0]["pid"]
    store.cluster.apply(workload(2, mode="never_ready"))
    store.until(lambda _: len(store.pods()) == 2, "two pods")
    store.cluster.apply(workload(1))
    store.until(lambda _: len(store.pods()) == 1, "one pod left")
    assert store.pods()[0]["pid"] == pid


def test_killed_agent_is_started_again(store: Store, workload: MakeWorkload) -> None:
    store.cluster.apply(workload(1))
    store.ready(1)
    os.kill(store.pods()[0]["pid"], signal.SIGKILL)
    store.until(lambda _: store.pods()[0]["restarts"] == 1, "restart counted")
    store.ready(1)
    assert [line[1] for line in store.watch_log()] == ["begin", "begin"]


def test_agent_without_sign_of_life_is_killed_and_started_again(store: Store, workload: MakeWorkload) -> None:
    store.cluster.apply(workload(1, mode="hang", probe_s=1))
    store.until(lambda _: bool(store.pods()) and store.pods()[0]["restarts"] >= 1, "restart", timeout=40)


def test_agent_that_ignores_sigterm_is_killed_after_its_grace_period(
    store: Store, workload: MakeWorkload
) -> None:
    store.cluster.apply(workload(1, mode="deaf"))
    store.ready(1)
    pid = store.pods()[0]["pid"]
    store.cluster.remove("berlin-01")
    end = time.monotonic() + 15
    while alive(pid) and time.monotonic() < end:
        time.sleep(0.05)
    assert not alive(pid)


def test_missing_secret_is_named_and_picked_up_once_it_is_there(
    store: Store, secrets: Path, workload: MakeWorkload
) -> None:
    password = secrets / "storefleet-agent" / "mqtt-password"
    moved = secrets / "elsewhere"
    password.parent.rename(moved)
    store.cluster.apply(workload(1))
    seen = store.until(lambda seen: bool(seen.problems), "problem")
    assert "secret storefleet-agent is missing: create" in seen.problems[0]
    assert "artifact-token and mqtt-password" in seen.problems[0]
    assert seen.blocked
    text = (moved / "mqtt-password").read_bytes()
    (moved / "mqtt-password").unlink()
    moved.rename(password.parent)
    store.until(lambda seen: "lacks mqtt-password" in "".join(seen.problems), "problem with the key")
    password.write_bytes(text)
    assert store.ready(1).problems == ()


def test_agents_die_with_their_supervisor_and_come_back_with_the_next(
    store: Store, workload: MakeWorkload
) -> None:
    store.cluster.apply(workload(1))
    store.ready(1)
    store.cluster.apply(workload(2, mode="never_ready"))
    store.until(lambda _: len(store.pods()) == 2, "two pods")
    node = store.directory.node("node-1")
    supervisor, agents = holder(node.lock), [pod["pid"] for pod in store.pods()]
    assert supervisor is not None
    os.kill(supervisor, signal.SIGKILL)
    end = time.monotonic() + 10
    while any(alive(pid) for pid in agents):
        assert time.monotonic() < end
        time.sleep(0.02)
    seen = store.until(lambda seen: seen.ready == 1, "the last good release is back")
    assert (seen.rollout_id, seen.updated) == (rollout(2), 0)
    assert [line[2] for line in store.watch_log() if line[1] == "begin"] == [rollout(1), rollout(1)]


def test_agents_outlive_the_controller(
    store: Store, tmp_path: Path, secrets: Path, workload: MakeWorkload
) -> None:
    store.cluster.apply(workload(1))
    store.ready(1)
    before = store.pods()[0]["pid"]
    code = (
        "import sys, time; from pathlib import Path\n"
        "from controller.adapters.local.cluster import LocalCluster\n"
        f"cluster = LocalCluster(Path({str(tmp_path / 'run')!r}), secrets=Path({str(secrets)!r}))\n"
        "print(cluster.observe('berlin-01').ready, flush=True); time.sleep(60)\n"
    )
    node = store.directory.node("node-1")
    first = holder(node.lock)
    assert first is not None
    os.kill(first, signal.SIGKILL)  # so that the supervisor is a child of the controller-to-be-killed
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as controller:
        assert controller.stdout is not None
        controller.stdout.readline()
        store.until(lambda seen: seen.updated == 1, "agent back")
        agent = store.pods()[0]["pid"]
        assert agent != before
        os.killpg(os.getpgid(controller.pid), 0)
        controller.kill()
    time.sleep(1)
    assert alive(agent)
    assert store.cluster.observe("berlin-01").updated == 1


def test_everything_ends_with_the_owner(tmp_path: Path, secrets: Path, workload: MakeWorkload) -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as owner:
        cluster = LocalCluster(tmp_path / "run", secrets=secrets, owner_pid=owner.pid)
        store = Store(cluster, StoreDir(tmp_path / "run" / "berlin-01"))
        cluster.apply(workload(1))
        store.ready(1)
        agent = store.pods()[0]["pid"]
        owner.kill()
    end = time.monotonic() + 10
    while holder(store.directory.node("node-1").lock) is not None:
        assert time.monotonic() < end
        time.sleep(0.05)
    assert not alive(agent)


def test_damaged_desired_state_changes_nothing_and_is_written_again(
    store: Store, workload: MakeWorkload
) -> None:
    store.cluster.apply(workload(1))
    store.ready(1)
    pid = store.pods()[0]["pid"]
    store.directory.desired.write_text("{")
    time.sleep(0.6)
    assert alive(pid)
    assert store.cluster.observe("berlin-01").rollout_id is None
    store.cluster.apply(workload(1))
    store.ready(1)
    assert store.pods()[0]["pid"] == pid


def test_edited_desired_state_is_drift(store: Store, workload: MakeWorkload) -> None:
    store.cluster.apply(workload(1))
    desired = read_json(store.directory.desired)
    assert desired is not None
    desired["daemon_set"]["spec"]["template"]["spec"]["containers"][0]["image"] = "evil:1"
    write_json(store.directory.desired, desired)
    found = store.cluster.observe("berlin-01").drift
    assert found == (
        "spec.template.spec.containers[agent].image is 'evil:1' instead of 'example.org/agent:1'",
    )
