"""Reads and writes kubeconfig files. They hold credentials: those we write are readable by us only."""

import base64
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from k3s.testbed.errors import TestbedError


@dataclass(frozen=True, slots=True, repr=False)
class Access:
    """How to reach an apiserver, and as whom: by token, or by client certificate and key (PEM)."""

    server: str
    authority: bytes
    token: str = ""
    certificate: bytes = b""
    key: bytes = b""

    def __repr__(self) -> str:
        return f"Access({self.server!r})"  # the rest is secret


def write_kubeconfig(path: Path, name: str, access: Access) -> Path:
    """Make ``path`` (0600) a kubeconfig with one cluster, user and context, all called ``name``."""
    user: dict[str, str] = {"token": access.token} if access.token else {}
    if access.certificate:
        user["client-certificate-data"] = _encode(access.certificate)
        user["client-key-data"] = _encode(access.key)
    cluster = {"server": access.server, "certificate-authority-data": _encode(access.authority)}
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": cluster}],
        "users": [{"name": name, "user": user}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "current-context": name,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_name(path.name + ".half")
    half.unlink(missing_ok=True)
    with os.fdopen(os.open(half, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        yaml.safe_dump(content, file, sort_keys=False)
    half.replace(path)
    return path


def read_kubeconfig(path: Path) -> Access:
    """What the current context of a kubeconfig says.

    Raises:
        TestbedError: the file is missing or damaged, or logs in by a way that needs a program.
    """
    try:
        content = yaml.safe_load(path.read_text())
        context = _named(content, "contexts", content["current-context"])["context"]
        cluster = _named(content, "clusters", context["cluster"])["cluster"]
        user = _named(content, "users", context["user"])["user"]
        if "exec" in user or "auth-provider" in user:
            raise TestbedError(f"{path}: the testbed logs in by token or certificate, not by a plug-in")
        return Access(
            server=cluster["server"],
            authority=_material(cluster, "certificate-authority", path),
            token=user.get("token") or _material(user, "tokenFile", path).decode().strip(),
            certificate=_material(user, "client-certificate", path),
            key=_material(user, "client-key", path),
        )
    except OSError as error:
        raise TestbedError(f"cannot read kubeconfig {error.filename}: {error.strerror}") from error
    except (yaml.YAMLError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise TestbedError(
            f"{path} is no kubeconfig with a current context ({type(error).__name__})"
        ) from error


def _named(content: Any, section: str, name: str) -> Any:
    for entry in content[section]:
        if entry["name"] == name:
            return entry
    raise KeyError(name)


def _material(section: Any, key: str, path: Path) -> bytes:
    """Of ``key``-data (base64), or of the file that ``key`` names relative to the kubeconfig."""
    if section.get(f"{key}-data"):
        return base64.b64decode(section[f"{key}-data"])
    return (path.parent / section[key]).read_bytes() if section.get(key) else b""


def _encode(content: bytes) -> str:
    return base64.b64encode(content).decode()
