"""The ``Cluster`` port for a store's Kubernetes: one server-side-applied DaemonSet and its ConfigMap.

The only module that talks to the Kubernetes API; ``kubernetes_login`` says as whom. A connection lives
as long as one call of the port: an idle store holds none. Answers are used as plain JSON; what they mean
is decided in ``domain``.

Server-side apply (field manager ``storefleet``, forced) takes back fields that others changed and
leaves alone what others added: https://kubernetes.io/docs/reference/using-api/server-side-apply/
"""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import urllib3.exceptions
import yaml
from kubernetes import client
from kubernetes.client.exceptions import ApiException
from kubernetes.config import ConfigException, load_incluster_config, new_client_from_config_dict

from controller.adapters.kubernetes_login import ExecLogins, login
from controller.cluster import Applied
from controller.domain.deployment import Observed
from controller.domain.drift import drift_of
from controller.domain.pod_trouble import NO_NODE, summarize
from controller.domain.workload import (
    NAME,
    RESTRICTED,
    STORE_LABEL,
    Manifest,
    Workload,
    config_map_of,
    for_server,
    rollout_of,
    with_last_applied,
)
from controller.errors import PermanentError, TransientError

FIELD_MANAGER = "storefleet"
APPLY_TYPE = "application/apply-patch+yaml"
PODS = f"app.kubernetes.io/name={NAME}"


