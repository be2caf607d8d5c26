"""The Kubernetes objects of one store, as a pure function of release, store and settings.

One DaemonSet a store runs one agent on every camera node. What the agent needs to know travels in an
immutable ConfigMap that is named by the hash of its content, so that a change of configuration changes
the pod template and rolls the pods like any other release: the new agent stands by before the old one
goes. Nothing here is a secret; secrets are referred to by name.

The ``local`` cluster runs the same pod template as plain processes, so what holds here holds in the demo.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from contract.workload import PEER_PORT, PEERS_SERVICE, Env
from controller.domain.accelerator import Accelerator
from controller.domain.golden import GoldenCheck
from controller.domain.release import Release

Manifest = dict[str, Any]
"""A Kubernetes object as plain JSON data."""

NAME = "storefleet-agent"
ROLLOUT_ANNOTATION = "storefleet.io/rollout-id"
RELEASE_ANNOTATION = "storefleet.io/release"
MODEL_ANNOTATION = "storefleet.io/model-digest"
APPLIED_ANNOTATION = "storefleet.io/last-applied"
"""The DaemonSet as it was applied, as JSON: what drift is measured against. Kept in the cluster, so
that a newer controller, which would build a slightly different object, sees no drift."""
STORE_LABEL = "storefleet.io/store"
CAMERA_NODE_LABEL = "storefleet.io/camera-node"

GOLDEN_STEP = "golden-set"
"""The init container that replays the golden set."""
AGENT_UID = 10001
"""The user of the agent image; the node's data directory must belong to it."""

DATA_CLAIM = "storefleet-data"
"""The claim of ``k3s/store`` that is each node's own directory ``DATA_DIR``."""
RESTRICTED: Mapping[str, str] = {
    f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn", "audit")
}
"""Labels of the agents' namespace: what it admits."""
PRIORITY_CLASS = "storefleet-agent"
"""Of ``k3s/store`` too: agents before whatever has no class, without pushing it out."""

CONFIG_DIR = "/etc/storefleet/config"
SECRET_DIR = "/etc/storefleet/secrets"  # noqa: S105 - a path
DATA_DIR = "/var/lib/storefleet"
RUN_DIR = "/run/storefleet"

STORE_DIR = "/run/storefleet-store"
"""In a ``local`` cluster: a directory that all nodes of the store see."""
AGENT_ACCOUNT = "storefleet-agent"
"""The service account of agents that share cameras: it may use Leases in its namespace, nothing else."""
ACCOUNT_DIR = "/var/run/secrets/kubernetes.io/serviceaccount"

SURGE_SINCE = (1, 22)
"""``maxSurge`` of DaemonSets: on by default (beta) since Kubernetes 1.22."""


@dataclass(frozen=True, slots=True)
class StoreSite:
    """What is the store's own: its name, its configuration (YAML text) and whose signatures it trusts."""

    store: str
    config_yaml: str
    trusted_keys_pem: str
    golden: GoldenCheck | None = None
    """What this deployment's model has to pass on the store's nodes before they are handed over."""


@dataclass(frozen=True, slots=True)
class WorkloadSettings:
    """What is the fleet's. Resource figures: an agent with four 720p cameras at 5 frames a second needs
    about one core and 500 MiB on a small x86 node."""

    mqtt_url: str
    controller_url: str
    namespace: str = "storefleet"
    mqtt_username: str = ""
    """Empty: the store's name, which the broker's access list is keyed by."""
    mqtt_ca_in_secret: bool = False
    """Whether the secret holds ``mqtt-ca.pem``, a private certificate authority of the broker."""
    secret_name: str = "storefleet-agent"  # noqa: S105 - a name
    """Keys ``mqtt-password`` and ``artifact-token``."""
    camera_secret_name: str = "storefleet-cameras"  # noqa: S105 - a name
    """Becomes environment variables, for ``${NAME}`` in camera URLs. May be missing."""
    command: tuple[str, ...] = ("storefleet", "agent")
    node_selector: Mapping[str, str] = field(default_factory=lambda: {CAMERA_NODE_LABEL: "true"})
    cpu_request: str = "500m"
    memory_request: str = "512Mi"
    memory_limit: str = "2Gi"
    disk_request: str = "64Mi"
    disk_limit: str = "512Mi"
    """Of what goes with the pod: its log and ``/tmp``. Outbox and models lie on the claim. There is no limit
    of processor time: it would stop the inference in the middle of a frame."""
    accelerator: Accelerator | None = None
    """What the nodes compute on instead of their processor; None: nothing else."""
    peers: bool = False
    """Whether the store's nodes give models to one another, through the Service of ``k3s/store``. Not on one
    machine, where they would have one port together."""
    camera_leases: Literal["", "kubernetes", "local"] = ""
    """How the store's nodes share its cameras; empty: each watches all of them, as is right for one node."""
    nodes_at_once: int = 1
    """Nodes of the store that change at one time; without a surge they are without an agent meanwhile."""
    grace_s: int = 30
    """Time to drain the outbox and hand the cameras over."""


