"""The control endpoint of a running simulator, and its client.

``GET /state`` answers ``RunState``; ``POST /cameras/{store}/{camera}/fault`` takes ``FaultRequest``.
It listens on the loopback address only, and takes only JSON bodies: a web page cannot post those here
without the browser asking first.
"""

import http.client
import json
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Protocol, TypeVar
from urllib.parse import quote, urlsplit

from pydantic import ValidationError

from camera_sims.errors import SimulatorError
from camera_sims.faults import Fault
from camera_sims.run_info import FaultRequest, RunState, read_run_info

_T = TypeVar("_T")
MAX_BODY = 64 * 1024
TIMEOUT_S = 5.0


class Controlled(Protocol):
    def state(self) -> RunState: ...

    def set_fault(self, store: str, camera: str, fault: Fault, seconds: float | None = None) -> None:
        """Raises ``KeyError`` for an unknown camera."""
        ...


class ControlServer:
    """Serves ``run`` on a free port until ``close``."""

    def __init__(self, run: Controlled) -> None:
        self._server = _Server(run)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(
            target=self._server.serve_forever,
            kwargs={"poll_interval": 0.2},
            name="control",
            daemon=True,
        )
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, run: Controlled) -> None:
        self.run = run
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = 10.0

    def do_GET(self) -> None:
        if self.path != "/state":
            self._answer(HTTPStatus.NOT_FOUND, {"error": "try GET /state"})
            return
        self._answer(HTTPStatus.OK, self.server.run.state().model_dump(mode="json"))

    def do_POST(self) -> None:
        match self.path.strip("/").split("/"):
            case ["cameras", store, camera, "fault"]:
                self._fault(store, camera)
            case _:
                self._answer(
                    HTTPStatus.NOT_FOUND,
                    {"error": "try POST /cameras/{store}/{camera}/fault"},
                )

    def _fault(self, store: str, camera: str) -> None:
        length = self.headers.get("Content-Length", "")
        if self.headers.get_content_type() != "application/json":
            self._answer(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, {"error": "send application/json"})
            return
        if not length.isdigit() or int(length) > MAX_BODY:
            self._answer(HTTPStatus.BAD_REQUEST, {"error": f"send at most {MAX_BODY} bytes"})
            return
        try:
            request = FaultRequest.model_validate_json(self.rfile.read(int(length)))
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(map(str, first["loc"])) or "body"
            self._answer(HTTPStatus.BAD_REQUEST, {"error": f"{where}: {first['msg']}"})
            return
        try:
            self.server.run.set_fault(store, camera, request.fault, request.seconds)
        except KeyError:
            self._answer(
                HTTPStatus.NOT_FOUND,
                {"error": f"no camera {camera!r} in a store {store!r}"},
            )
            return
        self._answer(HTTPStatus.OK, {"store": store, "camera": camera, "fault": request.fault})

    def _answer(self, status: HTTPStatus, content: object) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Requests are answered, not logged: the truth file records every fault."""


class SimClient:
    """Talks to the simulator that runs in ``directory``.

    >>> SimClient(Path("run")).set_fault("sim-1", "cam-1", Fault.BLACK, seconds=10)  # doctest: +SKIP
    """

    def __init__(self, directory: Path) -> None:
        """Raises ``SimulatorError`` where no run can be controlled."""
        url = read_run_info(directory).control_url
        if url is None:
            raise SimulatorError(
                f"the run in {directory} recorded files: give its faults as --fault to sim run"
            )
        self._url = url

    def state(self) -> RunState:
        """Raises ``SimulatorError`` when the simulator does not answer."""
        return self._call(RunState.model_validate_json, "/state")

    def set_fault(self, store: str, camera: str, fault: Fault, seconds: float | None = None) -> None:
        """Give a camera a fault (``Fault.NONE`` ends it). Raises ``SimulatorError`` when refused."""
        body = FaultRequest(fault=fault, seconds=seconds).model_dump_json().encode()
        self._call(len, f"/cameras/{quote(store)}/{quote(camera)}/fault", body)

    def _call(self, parse: Callable[[bytes], _T], path: str, body: bytes | None = None) -> _T:
        address = urlsplit(self._url)
        connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=TIMEOUT_S)
        try:
            method = "GET" if body is None else "POST"
            connection.request(method, path, body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise SimulatorError(f"no simulator answers at {self._url}: has the run ended?") from error
        finally:
            connection.close()
        if answer.status != HTTPStatus.OK:
            raise SimulatorError(json.loads(content)["error"])
        return parse(content)
