"""Gives the store's other nodes the models that lie checked in this node's cache, so that a new model
crosses the store's link once. Read-only; nothing is listed; only those that know the peer token get
anything. The standard library's server does: a handful of neighbours ask, some times a month.

A neighbour that asks while the model is still on its way from the centre is told to come again (503 with
``Retry-After``), instead of fetching it over the same link a second time.
"""

import hmac
import logging
import re
import socket
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from agent.errors import PermanentError
from agent.ports import Offer

MAX_TRANSFERS = 4
"""At the same time; others are told to come again."""
MAX_CONNECTIONS = 16
"""More are closed unread."""
SOCKET_TIMEOUT_S = 10.0
"""A neighbour that neither asks nor takes for so long is dropped."""
CHUNK_BYTES = 256 * 1024
BIND_AGAIN_S = 5.0

_PATH = re.compile(r"/v1/artifacts/(sha256:[0-9a-f]{64})")
_RANGE = re.compile(r"bytes=(\d{1,12})-")

_log = logging.getLogger(__name__)


class PeerServer:
    """Serves from its own threads between ``start`` and ``close``.

    While another process has the port (with the host's network: the agent of the release before), binding is
    tried again, for ever.
    """

    def __init__(self, host: str, port: int, token: str, find: Callable[[str], Offer]) -> None:
        """``host``: empty for all addresses of the machine. ``find`` looks an artifact up by digest; it
        may raise ``OSError``. Raises ``PermanentError`` for an empty token, which would let everybody in."""
        if not token:
            raise PermanentError("neighbours are served only with an artifact token")
        self._address = (host, port)
        self._handler = _handler(token, find, threading.BoundedSemaphore(MAX_TRANSFERS))
        self._over = threading.Event()
        self._bound = threading.Event()
        self._server: ThreadingHTTPServer | None = None
        self._thread = threading.Thread(target=self._run, name="peer-server")

    @property
    def port(self) -> int | None:
        """The port that is served, None before it is bound."""
        return self._server.server_port if self._server and self._bound.is_set() else None

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._over.set()
        if self._bound.is_set() and self._server is not None:
            self._server.shutdown()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        complaint = ""
        while not self._over.is_set():
            try:
                self._server = _Server(self._address, self._handler)
            except OSError as error:
                if str(error) != complaint:
                    complaint = str(error)
                    _log.warning("neighbours are not served yet", extra={"detail": complaint})
                self._over.wait(BIND_AGAIN_S)
                continue
            with self._server as server:
                self._bound.set()
                if not self._over.is_set():
                    _log.info("neighbours are served", extra={"port": server.server_port})
                    server.serve_forever(poll_interval=0.2)
            return


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = MAX_CONNECTIONS

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        if not address[0] and socket.has_dualstack_ipv6():
            self.address_family = socket.AF_INET6
        self._slots = threading.BoundedSemaphore(MAX_CONNECTIONS)
        super().__init__(address, handler)

    def server_bind(self) -> None:
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)  # IPv4 as well
        super().server_bind()

    def process_request(self, request: object, client_address: object) -> None:
        if self._slots.acquire(blocking=False):
            super().process_request(request, client_address)  # type: ignore[arg-type]
        else:
            self.shutdown_request(request)  # type: ignore[arg-type]

    def process_request_thread(self, request: object, client_address: object) -> None:
        try:
            super().process_request_thread(request, client_address)  # type: ignore[arg-type]
        finally:
            self._slots.release()

    def handle_error(self, request: object, client_address: object) -> None:
        _log.info("a neighbour's download broke off", exc_info=True)


def _handler(
    token: str, find: Callable[[str], Offer], transfers: threading.BoundedSemaphore
) -> type[BaseHTTPRequestHandler]:
    wanted = f"Bearer {token}".encode()

    class Handler(BaseHTTPRequestHandler):
        timeout = SOCKET_TIMEOUT_S
        server_version = "storefleet-agent"
        sys_version = ""

        def do_GET(self) -> None:
            given = self.headers.get("Authorization", "").encode("latin-1", "replace")
            if not hmac.compare_digest(given, wanted):
                self._say(HTTPStatus.UNAUTHORIZED, {"WWW-Authenticate": "Bearer"})
                return
            match = _PATH.fullmatch(self.path)
            if match is None:
                self._say(HTTPStatus.NOT_FOUND)
                return
            try:
                offer = find(match[1])
            except OSError as error:
                _log.warning("cannot read a model for a neighbour", extra={"detail": str(error)})
                self._say(HTTPStatus.INTERNAL_SERVER_ERROR)
                return
            if offer.path is not None and transfers.acquire(blocking=False):
                try:
                    self._send(match[1], offer.path)
                finally:
                    transfers.release()
            elif offer.path is not None or offer.under_way:
                self._say(HTTPStatus.SERVICE_UNAVAILABLE, {"Retry-After": "2"})
            else:
                self._say(HTTPStatus.NOT_FOUND)

        def _send(self, digest: str, path: Path) -> None:
            with path.open("rb") as file:
                size = path.stat().st_size
                asked = _RANGE.fullmatch(self.headers.get("Range", ""))
                start = int(asked[1]) if asked else 0
                if start and start >= size:
                    no_such = {"Content-Range": f"bytes */{size}"}
                    self._say(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, no_such)
                    return
                self.send_response(HTTPStatus.PARTIAL_CONTENT if asked else HTTPStatus.OK)
                if asked:
                    self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
                self.send_header("Content-Length", str(size - start))
                self.send_header("Content-Type", "application/octet-stream")
                self.end_headers()
                file.seek(start)
                sent = 0
                while chunk := file.read(CHUNK_BYTES):
                    self.wfile.write(chunk)
                    sent += len(chunk)
            _log.info("gave a model to a neighbour", extra={"digest": digest, "bytes": sent})

        def _say(self, status: HTTPStatus, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            _log.debug("neighbour: " + format, *args)

    return Handler
