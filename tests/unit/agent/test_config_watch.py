"""A changed store configuration is noticed however it changes; a broken one changes nothing."""

import os
from pathlib import Path

import pytest

from agent.config_watch import ConfigWatch
from contract.errors import Problem
from contract.store_config import StoreConfig

GOOD = """
version: 1
store: berlin-01
planogram: [{sku: cola-can, gtin: "04012345678901", name: Cola}]
cameras: [{id: aisle-1, url: "rtsp://10.0.0.1/a", frame_size: [640, 480]}]
"""
OTHER = GOOD.replace("10.0.0.1", "10.0.0.2")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "store.yaml"
    path.write_text(GOOD)
    return path


def url(watch: ConfigWatch) -> str:
    assert watch.config is not None
    return watch.config.cameras[0].url


def test_first_poll_loads_and_the_next_finds_nothing_new(file: Path) -> None:
    watch = ConfigWatch(file)
    assert (watch.poll(), watch.poll()) == (True, False)


def test_edit_with_the_same_size_and_time_stamp_is_noticed(file: Path) -> None:
    watch = ConfigWatch(file)
    watch.poll()
    before = file.stat()
    file.write_text(OTHER)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert watch.poll() is True
    assert url(watch).endswith("10.0.0.2/a")


def test_symlink_swap_of_a_config_map_is_noticed(tmp_path: Path) -> None:
    for name, text in (("v1", GOOD), ("v2", OTHER)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "store.yaml").write_text(text)
    data = tmp_path / "..data"
    data.symlink_to("v1")
    link = tmp_path / "store.yaml"
    link.symlink_to("..data/store.yaml")
    watch = ConfigWatch(link)
    watch.poll()
    (tmp_path / "..data_tmp").symlink_to("v2")
    (tmp_path / "..data_tmp").rename(data)
    assert watch.poll() is True
    assert url(watch).endswith("10.0.0.2/a")


def test_comment_and_order_are_no_change(file: Path) -> None:
    watch = ConfigWatch(file)
    watch.poll()
    file.write_text("# a comment\n" + GOOD)
    assert watch.poll() is False


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("version: [", "not valid YAML"),
        (GOOD.replace("version: 1", "version: 7"), "version"),
        (GOOD.replace("640, 480", "640"), "frame_size"),
        (GOOD.replace("rtsp://", "rtsp://me:s3cr3t@"), "password"),
        (None, "cannot read"),
    ],
)
def test_broken_file_leaves_the_last_good_one_in_force(file: Path, content: str | None, message: str) -> None:
    watch = ConfigWatch(file)
    watch.poll()
    if content is None:
        file.unlink()
    else:
        file.write_text(content)
    assert watch.poll() is False
    assert message in watch.error
    assert "s3cr3t" not in watch.error
    assert url(watch).endswith("10.0.0.1/a")
    file.write_text(OTHER)
    assert watch.poll() is True
    assert watch.error == ""


def test_repaired_file_clears_the_error_without_counting_as_new(file: Path) -> None:
    watch = ConfigWatch(file)
    watch.poll()
    file.write_text("rubbish")
    watch.poll()
    file.write_text(GOOD)
    assert watch.poll() is False
    assert watch.error == ""


def test_further_check_can_refuse_and_can_be_replaced(file: Path) -> None:
    def refuse(config: StoreConfig) -> list[Problem]:
        return [Problem("planogram", "the model does not know cola-can")]

    watch = ConfigWatch(file, check=refuse)
    assert watch.poll() is False
    assert "does not know" in watch.error
    watch.recheck(lambda config: [])
    assert watch.poll() is True
