"""A whole shop: the same every time, whoever looks and how often."""

from itertools import pairwise

import numpy as np
import pytest

from camera_sims.catalogue import BY_SKU, CATALOGUE, CLASS_NAMES, Shape
from camera_sims.errors import SceneError
from camera_sims.planogram import FRAME_HEIGHT, FRAME_WIDTH
from camera_sims.seeds import EVALUATION, FIRST_RESERVED, TRAINING, VALIDATION
from camera_sims.shop import Shop
from contract.names import gtin_check_digit
from contract.store_config import Policy, load_store_config

START = 1_700_000_000.0


def a_shop(seed: int = 7, cameras: int = 1, activity: float = 3.0) -> Shop:
    return Shop(seed, "berlin-01", cameras, start=START, activity=activity)


def test_same_seed_gives_the_same_pictures_and_truth() -> None:
    one, other = a_shop(), a_shop()
    assert np.array_equal(one.frame("cam-1", START + 12.3), other.frame("cam-1", START + 12.3))
    assert one.truth(START + 90) == other.truth(START + 90)


def test_other_seeds_and_cameras_give_other_pictures() -> None:
    shop = a_shop(cameras=2)
    first = shop.frame("cam-1", START)
    assert not np.array_equal(first, shop.frame("cam-2", START))
    assert not np.array_equal(first, a_shop(seed=8).frame("cam-1", START))


def test_picture_does_not_depend_on_how_often_one_looks() -> None:
    often, seldom = a_shop(seed=11), a_shop(seed=11)
    for step in range(1, 50):
        picture = often.frame("cam-1", START + step * 0.5)
    assert np.array_equal(picture, seldom.frame("cam-1", START + 49 * 0.5))


def test_camera_sees_the_same_with_others_beside_it() -> None:
    alone, among = a_shop(cameras=1), a_shop(cameras=3)
    assert np.array_equal(alone.frame("cam-1", START + 20), among.frame("cam-1", START + 20))


def test_no_two_pictures_are_equal_even_in_an_empty_shop() -> None:
    shop = a_shop(activity=0)
    pictures = [shop.frame("cam-1", START + step * 0.1) for step in range(12)]
    assert all(np.mean(a != b) > 0.3 for a, b in pairwise(pictures))
    assert pictures[0].shape == (FRAME_HEIGHT, FRAME_WIDTH, 3)
    assert pictures[0].dtype == np.uint8


def test_night_is_darker_than_day_and_never_black() -> None:
    day = Shop(7, "berlin-01", 1, lighting="day").frame("cam-1", 0)
    night = Shop(7, "berlin-01", 1, lighting="night").frame("cam-1", 0)
    assert 25 < night.mean() < 0.75 * day.mean()


def test_time_does_not_run_backwards() -> None:
    shop = a_shop()
    shop.frame("cam-1", START + 5)
    with pytest.raises(SceneError, match="only goes forward"):
        shop.frame("cam-1", START + 4)


def test_before_the_start_is_the_start() -> None:
    assert np.array_equal(a_shop().frame("cam-1", START - 9), a_shop().frame("cam-1", START))


def test_unknown_camera_is_named() -> None:
    with pytest.raises(SceneError, match="cam-9"):
        a_shop().frame("cam-9", START)


@pytest.mark.parametrize(
    ("seed", "store", "cameras", "activity"),
    [(1, "Berlin", 1, 1.0), (1, "b", 0, 1.0), (1, "b", 1, -1.0), (-1, "b", 1, 1.0)],
)
def test_impossible_shops_are_refused(seed: int, store: str, cameras: int, activity: float) -> None:
    with pytest.raises(SceneError):
        Shop(seed, store, cameras, activity=activity)


@pytest.mark.parametrize("seed", range(0, 60, 4))
def test_configuration_is_valid(seed: int) -> None:
    shop = a_shop(seed=seed, cameras=3)
    config = shop.config({camera: f"rtsp://127.0.0.1:8554/{camera}" for camera in shop.camera_ids})
    assert load_store_config(config.to_yaml()) == config
    assert {zone.camera for zone in config.zones} == set(shop.camera_ids)
    assert all(3 <= zone.capacity <= 6 for zone in config.zones)
    for camera in shop.camera_ids:
        skus = [zone.sku for zone in config.zones_of(camera)]
        assert len(skus) >= 9
        assert len(set(skus)) == len(skus)


def test_configuration_carries_the_policy_that_the_truth_follows() -> None:
    policy = Policy(dwell_s=1.0)
    shop = Shop(7, "berlin-01", 1, policy=policy)
    assert shop.config({"cam-1": "device:0"}).policy == policy
    assert min(r.time for r in shop.truth(3) if r.type == "zone_known") < 1.5


def test_configuration_needs_a_url_for_every_camera() -> None:
    with pytest.raises(SceneError, match="cam-2"):
        a_shop(cameras=2).config({"cam-1": "device:0"})


def test_catalogue_has_valid_numbers_and_enough_shapes() -> None:
    assert len(CATALOGUE) >= 10
    assert len({package.shape for package in CATALOGUE}) >= 4
    assert all(int(package.gtin[13]) == gtin_check_digit(package.gtin) for package in CATALOGUE)
    assert len({package.gtin for package in CATALOGUE}) == len(CATALOGUE) == len(BY_SKU)
    assert CLASS_NAMES[-1] == "person"
    assert Shape.CAN in {package.shape for package in CATALOGUE}


def test_seeds_for_training_validation_and_evaluation_are_apart() -> None:
    groups = [TRAINING, VALIDATION, EVALUATION]
    assert min(group.start for group in groups) >= FIRST_RESERVED
    assert all(a.stop <= b.start for a, b in pairwise(sorted(groups, key=lambda group: group.start)))