@dataclass(frozen=True, slots=True)
class KubernetesCluster:
    """``kubeconfig`` None: the default file; ``context`` None: the file's current one."""

    namespace: str = "storefleet"
    kubeconfig: Path | None = None
    context: str | None = None
    connect_timeout_s: float = 5.0
    read_timeout_s: float = 15.0
    """Of each call to the API."""
    in_cluster: bool = False
    """With the service account of this pod, instead of a kubeconfig."""
    logins: ExecLogins = field(default_factory=ExecLogins)
    """Shared by all stores, so that exec plug-ins are not asked for every call."""

    def apply(self, workload: Workload) -> Applied:
        if workload.namespace != self.namespace:
            raise PermanentError(f"made for namespace {workload.namespace}, not {self.namespace}")
        with self._connected() as api:
            server = _version(api.call("read the server's version", api.version.get_code))
            wanted, degraded = for_server(workload.daemon_set, server)
            before = api.find("read the DaemonSet", api.apps.read_namespaced_daemon_set, NAME, self.namespace)
            self._refuse_neighbour(before, workload.store)
            self._apply_config_map(api, workload.config_map)
            after = api.apply(
                "apply the DaemonSet", api.apps.patch_namespaced_daemon_set, with_last_applied(wanted)
            )
            self._prune(api, keep={config_map_of(after), config_map_of(before or {})})
            return Applied(int(after["metadata"]["generation"]), degraded)

    def observe(self, store: str) -> Observed:
        with self._connected() as api:
            live = api.find("read the DaemonSet", api.apps.read_namespaced_daemon_set, NAME, self.namespace)
            if live is None or _store_of(live) != store:
                return Observed(rollout_id=None)
            status = live.get("status", {})
            desired = int(status.get("desiredNumberScheduled", 0))
            pods = api.call("list pods", api.core.list_namespaced_pod, self.namespace, label_selector=PODS)[
                "items"
            ]
            summary = summarize(pods, (), rollout_of(live), NAME)
            seen = int(status.get("observedGeneration", 0))
            settled = seen == live["metadata"]["generation"]
            if summary.updated < desired or not settled:
                warnings = api.call(
                    "list events",
                    api.core.list_namespaced_event,
                    self.namespace,
                    field_selector="type=Warning",
                    limit=200,
                )["items"]
                summary = summarize(pods, warnings, rollout_of(live), NAME)
            return Observed(
                rollout_id=rollout_of(live),
                generation=int(live["metadata"]["generation"]),
                observed_generation=seen,
                desired=desired,
                ready=int(status.get("numberReady", 0)),
                updated=min(summary.updated, int(status.get("updatedNumberScheduled", 0))),
                images=summary.images,
                problems=summary.problems if desired or not settled else (NO_NODE,),
                drift=drift_of(live) + self._lost_config(api, live),
            )

    def remove(self, store: str) -> None:
        with self._connected() as api:
            live = api.find("read the DaemonSet", api.apps.read_namespaced_daemon_set, NAME, self.namespace)
            if live is not None and _store_of(live) == store:
                api.find("delete the DaemonSet", api.apps.delete_namespaced_daemon_set, NAME, self.namespace)
                self._prune(api, keep=set())

    def _apply_config_map(self, api: "_Api", config_map: Manifest) -> None:
        patch = api.core.patch_namespaced_config_map
        try:
            api.apply("apply the ConfigMap", patch, config_map)
        except _MissingError:
            metadata = {"name": self.namespace, "labels": dict(RESTRICTED)}
            namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}
            api.call(
                "create the namespace", api.core.create_namespace, namespace, field_manager=FIELD_MANAGER
            )
            api.apply("apply the ConfigMap", patch, config_map)

    def _prune(self, api: "_Api", keep: set[str | None]) -> None:
        """Delete ConfigMaps that neither this release nor the one before it mounts."""
        listed = api.call(
            "list ConfigMaps", api.core.list_namespaced_config_map, self.namespace, label_selector=PODS
        )
        for item in listed["items"]:
            name = item["metadata"]["name"]
            if name not in keep:
                api.find(
                    "delete an old ConfigMap", api.core.delete_namespaced_config_map, name, self.namespace
                )

    def _lost_config(self, api: "_Api", live: Manifest) -> tuple[str, ...]:
        name = config_map_of(live)
        if name is None:
            return ()
        found = api.find("read the ConfigMap", api.core.read_namespaced_config_map, name, self.namespace)
        return () if found is not None else (f"ConfigMap {name} was removed",)

    def _refuse_neighbour(self, live: Manifest | None, store: str) -> None:
        if live is not None and _store_of(live) != store:
            raise PermanentError(
                f"namespace {self.namespace} holds the agents of store {_store_of(live)!r} already; "
                "give each store a cluster or a namespace of its own"
            )

    @contextmanager
    def _connected(self) -> Iterator["_Api"]:
        with TemporaryDirectory(prefix="storefleet-") as directory:
            connection = self._client(Path(directory))
            try:
                yield _Api(connection, (self.connect_timeout_s, self.read_timeout_s))
            except _DeniedError:
                self.logins.forget(str(connection.configuration.host))
                raise
            finally:
                connection.close()  # type: ignore[no-untyped-call]

    def _client(self, directory: Path) -> client.ApiClient:
        configuration = client.Configuration()
        configuration.retries = False
        if self.in_cluster:
            try:
                load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
            except (ConfigException, OSError, ValueError) as error:
                raise PermanentError(
                    f"no service account here: {_short(error)}; run in a pod that has one, or with a file"
                ) from error
            return client.ApiClient(configuration)
        try:
            found = login(self.kubeconfig, self.context, self.logins, directory)
            created: client.ApiClient = new_client_from_config_dict(  # type: ignore[no-untyped-call]
                found, persist_config=False, client_configuration=configuration
            )
        except (ConfigException, yaml.YAMLError, OSError, ValueError, LookupError, TypeError) as error:
            file = self.kubeconfig or "(default)"
            context = self.context or "(current)"
            raise PermanentError(
                f"kubeconfig {file}: {_short(error)}; check the file and its context {context}"
            ) from error
        return created


class _DeniedError(PermanentError):
    """401: the credentials are not, or no longer, good."""


class _MissingError(PermanentError):
    """404 where the thing itself was not asked for by name: its namespace or API is missing."""


