"""H.264 over RTSP: the streamer on our side of the H.264 program."""

import json
import threading
from pathlib import Path
from queue import Empty, SimpleQueue

from camera_sims.errors import SimulatorError
from camera_sims.faults import Image
from camera_sims.h264 import H264Program
from camera_sims.h264_server import DAMAGE, FRESH, REPEAT

START_TIMEOUT_S = 15.0


class RtspStreamer:
    """Serves ``/store/camera`` at ``upstream`` of the loopback address, RTP interleaved in TCP.

    ``credentials``: user name and password that clients must give (RTSP basic authentication).
    Raises ``SimulatorError`` if the server cannot start.
    """

    def __init__(
        self,
        cameras: tuple[str, ...],
        fps: float,
        credentials: tuple[str, str] | None,
        log: Path,
    ) -> None:
        self._index = {camera: i for i, camera in enumerate(cameras)}
        self._audience = dict.fromkeys(range(len(cameras)), 0)
        self._ended = False
        username, password = credentials or (None, None)
        self._program = H264Program(
            {
                "host": "127.0.0.1",
                "fps": fps,
                "cameras": cameras,
                "username": username,
                "password": password,
            },
            log,
        )
        self.pid = self._program.pid
        ready: SimpleQueue[int] = SimpleQueue()
        self._reader = threading.Thread(target=self._read, args=(ready,), name="rtsp-audience", daemon=True)
        self._reader.start()
        try:
            port = ready.get(timeout=START_TIMEOUT_S)
        except Empty:
            port = 0
        if not port:
            self.close()
            raise SimulatorError(f"the RTSP server did not start: {self._program.last_words()}")
        self.upstream = ("127.0.0.1", port)

    def audience(self, camera: str) -> int:
        if self._ended:  # found out here too, or a server that nobody watches would be missed by nobody
            raise SimulatorError(f"the H.264 program has ended: {self._program.last_words()}")
        return self._audience[self._index[camera]]

    def send(self, camera: str, image: Image, *, fresh: bool = False, damage: bool = False) -> None:
        self._program.picture(
            self._index[camera],
            image,
            (FRESH if fresh else 0) | (DAMAGE if damage else 0),
        )

    def repeat(self, camera: str) -> None:
        self._program.command(self._index[camera], REPEAT)

    def close(self) -> None:
        self._program.finish(timeout_s=3)
        self._reader.join(timeout=3)

    def _read(self, ready: "SimpleQueue[int]") -> None:
        """Follow who watches what, until the program ends."""
        sessions = 0
        with self._program.output as output:
            for line in output:
                message = json.loads(line)
                if message["event"] == "ready":
                    ready.put(message["port"])
                elif message["watched"]:
                    sessions += 1
                    self._audience[message["camera"]] = sessions
                else:
                    self._audience[message["camera"]] = 0
        self._ended = True
        ready.put(0)
