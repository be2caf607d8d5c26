"""What a pod of the template finds when it runs as a process here: its files and its environment.

Paths inside the pod become directories of this machine: an environment variable whose value lies
under a mount path is rewritten to where that volume is.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from controller.adapters.local.layout import NodeDir, make_private, write_private
from controller.domain.workload import DATA_CLAIM, DATA_DIR
from controller.errors import PermanentError

INHERITED = (
    "PATH",
    "HOME",
    "LANG",
    "LC_ALL",
    "LD_LIBRARY_PATH",
    "PYTHONPATH",
    "OMP_NUM_THREADS",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "TZ",
)
"""All that a pod's process takes over from the supervisor's environment; an image would bring its own."""

VOLUMES = {DATA_CLAIM: DATA_DIR}
"""The node's directory that a claim stands for; ``k3s/store/data.yaml`` says so in a cluster."""

TMP = "/tmp"  # noqa: S108 - inside the pod

Mounts = dict[str, Path]
"""Mount path in the pod → directory here."""


def write_volumes(
    template: Mapping[str, Any], config_map: Mapping[str, Any], pod: Path, node: NodeDir, secrets: Path | None
) -> dict[str, Path]:
    """Make the pod's volumes; returns volume name → directory. Raises ``PermanentError`` for a missing
    secret or a kind of volume that there is not here, and ``OSError``."""
    directories = {}
    for volume in template["spec"].get("volumes", ()):
        name = volume["name"]
        directory = pod / "volumes" / name
        if "configMap" in volume:
            wanted, have = volume["configMap"]["name"], config_map["metadata"]["name"]
            if wanted != have:
                raise PermanentError(f"volume {name}: ConfigMap {wanted} does not exist, only {have}")
            for key, text in config_map["data"].items():
                write_private(directory / key, text.encode())
        elif "secret" in volume:
            secret = volume["secret"]
            keys = _keys_of(template["spec"], name)
            found = read_secret(secrets, secret["secretName"], bool(secret.get("optional")), keys)
            for key, data in found.items():
                write_private(directory / key, data)
        elif "persistentVolumeClaim" in volume:
            claim = volume["persistentVolumeClaim"]["claimName"]
            if claim not in VOLUMES:
                raise PermanentError(f"volume {name}: PersistentVolumeClaim {claim} does not exist")
            directory = node.host(VOLUMES[claim])
        elif "hostPath" in volume:  # pods of an earlier version, whose outbox the next one goes on with
            directory = node.host(volume["hostPath"]["path"])
        elif "emptyDir" not in volume:
            kind = next((key for key in volume if key != "name"), "nothing")
            raise PermanentError(f"volume {name}: local stores have no {kind} volumes")
        directories[name] = make_private(directory)
    return directories


def _keys_of(spec: Mapping[str, Any], volume: str) -> list[str]:
    """The keys of a secret that environment variables name as files below where it is mounted."""
    keys = set()
    for container in (*spec.get("initContainers", ()), *spec.get("containers", ())):
        for mount in container.get("volumeMounts", ()):
            path = mount["mountPath"].rstrip("/") + "/"
            if mount["name"] == volume:
                values = (str(entry.get("value", "")) for entry in container.get("env", ()))
                keys |= {value.removeprefix(path) for value in values if value.startswith(path)}
    return sorted(keys)


def read_secret(
    secrets: Path | None, name: str, optional: bool, keys: Sequence[str] = ()
) -> dict[str, bytes]:
    """Keys and values of a secret: the files of the directory ``secrets/name``. Raises
    ``PermanentError`` when it is missing, or one of ``keys`` in it, unless it is ``optional``."""
    directory = secrets / name if secrets else None
    if directory is None or not directory.is_dir():
        if optional:
            return {}
        where = directory or f"{name}/ (no directory of secrets is set for this store)"
        wanted = f"the files {' and '.join(keys)}" if keys else "one file a key"
        raise PermanentError(f"secret {name} is missing: create {where} with {wanted}")
    found = {file.name: file.read_bytes() for file in sorted(directory.iterdir()) if file.is_file()}
    missing = [key for key in keys if key not in found]
    if missing and not optional:
        raise PermanentError(
            f"secret {name} lacks {' and '.join(missing)}: write one file a key into {directory}"
        )
    return found


def mounts_of(container: Mapping[str, Any], volumes: Mapping[str, Path]) -> Mounts:
    return {m["mountPath"].rstrip("/"): volumes[m["name"]] for m in container.get("volumeMounts", ())}


def localize(value: str, mounts: Mounts) -> str:
    """``value`` with a leading mount path replaced; anything else as it is."""
    for path in sorted(mounts, key=len, reverse=True):
        if value == path or value.startswith(path + "/"):
            return str(mounts[path]) + value[len(path) :]
    return value


def environment(
    container: Mapping[str, Any], mounts: Mounts, node: str, secrets: Path | None
) -> dict[str, str]:
    """The process's whole environment. Raises ``PermanentError`` for what cannot be resolved here."""
    env = {name: os.environ[name] for name in INHERITED if name in os.environ}
    if TMP in mounts:
        env["TMPDIR"] = str(mounts[TMP])
    for source in container.get("envFrom", ()):
        reference = source.get("secretRef")
        if reference is None:
            raise PermanentError("envFrom: local stores know only secretRef")
        found = read_secret(secrets, reference["name"], bool(reference.get("optional")))
        env.update({key: data.decode().rstrip("\n") for key, data in found.items()})
    for entry in container.get("env", ()):
        env[entry["name"]] = _value(entry, mounts, node)
    return env


def _value(entry: Mapping[str, Any], mounts: Mounts, node: str) -> str:
    if "valueFrom" not in entry:
        return localize(str(entry.get("value", "")), mounts)
    field = entry["valueFrom"].get("fieldRef", {}).get("fieldPath")
    if field != "spec.nodeName":
        raise PermanentError(f"env {entry['name']}: local stores know only fieldRef spec.nodeName")
    return node
