"""Motion JPEG over HTTP (``multipart/x-mixed-replace``), as many cheap cameras serve it."""

import base64
import hmac
import random
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import cv2

from camera_sims.faults import Image

BOUNDARY = "frame"
QUALITY = 85
"""JPEG quality: about 150 kB for a 720p shelf."""


class MjpegStreamer:
    """An HTTP server at ``upstream`` of the loopback address, one path per camera.

    A thread for each open connection; a picture is encoded once, however many watch.
    """

    def __init__(self, cameras: tuple[str, ...], credentials: tuple[str, str] | None) -> None:
        self._channels = {camera: _Channel() for camera in cameras}
        self._rng = random.Random(0)
        self._server = _Server(self._channels, credentials)
        self.upstream = ("127.0.0.1", int(self._server.server_address[1]))
        self._thread = threading.Thread(
            target=self._server.serve_forever,
            kwargs={"poll_interval": 0.2},
            name="mjpeg",
            daemon=True,
        )
        self._thread.start()

    def audience(self, camera: str) -> int:
        return self._channels[camera].audience

    def send(self, camera: str, image: Image, *, fresh: bool = False, damage: bool = False) -> None:
        _, encoded = cv2.imencode(".jpg", image, (cv2.IMWRITE_JPEG_QUALITY, QUALITY))
        data = encoded.tobytes()
        self._channels[camera].publish(_damaged(data, self._rng) if damage else data)

    def repeat(self, camera: str) -> None:
        self._channels[camera].publish(None)

    def close(self) -> None:
        for channel in self._channels.values():
            channel.close()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _damaged(data: bytes, rng: random.Random) -> bytes:
    """Replace about one byte in 40 after the headers, which end with the start-of-scan marker FF DA."""
    broken = bytearray(data)
    start = data.rfind(b"\xff\xda") + 16
    for _ in range(len(data) // 40):
        broken[rng.randrange(start, len(data))] = rng.randrange(256)
    return bytes(broken)


class _Channel:
    """The newest JPEG of one camera and those waiting for the next."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._data = b""
        self._number = 0
        self._watching = 0
        self._sessions = 0
        self._closed = False

    @property
    def audience(self) -> int:
        with self._changed:
            return self._sessions if self._watching else 0

    def publish(self, data: bytes | None) -> None:
        with self._changed:
            self._data = self._data if data is None else data
            self._number += 1
            self._changed.notify_all()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def join(self) -> int:
        """Start watching; returns the number of the newest picture, which is old by now."""
        with self._changed:
            self._sessions += 0 if self._watching else 1
            self._watching += 1
            return self._number

    def leave(self) -> None:
        with self._changed:
            self._watching -= 1

    def next_after(self, number: int) -> tuple[int, bytes] | None:
        """Wait for a picture newer than ``number``; ``None`` when closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._number > number)
            return None if self._closed else (self._number, self._data)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, channels: dict[str, _Channel], credentials: tuple[str, str] | None) -> None:
        self.channels = channels
        self.authorization = None
        if credentials:
            self.authorization = b"Basic " + base64.b64encode(":".join(credentials).encode())
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        expected = self.server.authorization
        given = self.headers.get("Authorization", "").encode()
        if expected is not None and not hmac.compare_digest(given, expected):
            self.send_response(HTTPStatus.UNAUTHORIZED)
            self.send_header("WWW-Authenticate", 'Basic realm="camera"')
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        channel = self.server.channels.get(urlsplit(self.path).path.strip("/"))
        if channel is None:
            self.send_error(HTTPStatus.NOT_FOUND, "no such camera")
            return
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", f"multipart/x-mixed-replace; boundary={BOUNDARY}")
        self.send_header("Cache-Control", "no-store")
        number = channel.join()
        try:
            self.end_headers()
            while newer := channel.next_after(number):
                number, data = newer
                head = f"--{BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
                self.wfile.write(head.encode() + data + b"\r\n")
        except OSError:
            pass  # the viewer has gone
        finally:
            self.close_connection = True
            channel.leave()

    def log_message(self, format: str, *args: object) -> None:
        """Viewers coming and going are no news."""
