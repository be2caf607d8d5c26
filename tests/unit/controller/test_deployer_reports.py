"""Which messages of deployers count as a sign of life of their store."""

from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from contract.deployment import ReportedState
from contract.signing import sign
from contract.topics import DeployerTopics
from controller.adapters.mqtt_cluster import Deployers

NOW = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
REPORT = ReportedState(store="berlin-01", at=NOW, interval_s=10).to_bytes()
OTHERS = ReportedState(store="paris-02", at=NOW, interval_s=10).to_bytes()


@pytest.mark.parametrize(
    ("payload", "retained", "heard"),
    [
        pytest.param(REPORT, False, ["berlin-01"], id="written just now"),
        pytest.param(REPORT, True, [], id="kept by the broker"),
        pytest.param(b"", False, [], id="deleted"),
        pytest.param(b"rubbish", False, [], id="rubbish"),
        pytest.param(OTHERS, False, [], id="of another store"),
    ],
)
def test_only_a_fresh_report_is_a_sign_of_life(payload: bytes, retained: bool, heard: list[str]) -> None:
    key = Ed25519PrivateKey.generate()
    found: list[str] = []
    deployers = Deployers(lambda text: sign(text, key), list, lambda: NOW, found.append)
    deployers.receive(DeployerTopics("berlin-01").reported, payload, retained)
    assert found == heard
