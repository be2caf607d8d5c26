"""The shelf state machine: from looks at one zone to what is believed and reported of it.

The meaning of every event is written down in ``docs/architecture.md``. Three principles decide
everything that page leaves open:

* *Unknown is never empty.* Only a look that shows the whole zone is evidence. Hidden zones, gaps
  between looks and clocks that jump discard evidence; they never add any.
* *Shelves change when somebody is there.* While nobody has been near since the belief was last
  confirmed, a change is most likely the detector's mistake, so it must hold ``UNATTENDED_PATIENCE``
  times as long; and an alert that dissolves with nobody near was a mistake and is retracted.
* *An alert needs more than its opposite*: see ``agent.domain.evidence``.

``step`` and ``lose`` are the only ways on. Both are pure and return the facts that follow.
"""

from dataclasses import replace

from agent.domain import evidence
from agent.domain.alerts import retract, still_open
from agent.domain.evidence import Evidence, Seen
from agent.domain.facts import Fact
from agent.domain.zone_state import OpenAlert, ZoneRule, ZoneState, longest_gap
from agent.domain.zones import ZoneLook
from contract import events
from contract.names import StockLevel, UnknownReason
from contract.store_config import Policy

UNATTENDED_PATIENCE = 2.0
"""Twice the dwell for a change that nobody was near enough to make. It delays the report of a change
made by a person whom the detector overlooked by one dwell, and no more."""
CONTINUOUS_S = 1.0
"""Two looks up to this far apart (or one period of a slower camera) also speak for the time between."""

Result = tuple[ZoneState, tuple[Fact, ...]]
ALERTS: dict[StockLevel, type[events.EventBase]] = {
    StockLevel.LOW: events.LowStock,
    StockLevel.OUT_OF_STOCK: events.OutOfStock,
}


def step(rule: ZoneRule, policy: Policy, state: ZoneState, look: ZoneLook) -> Result:
    """Take in one look from a healthy camera. Looks of an unhealthy one must not come here.

    A second look with the same ``at`` is ignored; an ``at`` that went back discards the evidence.
    """
    if state.at == look.at:
        return state, ()
    facts: tuple[Fact, ...] = ()
    elapsed = 0.0
    if state.at is not None:
        elapsed = look.at - state.at
        if not 0 < elapsed <= longest_gap(rule, policy):
            state = _unwatched(state)
            if elapsed > policy.occlusion_unknown_s:
                detail = f"not looked at for {elapsed:.0f} s"
                state, facts = lose(rule, state, look.at, UnknownReason.STALE_FRAME, detail)
    if state.unknown_since is None and not state.known:
        state = replace(state, unknown_since=look.at)
    state = replace(state, at=look.at, alerts=still_open(state.alerts, look, policy))
    if look.person_near or look.hidden_by_person:
        state = replace(state, touched=state.evidence.clock)
    if _unobservable(state, policy, look):
        state, hidden = _hide(rule, policy, state, look)
        return state, facts + hidden
    state = _watch(rule, policy, state, look, elapsed if state.watching else 0.0)
    state, found = _judge(rule, policy, state, look.at)
    return state, facts + found


def lose(rule: ZoneRule, state: ZoneState, at: float, reason: UnknownReason, detail: str = "") -> Result:
    """Nothing can be said of the zone from ``at`` on. Repeated calls report it once."""
    before, was_known = state, state.known
    state = replace(_unwatched(state), known=False)
    if not was_known:
        return replace(
            state,
            unknown_since=at if state.unknown_since is None else state.unknown_since,
        ), ()
    data = events.ZoneUnknownData(
        sku=rule.sku,
        capacity=rule.capacity,
        level=StockLevel.UNKNOWN,
        previous_facings=before.belief,
        previous_level=before.level,
        reason=reason,
        detail=detail,
    )
    return replace(state, unknown_since=at), (Fact(events.ZoneUnknown, rule.zone, at, data),)


def _unwatched(state: ZoneState) -> ZoneState:
    """After a time in which anything may have happened."""
    clock = state.evidence.clock
    return replace(
        state,
        watching=False,
        touched=clock,
        hidden_since=None,
        last_hidden=None,
        alerts=(),
        evidence=Evidence(clock),
    )


def _unobservable(state: ZoneState, policy: Policy, look: ZoneLook) -> bool:
    if look.hidden_by_person:
        return True
    return state.last_hidden is not None and look.at - state.last_hidden < policy.settle_s


def _hide(rule: ZoneRule, policy: Policy, state: ZoneState, look: ZoneLook) -> Result:
    since = look.at if state.hidden_since is None else state.hidden_since
    last = look.at if look.hidden_by_person else state.last_hidden
    state = replace(state, watching=False, hidden_since=since, last_hidden=last)
    if not state.known or look.at - since <= policy.occlusion_unknown_s:
        return state, ()
    detail = f"hidden by a person for {look.at - since:.0f} s"
    lost, facts = lose(rule, state, look.at, UnknownReason.OCCLUDED, detail)
    return replace(lost, hidden_since=since, last_hidden=last), facts


