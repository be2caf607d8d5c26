"""The controller's HTTP API, for the command line.

Example:
    >>> with Client("http://127.0.0.1:8080", token) as client:
    ...     for zone in client.pages("/v1/stock", store="berlin-01"):
    ...         print(zone["zone"], zone["level"])
"""

import getpass
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Self

import httpx

from controller.errors import ClientError, PermanentError, TransientError
from controller.settings import ClientSettings

TIMEOUT_S = 30.0
PAGE = 500
_TOKEN = re.compile(r"[!-~]+")

Json = dict[str, Any]


class Client:
    """Raises ``ClientError`` for a refusal, ``TransientError`` when the controller cannot be reached, and
    ``PermanentError`` for a token that cannot be sent."""

    def __init__(self, url: str, token: str, *, transport: httpx.BaseTransport | None = None) -> None:
        self._url = url
        if not _TOKEN.fullmatch(token):
            raise PermanentError("the API token is empty or has characters that no header can carry")
        headers = {"Authorization": f"Bearer {token}", "X-Storefleet-Actor": _user()}
        self._http = httpx.Client(base_url=url, headers=headers, timeout=TIMEOUT_S, transport=transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def get(self, path: str, **params: Any) -> Json:
        """Parameters that are None are left out."""
        return self._send("GET", path, params=params)

    def post(self, path: str, body: Mapping[str, Any]) -> Json:
        return self._send("POST", path, body=body)

    def upload(self, path: str, file: Path, **params: Any) -> Json:
        """POST a file's bytes as the body, read as they are sent. Raises ``PermanentError`` when the file
        cannot be read."""
        try:
            with file.open("rb") as content:
                return self._send("POST", path, params=params, content=content)
        except OSError as error:
            raise PermanentError(f"cannot read {file}: {error.strerror}") from error

    def put(self, path: str, body: Mapping[str, Any]) -> Json:
        return self._send("PUT", path, body=body)

    def delete(self, path: str) -> Json:
        return self._send("DELETE", path)

    def health(self) -> Json:
        """``GET /health``, also when it says that the controller is not ready."""
        return self._send("GET", "/health", accept=(503,))

    def pages(self, path: str, *, limit: int | None = None, **params: Any) -> Iterator[Json]:
        """Every item of a listing, or the first ``limit``, page by page."""
        left = limit
        cursor: str | None = None
        while left is None or left > 0:
            size = PAGE if left is None else min(PAGE, left)
            page = self.get(path, **params, limit=size, cursor=cursor)
            yield from page["items"]
            left = None if left is None else left - len(page["items"])
            cursor = page["next_cursor"]
            if cursor is None:
                return

    def _send(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        body: Mapping[str, Any] | None = None,
        content: BinaryIO | None = None,
        accept: tuple[int, ...] = (),
    ) -> Json:
        given = {name: value for name, value in (params or {}).items() if value is not None}
        try:
            answer = self._http.request(method, path, params=given, json=body, content=content)
        except httpx.TransportError as error:
            raise TransientError(
                f"no controller answers at {self._url} ({error}); "
                "is it running? Set STOREFLEET_CONTROLLER_URL"
            ) from error
        if answer.is_success or answer.status_code in accept:
            return _json(answer, self._url)
        refusal = _json(answer, self._url)
        raise ClientError(
            str(refusal.get("detail", f"status {answer.status_code}")),
            answer.status_code,
            [str(problem) for problem in refusal.get("problems", [])],
        )


def connect(settings: ClientSettings) -> Client:
    """A client as configured. Raises ``PermanentError`` when there is no token."""
    if settings.api_token is not None:
        return Client(settings.controller_url, settings.api_token.get_secret_value())
    try:
        token = settings.api_token_file.read_text().strip()
    except OSError as error:
        raise PermanentError(
            f"no API token: {settings.api_token_file}: {error.strerror}. "
            "Set STOREFLEET_API_TOKEN_FILE to the controller's admin.token, or STOREFLEET_API_TOKEN"
        ) from error
    return Client(settings.controller_url, token)


def _json(answer: httpx.Response, url: str) -> Json:
    try:
        body = answer.json()
    except ValueError as error:
        raise ClientError(f"{url} is no Storefleet controller: it answered without JSON") from error
    if not isinstance(body, dict):
        raise ClientError(f"{url} is no Storefleet controller: it answered {type(body).__name__}")
    return body


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a user id without a name, as in containers
        return ""
