"""Each camera fault, as the centre sees it. The exact times are benchmarks.camera_faults' business; here
they get slack, since a test machine may be busy."""

import pytest

from benchmarks.camera_faults import EXPECTED, measure
from camera_sims.faults import Fault
from storefleet.demo.stage import Stage

SLACK_S = 15.0


@pytest.mark.timeout(120)
@pytest.mark.parametrize("fault", list(EXPECTED), ids=lambda fault: fault.value)
def test_a_camera_fault_is_named_hides_its_zones_and_harms_nobody_else(stage: Stage, fault: Fault) -> None:
    figures = measure(stage, fault)
    assert figures.named_after_s is not None
    assert figures.named_after_s < SLACK_S
    assert figures.status in EXPECTED[fault]
    assert figures.zones_unknown_after_s is not None
    assert figures.recovered_after_s is not None
    assert figures.recovered_after_s < SLACK_S
    assert figures.stock_events_during == 0
    assert figures.other_camera_status_changes == 0
    assert figures.other_camera_frame_age_max_s < 2.0