@dataclass(frozen=True, slots=True)
class Workload:
    """Everything that one store has to run."""

    store: str
    rollout_id: str
    namespace: str
    config_map: Manifest
    daemon_set: Manifest


def build_workload(
    release: Release, site: StoreSite, rollout_id: str, settings: WorkloadSettings
) -> Workload:
    config_map = build_config_map(release, site, settings)
    return Workload(
        store=site.store,
        rollout_id=rollout_id,
        namespace=settings.namespace,
        config_map=config_map,
        daemon_set=build_daemonset(release, site, rollout_id, settings),
    )


def build_config_map(release: Release, site: StoreSite, settings: WorkloadSettings) -> Manifest:
    """Store configuration, signed model manifest and trusted keys; the name holds their hash."""
    data = {
        "store.yaml": site.config_yaml,
        "model.json": release.signed.model_dump_json(),
        "keys.pem": site.trusted_keys_pem,
    }
    if site.golden is not None:
        data["golden.json"] = site.golden.signed.model_dump_json()
    content = hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:16]
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": f"{NAME}-{content}",
            "namespace": settings.namespace,
            "labels": _labels(release, site),
        },
        "immutable": True,
        "data": data,
    }


def build_daemonset(
    release: Release, site: StoreSite, rollout_id: str, settings: WorkloadSettings
) -> Manifest:
    """The DaemonSet for a current server. ``for_server`` adapts it to an older one."""
    annotations = {
        RELEASE_ANNOTATION: release.name,
        ROLLOUT_ANNOTATION: rollout_id,
        MODEL_ANNOTATION: release.manifest.digest,
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {
            "name": NAME,
            "namespace": settings.namespace,
            "labels": _labels(release, site),
            "annotations": annotations,
        },
        "spec": {
            "selector": {"matchLabels": {"app.kubernetes.io/name": NAME, STORE_LABEL: site.store}},
            "updateStrategy": {
                "type": "RollingUpdate",
                "rollingUpdate": {"maxSurge": settings.nodes_at_once, "maxUnavailable": 0},
            },
            "revisionHistoryLimit": 5,
            "template": {
                "metadata": {"labels": _labels(release, site), "annotations": dict(annotations)},
                "spec": _pod_spec(release, site, rollout_id, settings),
            },
        },
    }


def for_server(daemon_set: Manifest, version: tuple[int, int]) -> tuple[Manifest, tuple[str, ...]]:
    """``daemon_set`` as a server of ``version`` (major, minor) understands it, and what is degraded."""
    if version >= SURGE_SINCE:
        return daemon_set, ()
    at_once = daemon_set["spec"]["updateStrategy"]["rollingUpdate"]["maxSurge"]
    strategy = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": at_once}}
    spec = {**daemon_set["spec"], "updateStrategy": strategy}
    server = f"Kubernetes {version[0]}.{version[1]}" if version[0] else "a server of unknown version"
    words = (
        f"{server} cannot start the new agent beside the old one: cameras go "
        "unwatched while a release changes; upgrade to 1.22 or later"
    )
    return {**daemon_set, "spec": spec}, (words,)


def with_last_applied(daemon_set: Manifest) -> Manifest:
    """``daemon_set`` carrying a copy of itself in an annotation."""
    copy = json.dumps(daemon_set, separators=(",", ":"), sort_keys=True)
    metadata = daemon_set["metadata"]
    annotations = {**metadata.get("annotations", {}), APPLIED_ANNOTATION: copy}
    return {**daemon_set, "metadata": {**metadata, "annotations": annotations}}


