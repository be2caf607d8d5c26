"""What happens at a shelf, and that truth, picture and people agree about it."""

from collections import Counter

import numpy as np
import pytest

from camera_sims.shop import Shop
from camera_sims.truth import TruthRecord
from camera_sims.visits import Errand
from camera_sims.witness import is_covered

ALERTS = {"low_stock", "out_of_stock", "restocked"}


def of_zones(records: list[TruthRecord]) -> list[TruthRecord]:
    return [record for record in records if record.record == "zone"]


def test_busy_minute_on_four_cameras_has_enough_to_show() -> None:
    for seed in (7, 21):
        records = Shop(seed, "s", 4, activity=3).truth(60)
        assert sum(r.type in ALERTS and (r.changed_at or 0) > 0 for r in records) >= 6


def test_quiet_shop_never_changes() -> None:
    records = Shop(7, "s", 1, activity=0).truth(120)
    assert all(record.observable for record in of_zones(records))
    assert all(record.time == 0 for record in of_zones(records))


def test_truth_told_in_steps_is_the_truth() -> None:
    shop = Shop(9, "s", 2, activity=3)
    teller = shop.storyteller()
    told = [record for until in np.arange(0.05, 60.06, 3.7) for record in teller.advance(float(until))]
    told += teller.advance(60)
    assert Counter(told) == Counter(shop.truth(60))


@pytest.mark.parametrize("seed", [3, 4, 5])
def test_shelf_changes_only_behind_somebody(seed: int) -> None:
    """Or else an agent could see a package vanish by itself, which no shopper can do."""
    shop = Shop(seed, "s", 1, activity=3)
    gondola, script = shop.gondola("cam-1"), shop.script("cam-1")
    boxes = [np.array(gondola.polygons[zone.id]) for zone in gondola.zones]
    changes = 0
    for tick in range(1200):
        t = tick * 0.1
        before = script.present(t - 0.1) if tick else []
        for change in script.advance(t):
            polygon = boxes[change.zone]
            zone_box = (*polygon.min(axis=0), *polygon.max(axis=0))
            visits = {id(v): v for v in before + script.present(t)}.values()
            people = [box for visit in visits if (box := visit.pose(change.at).box) is not None]
            assert is_covered(zone_box, people, gondola.zones[change.zone].capacity)
            changes += 1
    assert changes > 5


def test_all_errands_are_run() -> None:
    script = Shop(5, "s", 1, activity=4).script("cam-1")
    seen = set()
    for second in range(1500):
        script.advance(second)
        seen |= {visit.errand for visit in script.present(second)}
    assert seen == set(Errand)


def test_script_forgets_visits_that_are_over() -> None:
    script = Shop(5, "s", 1, activity=6).script("cam-1")
    for minute in range(120):
        script.advance(minute * 60.0)
        assert len(script.present(minute * 60.0)) <= 12


def test_events_follow_the_policy() -> None:
    shop = Shop(13, "s", 2, activity=3, start=100.0)
    events = [r for r in shop.truth(400) if r.type in ALERTS]
    assert len(events) > 10
    for event in events:
        assert event.changed_at is not None
        assert event.observable_at is not None
        assert event.changed_at <= event.observable_at + 0.1
        assert event.time >= event.observable_at + shop.policy.dwell_s - 0.11
        assert event.facings is not None
        assert 0 <= event.facings <= event.capacity


def test_moving_people_are_covered_in_the_truth() -> None:
    zones = of_zones(Shop(7, "s", 1, activity=3).truth(120))
    assert any(not record.observable for record in zones)
    times = [record.time for record in zones]
    assert times == sorted(times)
