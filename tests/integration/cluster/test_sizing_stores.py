"""The stand-ins of the sizing benchmark answer the real adapter as API servers do."""

import base64
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.sizing_fleet import write_certificate
from benchmarks.sizing_stores import StoreServers
from controller.adapters.kubernetes_cluster import KubernetesCluster


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[StoreServers]:
    certificate = tmp_path / "server.pem"
    servers = StoreServers(certificate, write_certificate(certificate), latency_s=0.0)
    thread = threading.Thread(target=servers.serve_forever, args=(0.05,))
    thread.start()
    yield servers
    servers.shutdown()
    thread.join(10)
    servers.server_close()


@pytest.fixture
def cluster_of(tmp_path: Path, servers: StoreServers) -> Any:
    def build(store: str) -> KubernetesCluster:
        authority = base64.b64encode((tmp_path / "server.pem").read_bytes()).decode()
        server = f"https://127.0.0.1:{servers.server_port}/{store}"
        file = tmp_path / store
        config = {
            "clusters": [
                {"name": "c", "cluster": {"server": server, "certificate-authority-data": authority}}
            ],
            "users": [{"name": "u", "user": {"token": "t"}}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "x",
        }
        file.write_text(json.dumps(config))
        return KubernetesCluster(kubeconfig=file)

    return build


def test_what_is_applied_runs_at_once_and_in_its_own_store(
    servers: StoreServers, cluster_of: Any, workload: Any, rollout_id: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    berlin, paris = cluster_of("berlin-01"), cluster_of("paris-02")
    assert berlin.observe("berlin-01").rollout_id is None
    assert berlin.apply(workload(1)).generation == 1
    assert berlin.apply(workload(1)).generation == 1, "nothing changed"
    seen = berlin.observe("berlin-01")
    assert (seen.rollout_id, seen.desired, seen.updated, seen.drift) == (rollout_id(1), 1, 1, ())
    assert berlin.apply(workload(2)).generation == 2
    assert berlin.observe("berlin-01").images == ("example.org/agent:2",)
    assert paris.observe("paris-02").rollout_id is None
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["applied"] for line in lines] == ["berlin-01"] * 3
    assert servers.looks >= 4
