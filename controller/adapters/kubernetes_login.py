"""Who we are at a store's Kubernetes API: the part of a kubeconfig that a connection needs.

The file is looked at for every connection, so that a renewed certificate or token counts from the next call
on. Keys and certificates that are written in the kubeconfig lie in files only as long as the connection.

Exec plug-ins (GKE, EKS, AKS …) are run here and not by the client library, which waits for them without
limit, runs them again for every connection, and goes on anonymously when they fail. Protocol:
https://kubernetes.io/docs/reference/access-authn-authz/authentication/#client-go-credential-plugins
"""

import base64
import binascii
import contextlib
import json
import os
import signal
import subprocess
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from cryptography import x509
from kubernetes.config import ConfigException
from kubernetes.config.kube_config import KUBE_CONFIG_DEFAULT_LOCATION, KubeConfigMerger

from controller.errors import PermanentError, TransientError

EXEC_TIMEOUT_S = 20.0
EXEC_SKEW_S = 60.0
"""A credential is fetched anew so long before it expires."""
EXEC_UNDATED_S = 300.0
"""How long a credential is used that does not say when it expires."""
MAX_EXEC_BYTES = 1024 * 1024

_FILES = {
    "certificate-authority-data": "certificate-authority",
    "client-certificate-data": "client-certificate",
    "client-key-data": "client-key",
}


@dataclass(frozen=True, slots=True)
class _Credential:
    status: dict[str, Any]
    good_until: float
    """Monotonic time."""


class ExecLogins:
    """Credentials that plug-ins gave, until they expire. One for all stores of a program."""

    def __init__(self, timeout_s: float = EXEC_TIMEOUT_S) -> None:
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._known: dict[tuple[str, str], _Credential] = {}
        """By server and by what the kubeconfig says of the plug-in."""

    def get(self, spec: dict[str, Any], cluster: dict[str, Any], directory: str) -> dict[str, Any]:
        """The plug-in's ``status``. Raises ``PermanentError``, ``TransientError``."""
        server = str(cluster.get("server", "")).rstrip("/")
        key = (server, json.dumps([spec, directory], sort_keys=True, default=str))
        now = time.monotonic()
        with self._lock:
            found = self._known.get(key)
        if found is not None and found.good_until > now:
            return found.status
        status = run_plugin(spec, cluster, directory, self._timeout_s)
        with self._lock:
            self._known = {k: c for k, c in self._known.items() if c.good_until > now}
            self._known[key] = _Credential(status, now + _good_for(status))
        return status

    def forget(self, server: str) -> None:
        """This server refused one of them: ask the plug-in again."""
        with self._lock:
            self._known = {key: found for key, found in self._known.items() if key[0] != server}

    def __repr__(self) -> str:
        return f"ExecLogins({len(self._known)} credentials)"


def login(
    kubeconfig: Path | None, context: str | None, logins: ExecLogins, directory: Path
) -> dict[str, Any]:
    """A kubeconfig with one context, whose files lie in ``directory`` or where the original named them.

    Raises ``ConfigException`` and what reading YAML may raise for a file that cannot be used,
    ``PermanentError`` and ``TransientError`` for a plug-in that fails.
    """
    merged = _read(str(kubeconfig) if kubeconfig else KUBE_CONFIG_DEFAULT_LOCATION)
    name = context or merged["current-context"]
    chosen = merged["contexts"].get_with_name(name)["context"]
    cluster_node = merged["clusters"].get_with_name(chosen["cluster"])["cluster"]
    cluster = _with_files(cluster_node, directory, "cluster")
    user: dict[str, Any] = {}
    if "user" in chosen:
        user_node = merged["users"].get_with_name(chosen["user"])["user"]
        user = _with_files(user_node, directory, "user")
        spec = user.pop("exec", None)
        if spec is not None:
            status = logins.get(dict(spec), cluster, str(Path(user_node.path or ".").absolute().parent))
            user |= _user_of(status, directory)
        _refuse_expired(user.get("client-certificate"))
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "store", "cluster": cluster}],
        "users": [{"name": "user", "user": user}],
        "contexts": [{"name": "store", "context": {"cluster": "store", "user": "user"}}],
        "current-context": "store",
    }


def _read(where: str) -> Any:
    """The parsed file, or files with ``:`` between them. Reading YAML would be a third of a look at a store,
    so what was parsed is kept until a file is another one. Raises ``ConfigException``, ``OSError``."""
    files = tuple(Path(part).expanduser() for part in where.split(os.pathsep) if part)
    states = tuple(
        (s.st_ino, s.st_mtime_ns, s.st_size) for file in files if file.exists() and (s := file.stat())
    )
    return _parse(where, states)


@lru_cache(maxsize=4096)
def _parse(where: str, states: tuple[tuple[int, int, int], ...]) -> Any:
    """``states`` tell a file from what it was before."""
    merged = KubeConfigMerger(where).config  # type: ignore[no-untyped-call]
    if merged is None:
        raise ConfigException(f"no such file: {where}")
    return merged


