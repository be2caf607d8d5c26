from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.domain.rollout.selection import Refusal, Selected, StoreFacts, select
from controller.rollout_file import read_rollout

FLEET = tuple(
    StoreFacts(
        f"s{i:03d}",
        {
            "region": ("north", "south", "east")[i % 3],
            "hardware": "jetson" if i % 10 == 7 else "nuc",
            "camera": f"cam{i % 4}",
        },
    )
    for i in range(100)
)


def chosen(fleet: Sequence[StoreFacts] = FLEET, **fields: object) -> Selected | Refusal:
    return select(read_rollout({"name": "r", "release": "v2", **fields}), fleet)


def sizes(result: Selected | Refusal) -> list[int]:
    assert isinstance(result, Selected), result
    return [len(wave) for wave in result.waves]


CANARY = [{"name": "canary", "size": "5%"}, {"name": "half", "size": "50%"}, {"name": "rest"}]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, [100]),
        ({"waves": CANARY}, [5, 50, 45]),
        ({"waves": [{"name": "a", "size": 3}, {"name": "b"}]}, [3, 97]),
        ({"select": {"labels": {"region": "north"}}, "waves": CANARY}, [2, 17, 15]),
        ({"select": {"names": ["s001", "s002"]}}, [2]),
        ({"select": {"percent": 10}}, [10]),
        ({"select": {"exclude": {"labels": {"hardware": ["jetson"]}, "names": ["s000"]}}}, [89]),
        ({"waves": [{"name": "a", "labels": {"region": "north"}}, {"name": "b"}]}, [34, 66]),
        ({"waves": [{"name": "a", "labels": {"region": "north"}, "size": 4}, {"name": "b"}]}, [4, 96]),
        ({"waves": [{"name": "a", "names": ["s005"]}, {"name": "b"}]}, [1, 99]),
        ({"waves": [{"name": "a", "names": ["s005"], "size": 3}, {"name": "b"}]}, [3, 97]),
        (
            {"waves": [{"name": "a", "size": "50%"}, {"name": "b", "names": ["s005"], "size": "50%"}]},
            [50, 50],
        ),
    ],
)
def test_stores_are_chosen_and_put_into_waves(fields: dict[str, object], expected: list[int]) -> None:
    assert sizes(chosen(**fields)) == expected


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"select": {"names": ["nowhere", "s001"]}}, ["select.names", "no store nowhere"]),
        ({"select": {"exclude": {"names": ["gone"]}}}, ["select.exclude.names", "gone"]),
        ({"waves": [{"name": "a", "names": ["x1", "x2"]}, {"name": "b"}]}, ["waves[0].names", "x1, x2"]),
        ({"select": {"labels": {"region": "west"}}}, ["none of 100 stores matches"]),
        ({"select": {"labels": {"colour": "red"}}}, ["none of 100 stores matches"]),
        (
            {"select": {"exclude": {"names": ["s001"]}}, "waves": [{"name": "a", "names": ["s001"]}]},
            ["wave a", "s001 is no target"],
        ),
        ({"waves": [{"name": "a", "labels": {"region": "west"}}, {"name": "b"}]}, ["wave a", "region=west"]),
        ({"waves": [{"name": "a", "size": 40}]}, ["no wave takes", "and 55 more", "only a name"]),
        (
            {"strata": ["hardware", "region"], "waves": [{"name": "a", "size": 2}, {"name": "b"}]},
            ["with 2 of 100 stores it lacks", "region=", "3 stores have every value of hardware, region"],
        ),
        (
            {"strata": ["hardware"], "waves": [{"name": "a", "names": ["s001"]}, {"name": "b"}]},
            ["wave a", "none of its stores can have hardware=jetson"],
        ),
        (
            {"strata": ["region"], "waves": [{"name": "a", "labels": {"region": "north"}}, {"name": "b"}]},
            ["region=east, region=south"],
        ),
        ({"strata": ["floor"]}, ["has no label floor", "and 95 more"]),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(fields: dict[str, object], words: list[str]) -> None:
    result = chosen(**fields)
    assert isinstance(result, Refusal)
    assert any(all(word in problem for word in words) for problem in result.problems), result.problems


def test_no_fleet_is_refused() -> None:
    assert isinstance(chosen(fleet=()), Refusal)


def test_the_choice_does_not_depend_on_the_order_and_differs_between_rollouts() -> None:
    assert chosen(waves=CANARY) == chosen(fleet=FLEET[::-1], waves=CANARY)
    assert chosen(waves=CANARY) != chosen(name="another", waves=CANARY)


labels = st.fixed_dictionaries({"hw": st.sampled_from("abcd"), "cam": st.sampled_from("xyz")})


@settings(deadline=None)
@given(st.lists(labels, min_size=1, max_size=40), st.integers(1, 12))
def test_a_first_wave_has_every_value_or_is_refused_with_a_size_that_does(
    marks: list[dict[str, str]], size: int
) -> None:
    fleet = [StoreFacts(f"s{i}", mark) for i, mark in enumerate(marks)]

    def with_size(number: int) -> Selected | Refusal:
        waves = [{"name": "canary", "size": number}, {"name": "rest"}]
        return chosen(fleet=fleet, strata=["hw", "cam"], waves=waves)

    result = with_size(size)
    if isinstance(result, Refusal):
        assert size < len(fleet)
        enough = int(result.problems[0].split("; ")[1].split()[0])
        result = with_size(enough)
    assert isinstance(result, Selected)
    assert sorted(result.targets) == sorted(store.name for store in fleet)
    of = {store.name: store.labels for store in fleet}
    for label in ("hw", "cam"):
        assert {of[s][label] for s in result.waves[0]} == {mark[label] for mark in marks}
