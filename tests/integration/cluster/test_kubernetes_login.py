"""Every way to log in to a store's API that a kubeconfig may name, against real servers."""

import base64
import json
import ssl
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from controller.adapters.kubernetes_cluster import KubernetesCluster
from controller.adapters.kubernetes_login import ExecLogins
from controller.errors import PermanentError, TransientError

STORE = "berlin-01"
EXEC_VERSION = "client.authentication.k8s.io/v1"


@dataclass
class Seen:
    """What the API was asked with."""

    port: int = 0
    tokens: list[str] = field(default_factory=list)
    subjects: list[str] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    good: set[str] | None = None
    """Tokens that are let in; None: all."""


@contextmanager
def api(context: ssl.SSLContext | None = None) -> Iterator[Seen]:
    """A Kubernetes API without a workload, which answers every question with 404, or 401."""
    seen = Seen()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
            seen.tokens.append(token)
            seen.paths.append(self.path)
            if isinstance(self.connection, ssl.SSLSocket):
                certificate: Any = self.connection.getpeercert() or {}
                seen.subjects += [v for ((k, v),) in certificate.get("subject", ()) if k == "commonName"]
            body = b'{"message": "nothing here"}'
            self.send_response(404 if seen.good is None or token in seen.good else 401)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        if context is not None:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        seen.port = server.server_address[1]
        try:
            yield seen
        finally:
            server.shutdown()
            thread.join()


