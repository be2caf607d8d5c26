"""One suite for every kind of camera lease. The Kubernetes one talks HTTP to a server here that keeps leases
as the API server does; ``tests/integration/testbed`` runs the same suite against a real one."""

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from agent.adapters.file_lease import FileLeases
from agent.adapters.kubernetes_lease import KubernetesLeases
from agent.domain.sharing import NOBODY, Record
from agent.errors import PermanentError, TransientError
from agent.ports import CameraLeases

Open = Callable[[], CameraLeases]
"""One node's access to the store's leases."""


class Api(ThreadingHTTPServer):
    """Leases of one namespace: create, replace by version, list by label."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.items: dict[str, dict[str, Any]] = {}
        self.version = 0
        self.lock = threading.Lock()
        self.refuse: int | None = None


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Api

    def log_message(self, *_: object) -> None:
        """Quiet."""

    def answer(self, status: int, body: dict[str, Any]) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def handle_one(self, body: dict[str, Any] | None) -> None:
        api, path = self.server, self.path.partition("?")[0]
        base = "/apis/coordination.k8s.io/v1/namespaces/shop/leases"
        if api.refuse is not None or self.headers["Authorization"] != "Bearer token-1":
            return self.answer(api.refuse or 401, {"kind": "Status", "message": "no"})
        with api.lock:
            if body is None:
                assert self.path == base + "?labelSelector=storefleet.io/lease"
                return self.answer(200, {"items": list(api.items.values())})
            name = body["metadata"]["name"]
            old = api.items.get(name)
            assert path == (base if self.command == "POST" else f"{base}/{name}")
            if self.command == "POST" and old is not None:
                return self.answer(409, {"message": "already exists"})
            if self.command == "PUT" and old is None:
                return self.answer(404, {"message": "not found"})
            sent = body["metadata"].get("resourceVersion")
            if old is not None and sent != old["metadata"]["resourceVersion"]:
                return self.answer(409, {"message": "the object has been modified"})
            api.version += 1
            body["metadata"]["resourceVersion"] = str(api.version)
            api.items[name] = body
            return self.answer(201 if old is None else 200, body)

    def do_GET(self) -> None:
        self.handle_one(None)

    def do_POST(self) -> None:
        self.handle_one(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    do_PUT = do_POST  # noqa: N815 - the name that the server looks for


@pytest.fixture
def api() -> Iterator[Api]:
    server = Api()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def account(tmp_path: Path) -> Path:
    directory = tmp_path / "account"
    directory.mkdir()
    (directory / "token").write_text("token-1\n")
    (directory / "namespace").write_text("shop")
    return directory


@pytest.fixture(params=["file", "kubernetes"])
def connect(request: pytest.FixtureRequest, tmp_path: Path, api: Api, account: Path) -> Iterator[Open]:
    opened: list[KubernetesLeases] = []

    def kubernetes() -> CameraLeases:
        url = f"http://127.0.0.1:{api.server_address[1]}"
        opened.append(KubernetesLeases(url, account, lease_s=12))
        return opened[-1]

    yield kubernetes if request.param == "kubernetes" else lambda: FileLeases(tmp_path / "leases")
    for leases in opened:
        leases.close()


def test_at_first_there_is_nothing(connect: Open) -> None:
    ledger = connect().read()
    assert (dict(ledger.members), dict(ledger.cameras)) == ({}, {})


def test_what_one_node_writes_the_other_reads(connect: Open) -> None:
    one, other = connect(), connect()
    camera = one.write("camera", Record("aisle-1", "node-1", 73_000_000))
    member = one.write("member", Record("node-1", "node-1"))
    ledger = other.read()
    assert ledger.cameras == {"aisle-1": camera}
    assert ledger.members == {"node-1": member}


def test_every_write_gives_another_version(connect: Open) -> None:
    leases = connect()
    first = leases.write("member", Record("node-1", "node-1"))
    assert first is not None
    second = leases.write("member", first)
    assert second is not None
    assert second.version not in ("", first.version)
    assert leases.read().members == {"node-1": second}


def test_of_two_that_replace_the_same_version_one_gets_it(connect: Open) -> None:
    one, other = connect(), connect()
    seen = one.write("camera", Record("aisle-1", NOBODY, 7))
    assert seen is not None
    assert one.write("camera", Record("aisle-1", "node-1", 8, seen.version)) is not None
    assert other.write("camera", Record("aisle-1", "node-2", 8, seen.version)) is None
    assert other.read().cameras["aisle-1"].holder == "node-1"


def test_of_two_that_create_a_record_one_gets_it(connect: Open) -> None:
    one, other = connect(), connect()
    assert one.write("camera", Record("aisle-1", "node-1", 1)) is not None
    assert other.write("camera", Record("aisle-1", "node-2", 1)) is None


def test_a_version_of_long_ago_replaces_nothing(connect: Open) -> None:
    leases = connect()
    first = record = leases.write("camera", Record("aisle-1", "node-1", 1))
    for _ in range(6):
        assert record is not None
        record = leases.write("camera", record)
    assert first is not None
    assert connect().write("camera", Record("aisle-1", "node-2", 2, first.version)) is None
    assert leases.read().cameras == {"aisle-1": record}


def test_a_record_that_left_has_no_holder(connect: Open) -> None:
    leases = connect()
    seen = leases.write("member", Record("node-1", "node-1"))
    assert seen is not None
    leases.write("member", Record("node-1", NOBODY, 0, seen.version))
    assert leases.read().members["node-1"].holder == NOBODY


def test_many_at_once_count_without_losing_one(connect: Open) -> None:
    """Each adds 1 to the epoch, 10 times; whoever loses the race reads and tries again. A write that was
    built upon before it had its answer may be called lost, which is safe: then it counted all the same."""
    connect().write("camera", Record("aisle-1", NOBODY, 0))

    def count(number: int) -> None:
        leases, done = connect(), 0
        while done < 10:
            try:
                seen = leases.read().cameras["aisle-1"]
            except TransientError:  # the file was replaced twice while it was read
                continue
            record = Record("aisle-1", f"node-{number}", seen.epoch + 1, seen.version)
            done += leases.write("camera", record) is not None

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(count, range(4)))
    assert 40 <= connect().read().cameras["aisle-1"].epoch < 80


@pytest.mark.parametrize(
    ("status", "error"),
    [(403, PermanentError), (401, PermanentError), (500, TransientError), (429, TransientError)],
)
def test_refusals_of_the_api_say_what_to_do(
    api: Api, account: Path, status: int, error: type[Exception]
) -> None:
    api.refuse = status
    leases = KubernetesLeases(f"http://127.0.0.1:{api.server_address[1]}", account, lease_s=12)
    with pytest.raises(error, match=str(status)):
        leases.read()
    leases.close()


def test_an_api_that_is_away_is_tried_again(account: Path) -> None:
    leases = KubernetesLeases("http://127.0.0.1:9", account, lease_s=12)
    with pytest.raises(TransientError, match="does not answer"):
        leases.read()


def test_a_pod_without_service_account_is_told(tmp_path: Path) -> None:
    with pytest.raises(PermanentError, match="no service account"):
        KubernetesLeases("http://127.0.0.1:9", tmp_path / "none", lease_s=12).read()


def test_a_renewed_token_is_used(api: Api, account: Path) -> None:
    (account / "token").write_text("old")
    leases = KubernetesLeases(f"http://127.0.0.1:{api.server_address[1]}", account, lease_s=12)
    with pytest.raises(PermanentError):
        leases.read()
    (account / "token").write_text("token-1")
    assert leases.read().members == {}
    leases.close()
