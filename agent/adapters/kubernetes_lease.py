"""Camera leases as Kubernetes ``Lease`` objects, with the pod's own service account.

    storefleet-member-NODE      renewed every few seconds; holder: the node, or nobody once it left
    storefleet-camera-CAMERA    written when the camera changes hands; ``leaseTransitions`` is its epoch

Two requests a round, whatever the number of cameras, so that a small k3s is not kept busy: a list (without a
resource version, hence the newest state) and the renewal. Whoever writes names the version it read, and the
API server refuses all but the first (``409``). ``renewTime`` is for people who look; no agent trusts
another one's clock.

The agent speaks to nothing else in the API, so it does so in plain HTTPS instead of bringing a client
library of 30 MB along.
"""

import json
import ssl
from dataclasses import replace
from datetime import UTC, datetime
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from agent.domain.sharing import Kind, Ledger, Record
from agent.errors import PermanentError, TransientError

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where a pod finds its token, the API's certificate authority and its namespace."""
KIND_LABEL = "storefleet.io/lease"
TIMEOUT_S = 2.0
"""For connecting, and for each piece of an answer."""
MAX_ANSWER_BYTES = 4 * 1024**2
RESERVED = {"app.kubernetes.io/part-of": "storefleet", "app.kubernetes.io/managed-by": "storefleet-agent"}


class KubernetesLeases:
    """Implements ``agent.ports.CameraLeases``. Belongs to one thread at a time. ``server``: such as
    ``https://10.43.0.1:443``; ``account``: directory of the service account; ``lease_s`` is only shown."""

    def __init__(self, server: str, account: Path = ACCOUNT, *, lease_s: float) -> None:
        parts = urlsplit(server)
        self._host, self._port = parts.hostname or "", parts.port
        self._tls = parts.scheme != "http"
        self._account = account
        self._lease_s = max(1, round(lease_s))
        self._connection: HTTPConnection | None = None

    def read(self) -> Ledger:
        found: dict[str, dict[str, Record]] = {"member": {}, "camera": {}}
        for item in self._ask("GET", f"?labelSelector={quote(KIND_LABEL)}")["items"]:
            kind = item["metadata"].get("labels", {}).get(KIND_LABEL)
            prefix = _name(kind, "")
            if kind in found and item["metadata"]["name"].startswith(prefix):
                record = _record(item, item["metadata"]["name"].removeprefix(prefix))
                found[kind][record.name] = record
        return Ledger(found["member"], found["camera"])

    def write(self, kind: Kind, record: Record) -> Record | None:
        name = _name(kind, record.name)
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        metadata: dict[str, Any] = {"name": name, "labels": {**RESERVED, KIND_LABEL: kind}}
        if record.version:
            metadata["resourceVersion"] = record.version
        lease = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": metadata,
            "spec": {
                "holderIdentity": record.holder,
                "leaseTransitions": record.epoch,
                "leaseDurationSeconds": self._lease_s,
                "renewTime": now,
            },
        }
        try:
            answer = self._ask("PUT", f"/{name}", lease) if record.version else self._ask("POST", "", lease)
        except _ConflictError:
            return None
        return replace(record, version=str(answer["metadata"]["resourceVersion"]))

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        try:
            namespace = (self._account / "namespace").read_text().strip()
            token = (self._account / "token").read_text().strip()  # Read each time: it is renewed.
        except OSError as error:
            raise PermanentError(
                f"no service account in {self._account}: cameras cannot be shared through Kubernetes; apply "
                "k3s/store, or set STOREFLEET_CAMERA_LEASES to nothing on a node that is alone"
            ) from error
        url = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases{path}"
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        reused = self._connection is not None
        try:
            return self._exchange(method, url, body, headers)
        except (OSError, HTTPException) as error:
            self.close()
            if reused and method == "GET":  # The server may have closed a connection that was idle.
                return self._ask(method, path, body)
            raise TransientError(
                f"the Kubernetes API does not answer: {str(error) or type(error).__name__}"
            ) from error

    def _exchange(self, method: str, url: str, body: dict[str, Any] | None, headers: dict[str, str]) -> Any:
        if self._connection is None:
            self._connection = self._connect()
        self._connection.request(method, url, None if body is None else json.dumps(body).encode(), headers)
        response = self._connection.getresponse()
        content = response.read(MAX_ANSWER_BYTES + 1)
        if len(content) > MAX_ANSWER_BYTES or response.will_close:
            self.close()
        try:
            answer = json.loads(content)
            said = str(answer.get("message", ""))
        except (ValueError, AttributeError) as error:
            raise TransientError(f"the Kubernetes API answered {response.status} without sense") from error
        if response.status in (200, 201):
            return answer
        if response.status == 409 or (response.status == 404 and method == "PUT"):
            raise _ConflictError(said)
        if response.status in (401, 403, 404):
            raise PermanentError(
                f"the Kubernetes API refuses leases ({response.status}): {said}; apply k3s/store"
            )
        raise TransientError(f"the Kubernetes API answered {response.status}: {said}")

    def _connect(self) -> HTTPConnection:
        if not self._tls:
            return HTTPConnection(self._host, self._port, timeout=TIMEOUT_S)
        context = ssl.create_default_context(cafile=str(self._account / "ca.crt"))
        return HTTPSConnection(self._host, self._port, timeout=TIMEOUT_S, context=context)


class _ConflictError(Exception):
    """Somebody else was faster."""


def _name(kind: str | None, name: str) -> str:
    return f"storefleet-{kind}-{name}"


def _record(item: dict[str, Any], name: str) -> Record:
    spec = item.get("spec", {})
    version = str(item["metadata"]["resourceVersion"])
    return Record(name, spec.get("holderIdentity") or "", int(spec.get("leaseTransitions") or 0), version)