class Authority:
    """A certificate authority."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "store ca")])
        self._certificate = self._sign(self._name, self._key.public_key(), authority=True)

    @property
    def pem(self) -> bytes:
        return self._certificate.public_bytes(serialization.Encoding.PEM)

    def issue(self, name: str, expired: bool = False) -> tuple[bytes, bytes]:
        """Certificate and key, PEM."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = self._sign(subject, key.public_key(), expired=expired)
        return certificate.public_bytes(serialization.Encoding.PEM), key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )

    def _sign(
        self, subject: x509.Name, public: Any, authority: bool = False, expired: bool = False
    ) -> x509.Certificate:
        now = datetime.now(UTC)
        key_id = x509.SubjectKeyIdentifier.from_public_key(self._key.public_key())
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=2))
            .not_valid_after(now + timedelta(days=-1 if expired else 1))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(key_id), critical=False
            )
        )
        if authority:
            builder = builder.add_extension(key_id, critical=False)
            builder = builder.add_extension(
                x509.KeyUsage(False, False, False, False, False, True, True, False, False), critical=True
            )
        else:
            address = x509.IPAddress(ip_address("127.0.0.1"))
            builder = builder.add_extension(x509.SubjectAlternativeName([address]), critical=False)
        return builder.sign(self._key, hashes.SHA256())


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@contextmanager
def tls_api(
    authority: Authority, directory: Path, verify: ssl.VerifyMode = ssl.CERT_REQUIRED
) -> Iterator[Seen]:
    """Lets in whoever has a certificate of ``authority``."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate, key = authority.issue("server")
    files = write(directory / "server.pem", certificate), write(directory / "server.key", key)
    context.load_cert_chain(*files)
    context.load_verify_locations(cadata=authority.pem.decode())
    context.verify_mode = verify
    with api(context) as seen:
        yield seen


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def kubeconfig(path: Path, server: str, user: dict[str, Any], **cluster: Any) -> Path:
    text = {
        "clusters": [{"name": "c", "cluster": {"server": server, **cluster}}],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    path.write_text(yaml.safe_dump(text))
    return path


def b64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def look(config: Path, logins: ExecLogins | None = None) -> None:
    cluster = KubernetesCluster(kubeconfig=config, read_timeout_s=5, logins=logins or ExecLogins())
    assert cluster.observe(STORE).rollout_id is None


def test_client_certificate_in_the_kubeconfig_and_its_renewal(tmp_path: Path, authority: Authority) -> None:
    with tls_api(authority, tmp_path) as seen:
        url, ca = f"https://127.0.0.1:{seen.port}", {"certificate-authority-data": b64(authority.pem)}
        for name in ("first", "renewed"):
            certificate, key = authority.issue(name)
            user = {"client-certificate-data": b64(certificate), "client-key-data": b64(key)}
            look(kubeconfig(tmp_path / "k", url, user, **ca))
    assert seen.subjects == ["first", "renewed"]


def test_client_certificate_in_files_beside_the_kubeconfig_and_its_renewal(
    tmp_path: Path, authority: Authority
) -> None:
    write(tmp_path / "ca.pem", authority.pem)
    user = {"client-certificate": "me.pem", "client-key": "me.key"}
    with tls_api(authority, tmp_path) as seen:
        url = f"https://127.0.0.1:{seen.port}"
        config = kubeconfig(tmp_path / "k", url, user, **{"certificate-authority": "ca.pem"})
        for name in ("first", "renewed"):
            certificate, key = authority.issue(name)
            write(tmp_path / "me.pem", certificate)
            write(tmp_path / "me.key", key)
            look(config)
    assert seen.subjects == ["first", "renewed"]


def test_expired_client_certificate_is_named(tmp_path: Path, authority: Authority) -> None:
    certificate, key = authority.issue("late", expired=True)
    user = {"client-certificate-data": b64(certificate), "client-key-data": b64(key)}
    ca = {"certificate-authority-data": b64(authority.pem)}
    with tls_api(authority, tmp_path) as seen:
        config = kubeconfig(tmp_path / "k", f"https://127.0.0.1:{seen.port}", user, **ca)
        with pytest.raises(PermanentError, match=r"client certificate of the kubeconfig expired at 20"):
            look(config)


def test_server_of_another_authority_is_named(tmp_path: Path, authority: Authority) -> None:
    ca = {"certificate-authority-data": b64(Authority().pem)}
    with tls_api(authority, tmp_path) as seen:
        config = kubeconfig(tmp_path / "k", f"https://127.0.0.1:{seen.port}", {}, **ca)
        with pytest.raises(PermanentError, match="check the certificates in the kubeconfig"):
            look(config)
    assert seen.paths == []


def test_token_file_is_read_again_when_it_changes(tmp_path: Path) -> None:
    with api() as seen:
        config = kubeconfig(tmp_path / "k", f"http://127.0.0.1:{seen.port}", {"tokenFile": "token"})
        for token in ("first", "renewed"):
            (tmp_path / "token").write_text(token)
            look(config)
    assert seen.tokens == ["first", "renewed"]


def test_changed_kubeconfig_counts_from_the_next_call_on(tmp_path: Path) -> None:
    with api() as old, api() as new:
        for seen, token in ((old, "first"), (new, "renewed")):
            look(kubeconfig(tmp_path / "k", f"http://127.0.0.1:{seen.port}", {"token": token}))
    assert (old.tokens, new.tokens) == (["first"], ["renewed"])


def test_proxy_of_the_kubeconfig_is_used(tmp_path: Path) -> None:
    with api() as proxy:
        url = {"proxy-url": f"http://127.0.0.1:{proxy.port}"}
        look(kubeconfig(tmp_path / "k", "http://store.invalid:6443", {"token": "t"}, **url))
    assert proxy.paths[0].startswith("http://store.invalid:6443/apis/apps/v1/namespaces/storefleet/")


def test_proxy_of_the_environment_is_used_but_not_for_exempt_hosts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with api() as proxy, api() as direct:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.port}")
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        look(kubeconfig(tmp_path / "far", "http://store.invalid:6443", {"token": "t"}))
        look(kubeconfig(tmp_path / "near", f"http://127.0.0.1:{direct.port}", {"token": "t"}))
    assert (len(proxy.paths), len(direct.paths)) == (1, 1)


def test_nothing_secret_is_left_in_files(
    tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    certificate, key = authority.issue("me")
    user = {"client-certificate-data": b64(certificate), "client-key-data": b64(key)}
    with tls_api(authority, tmp_path) as seen:
        url = f"https://127.0.0.1:{seen.port}"
        look(kubeconfig(tmp_path / "k", url, user, **{"certificate-authority-data": b64(authority.pem)}))
    assert seen.subjects == ["me"]
    assert list((tmp_path / "tmp").iterdir()) == []


# Exec plug-ins, as GKE, EKS and AKS have them.

MakePlugin = Callable[..., dict[str, Any]]


@pytest.fixture
def plugin(tmp_path: Path) -> MakePlugin:
    """Writes a plug-in that counts its calls in ``calls`` and then does ``code``."""

    def make(code: str, **more: Any) -> dict[str, Any]:
        path = tmp_path / "cloud-auth"
        path.write_text(
            f"#!{sys.executable}\nimport json, os, sys, time\n"
            f"open({str(tmp_path / 'calls')!r}, 'a').write(os.environ['KUBERNETES_EXEC_INFO'] + '\\n')\n"
            "def answer(**status):\n"
            f"    print(json.dumps({{'apiVersion': {EXEC_VERSION!r}, 'kind': 'ExecCredential', "
            f"'status': status}}))\n{code}\n"
        )
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        spec = {"apiVersion": EXEC_VERSION, "command": "./cloud-auth", "interactiveMode": "Never", **more}
        return {"exec": spec}

    return make


def calls(directory: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (directory / "calls").read_text().splitlines()]


def in_future(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def test_plugin_gets_what_the_kubeconfig_says_and_its_token_is_kept_until_it_expires(
    tmp_path: Path, plugin: MakePlugin
) -> None:
    user = plugin(
        f"answer(token=os.environ['REGION'] + sys.argv[1], expirationTimestamp={in_future(600)!r})",
        args=["-1"],
        env=[{"name": "REGION", "value": "europe"}],
        provideClusterInfo=True,
    )
    logins = ExecLogins()
    with api() as seen:
        config = kubeconfig(tmp_path / "k", f"http://127.0.0.1:{seen.port}", user)
        for _ in range(3):
            look(config, logins)
    assert seen.tokens == ["europe-1"] * 3
    (asked,) = calls(tmp_path)
    assert asked["kind"] == "ExecCredential"
    assert asked["spec"]["cluster"]["server"] == f"http://127.0.0.1:{seen.port}"
    assert "europe" not in repr(logins)


def test_token_about_to_expire_is_not_kept(tmp_path: Path, plugin: MakePlugin) -> None:
    user = plugin(f"answer(token='t', expirationTimestamp={in_future(30)!r})")
    logins = ExecLogins()
    with api() as seen:
        config = kubeconfig(tmp_path / "k", f"http://127.0.0.1:{seen.port}", user)
        look(config, logins)
        look(config, logins)
    assert len(calls(tmp_path)) == 2


def test_refused_token_is_fetched_anew(tmp_path: Path, plugin: MakePlugin) -> None:
    (tmp_path / "current").write_text("first")
    user = plugin(f"answer(token=open({str(tmp_path / 'current')!r}).read())")
    logins = ExecLogins()
    with api() as seen:
        seen.good = {"first"}
        config = kubeconfig(tmp_path / "k", f"http://127.0.0.1:{seen.port}", user)
        look(config, logins)
        seen.good = {"second"}
        (tmp_path / "current").write_text("second")
        with pytest.raises(PermanentError, match="401"):
            look(config, logins)
        look(config, logins)
    assert seen.tokens == ["first", "first", "second"]


def test_plugin_may_give_a_certificate(tmp_path: Path, plugin: MakePlugin, authority: Authority) -> None:
    certificate, key = authority.issue("from-plugin")
    user = plugin(f"answer(clientCertificateData={certificate.decode()!r}, clientKeyData={key.decode()!r})")
    with tls_api(authority, tmp_path) as seen:
        url = f"https://127.0.0.1:{seen.port}"
        look(kubeconfig(tmp_path / "k", url, user, **{"certificate-authority-data": b64(authority.pem)}))
    assert seen.subjects == ["from-plugin"]


@pytest.mark.parametrize(
    ("code", "kind", "words"),
    [
        ("sys.exit('log in first: gcloud auth login')", TransientError, "status 1: log in first"),
        ("print('welcome!')", PermanentError, "not the JSON of an ExecCredential"),
        ("print('[]')", PermanentError, "not the JSON of an ExecCredential"),
        ("answer(expirationTimestamp='2030-01-01T00:00:00Z')", PermanentError, "neither a token nor"),
        ("print(json.dumps({'apiVersion': 'v9', 'status': {}}))", PermanentError, "no ExecCredential"),
    ],
    ids=["fails", "talks", "list", "empty", "version"],
)  # fmt: skip
def test_failing_plugin_is_named_and_nobody_goes_on_anonymously(
    tmp_path: Path, plugin: MakePlugin, code: str, kind: type[Exception], words: str
) -> None:
    with api() as seen:
        config = kubeconfig(tmp_path / "k", f"http://127.0.0.1:{seen.port}", plugin(code))
        with pytest.raises(kind, match=words) as caught:
            look(config)
    assert "cloud-auth" in str(caught.value)
    assert seen.paths == []


def test_hanging_plugin_is_ended_with_all_that_it_started(tmp_path: Path, plugin: MakePlugin) -> None:
    user = plugin("import subprocess; subprocess.run(['sleep', '30'])")
    began = time.monotonic()
    with pytest.raises(TransientError, match=r"no answer within 0\.7 s"):
        look(kubeconfig(tmp_path / "k", "http://127.0.0.1:1", user), ExecLogins(timeout_s=0.7))
    assert time.monotonic() - began < 5


def test_missing_plugin_is_named_with_the_hint_of_the_kubeconfig(tmp_path: Path) -> None:
    spec = {"apiVersion": EXEC_VERSION, "command": "no-such-plugin", "installHint": "Install gke-auth"}
    with pytest.raises(PermanentError, match="no-such-plugin: No such file or directory; Install gke-auth"):
        look(kubeconfig(tmp_path / "k", "http://127.0.0.1:1", {"exec": spec}))


def test_service_account_of_the_pod_is_used_and_its_token_read_again(
    tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = "kubernetes.config.incluster_config"
    monkeypatch.setattr(f"{place}.SERVICE_TOKEN_FILENAME", str(tmp_path / "token"))
    monkeypatch.setattr(f"{place}.SERVICE_CERT_FILENAME", str(write(tmp_path / "ca.crt", authority.pem)))
    with tls_api(authority, tmp_path, ssl.CERT_NONE) as seen:
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
        monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(seen.port))
        cluster = KubernetesCluster(in_cluster=True)
        for token in ("first", "renewed"):
            (tmp_path / "token").write_text(token)
            assert cluster.observe(STORE).rollout_id is None
    assert [token.removeprefix("bearer ") for token in seen.tokens] == ["first", "renewed"]


def test_without_a_service_account_the_way_out_is_named() -> None:
    with pytest.raises(PermanentError, match="no service account here"):
        KubernetesCluster(in_cluster=True).observe(STORE)
