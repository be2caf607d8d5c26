"""A client for kube-apiservers in plain HTTPS: enough to wait for, show and apply things.

The product's own client library belongs to the controller's adapter; a testbed that used the same one
could not tell a fault of the library from a fault of the cluster.
"""

import http.client
import json
import ssl
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from k3s.testbed.errors import TestbedError
from k3s.testbed.kubeconfig import Access, read_kubeconfig

POLL_S = 0.25
FIELD_MANAGER = "storefleet-testbed"


class ApiError(TestbedError):
    """The apiserver refused. ``status`` is HTTP's; 0 if it was not reached at all."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Api:
    """One apiserver. Every request is a connection of its own, so that no connection outlives a cut."""

    access: Access
    timeout_s: float = 5.0

    @classmethod
    def of(cls, kubeconfig: Path, timeout_s: float = 5.0) -> "Api":
        return cls(read_kubeconfig(kubeconfig), timeout_s)

    def get(self, path: str, **query: str) -> Any:
        return self.request("GET", path, query=query)

    def text(self, path: str, **query: str) -> str:
        return self._send("GET", path, query, None, "").decode(errors="replace")

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        query: dict[str, str] | None = None,
        content_type: str = "application/json",
    ) -> Any:
        """The answer's JSON.

        Raises:
            ApiError: refused, or not reached.
        """
        given = None if body is None else json.dumps(body).encode()
        return json.loads(self._send(method, path, query or {}, given, content_type))

    def apply(self, manifest: dict[str, Any], *, dry_run: bool = False) -> Any:
        """Server-side apply of any kind of object that the server knows."""
        path = self.path_of(manifest)
        query = {"fieldManager": FIELD_MANAGER, "force": "true", **({"dryRun": "All"} if dry_run else {})}
        return self.request("PATCH", path, manifest, query=query, content_type="application/apply-patch+yaml")

    def path_of(self, manifest: dict[str, Any]) -> str:
        """The object's address, from what the server says of its kind."""
        version, kind = manifest["apiVersion"], manifest["kind"]
        root = f"/apis/{version}" if "/" in version else f"/api/{version}"
        for resource in self.get(root)["resources"]:
            if resource["kind"] == kind and "/" not in resource["name"]:
                metadata = manifest["metadata"]
                inside = (
                    f"/namespaces/{metadata.get('namespace', 'default')}" if resource["namespaced"] else ""
                )
                return f"{root}{inside}/{resource['name']}/{quote(metadata['name'])}"
        raise ApiError(404, f"the server knows no {kind} in {version}")

    def ready(self) -> bool:
        try:
            return self.text("/readyz") == "ok"
        except ApiError:
            return False

    def wait_ready(self, timeout_s: float) -> None:
        end = time.monotonic() + timeout_s
        while not self.ready():
            if time.monotonic() > end:
                raise TestbedError(f"{self.access.server} is not ready after {timeout_s:.0f} s: see its logs")
            time.sleep(POLL_S)

    def _send(
        self, method: str, path: str, query: dict[str, str], body: bytes | None, content_type: str
    ) -> bytes:
        url = urlsplit(self.access.server)
        headers = {"Accept": "*/*"}
        if body is not None:
            headers["Content-Type"] = content_type
        if self.access.token:
            headers["Authorization"] = f"Bearer {self.access.token}"
        connection = http.client.HTTPSConnection(
            url.hostname or "", url.port or 443, timeout=self.timeout_s, context=ssl_context(self.access)
        )
        try:
            target = f"{url.path}{path}" + (f"?{urlencode(query)}" if query else "")
            connection.request(method, target, body, headers)
            answer = connection.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise ApiError(
                0, f"{self.access.server} does not answer: {str(error) or type(error).__name__}"
            ) from error
        finally:
            connection.close()
        if answer.status >= 400:
            raise ApiError(answer.status, f"{method} {path}: {_reason(content) or answer.reason}")
        return content


def ssl_context(access: Access) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=access.authority.decode() or None)
    if access.certificate:
        with TemporaryDirectory() as directory:  # ssl takes client certificates from files only
            file = Path(directory) / "client.pem"
            file.touch(mode=0o600)
            file.write_bytes(access.certificate + b"\n" + access.key)
            context.load_cert_chain(file)
    return context


def _reason(content: bytes) -> str:
    try:
        return str(json.loads(content)["message"])
    except (ValueError, KeyError, TypeError):
        return content.decode(errors="replace").strip()[:200]
