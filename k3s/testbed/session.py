"""A connection to an apiserver that stays open: for programs that ask often, or wait for news.

``Api`` opens one for every request, which is right for looking after a cut; but a thousand simulated nodes
that each did so would mostly shake hands.
"""

import http.client
import json
import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode, urlsplit

from k3s.testbed.api import ApiError, ssl_context
from k3s.testbed.kubeconfig import Access

WATCH_S = 240
"""The server ends a watch after so long, and it is taken up again."""
GONE = 410


class Session:
    """For one thread. Reconnects by itself when the server has closed the connection."""

    def __init__(self, access: Access, timeout_s: float = 30.0) -> None:
        self._access = access
        self._timeout_s = timeout_s
        self._context = ssl_context(access)
        self._connection: http.client.HTTPSConnection | None = None

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def request(
        self, method: str, path: str, body: Any = None, *, content_type: str = "application/json"
    ) -> Any:
        """The answer's JSON. Raises ``ApiError``."""
        given = None if body is None else json.dumps(body).encode()
        for attempt in (1, 2):
            fresh = self._connection is None
            try:
                answer = self._send(method, path, given, content_type)
                content = answer.read()
                break
            except (OSError, http.client.HTTPException) as error:
                self.close()
                if fresh or attempt == 2:
                    words = f"{self._access.server} does not answer: {str(error) or type(error).__name__}"
                    raise ApiError(0, words) from error
        if answer.status >= 400:
            raise ApiError(answer.status, f"{method} {path}: {content[:300].decode(errors='replace')}")
        return json.loads(content)

    def watch(self, path: str, query: dict[str, str]) -> Iterator[tuple[str, dict[str, Any]]]:
        """First every object that is there (``ADDED``), then whatever happens: (type, object). Ends when the
        server ends it; who calls again begins with all of them again. Raises ``ApiError``.
        """
        listed = self.request("GET", f"{path}?{urlencode(query)}")
        for item in listed["items"]:
            yield "ADDED", item
        version = listed["metadata"]["resourceVersion"]
        while True:
            more = {**query, "watch": "1", "resourceVersion": version, "timeoutSeconds": str(WATCH_S)}
            try:
                answer = self._send("GET", f"{path}?{urlencode(more)}", None, "")
                if answer.status >= 400:
                    raise ApiError(answer.status, f"watching {path}: {answer.read()[:300]!r}")
                for line in answer:
                    event = json.loads(line)
                    if event["type"] == "ERROR":
                        if event["object"].get("code") == GONE:
                            return
                        raise ApiError(int(event["object"].get("code") or 0), str(event["object"]))
                    version = event["object"]["metadata"]["resourceVersion"]
                    yield event["type"], event["object"]
            except (OSError, http.client.HTTPException, ValueError) as error:
                raise ApiError(0, f"watching {path}: {str(error) or type(error).__name__}") from error
            finally:
                self.close()

    def _send(
        self, method: str, path: str, body: bytes | None, content_type: str
    ) -> http.client.HTTPResponse:
        headers = {"Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = content_type
        if self._access.token:
            headers["Authorization"] = f"Bearer {self._access.token}"
        if self._connection is None:
            url = urlsplit(self._access.server)
            self._connection = http.client.HTTPSConnection(
                url.hostname or "", url.port or 443, timeout=self._timeout_s, context=self._context
            )
            self._connection.connect()
            # Head and body go out as two packets; without this each request would wait 40 ms for the first.
            self._connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connection.request(method, path, body, headers)
        if "watch=1" in path:
            self._connection.sock.settimeout(WATCH_S + self._timeout_s)
        return self._connection.getresponse()
