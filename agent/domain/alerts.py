"""Alerts that a later look may still prove wrong.

An alert stays open for ``retract_within_s`` and as long as nobody came near the shelf and no moment
went unwatched: only then can goods that reappear not have been brought. The service tells the event
id that the outbox stored it under (``remember``); an alert whose id is unknown is not retracted.
"""

from dataclasses import replace
from uuid import UUID

from agent.domain.facts import Fact
from agent.domain.zone_state import OpenAlert, ZoneRule, ZoneState
from agent.domain.zones import ZoneLook
from contract import events
from contract.names import StockLevel
from contract.store_config import Policy

_LEVELS: dict[type[events.EventBase], StockLevel] = {
    events.LowStock: StockLevel.LOW,
    events.OutOfStock: StockLevel.OUT_OF_STOCK,
}
_KINDS = {level: kind for kind, level in _LEVELS.items()}
"""By growing severity."""


def remember(state: ZoneState, fact: Fact, event_id: UUID) -> ZoneState:
    """``fact``, which the state machine returned with ``state``, was stored as ``event_id``."""
    level = _LEVELS.get(fact.kind)
    if level is None or not state.alerts:
        return state
    named = tuple(
        replace(alert, event_id=event_id) if (alert.level, alert.at) == (level, fact.at) else alert
        for alert in state.alerts
    )
    return replace(state, alerts=named)


def still_open(alerts: tuple[OpenAlert, ...], look: ZoneLook, policy: Policy) -> tuple[OpenAlert, ...]:
    """The alerts that ``look`` leaves open."""
    if not alerts:
        return alerts
    if look.person_near or look.hidden_by_person:
        return ()
    return tuple(alert for alert in alerts if look.at - alert.at <= policy.retract_within_s)


def retract(
    rule: ZoneRule, policy: Policy, state: ZoneState, facings: int, at: float
) -> tuple[tuple[Fact, ...], StockLevel | None, tuple[OpenAlert, ...]]:
    """What ``facings`` proves wrong: the retractions (newest alert first), the level as it would be
    without those alerts, and the alerts that stay open."""
    stock = state.stock
    disproved: list[OpenAlert] = []
    for alert in reversed(state.alerts):
        contradicted = alert.level is stock and facings > (state.belief or 0)
        if not contradicted or alert.event_id is None:
            break
        if rule.level(facings, stock, policy.restock_margin) is stock:
            break
        disproved.append(alert)
        stock = alert.before
    level = rule.level(facings, stock, policy.restock_margin)
    over = [StockLevel.STOCKED, StockLevel.LOW, StockLevel.OUT_OF_STOCK].index(level)
    kept = state.alerts[: len(state.alerts) - len(disproved)]
    kept = tuple(alert for alert in kept if alert.level in list(_KINDS)[:over])
    return (
        tuple(_retraction(rule, state, alert, facings, level, at) for alert in disproved),
        stock,
        kept,
    )


def _retraction(
    rule: ZoneRule,
    state: ZoneState,
    alert: OpenAlert,
    facings: int,
    level: StockLevel,
    at: float,
) -> Fact:
    data = events.RetractedData.model_validate(
        {
            "sku": rule.sku,
            "capacity": rule.capacity,
            "facings": facings,
            "level": level,
            "previous_facings": state.belief,
            "previous_level": state.level,
            "retracts": alert.event_id,
            "retracted_type": _KINDS[alert.level].model_fields["type"].default,
            "reason": f"{facings} facings seen {at - alert.at:.1f} s later, with nobody near in between",
        }
    )
    return Fact(events.Retracted, rule.zone, at, data)
