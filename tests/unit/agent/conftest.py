"""What the agent's unit tests share: an origin for events, and drafts of them."""

from collections.abc import Callable
from uuid import uuid4

import pytest

from agent.envelope import Origin
from agent.ports import EventDraft
from contract.events import FacingsChanged, ZoneData
from contract.names import StockLevel

DIGEST = "sha256:" + "ab" * 32


@pytest.fixture
def origin() -> Origin:
    return Origin("berlin-01", "node-1", "1.2.0", DIGEST)


@pytest.fixture
def draft() -> Callable[..., EventDraft]:
    def make(facings: int = 3, at: float = 1_700_000_000.0) -> EventDraft:
        data = ZoneData(sku="cola-can", capacity=10, facings=facings, level=StockLevel.STOCKED)
        return EventDraft(uuid4(), FacingsChanged, "aisle-1", "a1-cola", at, data)

    return make