def run_plugin(
    spec: dict[str, Any], cluster: dict[str, Any], directory: str, timeout_s: float = EXEC_TIMEOUT_S
) -> dict[str, Any]:
    """Run an exec plug-in in ``directory``; the ``status`` of its answer."""
    command, version = spec.get("command"), spec.get("apiVersion")
    if not isinstance(command, str) or not isinstance(version, str):
        raise PermanentError("kubeconfig: exec needs command and apiVersion")
    info: dict[str, Any] = {"interactive": False}
    if spec.get("provideClusterInfo"):
        info["cluster"] = _cluster_info(cluster)
    asked = {"apiVersion": version, "kind": "ExecCredential", "spec": info}
    env = dict(os.environ)
    env |= {str(item["name"]): str(item["value"]) for item in spec.get("env") or []}
    env["KUBERNETES_EXEC_INFO"] = json.dumps(asked)
    # As kubectl: a command with a slash is a path from the kubeconfig's directory, any other is on PATH.
    program = str(Path(directory, command)) if "/" in command else command
    arguments = [program, *(str(word) for word in spec.get("args") or [])]
    output = _run(arguments, env, directory, str(spec.get("installHint") or ""), timeout_s)
    try:
        answer = json.loads(output)
        status = answer["status"]
        if answer.get("kind") != "ExecCredential" or answer.get("apiVersion") != version:
            raise ValueError(f"it is no ExecCredential of {version}")
        if not (status.get("token") or (status.get("clientCertificateData") and status.get("clientKeyData"))):
            raise ValueError("it holds neither a token nor a certificate with its key")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        words = str(error) if type(error) is ValueError else "it is not the JSON of an ExecCredential"
        raise PermanentError(f"the answer of the exec plug-in {command} cannot be used: {words}") from error
    return dict(status)


def _run(arguments: list[str], env: dict[str, str], directory: str, hint: str, timeout_s: float) -> str:
    name = arguments[0]
    try:
        process = subprocess.Popen(
            arguments,
            cwd=directory,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as error:
        advice = " ".join(hint.split())[:300] or "install it where the controller runs"
        raise PermanentError(f"exec plug-in {name}: {error.strerror or error}; {advice}") from error
    try:
        output, complaint = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired as error:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # it, and whatever it started
        process.wait()
        raise TransientError(
            f"exec plug-in {name} gave no answer within {timeout_s:g} s", retry_after=15.0
        ) from error
    finally:
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()
    if process.returncode != 0:
        words = " ".join(complaint.decode(errors="replace").split())[-400:] or "without a word"
        raise TransientError(
            f"exec plug-in {name} ended with status {process.returncode}: {words}", retry_after=15.0
        )
    return output[:MAX_EXEC_BYTES].decode(errors="replace")


def _with_files(node: Any, directory: Path, prefix: str) -> dict[str, Any]:
    """The section with absolute paths, and its inline data written into files of ``directory``."""
    section = dict(node.value)
    base = Path(node.path or ".").absolute().parent
    for key in (*_FILES.values(), "tokenFile"):
        if section.get(key):
            section[key] = str(base / Path(str(section[key])).expanduser())
    for data_key, key in _FILES.items():
        if section.get(data_key):
            try:
                content = base64.b64decode(str(section[data_key]), validate=False)
            except binascii.Error as error:
                raise ConfigException(f"{data_key} is not base64") from error
            section[key] = _write(directory / f"{prefix}-{key}", content)
        section.pop(data_key, None)
    return section


def _user_of(status: dict[str, Any], directory: Path) -> dict[str, Any]:
    user: dict[str, Any] = {}
    if status.get("token"):
        user["token"] = str(status["token"])
    if status.get("clientCertificateData") and status.get("clientKeyData"):
        certificate, key = str(status["clientCertificateData"]), str(status["clientKeyData"])
        user["client-certificate"] = _write(directory / "exec-certificate", certificate.encode())
        user["client-key"] = _write(directory / "exec-key", key.encode())
    return user


def _refuse_expired(file: str | None) -> None:
    """A server only says "Unauthorized" to an expired certificate, or ends the connection."""
    if file is None:
        return
    certificate = x509.load_pem_x509_certificate(Path(file).read_bytes())
    if certificate.not_valid_after_utc < datetime.now(UTC):
        raise PermanentError(
            f"the client certificate of the kubeconfig expired at "
            f"{certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC; put a renewed one into the file"
        )


def _write(path: Path, content: bytes) -> str:
    path.touch(mode=0o600)
    path.write_bytes(content)
    return str(path)


def _cluster_info(cluster: dict[str, Any]) -> dict[str, Any]:
    info: dict[str, Any] = {"server": cluster.get("server")}
    authority = cluster.get("certificate-authority")
    if authority:
        info["certificate-authority-data"] = base64.b64encode(Path(authority).read_bytes()).decode()
    for key in ("tls-server-name", "insecure-skip-tls-verify", "proxy-url"):
        if key in cluster:
            info[key] = cluster[key]
    for extension in cluster.get("extensions") or []:
        if extension.get("name") == "client.authentication.k8s.io/exec":
            info["config"] = extension.get("extension")
    return info


def _good_for(status: dict[str, Any]) -> float:
    """Seconds that a credential may be used."""
    text = status.get("expirationTimestamp")
    if not text:
        return EXEC_UNDATED_S
    try:
        expires = datetime.fromisoformat(str(text))
    except ValueError:
        return 0.0
    if expires.tzinfo is None:
        expires = expires.replace(tzinfo=UTC)
    return (expires - datetime.now(UTC)).total_seconds() - EXEC_SKEW_S
