from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contract.errors import ConfigError
from controller.domain.rollout.spec import Amount, RolloutSpec
from controller.rollout_file import load_rollout, read_rollout

NOW = datetime(2026, 3, 3, 12, tzinfo=UTC)
GOOD = """\
name: spring
release: v2
select: {labels: {region: [north, south]}, exclude: {names: [berlin-07]}}
strata: [hardware]
waves:
  - {name: canary, size: 2%, soak: 1h30m, approval: true}
  - {name: half, size: 50%}
  - name: rest
limits: {concurrency: 10%, failures: 3}
windows:
  - {days: [mon, tue], start: 22:00, end: "05:00"}
blackouts:
  - {first: 2026-12-20, last: 2026-12-31, reason: Christmas}
gates:
  - {kind: staged, percent: 98}
  - {kind: quality, alpha: 0.01}
deadline: 2026-04-01T00:00:00Z
"""


def test_a_good_file_is_read_and_survives_the_api() -> None:
    spec = load_rollout(GOOD, now=NOW)
    assert spec.waves[0].soak.total_seconds() == 5400
    assert spec.windows[0].start.hour == 22
    assert spec.limits.failures == Amount(count=3)
    assert read_rollout(spec.model_dump(mode="json"), now=NOW) == spec
    assert load_rollout("name: a\nrelease: v1\nselect: {percent: 10%}").select.percent == 10
    assert load_rollout("name: a\nrelease: v1\n") == RolloutSpec(name="a", release="v1")


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("name: half, size: 50%", "name: canary, size: 50%", ["line 7, column 12", "two waves canary"]),
        ("size: 50%", "size: 99%", ["line 7", "waves[1].size", "101%, more than all"]),
        ("  - name: rest\n", "", ["line 6", "waves", "add up to 52%", "48%"]),
        ("  - name: rest", "  - name: rest\n  - {name: late, size: 3}", ["line 9", "wave late is empty"]),
        ("size: 50%}", "size: half}", ["line 7", "percentage such as 20%"]),
        ("size: 2%,", "size: 0%,", ["line 6", "has no store"]),
        ("size: 2%,", "names: [a, b, a],", ["waves[0].names[2]", "also in wave canary"]),
        ("size: 50%}", "labels: {x: 1}}", ["line 7", "labels"]),
        ('end: "05:00"', 'end: "22:00"', ["line 11", "never opens"]),
        ('end: "05:00"', 'end: "25:00"', ["line 11", "windows[0].end"]),
        ("last: 2026-12-31", "last: 2026-12-01", ["line 13", "before the first day"]),
        ("2026-04-01", "2026-03-01", ["line 17", "is past"]),
        (
            "{first: 2026-12-20",
            "{first: 2026-01-01",
            ["line 11", "no window opens anywhere before the deadline"],
        ),
        ("kind: quality, alpha: 0.01", "kind: quality, alpha: 7", ["line 16, column 28", "alpha"]),
        ("kind: quality", "kind: sharpness", ["line 16", "gates[1]", "sharpness"]),
        ("{kind: quality, alpha: 0.01}", "{kind: prometheus, url: http://p}", ["line 16", "query"]),
        ("kind: quality, alpha: 0.01", "kind: staged", ["line 16", "two staged gates"]),
        ("release: v2", "release: v2\nafter: [spring]", ["line 3", "cannot come after itself"]),
        ("release: v2", "release: v2\ncolour: red", ["line 3", "colour", "Extra inputs"]),
        ("strata: [hardware]", "strata: [a, a]", ["strata[1]", "twice"]),
        ("select: {", "select: {names: [berlin-07], ", ["select.names[0]", "selected and excluded"]),
        ("release: v2", "", ["release", "required"]),
        ("release: v2", "release: v2\nrelease: v3", ["line 3", "'release' is given twice"]),
        ("waves:", "waves: &w", ["line 5", "anchors and aliases"]),
        ("[mon, tue]", "[mon, tue", ["line 11", "not valid YAML"]),
    ],
)
def test_each_fault_is_named_with_its_place(old: str, new: str, expected: list[str]) -> None:
    assert old in GOOD
    with pytest.raises(ConfigError) as caught:
        load_rollout(GOOD.replace(old, new, 1), now=NOW)
    found = [str(problem) for problem in caught.value.problems]
    assert any(all(word in line for word in expected) for line in found), found


def test_every_problem_is_told_at_once_and_json_gets_paths() -> None:
    data = {
        "name": "a",
        "release": "v1",
        "waves": [{"name": "x", "size": "60%"}, {"name": "x", "size": "70%"}],
        "after": ["a"],
    }
    with pytest.raises(ConfigError) as caught:
        read_rollout(data)
    paths = [problem.path for problem in caught.value.problems]
    assert paths == ["waves[1].name", "waves[1].size", "after[0]"]
    assert all(problem.line == 0 for problem in caught.value.problems)


def test_a_deadline_is_only_judged_when_the_time_is_told() -> None:
    old = GOOD.replace("2026-04-01", "2020-04-01")
    assert load_rollout(old).deadline == datetime(2020, 4, 1, tzinfo=UTC)


@pytest.mark.parametrize("data", [None, [], "text", 3])
def test_what_is_no_object_is_refused(data: object) -> None:
    with pytest.raises(ConfigError, match="expected an object"):
        read_rollout(data)


@settings(deadline=None)
@given(st.text(max_size=200) | st.binary(max_size=200))
def test_any_text_is_read_or_refused(text: str | bytes) -> None:
    try:
        load_rollout(text, now=NOW)
    except ConfigError as error:
        assert error.problems


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(sorted(RolloutSpec.model_fields)),
        _JSON,
    )
)
def test_any_json_is_read_or_refused(data: dict[str, object]) -> None:
    try:
        spec = read_rollout({"name": "a", "release": "v1", **data}, now=NOW)
    except ConfigError as error:
        assert error.problems
    else:
        assert read_rollout(spec.model_dump(mode="json"), now=NOW) == spec