class _Api:
    """The API groups in use, with timeouts and translated errors on every call."""

    def __init__(self, connection: Any, timeouts: tuple[float, float]) -> None:
        self._timeouts = timeouts
        self.core = client.CoreV1Api(connection)
        self.apps = client.AppsV1Api(connection)
        self.version = client.VersionApi(connection)

    def call(self, what: str, method: Callable[..., Any], *args: Any, **kwargs: Any) -> Manifest:
        try:
            answer = method(
                *args,
                **kwargs,
                _preload_content=False,
                _request_timeout=self._timeouts,
            )
            found = json.loads(answer.data)
        except ApiException as error:
            raise _translated(what, error) from error
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise TransientError(f"cannot {what}: {_short(error)}", retry_after=5.0) from error
        except ValueError as error:
            raise TransientError(
                f"cannot {what}: the answer is not JSON; is this a Kubernetes API?"
            ) from error
        if not isinstance(found, dict):
            raise PermanentError(f"cannot {what}: the answer is no object; is this a Kubernetes API?")
        return found

    def find(self, what: str, method: Callable[..., Any], *args: Any) -> Manifest | None:
        """Like ``call``, None for what does not exist."""
        try:
            return self.call(what, method, *args)
        except _MissingError:
            return None

    def apply(self, what: str, method: Callable[..., Any], wanted: Manifest) -> Manifest:
        name = wanted["metadata"]["name"]
        return self.call(
            what,
            method,
            name,
            wanted["metadata"]["namespace"],
            wanted,
            field_manager=FIELD_MANAGER,
            force=True,
            _content_type=APPLY_TYPE,
        )


def _translated(what: str, error: ApiException) -> TransientError | PermanentError:
    """The server's own words with what to do about them."""
    status, words = int(error.status or 0), _words(error)
    if status == 0:  # the library's way to say that TLS failed
        return _tls_trouble(what, words)
    text = f"cannot {what}: {words} (HTTP {status})"
    if status == 404:
        return _MissingError(text)
    if status == 401:
        return _DeniedError(f"{text}; the credentials of the kubeconfig are wrong or have expired")
    if status == 403 and "being terminated" in words:
        return TransientError(text, retry_after=5.0)
    if status == 403 and "status unknown for quota" in words:  # a new quota, not yet counted
        return TransientError(text, retry_after=2.0)
    if status == 403 and "quota" not in words:
        return PermanentError(f"{text}; grant it as k3s/README.md describes")
    if status == 403:
        return PermanentError(f"{text}; raise the namespace's quota")
    if status == 415:
        return PermanentError(f"{text}; Kubernetes 1.20 or later is needed")
    if status in (408, 409, 429) or status >= 500:
        after = str((error.headers or {}).get("Retry-After", ""))
        return TransientError(text, retry_after=float(after) if after.isdigit() else 2.0)
    return PermanentError(text)


def _tls_trouble(what: str, words: str) -> TransientError | PermanentError:
    text = f"cannot {what}: TLS: {words.removeprefix('SSLError ')}"
    if "CERTIFICATE" not in text.upper():
        return TransientError(text, retry_after=5.0)
    return PermanentError(f"{text}; check the certificates in the kubeconfig")


def _words(error: ApiException) -> str:
    try:
        body = json.loads(error.body or "{}")
        message = body.get("message") if isinstance(body, dict) else None
    except ValueError:
        message = None
    return _short(message or error.reason or "no reason given")


def _short(words: object) -> str:
    text = " ".join(str(words).split())
    return text if len(text) <= 400 else text[:397] + "..."


def _version(answer: Manifest) -> tuple[int, int]:
    """(major, minor); vendors append to the minor version, as in ``27+``."""
    numbers = [re.match(r"\d+", str(answer.get(key, ""))) for key in ("major", "minor")]
    major, minor = (int(found.group()) if found else 0 for found in numbers)
    return major, minor


def _store_of(live: Manifest) -> str:
    return str(live["metadata"].get("labels", {}).get(STORE_LABEL, ""))
