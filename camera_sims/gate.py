"""A TCP gate in front of one simulated camera, where its network faults happen.

Every byte between clients and the camera's real server passes here, so that a connection can be cut,
refused, or accepted and never answered, whatever the protocol and without the server's knowledge.
While connections are refused the port stays bound, so that no other program can take it.
"""

import contextlib
import socket
import threading
from enum import StrEnum

CHUNK = 64 * 1024


class GateMode(StrEnum):
    OPEN = "open"
    REFUSE = "refuse"
    """Open connections are cut, new ones refused."""
    HANG = "hang"
    """Connections are accepted and never answered; open ones fall silent."""


class Gate:
    """Forwards a port of ``host`` to ``upstream``. Threads: one, and two for each open connection."""

    def __init__(self, host: str, upstream: tuple[str, int], port: int = 0) -> None:
        self._host = host
        self._upstream = upstream
        self._lock = threading.Lock()
        self._mode = GateMode.OPEN
        self._clients: set[socket.socket] = set()
        self._servers: set[socket.socket] = set()
        self._closed = False
        self._reserved = self._bound(port)  # never listens: it keeps the port while nobody does
        self.port: int = self._reserved.getsockname()[1]
        self._listener: socket.socket | None = None
        self._open()

    @property
    def mode(self) -> GateMode:
        return self._mode

    def set_mode(self, mode: GateMode) -> None:
        with self._lock:
            if self._closed or mode is self._mode:
                return
            before, self._mode = self._mode, mode
            _shut(self._servers)
            if mode is not GateMode.HANG:
                _shut(self._clients)  # ends what fell silent: its client can come again
            if mode is GateMode.REFUSE:
                self._stop_listening()
            elif before is GateMode.REFUSE:
                self._open()

    def cut(self) -> None:
        """End open connections; new ones are treated as before."""
        with self._lock:
            _shut(self._clients | self._servers)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            _shut(self._clients | self._servers)
            self._stop_listening()
            self._reserved.close()

    def _bound(self, port: int) -> socket.socket:
        bound = socket.socket(socket.AF_INET6 if ":" in self._host else socket.AF_INET)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound.bind((self._host, port))
        return bound

    def _open(self) -> None:
        self._listener = self._bound(self.port)
        self._listener.listen(32)
        threading.Thread(
            target=self._accept,
            args=(self._listener,),
            name=f"gate-{self.port}",
            daemon=True,
        ).start()

    def _stop_listening(self) -> None:
        if self._listener is not None:
            _shut({self._listener})  # wakes the accepting thread
            self._listener.close()
            self._listener = None

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return  # no longer listening
            with self._lock:
                mode = self._mode
                if listener is not self._listener:
                    client.close()
                    return
                self._clients.add(client)
            if mode is GateMode.HANG:
                threading.Thread(target=self._hold, args=(client,), daemon=True).start()
            else:
                threading.Thread(target=self._forward, args=(client,), daemon=True).start()

    def _hold(self, client: socket.socket) -> None:
        """Read and never answer, until the client or ``set_mode`` ends it."""
        with contextlib.suppress(OSError):
            while client.recv(CHUNK):
                pass
        with self._lock:
            self._clients.discard(client)
            client.close()

    def _forward(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(self._upstream, timeout=5)
        except OSError:
            self._hold_or_end(client)
            return
        server.settimeout(None)
        for end in (client, server):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self._lock:
            self._servers.add(server)
            if self._mode is not GateMode.OPEN or self._closed:
                _shut({server})
        back = threading.Thread(target=self._pump, args=(server, client), daemon=True)
        back.start()
        self._pump(client, server)
        _shut({server})
        back.join()
        with self._lock:
            self._servers.discard(server)
            server.close()
        self._hold_or_end(client)

    def _hold_or_end(self, client: socket.socket) -> None:
        if self._mode is GateMode.HANG:
            self._hold(client)
            return
        with self._lock:
            self._clients.discard(client)
            _shut({client})
            client.close()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        """Copy until either end is gone. A server that ends takes its client along, unless it hangs."""
        with contextlib.suppress(OSError):
            while data := source.recv(CHUNK):
                sink.sendall(data)
        if source in self._servers and self._mode is not GateMode.HANG:
            _shut({sink})


def _shut(sockets: set[socket.socket]) -> None:
    for one in sockets:
        with contextlib.suppress(OSError):  # not connected any more
            one.shutdown(socket.SHUT_RDWR)
