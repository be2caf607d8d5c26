"""The deployer where it matters: forged and old states, power cuts, no connection, a broken cluster."""

import base64
import json
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from contract.deployment import (
    MAX_DESIRED_BYTES,
    MAX_UNPACKED_BYTES,
    DesiredState,
    ReportedState,
    decode_reported,
    pack,
)
from contract.signing import sign
from controller.adapters.deployer_shelf import DeployerShelf
from controller.adapters.memory_cluster import MemoryCluster
from controller.cluster import Applied
from controller.deployer import Deployer, DeployerTempo
from controller.domain.deployment import Observed
from controller.domain.workload import Workload
from controller.errors import PermanentError, TransientError

STORE = "berlin-01"
AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
CENTRE = Ed25519PrivateKey.from_private_bytes(b"c" * 32)
STRANGER = Ed25519PrivateKey.from_private_bytes(b"s" * 32)
MakeWorkload = Callable[..., Workload]


@dataclass
class Wire:
    """A connection that can be cut."""

    up: bool = True
    reports: list[ReportedState] = field(default_factory=list)

    def take(self, wait_s: float) -> bytes | None:
        return None

    def report(self, payload: bytes) -> bool:
        if self.up:
            self.reports.append(decode_reported(payload))
        return self.up


@dataclass
class Shop:
    """One store: its disk, its cluster, the keys that it trusts; the deployer can be started again."""

    disk: Path
    cluster: Any = field(default_factory=MemoryCluster)
    trusted: list[Ed25519PrivateKey] = field(default_factory=lambda: [CENTRE])
    wire: Wire = field(default_factory=Wire)

    def __post_init__(self) -> None:
        self.start()

    def start(self) -> None:
        self.deployer = Deployer(
            STORE,
            "storefleet",
            cluster=self.cluster,
            channel=self.wire,
            shelf=DeployerShelf(self.disk),
            trusted=lambda: [key.public_key() for key in self.trusted],
            clock=lambda: AT,
            chance=lambda: 0.5,
            tempo=DeployerTempo(report_s=600),
        )

    def runs(self) -> str | None:
        found: str | None = self.cluster.observe(STORE).rollout_id
        return found

    @property
    def report(self) -> ReportedState:
        return self.wire.reports[-1]


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path / "disk")


def state(wanted: Workload, generation: int, **changes: Any) -> DesiredState:
    fields = {
        "store": wanted.store,
        "generation": generation,
        "rollout_id": wanted.rollout_id,
        "namespace": wanted.namespace,
        "daemon_set": wanted.daemon_set,
        "config_map": wanted.config_map,
        "issued_at": AT,
    }
    return DesiredState.model_validate({**fields, **changes})


def message(wanted: Workload, generation: int, key: Ed25519PrivateKey = CENTRE, **changes: Any) -> bytes:
    return sign(pack(state(wanted, generation, **changes)), key).to_bytes()


def bomb(size: int, key: Ed25519PrivateKey = CENTRE) -> bytes:
    return sign(base64.b64encode(zlib.compress(b"0" * size, 9)).decode(), key).to_bytes()


def flipped(payload: bytes) -> bytes:
    signed = json.loads(payload)
    signed["payload"] = signed["payload"][:-8] + "A" * 8
    return json.dumps(signed).encode()


@pytest.mark.parametrize(
    ("forge", "words"),
    [
        (lambda w: message(w(2), 2, STRANGER), "not trusted here"),
        (lambda w: flipped(message(w(2), 2)), "does not match"),
        (lambda w: message(w(2, store="paris-02"), 2), "for store 'paris-02'"),
        (lambda w: message(w(2), 2, namespace="kube-system"), "namespace 'kube-system'"),
        (lambda w: message(w(2), 1), "not newer than 1"),
        (lambda w: b" " * (MAX_DESIRED_BYTES + 1), "at most"),
        (lambda w: b"\x00\xff", "Invalid JSON"),
        (lambda w: bomb(MAX_UNPACKED_BYTES * 50), "unpacks to more"),
        (lambda w: bomb(MAX_UNPACKED_BYTES * 50, STRANGER), "not trusted here"),
    ],
    ids=["stranger", "flipped", "store", "namespace", "generation", "size", "junk", "bomb", "strange-bomb"],
)
def test_forged_state_changes_nothing_and_is_reported(
    shop: Shop,
    workload: MakeWorkload,
    rollout_id: Callable[[int], str],
    forge: Callable[[MakeWorkload], bytes],
    words: str,
) -> None:
    shop.deployer.look(message(workload(1), 1))
    shop.deployer.look(forge(workload))
    assert shop.runs() == rollout_id(1)
    assert words in shop.report.refusal
    assert (shop.report.generation, shop.report.workload.rollout_id) == (1, rollout_id(1))
    shop.deployer.look(message(workload(3), 3))
    assert (shop.runs(), shop.report.refusal) == (rollout_id(3), "")


def test_old_state_cannot_be_played_back_after_a_restart(
    shop: Shop, workload: MakeWorkload, rollout_id: Callable[[int], str]
) -> None:
    first, second = message(workload(1), 1), message(workload(2), 2)
    shop.deployer.look(first)
    shop.deployer.look(second)
    shop.start()
    shop.deployer.look(first)
    assert shop.runs() == rollout_id(2)
    assert "generation 1 is not newer than 2" in shop.report.refusal
    shop.deployer.look(second)  # as the broker sends it after every connection
    assert (shop.runs(), shop.report.refusal) == (rollout_id(2), "")


