"""Names and addresses: unique, within the machine's limits, and found again by prefix."""

from ipaddress import IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k3s.testbed.errors import TestbedError
from k3s.testbed.layout import (
    BLOCKS,
    MAX_NODES,
    MAX_STORES,
    link_prefix,
    netns_prefix,
    owner_of,
    plan_store,
)

BLOCK = BLOCKS[0]
NAMES = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?", fullmatch=True)


def test_store_has_an_address_on_each_side_of_its_uplink_and_one_for_each_node() -> None:
    store = plan_store("dev", BLOCK, "paris-02", 1, 2)
    assert (str(store.controller_ip), str(store.ip)) == ("10.96.1.1", "10.96.1.2")
    assert [str(node.ip) for node in store.nodes] == ["10.96.1.11", "10.96.1.12"]
    assert [str(node.pods) for node in store.nodes] == ["10.97.1.0/27", "10.97.1.32/27"]
    assert str(store.service_ip) == "10.98.0.1"
    assert [node.name for node in store.nodes] == ["paris-02-node-1", "paris-02-node-2"]


@given(NAMES, st.integers(0, MAX_STORES - 1), st.integers(0, MAX_STORES - 1))
def test_stores_share_no_address_and_names_fit_the_kernels_limits(testbed: str, one: int, other: int) -> None:
    first = plan_store(testbed, BLOCK, "one", one, MAX_NODES)
    second = plan_store(testbed, BLOCK, "other", other, MAX_NODES)
    if one != other:
        assert not first.lan.overlaps(second.lan)
        assert not first.pods.overlaps(second.pods)
        assert first.uplink != second.uplink
    assert len(first.uplink) <= 15
    assert first.uplink.startswith(link_prefix(testbed))
    spaces = [first.netns, *(node.netns for node in first.nodes)]
    assert len(set(spaces)) == len(spaces)
    assert all(space.startswith(netns_prefix(testbed)) for space in spaces)
    ranges = [first.lan, *(node.pods for node in first.nodes), first.services]
    assert all(not a.overlaps(b) for i, a in enumerate(ranges) for b in ranges[:i])
    assert all(network.subnet_of(BLOCK) for network in ranges)


@given(NAMES, NAMES)
def test_clean_up_of_one_testbed_never_finds_anothers(mine: str, theirs: str) -> None:
    if mine != theirs:
        store = plan_store(theirs, BLOCK, "store", 0, 1)
        assert not store.netns.startswith(netns_prefix(mine))
        assert owner_of(store.netns) == owner_of(store.nodes[0].netns) == theirs


@pytest.mark.parametrize("netns", ["", "sftb", "sftb.", "sftb.x", "cni-1234", "other.sftb.x.y"])
def test_namespace_of_others_is_no_testbeds(netns: str) -> None:
    assert owner_of(netns) == ""


@pytest.mark.parametrize("name", ["", "Paris", "-x", "x-", "a" * 33, "a/b", "a.b", "a b"])
def test_name_that_dns_would_refuse_is_refused(name: str) -> None:
    with pytest.raises(TestbedError, match="cannot be a store's name"):
        plan_store("dev", BLOCK, name, 0, 1)


@pytest.mark.parametrize(("index", "nodes"), [(MAX_STORES, 1), (0, MAX_NODES + 1)])
def test_more_than_fits_is_refused(index: int, nodes: int) -> None:
    with pytest.raises(TestbedError, match="at most 200 stores of 8 nodes"):
        plan_store("dev", BLOCK, "store", index, nodes)


def test_blocks_are_private_and_apart() -> None:
    private = IPv4Network("10.0.0.0/8")
    assert all(block.subnet_of(private) for block in BLOCKS)
    assert not any(a.overlaps(b) for i, a in enumerate(BLOCKS) for b in BLOCKS[:i])
