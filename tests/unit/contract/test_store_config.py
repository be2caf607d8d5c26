import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from contract.errors import ConfigError
from contract.store_config import MAX_CONFIG_BYTES, load_store_config


def problems(text: str | bytes) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_store_config(text)
    return [str(problem) for problem in caught.value.problems]


def test_good_configuration_is_read_and_written_back(store_config: str) -> None:
    config = load_store_config(store_config)
    assert config.zones_of("aisle-1")[0].low_threshold == 2
    assert config.gtin_of("cola-can") == "09520000010010"
    again = load_store_config(config.to_yaml())
    assert again == config
    assert again.digest == config.digest


def test_digest_ignores_how_the_yaml_was_written(store_config: str) -> None:
    other = yaml.safe_dump(yaml.safe_load(store_config), default_flow_style=True, sort_keys=True)
    assert load_store_config(other).digest == load_store_config(store_config).digest
    changed = store_config.replace("capacity: 6", "capacity: 7")
    assert load_store_config(changed).digest != load_store_config(store_config).digest


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("sku: cola-can\n", "sku: cola-tin\n", ["line 13", "zones[0].sku", "not in the planogram"]),
        ("camera: aisle-1", "camera: aisle-9", ["line 12", "zones[0].camera", "does not exist"]),
        ("[420, 230]", "[1420, 230]", ["zones[0].polygon", "leaves the 1280x720 frame"]),
        ("[420, 80], [420, 230]", "[420, 230], [420, 80]", ["polygon", "crosses itself"]),
        ("[420, 230], [100, 230]]", "[421, 80]]", ["polygon", "next to no area"]),
        ("capacity: 6", "capacity: 0", ["line 14", "capacity"]),
        ("capacity: 6", "capacity: 6\n    low_at: 6", ["low_at must be below the capacity"]),
        ("09520000010010", "09520000010013", ["line 4", "gtin", "check digit", "should be 0"]),
        ("${AISLE_1_PASSWORD}", "hunter2", ["line 8", "url", "holds a password"]),
        ("rtsp://", "gopher://", ["url", "unknown scheme"]),
        ("@10.0.4.11", "@", ["url", "names no host"]),
        ("version: 1", "version: 2", ["line 1", "version"]),
        ("store: berlin-01", "store: Berlin 01", ["line 2", "store"]),
        ("zones:", "zone:", ["zone"]),
        ("  - {sku: tea-box", "  - {sku: cola-can", ["planogram[1].sku", "used 2 times"]),
        ("zones:", "  - {id: aisle-1, url: 'device:0', frame_size: [640, 480]}\nzones:", ["used 2 times"]),
        ("polygon:", "polygon: &p", ["line 15", "anchors and aliases"]),
        ("store: berlin-01", "store: berlin-01\nstore: paris-02", ["line 3", "'store' is given twice"]),
        ("[1280, 720]", "[1280, 720", ["not valid YAML"]),
    ],
)
def test_each_fault_is_named_with_its_place(
    store_config: str, old: str, new: str, expected: list[str]
) -> None:
    assert old in store_config
    found = problems(store_config.replace(old, new, 1))
    assert any(all(word in line for word in expected) for line in found), found


def test_every_problem_is_reported_at_once(store_config: str) -> None:
    broken = store_config.replace("sku: cola-can\n", "sku: cola-tin\n").replace("[420, 230]", "[1420, 230]")
    assert len(problems(broken)) == 2


def test_passwords_do_not_appear_in_refusals(store_config: str) -> None:
    broken = store_config.replace("${AISLE_1_PASSWORD}", "hunter2").replace("10.0.4.11", "10.0.4.11:port")
    assert not any("hunter2" in line for line in problems(broken))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "- a list",
        "just text",
        "a: &a [x]\nb: &b [*a, *a]\nc: [*b, *b]",
        "!!python/object/apply:os.system ['true']",
        "{" * 4000,
        "[" * 4000,
        "? [a, b]\n: c",
        "a: 2026-13-45",
        "\x00",
        "#" * (MAX_CONFIG_BYTES + 1),
    ],
    ids=["empty", "list", "text", "aliases", "python", "braces", "brackets", "key", "date", "nul", "large"],
)
def test_hostile_yaml_is_refused(text: str) -> None:
    assert problems(text)


@given(st.binary(max_size=400) | st.text(max_size=400))
def test_any_input_is_a_configuration_or_a_config_error(text: str | bytes) -> None:
    try:
        load_store_config(text)
    except ConfigError as error:
        assert error.problems
