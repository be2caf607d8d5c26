"""Kubeconfigs for others than the administrator: what rights, and what expired rights, look like."""

from collections.abc import Sequence
from pathlib import Path

from k3s.testbed.api import Api
from k3s.testbed.certificates import Authority
from k3s.testbed.kubeconfig import Access, read_kubeconfig, write_kubeconfig
from k3s.testbed.layout import StoreFiles

TOKEN_HOURS = 24


def certificate_kubeconfig(
    store: str, files: StoreFiles, user: str, groups: Sequence[str] = (), *, expired: bool = False
) -> Path:
    """One that logs in with a client certificate; with ``expired``, with one that was valid once."""
    name = f"{user}-expired" if expired else user
    certificate, key = Authority(files.pki).issue(
        f"client-{name}", user, organisations=groups, expired=expired
    )
    admin = read_kubeconfig(files.kubeconfig)
    access = Access(admin.server, admin.authority, certificate=certificate.read_bytes(), key=key.read_bytes())
    return write_kubeconfig(files.kubeconfig_of(name), f"{store}-{name}", access)


def service_account_kubeconfig(store: str, files: StoreFiles, namespace: str, account: str) -> Path:
    """One with a token for a service account that exists, and so with its rights only.

    Raises:
        ApiError: there is no such account, or the store is out of reach.
    """
    request = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": {"expirationSeconds": TOKEN_HOURS * 3600},
    }
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token"
    admin = read_kubeconfig(files.kubeconfig)
    answer = Api(admin).request("POST", path, request)
    access = Access(admin.server, admin.authority, token=answer["status"]["token"])
    name = f"{namespace}-{account}"
    return write_kubeconfig(files.kubeconfig_of(name), f"{store}-{name}", access)
