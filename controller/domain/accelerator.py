"""What agents compute on besides the processor, and what a pod has to ask for to get it.

Pods mount no device files: the "restricted" level of the pod security standards forbids it. A device plugin
in the store offers its devices as a resource, and the kubelet brings in what a container asks for.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

MAX_GROUP = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Accelerator:
    resource: str
    """What the device plugin calls its devices; an agent asks for one."""
    device: str
    """Value of ``STOREFLEET_DETECTOR_DEVICE``."""
    runtime_class: str = ""
    """A RuntimeClass that the pod needs; empty: none."""
    device_group: int | None = None
    """A group of the nodes that may use the device; None: containerd hands it to the agent's user."""


ACCELERATORS: Mapping[str, Accelerator] = {
    "intel": Accelerator("gpu.intel.com/i915", "gpu"),
    "intel-xe": Accelerator("gpu.intel.com/xe", "gpu"),
    "nvidia": Accelerator("nvidia.com/gpu", "cuda", runtime_class="nvidia"),
}
"""Resources of Intel's device plugin (by the kernel driver, i915 or xe) and of NVIDIA's. k3s itself makes the
class ``nvidia`` where it finds NVIDIA's container runtime."""


def accelerator_refusal(cluster: Mapping[str, Any]) -> str | None:
    """Why a store's registration cannot mean what it says of accelerators; None: it can."""
    name, group = cluster.get("accelerator"), cluster.get("device_group")
    if name is None:
        return None if group is None else "device_group goes with an accelerator: name one"
    if not isinstance(name, str) or name not in ACCELERATORS:
        return f"accelerator {str(name)[:80]!r}: use one of {', '.join(ACCELERATORS)}"
    if cluster.get("kind") == "local":
        return "an accelerator needs a cluster: processes on this machine compute on its processor"
    if group is not None and (type(group) is not int or not 0 < group <= MAX_GROUP):
        return f"device_group {str(group)[:80]!r}: use a number from 1 to {MAX_GROUP}"
    return None


def accelerator_of(cluster: Mapping[str, Any]) -> Accelerator | None:
    """What a store's registration, which was not refused, names."""
    name = cluster.get("accelerator")
    return replace(ACCELERATORS[name], device_group=cluster.get("device_group")) if name else None
