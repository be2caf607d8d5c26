"""HTTP for gates: bounded in time and size, without redirects, with TLS verified.

Implements ``controller.gate_checks.GateCaller``. Redirects are refused because they would send a rollout's
details, or the proof of who asks, to another place than its owner wrote down.
"""

import time
from collections.abc import Mapping

import httpx

from controller.errors import PermanentError, TransientError

MAX_ANSWER_BYTES = 64 * 1024


class HttpGateCaller:
    """``transport`` replaces the network in tests."""

    def __init__(self, transport: httpx.BaseTransport | None = None) -> None:
        self._transport = transport

    def post(self, url: str, body: bytes, timeout_s: float) -> bytes:
        return self._call("POST", url, timeout_s, body=body)

    def query(self, url: str, query: str, timeout_s: float) -> bytes:
        return self._call("GET", url.rstrip("/") + "/api/v1/query", timeout_s, params={"query": query})

    def _call(
        self,
        method: str,
        url: str,
        timeout_s: float,
        *,
        body: bytes | None = None,
        params: Mapping[str, str] | None = None,
    ) -> bytes:
        """``timeout_s`` is for all of it: a server that drips its answer does not get more."""
        end = time.monotonic() + timeout_s
        headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        try:
            with (
                httpx.Client(timeout=timeout_s, follow_redirects=False, transport=self._transport) as client,
                client.stream(method, url, content=body, params=params, headers=headers) as response,
            ):
                _refuse(response)
                return _read(response, end)
        except httpx.TimeoutException as error:
            raise TransientError(f"no answer from {_host(url)} within {timeout_s:g} s") from error
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            raise PermanentError(f"the gate's URL cannot be used: {error}") from error
        except httpx.HTTPError as error:
            raise TransientError(f"{_host(url)} could not be asked: {error}") from error


def _refuse(response: httpx.Response) -> None:
    if response.is_redirect:
        raise PermanentError(f"{response.url.host} redirects; write the final URL into the gate")
    if not response.is_success:
        raise TransientError(f"{response.url.host} answered {response.status_code}")


def _read(response: httpx.Response, end: float) -> bytes:
    answer = b""
    for chunk in response.iter_raw():
        answer += chunk
        if len(answer) > MAX_ANSWER_BYTES:
            raise PermanentError(f"{response.url.host} answered with more than {MAX_ANSWER_BYTES // 1024} KB")
        if time.monotonic() > end:
            raise TransientError(f"{response.url.host} did not finish its answer in time")
    return answer


def _host(url: str) -> str:
    """Without credentials or path, which may be secret."""
    try:
        return httpx.URL(url).host or "the gate's URL"
    except httpx.InvalidURL:
        return "the gate's URL"
