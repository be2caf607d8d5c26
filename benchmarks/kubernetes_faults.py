"""What the Kubernetes benchmark breaks in a store."""

import time
from collections.abc import Callable

from benchmarks.kubernetes_stage import AGENT, NAMESPACE, NODE_DATA, KubernetesStage
from k3s.testbed import TestbedError

SERVICE_MANAGER_S = 2.0
"""After which a killed kubelet or containerd is started again, as systemd does with k3s."""
FULL_TIMEOUT_S = 240.0


def kill_agent(stage: KubernetesStage, store: str) -> bool:
    for node in range(len(stage.stores[store].nodes)):
        for pid in stage.agent_pids(store, node):
            stage.on_node(store, "kill", "-KILL", pid, node=node)
    return True


def delete_pod(stage: KubernetesStage, store: str) -> bool:
    cluster = stage.stores[store]
    for pod in cluster.pods(NAMESPACE):
        path = f"/api/v1/namespaces/{NAMESPACE}/pods/{pod['metadata']['name']}"
        cluster.api.request("DELETE", path)
    return True


def remove_daemon_set(stage: KubernetesStage, store: str) -> bool:
    path = f"/apis/apps/v1/namespaces/{NAMESPACE}/daemonsets/{AGENT}"
    stage.stores[store].api.request("DELETE", path)
    return True


def corrupt_model(stage: KubernetesStage, store: str) -> bool:
    """Damage the running model on the disk; then the agent has to start from it."""
    digest = stage.digests[stage.current()[store]["release"]]
    for node in range(len(stage.stores[store].nodes)):
        target = f"of={stage.model_path(digest)}"
        words = ("dd", "if=/dev/urandom", target, "bs=4096", "count=4", "seek=9", "conv=notrunc")
        stage.on_node(store, *words, node=node)
    return kill_agent(stage, store)


def kill_with_agent(program: str) -> Callable[[KubernetesStage, str], bool]:
    """Kill a program of the node, and the agent while it is away, so that the agent's return needs it."""

    def kill(stage: KubernetesStage, store: str) -> bool:
        (node,) = stage.stores[store].nodes
        pids = stage.agent_pids(store)
        node.kill(program)
        for pid in pids:
            stage.on_node(store, "kill", "-KILL", pid)
        time.sleep(SERVICE_MANAGER_S)
        node.start(program)
        return True

    return kill


def fill_disk(stage: KubernetesStage, store: str) -> bool:
    """Fill the disk of outbox and models until the agent says so, then free it."""
    filler = f"{NODE_DATA}/filler"
    try:
        stage.on_node(store, "dd", "if=/dev/zero", f"of={filler}", "bs=1M")
    except TestbedError as error:
        if "No space left" not in str(error):
            raise
    try:
        stage.wait(
            f"{store} says that its disk is full",
            lambda: any(d["outbox_full"] for (name, _), d in stage.devices().items() if name == store),
            FULL_TIMEOUT_S,
        )
    finally:
        stage.on_node(store, "rm", filler)
    return False


FAULTS: dict[str, Callable[[KubernetesStage, str], bool]] = {
    "agent killed": kill_agent,
    "pod deleted": delete_pod,
    "cached model damaged, agent killed": corrupt_model,
    "DaemonSet removed": remove_daemon_set,
    "kubelet and agent killed": kill_with_agent("kubelet"),
    "disk filled and freed": fill_disk,
    "containerd and agent killed": kill_with_agent("containerd"),
}
"""Each breaks something in a store, and tells whether the agent has to start anew. In this order no container
crashes twice in a row, which Kubernetes would punish with a pause of its own."""
