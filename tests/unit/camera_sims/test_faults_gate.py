import socket
import threading
import time
from collections.abc import Iterator

import pytest

from camera_sims.gate import Gate, GateMode


class Echo:
    """A server that answers every byte with itself."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address: tuple[str, int] = self.listener.getsockname()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection:
            try:
                while data := connection.recv(1024):
                    connection.sendall(data)
            except ConnectionError:
                return


@pytest.fixture
def gate() -> Iterator[Gate]:
    echo = Echo()
    gate = Gate("127.0.0.1", echo.address)
    yield gate
    gate.close()
    echo.listener.shutdown(socket.SHUT_RDWR)
    echo.listener.close()


def connect(gate: Gate) -> socket.socket:
    return socket.create_connection(("127.0.0.1", gate.port), timeout=2)


def echoes(connection: socket.socket, text: bytes = b"ping") -> bool:
    connection.sendall(text)
    return connection.recv(100) == text


def is_cut(connection: socket.socket) -> bool:
    connection.settimeout(2)
    try:
        return connection.recv(100) == b""
    except ConnectionError:
        return True


def is_silent(connection: socket.socket, seconds: float = 0.3) -> bool:
    connection.settimeout(seconds)
    try:
        connection.sendall(b"anybody there?")
        connection.recv(100)
    except TimeoutError:
        return True
    return False


def test_bytes_pass_both_ways(gate: Gate) -> None:
    with connect(gate) as first, connect(gate) as second:
        assert echoes(first)
        assert echoes(second, b"pong")
        assert echoes(first, b"again")


def test_refusing_cuts_what_is_open_and_keeps_the_port(gate: Gate) -> None:
    with connect(gate) as before:
        assert echoes(before)
        gate.set_mode(GateMode.REFUSE)
        assert is_cut(before)
    with pytest.raises(ConnectionRefusedError):
        connect(gate)
    with socket.socket() as thief, pytest.raises(OSError, match="in use"):
        thief.bind(("127.0.0.1", gate.port))
    gate.set_mode(GateMode.OPEN)
    with connect(gate) as after:
        assert echoes(after)


def test_hanging_accepts_and_never_answers_until_it_ends(gate: Gate) -> None:
    with connect(gate) as before:
        assert echoes(before)
        gate.set_mode(GateMode.HANG)
        with connect(gate) as during:
            assert is_silent(during)
            assert is_silent(before)
            gate.set_mode(GateMode.OPEN)
            assert is_cut(during)
            assert is_cut(before)
    with connect(gate) as after:
        assert echoes(after)


@pytest.mark.parametrize("first", [GateMode.HANG, GateMode.REFUSE])
def test_one_fault_may_follow_another_directly(gate: Gate, first: GateMode) -> None:
    gate.set_mode(first)
    gate.set_mode(GateMode.REFUSE if first is GateMode.HANG else GateMode.HANG)
    gate.set_mode(GateMode.OPEN)
    with connect(gate) as after:
        assert echoes(after)


def test_a_client_learns_that_the_camera_behind_is_gone() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        gate = Gate("127.0.0.1", nobody.getsockname())
        with connect(gate) as client:
            assert is_cut(client)
        gate.close()


def test_a_closed_gate_leaves_no_thread_behind(gate: Gate) -> None:
    with connect(gate) as client:
        assert echoes(client)
        gate.close()
        assert is_cut(client)
    end = time.monotonic() + 2
    while any(thread.name == f"gate-{gate.port}" for thread in threading.enumerate()):
        assert time.monotonic() < end
        time.sleep(0.01)
