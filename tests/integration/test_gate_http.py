"""Gates' HTTP against a real server that behaves badly."""

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from controller.adapters.gate_http import HttpGateCaller
from controller.errors import PermanentError, TransientError


class Server(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.path == "/moved":
            self.send_response(307)
            self.send_header("location", "/echo")
            self.end_headers()
            return
        self.send_response(200)
        self.end_headers()
        if self.path == "/echo":
            self.wfile.write(body)
            return
        try:
            for _ in range(200):
                self.wfile.write(b"x" * (8192 if self.path == "/huge" else 1))
                self.wfile.flush()
                time.sleep(0.0 if self.path == "/huge" else 0.05)
        except OSError:
            return

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def url() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join(10)
    server.server_close()


def test_an_answer_comes_back(url: str) -> None:
    assert HttpGateCaller().post(f"{url}/echo", b"{}", 5) == b"{}"


def test_a_redirect_is_refused(url: str) -> None:
    with pytest.raises(PermanentError, match="redirects; write the final URL"):
        HttpGateCaller().post(f"{url}/moved", b"{}", 5)


def test_a_huge_answer_is_cut_off(url: str) -> None:
    with pytest.raises(PermanentError, match="more than 64 KB"):
        HttpGateCaller().post(f"{url}/huge", b"{}", 30)


def test_a_server_that_drips_does_not_get_more_than_its_time(url: str) -> None:
    """Each read is quick, so only the whole has a limit."""
    with pytest.raises(TransientError, match="did not finish its answer in time"):
        HttpGateCaller().post(f"{url}/drip", b"{}", 0.5)


def test_nobody_there_is_transient(url: str) -> None:
    with pytest.raises(TransientError, match="could not be asked"):
        HttpGateCaller().post("http://127.0.0.1:9/none", b"{}", 5)
