"""What neighbours get of one another, over real sockets."""

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from agent.adapters import peer_server
from agent.adapters.artifact_http import HttpArtifacts, resolve, split_host
from agent.adapters.peer_server import PeerServer
from agent.errors import ModelError, PermanentError, SourceBusy, TransientError
from agent.ports import Offer
from contract.signing import digest_bytes

CONTENT = bytes(range(256)) * 2000
DIGEST = digest_bytes(CONTENT)
ELSEWHERE = "sha256:" + "0" * 64
COMING = "sha256:" + "1" * 64


@pytest.fixture
def server(tmp_path: Path) -> Iterator[PeerServer]:
    path = tmp_path / "artifact"
    path.write_bytes(CONTENT)
    offers = {DIGEST: Offer(path), COMING: Offer(under_way=True)}
    made = PeerServer("127.0.0.1", 0, "peer-token", lambda digest: offers.get(digest, Offer()))
    made.start()
    while made.port is None:
        time.sleep(0.01)
    yield made
    made.close()


def get(server: PeerServer, digest: str, offset: int = 0, token: str = "peer-token") -> tuple[int, bytes]:
    with HttpArtifacts.peer(f"127.0.0.1:{server.port}", token).open(digest, offset) as stream:
        return stream.start, b"".join(stream.chunks)


def test_cached_model_is_given_whole_and_from_any_byte(server: PeerServer) -> None:
    assert get(server, DIGEST) == (0, CONTENT)
    assert get(server, DIGEST, 300_000) == (300_000, CONTENT[300_000:])


@pytest.mark.parametrize("token", ["none", "wrong", "peer-token2", "peer-toke"])
def test_outsiders_get_nothing_not_even_what_there_is(server: PeerServer, token: str) -> None:
    for digest in (DIGEST, ELSEWHERE, COMING):
        with pytest.raises(PermanentError, match="401"):
            get(server, digest, token=token)
    assert httpx.get(f"http://127.0.0.1:{server.port}/", trust_env=False).status_code == 401


def test_model_that_is_not_here_or_not_yet(server: PeerServer) -> None:
    with pytest.raises(ModelError, match="404"):
        get(server, ELSEWHERE)
    with pytest.raises(SourceBusy):
        get(server, COMING)
    with pytest.raises(ModelError, match="416"):
        get(server, DIGEST, len(CONTENT))


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/v1/artifacts/",
        f"/v1/artifacts/{DIGEST}/..",
        "/v1/artifacts/sha256:../../etc/passwd",
        "/etc/passwd",
    ],
)
def test_nothing_but_artifacts_can_be_named(server: PeerServer, path: str) -> None:
    with socket.create_connection(("127.0.0.1", server.port or 0), 5) as connection:
        connection.sendall(f"GET {path} HTTP/1.0\r\nAuthorization: Bearer peer-token\r\n\r\n".encode())
        assert b" 404 " in connection.recv(100)


def test_only_reading_is_possible(server: PeerServer) -> None:
    url = f"http://127.0.0.1:{server.port}/v1/artifacts/{DIGEST}"
    headers = {"Authorization": "Bearer peer-token"}
    for method in ("POST", "PUT", "DELETE"):
        assert httpx.request(method, url, headers=headers, trust_env=False).status_code == 501


def test_silent_and_too_many_neighbours_do_not_shut_others_out(server: PeerServer) -> None:
    address = ("127.0.0.1", server.port or 0)
    silent = [socket.create_connection(address, 5) for _ in range(peer_server.MAX_CONNECTIONS)]
    with pytest.raises(TransientError):
        get(server, DIGEST)
    for connection in silent:
        connection.close()
    for _ in range(50):
        try:
            assert get(server, DIGEST) == (0, CONTENT)
            break
        except TransientError:
            time.sleep(0.05)
    else:
        pytest.fail("slots were not given back")


def test_transfers_beyond_the_limit_are_told_to_come_again(
    server: PeerServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = HttpArtifacts.peer(f"127.0.0.1:{server.port}", "peer-token")
    monkeypatch.setattr(peer_server, "CHUNK_BYTES", 1000)
    held = [socket.create_connection(("127.0.0.1", server.port or 0), 5) for _ in range(4)]
    request = f"GET /v1/artifacts/{DIGEST} HTTP/1.0\r\nAuthorization: Bearer peer-token\r\n\r\n".encode()
    for connection in held:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        connection.sendall(request)
        connection.recv(1)
    try:
        with source.open(DIGEST, 0) as stream:
            assert b"".join(stream.chunks) == CONTENT  # Their sockets' buffers may have taken it all.
    except SourceBusy as busy:
        assert busy.retry_after > 0
    finally:
        for connection in held:
            connection.close()


def test_all_addresses_of_the_machine_are_served() -> None:
    server = PeerServer("", 0, "peer-token", lambda _: Offer())
    server.start()
    while server.port is None:
        time.sleep(0.01)
    hosts = ["127.0.0.1", "[::1]"] if socket.has_dualstack_ipv6() else ["127.0.0.1"]
    for host in hosts:
        assert httpx.get(f"http://{host}:{server.port}/", trust_env=False).status_code == 401
    server.close()


def test_server_without_a_token_is_refused() -> None:
    with pytest.raises(PermanentError, match="token"):
        PeerServer("127.0.0.1", 0, "", lambda _: Offer())


def test_port_taken_by_another_process_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer_server, "BIND_AGAIN_S", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        server = PeerServer("127.0.0.1", port, "t", lambda _: Offer())
        server.start()
        time.sleep(0.15)
        assert server.port is None
    for _ in range(100):
        if server.port == port:
            break
        time.sleep(0.05)
    assert server.port == port
    server.close()


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ("node-2", ("node-2", 8471)),
        ("node-2:9000", ("node-2", 9000)),
        ("10.0.0.7:9000", ("10.0.0.7", 9000)),
        ("fd00::7", ("fd00::7", 8471)),
        ("[fd00::7]", ("fd00::7", 8471)),
        ("[fd00::7]:9000", ("fd00::7", 9000)),
    ],
)
def test_hosts_are_read(entry: str, expected: tuple[str, int]) -> None:
    assert split_host(entry, 8471) == expected


def test_names_that_stand_for_nobody_are_left_out() -> None:
    found = resolve("127.0.0.1, nobody.invalid,127.0.0.2:99 ,," + "x" * 70 + ".example, 127.0.0.1", 8471)
    assert found == ["127.0.0.1:8471", "127.0.0.2:99"]
