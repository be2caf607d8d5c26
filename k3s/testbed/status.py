"""What a testbed's stores look like right now, as plain data for people and for scripts."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from k3s.testbed.errors import TestbedError
from k3s.testbed.store import Store

AT_ONCE = 8


def read_status(stores: Sequence[Store], *, memory: bool = False) -> list[dict[str, Any]]:
    """Of every store at the same time, so that one that is cut off costs the others nothing."""
    if not stores:
        return []
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(lambda store: store_status(store, memory=memory), stores))


def store_status(store: Store, *, memory: bool = False) -> dict[str, Any]:
    """``ready`` is the apiserver's answer as the centre sees it; ``trouble`` is what is known to be wrong."""
    status: dict[str, Any] = {
        "name": store.name,
        "kubeconfig": str(store.kubeconfig),
        "link": "cut" if store.is_cut else "up",
        "programs": store.programs(),
        "ready": False,
        "nodes": {},
        "pods": [],
        "trouble": "",
    }
    if store.own is not None:
        status["ip"], status["controller_ip"] = str(store.ip), str(store.controller_ip)
    if memory:
        status["memory_mb"] = round(store.memory_bytes() / 1e6)
    if store.is_cut:
        status["trouble"] = f"cut off: storefleet testbed heal {store.name}"
        return status
    ended = [key for key, pid in status["programs"].items() if pid is None]
    if ended:
        status["trouble"] = f"not running: {', '.join(ended)}"
    try:
        store.api.text("/readyz")
        status["ready"] = True
        status["version"] = store.api.get("/version")["gitVersion"]
        status["nodes"] = store.ready_nodes()
        status["pods"] = [describe_pod(pod) for pod in store.pods()]
    except TestbedError as error:
        status["trouble"] = status["trouble"] or str(error)
    return status


def describe_pod(pod: dict[str, Any]) -> dict[str, Any]:
    """Name, place and state; ``reason`` is what keeps a container from running, in Kubernetes' words."""
    containers = pod["status"].get("containerStatuses", [])
    waiting = [entry["state"]["waiting"] for entry in containers if "waiting" in entry.get("state", {})]
    return {
        "namespace": pod["metadata"]["namespace"],
        "name": pod["metadata"]["name"],
        "node": pod["spec"].get("nodeName", ""),
        "phase": pod["status"].get("phase", ""),
        "ready": bool(containers) and all(entry["ready"] for entry in containers),
        "restarts": sum(entry["restartCount"] for entry in containers),
        "reason": ", ".join(entry.get("reason", "") for entry in waiting),
    }
