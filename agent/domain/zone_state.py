"""The state of one zone between two looks, and the rule that it is judged by."""

from dataclasses import dataclass, field
from uuid import UUID
from zlib import crc32

from agent.domain.evidence import Evidence
from contract.names import StockLevel
from contract.store_config import Camera, Policy, Zone


@dataclass(frozen=True, slots=True)
class ZoneRule:
    """What a zone should hold. ``period_s`` is the time between two looks of its camera."""

    zone: str
    sku: str
    capacity: int
    low_at: int
    period_s: float = 0.2

    @classmethod
    def of(cls, zone: Zone, camera: Camera) -> "ZoneRule":
        return cls(zone.id, zone.sku, zone.capacity, zone.low_threshold, 1 / camera.fps)

    @property
    def most(self) -> int:
        """Counts are believed up to here. More facings than planned are real (planograms lag behind
        shelves), more than twice as many only a detector that sees double."""
        return 2 * self.capacity

    def level(self, facings: int, before: StockLevel | None, margin: int) -> StockLevel:
        """The level at ``facings``, coming from the level ``before`` (None: never known).

        ``low_at + margin`` is capped at the capacity: a full shelf is stocked, whatever the margin.
        """
        if facings == 0:
            return StockLevel.OUT_OF_STOCK
        if facings <= self.low_at:
            return StockLevel.LOW
        again = max(self.low_at + 1, min(self.low_at + margin, self.capacity))
        if facings >= again or before not in (StockLevel.LOW, StockLevel.OUT_OF_STOCK):
            return StockLevel.STOCKED
        return StockLevel.LOW


@dataclass(frozen=True, slots=True)
class OpenAlert:
    """A low-stock or out-of-stock alert that may still be retracted."""

    level: StockLevel
    """``LOW`` or ``OUT_OF_STOCK``."""
    at: float
    before: StockLevel | None
    """The level that it ended; None when the zone had never been known."""
    event_id: UUID | None = None
    """Known once the service has stored the event; without it nothing can be retracted."""


@dataclass(frozen=True, slots=True)
class ZoneState:
    """Everything the state machine remembers of one zone; bounded, whatever happens.

    ``belief`` and ``stock`` are the facings and the level last believed; they outlast a spell of
    ``unknown``, during which ``known`` is False, so that afterwards only what changed is reported.
    """

    sku: str
    outline: int
    """``outline_of`` the zone. Beliefs about another SKU or outline say nothing of this one."""
    known: bool = False
    belief: int | None = None
    stock: StockLevel | None = None
    unknown_since: float | None = None
    at: float | None = None
    """Capture time of the latest look."""
    watching: bool = False
    """The latest look was observable."""
    hidden_since: float | None = None
    last_hidden: float | None = None
    touched: float | None = 0.0
    """Observable time (the evidence's clock) when somebody may last have touched the shelf; None once
    a whole dwell without anybody has confirmed the belief."""
    taken: int = 0
    """Facings picked and not put back."""
    strangers: tuple[str, ...] = ()
    """SKUs reported as misplaced that have not gone since."""
    alerts: tuple[OpenAlert, ...] = ()
    evidence: Evidence = field(default_factory=Evidence)

    @property
    def level(self) -> StockLevel:
        return self.stock if self.known and self.stock is not None else StockLevel.UNKNOWN


def outline_of(zone: Zone) -> int:
    """Changes when the zone is drawn anew."""
    return crc32(repr(zone.polygon).encode())


def new_state(zone: Zone) -> ZoneState:
    """Nothing is known of ``zone`` yet."""
    return ZoneState(zone.sku, outline_of(zone))


def longest_gap(rule: ZoneRule, policy: Policy) -> float:
    """Seconds between two looks that still make one continuous observation."""
    return max(policy.stale_s, 2.5 * rule.period_s)