def last_applied(live: Manifest) -> Manifest | None:
    """What was applied last to this live object; None when the annotation is gone or damaged."""
    text = live.get("metadata", {}).get("annotations", {}).get(APPLIED_ANNOTATION)
    try:
        found = json.loads(text) if isinstance(text, str) else None
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def rollout_of(live: Manifest) -> str:
    """The rollout id that a DaemonSet carries; empty when it is not one of ours."""
    annotations = live.get("metadata", {}).get("annotations") or {}
    return str(annotations.get(ROLLOUT_ANNOTATION, ""))


def config_map_of(live: Manifest) -> str | None:
    """Name of the ConfigMap that the pods of a DaemonSet mount, or None."""
    volumes = live.get("spec", {}).get("template", {}).get("spec", {}).get("volumes") or []
    names = [v["configMap"].get("name") for v in volumes if v.get("name") == "config" and v.get("configMap")]
    return str(names[0]) if names and names[0] else None


def _labels(release: Release, site: StoreSite) -> dict[str, str]:
    return {
        "app.kubernetes.io/name": NAME,
        "app.kubernetes.io/component": "agent",
        "app.kubernetes.io/part-of": "storefleet",
        "app.kubernetes.io/managed-by": "storefleet",
        "app.kubernetes.io/version": release.name,
        STORE_LABEL: site.store,
    }


def _pod_spec(release: Release, site: StoreSite, rollout_id: str, settings: WorkloadSettings) -> Manifest:
    common = {
        "image": release.image,
        "imagePullPolicy": "IfNotPresent",
        "terminationMessagePolicy": "FallbackToLogsOnError",  # so that a crash can be told in its own words
        "env": _env(release, site, rollout_id, settings),
        "envFrom": [{"secretRef": {"name": settings.camera_secret_name, "optional": True}}],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "resources": {
            "requests": {
                "cpu": settings.cpu_request,
                "memory": settings.memory_request,
                "ephemeral-storage": settings.disk_request,
            },
            "limits": {"memory": settings.memory_limit, "ephemeral-storage": settings.disk_limit},
        },
        "volumeMounts": [
            {"name": "config", "mountPath": CONFIG_DIR, "readOnly": True},
            {"name": "secrets", "mountPath": SECRET_DIR, "readOnly": True},
            {"name": "data", "mountPath": DATA_DIR},
            {"name": "run", "mountPath": RUN_DIR},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - inside the pod
        ],
    }
    config_map = build_config_map(release, site, settings)["metadata"]["name"]
    spec: Manifest = {
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": settings.grace_s,
        "priorityClassName": PRIORITY_CLASS,
        "nodeSelector": dict(settings.node_selector),
        "tolerations": [{"key": CAMERA_NODE_LABEL, "operator": "Exists"}],
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": AGENT_UID,
            "runAsGroup": AGENT_UID,
            "fsGroup": AGENT_UID,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "initContainers": [
            {"name": "fetch-model", "command": [*settings.command, "fetch"], **common},
            *_golden_step(site, settings, common),
        ],
        "containers": [
            {"name": "agent", "command": [*settings.command, "run"], **common, **_probes(settings)},
        ],
        "volumes": [
            {"name": "config", "configMap": {"name": config_map, "defaultMode": 0o440}},
            {"name": "secrets", "secret": {"secretName": settings.secret_name, "defaultMode": 0o440}},
            {"name": "data", "persistentVolumeClaim": {"claimName": DATA_CLAIM}},
            {"name": "run", "emptyDir": {"medium": "Memory", "sizeLimit": "16Mi"}},
            {"name": "tmp", "emptyDir": {"sizeLimit": "256Mi"}},
        ],
    }
    if settings.camera_leases == "kubernetes":
        mount = {"name": "account", "mountPath": ACCOUNT_DIR, "readOnly": True}
        agent = spec["containers"][0]
        agent["volumeMounts"] = [*agent["volumeMounts"], mount]
        spec["volumes"].append(_ACCOUNT_VOLUME)
        spec["serviceAccountName"] = AGENT_ACCOUNT
    if settings.accelerator is not None:
        _add_accelerator(spec, settings.accelerator)
    return spec