def _watch(rule: ZoneRule, policy: Policy, state: ZoneState, look: ZoneLook, elapsed: float) -> ZoneState:
    count = min(look.count, rule.most)
    seen = Seen(
        0.0,
        count,
        max(count, min(look.count_at_most, rule.most)),
        tuple(sorted(look.others.items())),
        look.confidence,
    )
    elapsed = min(elapsed, max(CONTINUOUS_S, rule.period_s))
    span = policy.dwell_s * UNATTENDED_PATIENCE
    taken = evidence.add(state.evidence, elapsed, seen, span)
    return replace(state, watching=True, hidden_since=None, last_hidden=None, evidence=taken)


def _judge(rule: ZoneRule, policy: Policy, state: ZoneState, at: float) -> Result:
    """Compare the evidence with the belief."""
    patience = UNATTENDED_PATIENCE if state.known and state.touched is None else 1.0
    looks = evidence.window(state.evidence, policy.dwell_s * patience)
    if not looks:
        return state, ()
    facings = evidence.believed(looks, state.belief)
    facts: tuple[Fact, ...] = ()
    if facings is not None and (facings != state.belief or not state.known):
        state, facts = _believe(rule, policy, state, facings, looks, at)
    if state.touched is not None and facings is not None:
        alone_s = state.evidence.clock - state.touched
        if alone_s >= policy.dwell_s and evidence.agrees(looks, facings):
            state = replace(state, touched=None)
    if not state.known:
        return state, facts
    state, strangers = _find_strangers(rule, state, looks, at)
    return state, facts + strangers


def _believe(
    rule: ZoneRule,
    policy: Policy,
    old: ZoneState,
    facings: int,
    looks: tuple[Seen, ...],
    at: float,
) -> Result:
    """``facings`` is now what we believe, for the first time, again, or instead of another count."""
    facts: list[Fact] = []
    retracted, stock, alerts = retract(rule, policy, old, facings, at)
    level = rule.level(facings, stock, policy.restock_margin)
    about = {
        "sku": rule.sku,
        "capacity": rule.capacity,
        "facings": facings,
        "level": level,
        "previous_facings": old.belief,
        "previous_level": old.level if old.known else old.stock,
        "confidence": evidence.mean_confidence(looks),
        "evidence_frames": len(looks),
    }

    def say(kind: type[events.EventBase], data: events.ZoneData) -> None:
        facts.append(Fact(kind, rule.zone, at, data))

    if not old.known:
        unknown_s = max(0.0, at - (at if old.unknown_since is None else old.unknown_since))
        known_about = {
            **about,
            "previous_level": StockLevel.UNKNOWN,
            "unknown_s": round(unknown_s, 3),
        }
        say(events.ZoneKnown, events.ZoneKnownData.model_validate(known_about))
    facts += retracted
    more = 0 if old.belief is None else facings - old.belief
    taken = old.taken
    if more:
        say(events.FacingsChanged, events.ZoneData.model_validate(about))
    if more < 0:
        taken -= more
        say(
            events.Picked,
            events.QuantityData.model_validate({**about, "quantity": -more}),
        )
    elif more > 0:
        if more <= taken and not retracted:
            say(
                events.PutBack,
                events.QuantityData.model_validate({**about, "quantity": more}),
            )
        taken = taken - more if more <= taken else 0
        if stock in ALERTS and level is StockLevel.STOCKED:
            say(
                events.Restocked,
                events.QuantityData.model_validate({**about, "quantity": more}),
            )
    if level in ALERTS and _worse(level, stock):
        say(ALERTS[level], events.ZoneData.model_validate(about))
        alerts = (*alerts, OpenAlert(level, at, stock))
    state = replace(
        old,
        known=True,
        belief=facings,
        stock=level,
        unknown_since=None,
        taken=min(taken, MAX_TAKEN),
        alerts=alerts,
    )
    return state, tuple(facts)


MAX_TAKEN = 10_000
"""More than the contract can say is no longer a number that anybody relies on."""


def _worse(level: StockLevel, before: StockLevel | None) -> bool:
    if level is StockLevel.LOW:
        return before in (None, StockLevel.STOCKED)
    return before is not StockLevel.OUT_OF_STOCK


def _find_strangers(rule: ZoneRule, state: ZoneState, looks: tuple[Seen, ...], at: float) -> Result:
    """Report each foreign SKU once, until it has gone."""
    if not state.strangers and not any(look.others for look in looks):
        return state, ()
    standing, about = evidence.strangers(looks)
    facts = [
        Fact(
            events.Misplaced,
            rule.zone,
            at,
            events.MisplacedData(
                sku=rule.sku,
                capacity=rule.capacity,
                facings=state.belief,
                level=state.level,
                evidence_frames=len(looks),
                found_sku=sku,
                found_count=count,
            ),
        )
        for sku, count in standing.items()
        if sku not in state.strangers
    ]
    kept = tuple(sorted({sku for sku in state.strangers if sku in about} | set(standing)))
    return replace(state, strangers=kept), tuple(facts)
