"""The one real cluster that a simulated fleet lives in: started, filled with stores, taken down."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import yaml

from k3s.testbed import Options, Store
from k3s.testbed.api import ApiError
from k3s.testbed.kubeconfig import Access, read_kubeconfig
from k3s.testbed.session import Session
from storefleet.fleet_sim import objects
from storefleet.fleet_sim.shops import Shop

CLUSTER = "all"
CONNECTIONS = 8
EXISTS = 409


def testbed_options(name: str, directory: Path) -> Options:
    """One control plane without kubelets. What the controller asks it for goes to ``audit_log``."""
    policy = directory / "audit-policy.yaml"
    policy.write_text(yaml.safe_dump(objects.audit_policy()))
    arguments = {
        **objects.ARGUMENTS,
        "apiserver": objects.apiserver_arguments(policy, audit_log(directory)),
    }
    return Options(
        name=name, stores=(CLUSTER,), nodes=(0,), arguments=arguments, directory=directory / "testbed"
    )


def audit_log(directory: Path) -> Path:
    return directory / "audit.log"


def fill(cluster: Store, shops: Sequence[Shop]) -> Path:
    """Namespaces, nodes, volumes and rights of the whole fleet. The controller's kubeconfig."""
    access, now = read_kubeconfig(cluster.kubeconfig), datetime.now(UTC)
    _create(access, list(objects.centre_objects()))
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        parts = [shops[start::CONNECTIONS] for start in range(CONNECTIONS)]
        list(
            pool.map(
                lambda part: _create(access, [o for shop in part for o in objects.store_objects(shop, now)]),
                parts,
            )
        )
    return cluster.service_account_kubeconfig(objects.CENTRE, objects.ACCOUNT)


def _create(access: Access, several: Sequence[objects.Created]) -> None:
    session = Session(access)
    try:
        for path, body in several:
            try:
                session.request("POST", path, body)
            except ApiError as error:
                if error.status != EXISTS:
                    raise
    finally:
        session.close()