def _add_accelerator(spec: Manifest, accelerator: Accelerator) -> None:
    """A device plugin brings the device into the containers that compute."""
    replay = [step for step in spec["initContainers"] if step["name"] == GOLDEN_STEP]
    for container in (*spec["containers"], *replay):
        limits = {**container["resources"]["limits"], accelerator.resource: "1"}
        container["resources"] = {**container["resources"], "limits": limits}
    if accelerator.runtime_class:
        spec["runtimeClassName"] = accelerator.runtime_class
    if accelerator.device_group is not None:
        groups = {"supplementalGroups": [accelerator.device_group]}
        spec["securityContext"] = {**spec["securityContext"], **groups}


def _golden_step(site: StoreSite, settings: WorkloadSettings, common: Manifest) -> list[Manifest]:
    """With a surge, the agent of the release before goes on until this passes."""
    if site.golden is None:
        return []
    return [{"name": GOLDEN_STEP, "command": [*settings.command, "golden"], **common}]


_ACCOUNT_VOLUME: Manifest = {
    "name": "account",
    "projected": {
        "defaultMode": 0o440,
        "sources": [
            {"serviceAccountToken": {"path": "token", "expirationSeconds": 3600}},
            {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {
                "downwardAPI": {
                    "items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]
                }
            },
        ],
    },
}
"""What Kubernetes mounts by itself, but into the one container that needs it."""


def _env(release: Release, site: StoreSite, rollout_id: str, settings: WorkloadSettings) -> list[Manifest]:
    """The release's own settings never replace what the centre sets."""
    values: dict[str, str] = {
        Env.STORE: site.store,
        Env.ROLLOUT_ID: rollout_id,
        Env.MQTT_URL: settings.mqtt_url,
        Env.MQTT_USERNAME: settings.mqtt_username or site.store,
        Env.MQTT_PASSWORD_FILE: f"{SECRET_DIR}/mqtt-password",
        Env.CONTROLLER_URL: settings.controller_url,
        Env.ARTIFACT_TOKEN_FILE: f"{SECRET_DIR}/artifact-token",
        Env.CONFIG_FILE: f"{CONFIG_DIR}/store.yaml",
        Env.MODEL_MANIFEST_FILE: f"{CONFIG_DIR}/model.json",
        Env.TRUSTED_KEYS_FILE: f"{CONFIG_DIR}/keys.pem",
        Env.DATA_DIR: DATA_DIR,
        Env.HEALTH_FILE: f"{RUN_DIR}/health.json",
    }
    if settings.peers:
        values |= {Env.PEER_PORT: str(PEER_PORT), Env.PEERS_HOST: PEERS_SERVICE}
    if settings.camera_leases:
        leases = {"kubernetes": "kubernetes", "local": f"{STORE_DIR}/leases"}
        values[Env.CAMERA_LEASES] = leases[settings.camera_leases]
    if settings.accelerator is not None:
        values[Env.DETECTOR_DEVICE] = settings.accelerator.device
    if site.golden is not None:
        values |= {
            Env.GOLDEN_MANIFEST_FILE: f"{CONFIG_DIR}/golden.json",
            Env.GOLDEN_MIN_RECALL: f"{site.golden.min_recall:g}",
            Env.GOLDEN_MAX_COUNT_ERROR: f"{site.golden.max_count_error:g}",
        }
    if settings.mqtt_ca_in_secret:
        values[Env.MQTT_CA_FILE] = f"{SECRET_DIR}/mqtt-ca.pem"
    values = {**{k: v for k, v in release.settings.items() if k != Env.DEVICE}, **values}
    node_name = {"name": str(Env.DEVICE), "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}
    return [node_name, *({"name": str(name), "value": value} for name, value in values.items())]


def _probes(settings: WorkloadSettings) -> Manifest:
    """Start-up may take as long as the first load of a model on a slow node; readiness gates the
    hand-over, so it is asked often; liveness only catches an inference loop that no longer turns. A probe
    is a program of its own, which takes seconds to start where a node has more to do than it can."""
    live = {"exec": {"command": [*settings.command, "health", "--live"]}}
    ready = {"exec": {"command": [*settings.command, "health", "--ready"]}}
    return {
        "startupProbe": {**live, "periodSeconds": 3, "timeoutSeconds": 10, "failureThreshold": 60},
        "readinessProbe": {**ready, "periodSeconds": 5, "timeoutSeconds": 10, "failureThreshold": 2},
        "livenessProbe": {**live, "periodSeconds": 15, "timeoutSeconds": 10, "failureThreshold": 4},
    }
