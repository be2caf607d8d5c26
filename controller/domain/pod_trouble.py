"""What keeps a DaemonSet's pods from being ready, in words for an operator.

Works on plain Kubernetes objects (Pod and Event as JSON), so it is the same for whatever fetched them.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from controller.domain.workload import AGENT_UID, CAMERA_NODE_LABEL, ROLLOUT_ANNOTATION, Manifest

_PULL = frozenset({"ImagePullBackOff", "ErrImagePull", "InvalidImageName", "ErrImageNeverPull"})
_QUIET = frozenset({"ContainerCreating", "PodInitializing"})
"""Waiting reasons of a healthy start."""
_NOT_READY = ("Readiness probe failed: ", "Readiness probe errored: ")
_POD_NAME = re.compile(r'pods? "[^"]*"')
"""A new one with every attempt."""
MAX_WORDS = 400
"""Of a crashed container: the end of its log may be 2 KB."""

NO_NODE = (
    f"no node is marked as a camera node; mark one with: kubectl label node NAME {CAMERA_NODE_LABEL}=true"
)

_APPLY = "kubectl apply -k k3s/store"
_GPU_GUIDE = "k3s/accelerators.md"
_REMEDIES: tuple[tuple[str, str], ...] = (
    (
        r'persistentvolumeclaim "?([\w.-]+)"? not found',
        f"PersistentVolumeClaim {{}} is missing: {_APPLY}",
    ),
    (
        r'persistentvolumeclaim "?([\w.-]+)"? is being deleted',
        f"PersistentVolumeClaim {{}} is going: then delete its volume (the files stay) and {_APPLY}",
    ),
    (
        r"unbound immediate (PersistentVolumeClaim)s",
        f"the {{}} is not bound: kubectl get pv; delete a Released one (the files stay), then {_APPLY}",
    ),
    (
        r"hostPath type check failed: (\S+) is not a directory",
        f"on that node, as root: install -d -m 0750 -o {AGENT_UID} -g {AGENT_UID} {{}}",
    ),
    (
        r"no PriorityClass with name (\S+) was found",
        f"PriorityClass {{}} is missing: {_APPLY}",
    ),
    (
        r"Insufficient ((?:nvidia\.com|gpu\.intel\.com)/[\w-]+)",
        f"{{}} is taken or missing: the device plugin has to offer each GPU twice ({_GPU_GUIDE})",
    ),
    (
        r'RuntimeClass(?:\.node\.k8s\.io)? "?([\w.-]+)"? not found',
        f"RuntimeClass {{}} is missing: k3s makes it where it finds the runtime ({_GPU_GUIDE})",
    ),
    (
        r"violates (PodSecurity)",
        "the pods are of before the namespace was restricted: deploy the release again",
    ),
)
"""What Kubernetes says, and what an operator does about it."""


@dataclass(frozen=True, slots=True)
class PodSummary:
    """What the pods of one store amount to. ``updated``: nodes on which every pod is of the wanted
    rollout and one is ready."""

    updated: int
    images: tuple[str, ...]
    problems: tuple[str, ...]


def summarize(
    pods: Iterable[Manifest], events: Iterable[Manifest], rollout_id: str, owner: str
) -> PodSummary:
    """``events`` are warnings of the namespace; those that are not about these pods or the DaemonSet
    named ``owner`` are ignored."""
    alive = [pod for pod in pods if not pod["metadata"].get("deletionTimestamp")]
    nodes: dict[str, list[Manifest]] = {}
    for pod in alive:
        nodes.setdefault(_node(pod), []).append(pod)
    updated = sum(
        all(_rollout(pod) == rollout_id for pod in on_node) and any(is_ready(pod) for pod in on_node)
        for on_node in nodes.values()
    )
    images = sorted({c["image"] for pod in alive for c in pod["spec"].get("containers", ())})
    events = tuple(events)
    unready = _readiness_words(events)
    problems = [problem for pod in alive for problem in _troubles(pod, unready)]
    created = [str(p["metadata"].get("creationTimestamp") or "") for p in alive if _rollout(p) == rollout_id]
    problems += _from_events(events, alive, owner, since=max(created, default=""))
    return PodSummary(updated, tuple(images), tuple(dict.fromkeys(problems)))


def is_ready(pod: Manifest) -> bool:
    return any(c["type"] == "Ready" and c["status"] == "True" for c in _conditions(pod))


def _troubles(pod: Manifest, unready: Mapping[str, str]) -> Iterator[str]:
    """``unready``: what the readiness probe of a pod said, by the pod's uid."""
    if is_ready(pod):
        return
    where = f"node {_node(pod)}"
    for condition in _conditions(pod):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            message = str(condition.get("message", condition.get("reason", "")))
            yield f"{where}: cannot be scheduled: {message}{_remedy(message)}"
    status = pod.get("status", {})
    if status.get("phase") == "Failed":
        yield f"{where}: pod failed: {status.get('message') or status.get('reason') or 'no reason given'}"
    statuses = [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
    said = False
    for container in statuses:
        for words in _container_trouble(container):
            said = True
            yield f"{where}: {words}"
    running = [c for c in status.get("containerStatuses") or () if "running" in (c.get("state") or {})]
    if running and not said:
        told = unready.get(str(pod["metadata"].get("uid")))
        yield f"{where}: the agent runs but is not ready: {told or 'see its log and storefleet fleet'}"


def _container_trouble(container: dict[str, Any]) -> Iterator[str]:
    state = container.get("state") or {}
    waiting = state.get("waiting")
    if not waiting or waiting.get("reason") in _QUIET:
        crash = state.get("terminated") or (container.get("lastState") or {}).get("terminated") or {}
        if crash.get("exitCode") and not container.get("ready"):
            yield f"container {container['name']} crashed {_crash(container, crash)}"
        return
    reason, message = waiting.get("reason", "waiting"), waiting.get("message", "")
    if reason in _PULL:
        yield f"image {container.get('image')} cannot be pulled ({reason}): {message or 'check its name'}"
    elif reason == "CrashLoopBackOff":
        last = (container.get("lastState") or {}).get("terminated") or {}
        yield f"container {container['name']} keeps crashing {_crash(container, last)}"
    else:
        yield f"container {container['name']}: {reason}: {message}"


def _crash(container: dict[str, Any], terminated: dict[str, Any]) -> str:
    code = terminated.get("exitCode", "unknown")
    words = _last_words(str(terminated.get("message") or terminated.get("reason") or "no reason given"))
    why = words if len(words) <= MAX_WORDS else "..." + words[-MAX_WORDS:]
    return f"(restart {container.get('restartCount', 0)}, exit code {code}): {why}"


def _last_words(log: str) -> str:
    """Of an agent's log, which is JSON, what its last line says; of any other, all of it."""
    try:
        last = json.loads(log.strip().rpartition("\n")[2])
    except ValueError:
        last = None
    if not isinstance(last, dict) or not isinstance(last.get("message"), str):
        return " ".join(log.split())
    return f"{last['message']}: {last['detail']}" if last.get("detail") else last["message"]


def _readiness_words(events: Iterable[Manifest]) -> dict[str, str]:
    """By pod uid, what its readiness probe said last."""
    failed = [e for e in events if str(e.get("message", "")).startswith(_NOT_READY)]
    failed.sort(key=lambda event: str(event.get("lastTimestamp") or ""))
    return {
        str(e.get("involvedObject", {}).get("uid")): str(e["message"]).partition(": ")[2].strip()
        or "its probe gave no answer in time; is the node overloaded?"
        for e in failed
    }


def _from_events(
    events: Iterable[Manifest], pods: list[Manifest], owner: str, *, since: str
) -> Iterator[str]:
    """Mounts that fail and pods that may not be created show up nowhere but in events. ``since``: when the
    newest pod of the wanted rollout was created (RFC 3339, UTC, so that text compares like time); what was
    refused before that is over."""
    unready = {pod["metadata"].get("uid"): _node(pod) for pod in pods if not is_ready(pod)}
    told = set[object]()
    for event in sorted(events, key=_is_vague):
        about = event.get("involvedObject", {})
        message = str(event.get("message", "")).strip()
        if (
            about.get("kind") == "Pod"
            and about.get("uid") in unready
            and event.get("reason") == "FailedMount"
        ):
            if not (_is_vague(event) and about["uid"] in told):
                told.add(about["uid"])
                yield f"node {unready[about['uid']]}: {message}{_remedy(message)}"
        elif about.get("kind") == "DaemonSet" and about.get("name") == owner and _refused_since(event, since):
            yield f"no pod could be created: {_POD_NAME.sub('pods', message)}{_remedy(message)}"


def _is_vague(event: Manifest) -> bool:
    """Whether it only says that some volume is missing, which another event names."""
    return "timed out waiting for the condition" in str(event.get("message", ""))


def _refused_since(event: Manifest, since: str) -> bool:
    """Also an event without a reason or a time counts while there is no pod."""
    return not since or (event.get("reason") == "FailedCreate" and str(event.get("lastTimestamp")) > since)


def _remedy(message: str) -> str:
    for pattern, words in _REMEDIES:
        if found := re.search(pattern, message, re.IGNORECASE):
            return f" - {words.format(found[1])}"
    return ""


def _conditions(pod: Manifest) -> list[dict[str, Any]]:
    return list(pod.get("status", {}).get("conditions") or ())


def _rollout(pod: Manifest) -> str:
    return str((pod["metadata"].get("annotations") or {}).get(ROLLOUT_ANNOTATION, ""))


def _node(pod: Manifest) -> str:
    """The node, also of a pod that still waits to be scheduled: a DaemonSet pins its pods to one."""
    name = pod["spec"].get("nodeName")
    if name:
        return str(name)
    affinity = pod["spec"].get("affinity", {}).get("nodeAffinity", {})
    terms = affinity.get("requiredDuringSchedulingIgnoredDuringExecution", {}).get("nodeSelectorTerms", ())
    for term in terms:
        for match in term.get("matchFields", ()):
            if match.get("key") == "metadata.name" and match.get("values"):
                return str(match["values"][0])
    return "unknown"