@pytest.mark.parametrize("damage", ["desired.json", "generation"])
def test_damaged_file_lets_no_older_state_in(
    shop: Shop, workload: MakeWorkload, rollout_id: Callable[[int], str], damage: str
) -> None:
    for number in (1, 2):
        shop.deployer.look(message(workload(number), number))
    (shop.disk / damage).write_bytes(b"\x00damaged")
    shop.start()
    shop.deployer.look(message(workload(1), 1))
    assert shop.runs() == rollout_id(2)
    assert "not newer" in shop.report.refusal
    shop.deployer.look(message(workload(2), 2))
    assert (shop.report.generation, shop.report.refusal) == (2, "")


def test_power_cut_between_the_two_files_is_survived(
    shop: Shop, workload: MakeWorkload, rollout_id: Callable[[int], str]
) -> None:
    shop.deployer.look(message(workload(1), 1))
    (shop.disk / "desired.json").write_bytes(message(workload(2), 2))
    shop.start()
    shop.deployer.look(message(workload(1), 1))
    assert shop.runs() == rollout_id(2)
    assert shop.report.generation == 2


def test_state_changed_on_the_disk_is_not_applied(
    shop: Shop, workload: MakeWorkload, rollout_id: Callable[[int], str]
) -> None:
    shop.deployer.look(message(workload(1), 1))
    (shop.disk / "desired.json").write_bytes(message(workload(2), 9, STRANGER))
    shop.start()
    shop.deployer.look()
    assert shop.runs() == rollout_id(1)
    assert shop.report.digest is None


def test_withdrawn_key_counts_at_once_and_a_new_one_without_a_new_message(
    shop: Shop, workload: MakeWorkload, rollout_id: Callable[[int], str]
) -> None:
    shop.deployer.look(message(workload(1), 1, STRANGER))
    assert (shop.runs(), "not trusted" in shop.report.refusal) == (None, True)
    shop.trusted.append(STRANGER)
    shop.deployer.look()
    assert shop.runs() == rollout_id(1)
    shop.trusted.remove(STRANGER)
    shop.deployer.look(message(workload(2), 2, STRANGER))
    assert shop.runs() == rollout_id(1)


def test_drift_is_repaired_and_a_lost_workload_comes_back_without_a_connection(
    shop: Shop, workload: MakeWorkload, rollout_id: Callable[[int], str]
) -> None:
    shop.deployer.look(message(workload(1), 1))
    shop.cluster.settle(STORE)
    shop.wire.up = False
    shop.start()
    shop.cluster.stores[STORE].daemon_set["spec"]["template"]["spec"]["containers"][0]["image"] = "evil:1"
    shop.deployer.look()
    assert shop.cluster.observe(STORE).drift == ()
    shop.cluster.remove(STORE)
    shop.deployer.look()
    assert shop.runs() == rollout_id(1)
    shop.wire.up = True
    shop.cluster.settle(STORE)
    shop.deployer.look()
    assert shop.report.workload.updated == 1


def test_order_to_run_nothing_is_carried_out(shop: Shop, workload: MakeWorkload) -> None:
    shop.deployer.look(message(workload(1), 1))
    nothing: dict[str, Any] = {"rollout_id": None, "daemon_set": None, "config_map": None}
    shop.deployer.look(message(workload(1), 2, **nothing))
    assert (shop.runs(), shop.report.generation, shop.report.workload.rollout_id) == (None, 2, None)
    shop.start()
    shop.deployer.look()
    assert shop.runs() is None


class BrokenCluster:
    def __init__(self, error: PermanentError | TransientError | None) -> None:
        self.error = error
        self.memory = MemoryCluster()

    def apply(self, workload: Workload) -> Applied:
        if self.error:
            raise self.error
        return self.memory.apply(workload)

    def observe(self, store: str) -> Observed:
        return self.memory.observe(store)

    def remove(self, store: str) -> None:
        self.memory.remove(store)


@pytest.mark.parametrize("error", [PermanentError("quota exceeded"), TransientError("no answer", 7.0)])
def test_what_cannot_be_applied_is_reported_and_tried_again(
    tmp_path: Path,
    workload: MakeWorkload,
    rollout_id: Callable[[int], str],
    error: PermanentError | TransientError,
) -> None:
    cluster = BrokenCluster(error)
    shop = Shop(tmp_path, cluster)
    pauses = [shop.deployer.look(message(workload(1), 1)), *(shop.deployer.look() for _ in range(8))]
    assert shop.report.trouble is not None
    assert shop.report.trouble.error == str(error)
    assert shop.report.trouble.permanent is isinstance(error, PermanentError)
    assert pauses == sorted(pauses)
    assert pauses[-1] == 30.0
    cluster.error = None
    shop.deployer.look()
    trouble: object = shop.report.trouble
    assert (shop.runs(), trouble) == (rollout_id(1), None)


def test_full_disk_keeps_a_new_state_out_until_it_can_be_remembered(
    shop: Shop, workload: MakeWorkload, rollout_id: Callable[[int], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.deployer.look(message(workload(1), 1))
    save = DeployerShelf.save

    def full(self: DeployerShelf, kept: Any) -> None:
        raise TransientError("No space left on device")

    monkeypatch.setattr(DeployerShelf, "save", full)
    shop.deployer.look(message(workload(2), 2))
    assert (shop.runs(), shop.report.refusal) == (rollout_id(1), "No space left on device")
    monkeypatch.setattr(DeployerShelf, "save", save)
    shop.deployer.look()
    assert shop.runs() == rollout_id(2)


def test_the_same_report_is_not_sent_again_until_it_is_due(shop: Shop, workload: MakeWorkload) -> None:
    shop.deployer.look(message(workload(1), 1))
    shop.cluster.settle(STORE)
    shop.deployer.look()
    count = len(shop.wire.reports)
    shop.deployer.look()
    assert len(shop.wire.reports) == count
