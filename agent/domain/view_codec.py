"""``StoreView`` as bytes: what the outbox keeps beside the events, so that a restart repeats none.

Evidence is left out on purpose: after a restart it is old, and gathering it again costs one dwell. For
the same reason bytes that cannot be read mean starting afresh, not an error: the first looks make all
known again.
"""

from uuid import UUID

from agent.domain.camera_condition import CameraCondition, ConditionState
from agent.domain.evidence import Evidence
from agent.domain.store_view import CameraView, StoreView, fit, start
from agent.domain.zone_state import OpenAlert, ZoneState
from contract.base import Message
from contract.events import Count
from contract.names import CameraStatus, Name, Sku, StockLevel
from contract.store_config import StoreConfig

VERSION = 1
"""Another version is not read: raise it when a field changes its meaning."""


class _Alert(Message):
    level: StockLevel
    at: float
    before: StockLevel | None = None
    id: UUID | None = None


class _Zone(Message):
    sku: Sku
    outline: int
    known: bool = False
    belief: Count | None = None
    stock: StockLevel | None = None
    unknown_since: float | None = None
    at: float | None = None
    hidden_since: float | None = None
    last_hidden: float | None = None
    taken: Count = 0
    strangers: tuple[Sku, ...] = ()
    alerts: tuple[_Alert, ...] = ()


class _Camera(Message):
    status: CameraStatus | None = None
    reason: str = ""
    since: float = 0.0
    view_moved: bool = False
    reference_at: float | None = None
    zones: dict[Name, _Zone]


class _Store(Message):
    version: int
    cameras: dict[Name, _Camera]


def dump(view: StoreView) -> bytes:
    """``view`` as UTF-8 JSON, about 150 bytes a zone."""
    cameras = {name: _camera_record(camera) for name, camera in view.cameras.items()}
    return _Store(version=VERSION, cameras=cameras).to_bytes()


def load(data: bytes | None, config: StoreConfig) -> StoreView:
    """The dumped view, fitted to ``config``. Never raises: what cannot be read is unknown."""
    if data is None:
        return start(config)
    try:
        record = _Store.model_validate_json(data)
    except (ValueError, RecursionError):
        return start(config)
    if record.version != VERSION:
        return start(config)
    return fit(
        config,
        StoreView({name: _camera_view(camera) for name, camera in record.cameras.items()}),
    )


def without_evidence(state: ZoneState) -> ZoneState:
    """What ``dump`` keeps of ``state``."""
    return ZoneState(
        sku=state.sku,
        outline=state.outline,
        known=state.known and state.belief is not None and state.stock is not None,
        belief=state.belief,
        stock=state.stock,
        unknown_since=state.unknown_since,
        at=state.at,
        watching=False,
        hidden_since=state.hidden_since,
        last_hidden=state.last_hidden,
        touched=0.0,
        taken=state.taken,
        strangers=state.strangers,
        alerts=state.alerts,
        evidence=Evidence(),
    )


def _camera_record(view: CameraView) -> _Camera:
    condition = view.condition.condition
    return _Camera(
        status=condition.status if condition else None,
        reason=condition.reason if condition else "",
        since=condition.since if condition else 0.0,
        view_moved=view.condition.view_moved,
        reference_at=view.reference_at,
        zones={name: _zone_record(state) for name, state in view.zones.items()},
    )


def _zone_record(state: ZoneState) -> _Zone:
    return _Zone(
        sku=state.sku,
        outline=state.outline,
        known=state.known,
        belief=state.belief,
        stock=state.stock,
        unknown_since=state.unknown_since,
        at=state.at,
        hidden_since=state.hidden_since,
        last_hidden=state.last_hidden,
        taken=state.taken,
        strangers=state.strangers,
        alerts=tuple(_Alert(level=a.level, at=a.at, before=a.before, id=a.event_id) for a in state.alerts),
    )


def _camera_view(record: _Camera) -> CameraView:
    condition = None
    if record.status is not None:
        condition = CameraCondition(record.status, record.reason, record.since)
    states = {name: _zone_state(zone) for name, zone in record.zones.items()}
    return CameraView(
        states,
        ConditionState(condition, view_moved=record.view_moved),
        None,
        record.reference_at,
    )


def _zone_state(record: _Zone) -> ZoneState:
    return without_evidence(
        ZoneState(
            sku=record.sku,
            outline=record.outline,
            known=record.known,
            belief=record.belief,
            stock=record.stock,
            unknown_since=record.unknown_since,
            at=record.at,
            hidden_since=record.hidden_since,
            last_hidden=record.last_hidden,
            taken=record.taken,
            strangers=record.strangers,
            alerts=tuple(OpenAlert(a.level, a.at, a.before, a.id) for a in record.alerts),
        )
    )
