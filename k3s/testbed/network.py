"""The stores' networks: namespaces, a switch in each, links between them. ``layout`` draws the picture.

Everything may be called again: what is there already stays.
"""

import json
from ipaddress import IPv4Network
from typing import Any

from k3s.testbed.commands import run
from k3s.testbed.errors import TestbedError
from k3s.testbed.layout import BLOCKS, NodePlan, StorePlan, link_prefix, netns_prefix, owner_of

SWITCH = "lan"
WAN_PORT = "wan"
NODE_PORT = "eth0"
MTU = 1400


def free_block(taken_by_us: IPv4Network | None = None) -> IPv4Network:
    """The first address block that no link of this machine uses."""
    if taken_by_us is not None:
        return taken_by_us
    used = [
        IPv4Network((address["local"], address["prefixlen"]), strict=False)
        for link in _links("-4", "address", "show")
        for address in link.get("addr_info", [])
    ]
    for block in BLOCKS:
        if not any(block.overlaps(network) for network in used):
            return block
    raise TestbedError(f"every address block from {BLOCKS[0]} to {BLOCKS[-1]} is in use on this machine")


def connect_store(store: StorePlan) -> None:
    """The store's namespace with its switch, and the uplink to the root namespace."""
    if store.netns not in namespaces():
        run(["ip", "netns", "add", store.netns])
    inside = _link_names(store.netns)
    if SWITCH not in inside:
        _in(store.netns, "link", "add", SWITCH, "type", "bridge", "forward_delay", "0")
    _in(store.netns, "address", "replace", f"{store.ip}/{store.lan.prefixlen}", "dev", SWITCH)
    _in(store.netns, "address", "replace", f"{store.service_ip}/32", "dev", "lo")
    _in(store.netns, "link", "set", "lo", "up")
    _in(store.netns, "link", "set", SWITCH, "up")
    if store.uplink not in _link_names():
        run(
            [
                *("ip", "link", "add", store.uplink, "mtu", str(MTU), "type", "veth"),
                *("peer", "name", WAN_PORT, "mtu", str(MTU), "netns", store.netns),
            ]
        )
        _in(store.netns, "link", "set", WAN_PORT, "master", SWITCH, "up")
    run(["ip", "address", "replace", f"{store.controller_ip}/{store.lan.prefixlen}", "dev", store.uplink])
    run(["ip", "link", "set", store.uplink, "up"])


def connect_node(store: StorePlan, node: NodePlan) -> None:
    """The node's namespace, plugged into the store's switch, with routes to its sisters' pods."""
    if node.netns not in namespaces():
        run(["ip", "netns", "add", node.netns])
    if NODE_PORT not in _link_names(node.netns):
        _in(
            store.netns,
            *("link", "add", node.link, "mtu", str(MTU), "type", "veth"),
            *("peer", "name", NODE_PORT, "mtu", str(MTU), "netns", node.netns),
        )
    _in(store.netns, "link", "set", node.link, "master", SWITCH, "up")
    _in(node.netns, "link", "set", "lo", "up")
    _in(node.netns, "address", "replace", f"{node.ip}/{store.lan.prefixlen}", "dev", NODE_PORT)
    _in(node.netns, "link", "set", NODE_PORT, "up")
    _in(node.netns, "route", "replace", str(store.services), "via", str(store.ip))
    _in(store.netns, "route", "replace", str(node.pods), "via", str(node.ip))
    for other in store.nodes:
        if other != node:
            _in(node.netns, "route", "replace", str(other.pods), "via", str(other.ip))
    run(["ip", "route", "replace", str(node.pods), "via", str(node.ip), "dev", store.uplink])


def cut(store: StorePlan) -> None:
    """Take the store off the network: what either side sends is lost without a word, as with a dead line.

    It is the store's end that goes down. With the centre's end down the kernel would drop its routes,
    and send what is meant for the store to the machine's default gateway.
    """
    _in(store.netns, "link", "set", WAN_PORT, "down")


def heal(store: StorePlan) -> None:
    """Undo ``cut``."""
    _in(store.netns, "link", "set", WAN_PORT, "up")


def is_cut(store: StorePlan) -> bool:
    return any(
        link["ifname"] == WAN_PORT and "UP" not in link["flags"]
        for link in _links("link", "show", netns=store.netns)
    )


def unplug(store: StorePlan, node: NodePlan) -> None:
    """Take the node off its store's switch, so that nobody hears it die."""
    _in(store.netns, "link", "set", node.link, "down")


def plug_in(store: StorePlan, node: NodePlan) -> None:
    _in(store.netns, "link", "set", node.link, "up")


def namespaces() -> set[str]:
    return {line.split()[0] for line in run(["ip", "netns", "list"]).splitlines() if line.strip()}


def pids_in(netns: str) -> list[int]:
    return [int(pid) for pid in run(["ip", "netns", "pids", netns]).split()]


def leftovers(testbed: str) -> tuple[list[str], list[str]]:
    """Namespaces and root links of a testbed, found by their names alone."""
    spaces = [name for name in namespaces() if name.startswith(netns_prefix(testbed))]
    links = [name for name in _link_names() if name.startswith(link_prefix(testbed))]
    return sorted(spaces), sorted(links)


def testbeds() -> list[str]:
    """The names of all testbeds that have a namespace on this machine."""
    return sorted({found for space in namespaces() if (found := owner_of(space))})


def remove(testbed: str) -> None:
    """Remove a testbed's namespaces and links. Their processes must have ended."""
    spaces, links = leftovers(testbed)
    for link in links:
        run(["ip", "link", "delete", link])
    for space in spaces:
        run(["ip", "netns", "delete", space])


def _in(netns: str, *arguments: str) -> None:
    run(["ip", "-netns", netns, *arguments])


def _links(*arguments: str, netns: str = "") -> list[dict[str, Any]]:
    text = run(["ip", *(["-netns", netns] if netns else []), "-json", *arguments])
    links: list[dict[str, Any]] = json.loads(text or "[]")
    return links


def _link_names(netns: str = "") -> set[str]:
    return {link["ifname"] for link in _links("link", "show", netns=netns)}
