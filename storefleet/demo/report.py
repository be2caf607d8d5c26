"""The demo's report: what the database holds against what really happened on the shelves.

The simulator's truth starts with the scene, the agents a little later. So the perfect observer is run
once more over the recorded shelves, from the moment each camera was first looked at.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from camera_sims.truth import TICK_S, ZoneObserver
from contract.store_config import StoreConfig, Zone
from storefleet.scoring import ALERT_KINDS, Expected, Observed, Score, nearest_rank, score

SCORED_KINDS = (*ALERT_KINDS, "picked", "put_back", "facings_changed")
LATE_S = 5.0
"""What becomes due this shortly before the end may not have been reported yet; it is not held missed."""

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class StoreTruth:
    config: StoreConfig
    records: Sequence[Row]
    """Records of the store's truth file."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What the centre knows at the end, as its API told."""

    events: Sequence[Row]
    fleet: Sequence[Row]
    gaps: Sequence[Row]
    handovers: Sequence[Row]
    dead_letters: Sequence[Row]


def build_report(truths: Sequence[StoreTruth], facts: Facts, ended_at: float) -> dict[str, Any]:
    """The figures of the run up to ``ended_at`` (seconds since the epoch). What the agents reported after
    that, while they were being stopped, is stored but not scored. Ratios are None without evidence.

    ``capture_to_db_p95_s`` ends when ingest took the event; its batch commits within 50 ms of that."""
    starts = _first_looks(facts.events)
    expected = [e for truth in truths for e in expected_events(truth, starts, ended_at)]
    observed = [
        Observed(e["store"], e["zone"], e["kind"], _seconds(e["event_time"]), e["event_id"])
        for e in facts.events
        if e["kind"] in SCORED_KINDS and _seconds(e["event_time"]) <= ended_at
    ]
    total = score(expected, observed)
    total = Score(total.matches, tuple(m for m in total.missed if m.time < ended_at - LATE_S), total.false)
    alerts = total.only(ALERT_KINDS)
    latencies = [
        _seconds(e["received_at"]) - _seconds(e["event_time"]) for e in facts.events if not e["historical"]
    ]
    return {
        "events_expected": len(total.matches) + len(total.missed),
        "events_in_db": len(facts.events),
        "precision": alerts.precision,
        "recall": alerts.recall,
        "duplicated": duplicates(facts.events),
        "lost": lost(facts.events, facts.fleet),
        "sequence_gaps": sum(1 for gap in facts.gaps if gap["closed_at"] is None or gap["lost"]),
        "time_to_detect_p50_s": alerts.time_to_detect(0.5),
        "time_to_detect_p95_s": alerts.time_to_detect(0.95),
        "capture_to_db_p95_s": nearest_rank(latencies, 0.95),
        "blind_gap_max_s": max((float(h["gap_s"]) for h in facts.handovers), default=None),
        "handovers": len(facts.handovers),
        "dead_letters": len(facts.dead_letters),
        "alerts_expected": len(alerts.matches) + len(alerts.missed),
        "by_type": {kind: _row(total.only([kind])) for kind in SCORED_KINDS},
        "missed": [_words(e.store, e.zone, e.kind, e.time) for e in alerts.missed],
        "false": [_words(o.store, o.zone, o.kind, o.time) for o in alerts.false],
    }


def expected_events(
    truth: StoreTruth, starts: Mapping[tuple[str, str], float], until: float
) -> list[Expected]:
    """What a perfect observer reports of a store from each camera's first look (``starts``, by store and
    camera, seconds since the epoch) to ``until``. A camera that was never looked at owes nothing."""
    shelves: dict[str, list[Row]] = {zone.id: [] for zone in truth.config.zones}
    for record in truth.records:
        if record["record"] == "zone":
            shelves[record["zone"]].append(record)
    found = []
    for zone in truth.config.zones:
        start = starts.get((truth.config.store, zone.camera))
        if start is not None:
            found += _observe(truth.config, zone, shelves[zone.id], start, until)
    return found


def _observe(
    config: StoreConfig, zone: Zone, shelf: Sequence[Row], start: float, until: float
) -> list[Expected]:
    observer = ZoneObserver(zone, config.policy)
    found = []
    position, changed_at = 0, 0.0
    now = start
    current: Row | None = None
    while now <= until:
        while position < len(shelf) and shelf[position]["time"] <= now:
            record = shelf[position]
            if current is None or record["facings"] != current["facings"]:
                changed_at = record["time"]
            current = record
            position += 1
        if current is not None:
            covered = not current["observable"]
            for event in observer.look(now, TICK_S, current["facings"], {}, covered, changed_at):
                if event.type in SCORED_KINDS and event.changed_at is not None:
                    seen = event.observable_at if event.observable_at is not None else event.time
                    found.append(
                        Expected(config.store, zone.id, event.type, event.time, event.changed_at, seen)
                    )
        now += TICK_S
    return found


def _first_looks(events: Iterable[Row]) -> dict[tuple[str, str], float]:
    """When each camera was first looked at, by (store, camera): a zone's first belief says how long it
    was unknown before."""
    first: dict[tuple[str, str], float] = {}
    for event in events:
        if event["kind"] == "zone_known":
            key = (event["store"], event["camera"])
            began = _seconds(event["event_time"]) - float(event["data"]["unknown_s"])
            first[key] = min(began, first.get(key, began))
    return first


def duplicates(events: Sequence[Row]) -> int:
    """Events stored twice: the same id or sequence number, or the same fact of the same instant."""
    ids = Counter(e["event_id"] for e in events)
    numbers = Counter((e["store"], e["device"], e["stream_id"], e["sequence"]) for e in events)
    facts = Counter(
        (e["store"], e["camera"], e["zone"], e["kind"], e["event_time"], repr(sorted(e["data"].items())))
        for e in events
    )
    return max(sum(n - 1 for n in counter.values()) for counter in (ids, numbers, facts)) if events else 0


def lost(events: Sequence[Row], fleet: Sequence[Row]) -> int:
    """Events that a device numbered and the database does not hold."""
    stored: dict[tuple[str, str, str], set[int]] = {}
    for event in events:
        key = (event["store"], event["device"], event["stream_id"])
        stored.setdefault(key, set()).add(event["sequence"])
    highest = {key: max(numbers) for key, numbers in stored.items()}
    for store in fleet:
        for device in store["devices"]:
            outbox = (device["telemetry"] or {}).get("outbox")
            if outbox is not None:
                key = (store["store"], device["device"], outbox["stream_id"])
                highest[key] = max(highest.get(key, 0), int(outbox["last_sequence"]))
    return sum(number - len(stored.get(key, ())) for key, number in highest.items())


def _row(part: Score) -> dict[str, Any]:
    return {
        "expected": len(part.matches) + len(part.missed),
        "matched": len(part.matches),
        "false": len(part.false),
        "precision": part.precision,
        "recall": part.recall,
        "time_to_detect_p50_s": part.time_to_detect(0.5),
    }


def _words(store: str, zone: str, kind: str, time: float) -> str:
    return f"{store} {zone} {kind} at {datetime.fromtimestamp(time).astimezone():%H:%M:%S}"


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
