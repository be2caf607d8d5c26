"""Artifacts over HTTP, from the centre and from neighbours: both serve ``/v1/artifacts/{digest}``."""

import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx

from agent.errors import ModelError, PermanentError, SourceBusy, TransientError
from agent.ports import ArtifactStream

CENTRE_TIMEOUT_S, CENTRE_CONNECT_S = 30.0, 10.0
PEER_TIMEOUT_S, PEER_CONNECT_S = 5.0, 2.0
"""A neighbour is in the same building: if it does not answer soon, the centre will be faster."""
MIN_BUFFER_BYTES = 16 * 1024
BUFFER_S = 0.25

_log = logging.getLogger(__name__)


class HttpArtifacts:
    """Implements ``agent.ports.ArtifactSource``. The token is never shown."""

    def __init__(
        self,
        url: str,
        token: str,
        *,
        timeout_s: float,
        connect_s: float,
        proxies: bool = True,
        rate: int = 0,
    ) -> None:
        """``proxies``: whether those of the environment are used. ``rate``: bytes a second at which the
        caller will take chunks, 0: as fast as they come. The system then buffers no more than a moment's
        worth, instead of taking megabytes from the line at full speed."""
        self._url = url.rstrip("/")
        self._token = token
        self._timeout = httpx.Timeout(timeout_s, connect=connect_s)
        self._proxies = proxies
        self._rate = rate

    @classmethod
    def centre(cls, url: str, token: str, rate: int = 0) -> "HttpArtifacts":
        return cls(url, token, timeout_s=CENTRE_TIMEOUT_S, connect_s=CENTRE_CONNECT_S, rate=rate)

    @classmethod
    def peer(cls, address: str, token: str) -> "HttpArtifacts":
        """``address``: ``host:port``."""
        url = f"http://{address}"
        return cls(url, token, timeout_s=PEER_TIMEOUT_S, connect_s=PEER_CONNECT_S, proxies=False)

    @property
    def name(self) -> str:
        return self._url

    @contextmanager
    def open(self, digest: str, offset: int) -> Iterator[ArtifactStream]:
        url = f"{self._url}/v1/artifacts/{digest}"
        headers = {"Authorization": f"Bearer {self._token}", "Accept-Encoding": "identity"}
        if offset:
            headers["Range"] = f"bytes={offset}-"
        try:
            with (
                self._client() as client,
                client.stream("GET", url, headers=headers) as response,
            ):
                _refuse(response, url)
                start = 0
                if response.status_code == httpx.codes.PARTIAL_CONTENT:
                    start = offset
                    if not response.headers.get("Content-Range", "").startswith(f"bytes {offset}-"):
                        raise TransientError(f"{url} answered with another range than asked for")
                yield ArtifactStream(start, response.iter_raw())
        except httpx.HTTPError as error:
            raise TransientError(f"download of {url} broke off: {error}", 2.0) from error
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            raise PermanentError(f"the URL {self._url} is unusable: {error}") from error

    def _client(self) -> httpx.Client:
        if not self._rate:
            return httpx.Client(timeout=self._timeout, trust_env=self._proxies)
        size = max(MIN_BUFFER_BYTES, int(self._rate * BUFFER_S))
        transport = httpx.HTTPTransport(
            proxy=_proxy_of(self._url) if self._proxies else None,
            socket_options=[(socket.SOL_SOCKET, socket.SO_RCVBUF, size)],
        )
        return httpx.Client(timeout=self._timeout, transport=transport)


def _proxy_of(url: str) -> str | None:
    """The proxy that the environment names for this URL; with a transport of our own httpx does not look."""
    parts = urlsplit(url)
    if not parts.hostname or proxy_bypass(parts.hostname):
        return None
    return getproxies().get(parts.scheme)


def resolve(hosts: str, port: int) -> list[str]:
    """Every address that these names stand for, as ``host:port``, in the order given and then of DNS.

    ``hosts``: comma separated names or addresses, each perhaps with ``:port``; ``port`` for the others. A
    name that does not resolve is logged and left out: that of a headless Service has no addresses while
    no neighbour is ready.
    """
    found: list[str] = []
    for entry in filter(None, (part.strip() for part in hosts.split(","))):
        host, its_port = split_host(entry, port)
        try:
            answers = socket.getaddrinfo(host, its_port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            _log.info("no neighbour by this name", extra={"neighbour": host, "detail": str(error)})
            continue
        for family, _, _, _, address in answers:
            text = f"[{address[0]}]" if family == socket.AF_INET6 else str(address[0])
            found.append(f"{text}:{its_port}")
    return list(dict.fromkeys(found))


def split_host(entry: str, port: int) -> tuple[str, int]:
    """Host and port of ``host``, ``host:port``, ``[v6]:port`` or a bare IPv6 address.

    >>> split_host("[fd00::7]:9000", 8471)
    ('fd00::7', 9000)
    """
    host, colon, tail = entry.rpartition(":")
    if colon and tail.isdigit() and (":" not in host or host.endswith("]")):
        return host.strip("[]"), int(tail)
    return entry.strip("[]"), port


def _refuse(response: httpx.Response, url: str) -> None:
    status = response.status_code
    if status in (httpx.codes.OK, httpx.codes.PARTIAL_CONTENT):
        return
    if status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
        raise PermanentError(f"the download of {url} was refused (HTTP {status}); check the artifact token")
    if status == httpx.codes.NOT_FOUND:
        raise ModelError(f"there is no artifact {url} (HTTP 404); import the model at the centre first")
    if status == httpx.codes.SERVICE_UNAVAILABLE and response.headers.get("Retry-After"):
        raise SourceBusy(f"{url}: HTTP {status}", 5.0)
    if status >= 500 or status in (httpx.codes.TOO_MANY_REQUESTS, httpx.codes.REQUEST_TIMEOUT):
        raise TransientError(f"{url}: HTTP {status}", 5.0)
    if status == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
        raise ModelError(f"{url} is smaller than its manifest says (HTTP 416)")
    raise PermanentError(f"{url}: HTTP {status}")
