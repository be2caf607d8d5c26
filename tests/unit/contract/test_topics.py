import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.errors import TopicError
from contract.topics import (
    DEPLOYER_SUBSCRIPTIONS,
    FLEET_SUBSCRIPTIONS,
    Channel,
    DeployerTopics,
    DeviceTopics,
    ParsedTopic,
    parse,
    parse_staging_topic,
    staging_topic,
)

NAMES = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", fullmatch=True)


@given(NAMES, NAMES, NAMES)
def test_every_topic_parses_back_to_where_it_came_from(store: str, device: str, camera: str) -> None:
    topics = DeviceTopics(store, device)
    expected = {
        topics.state: ParsedTopic(store, device, Channel.STATE),
        topics.telemetry: ParsedTopic(store, device, Channel.TELEMETRY),
        topics.events: ParsedTopic(store, device, Channel.EVENTS),
        topics.acks: ParsedTopic(store, device, Channel.ACKS),
        topics.camera_status(camera): ParsedTopic(store, device, Channel.CAMERA_STATUS, camera),
    }
    deployer = DeployerTopics(store)
    expected[deployer.desired] = ParsedTopic(store, "deployer", Channel.DESIRED)
    expected[deployer.reported] = ParsedTopic(store, "deployer", Channel.REPORTED)
    assert {topic: parse(topic) for topic in expected} == expected


@pytest.mark.parametrize(
    "topic",
    [
        "",
        "storefleet/v1",
        "storefleet/v1/berlin-01/node-1",
        "storefleet/v2/berlin-01/node-1/state",
        "storefleet/v1/berlin-01/node-1/unheard-of",
        "storefleet/v1/berlin-01/node-1/desired",
        "storefleet/v1/berlin-01/node-1/reported",
        "storefleet/v1/Berlin/node-1/state",
        "storefleet/v1/berlin-01//state",
        "storefleet/v1/+/node-1/state",
        "storefleet/v1/berlin-01/node-1/state/more",
        "storefleet/v1/berlin-01/node-1/cameras/aisle-1",
        "storefleet/v1/berlin-01/node-1/cameras/#/status",
        "$SYS/broker/uptime/a/b",
    ],
)
def test_foreign_topics_are_refused(topic: str) -> None:
    with pytest.raises(TopicError):
        parse(topic)


@given(NAMES)
def test_staging_topic_parses_back_to_its_store_and_no_other_topic_is_one(store: str) -> None:
    assert parse_staging_topic(staging_topic(store)) == store
    for other in (
        staging_topic(store) + "/more",
        DeviceTopics(store, "staging").state,
        f"a/v1/{store}/staging",
    ):
        with pytest.raises(TopicError):
            parse_staging_topic(other)


@given(st.text(max_size=200))
def test_any_text_is_a_topic_or_a_topic_error(topic: str) -> None:
    try:
        parse(topic)
    except TopicError as error:
        assert len(str(error)) < 600


@pytest.mark.parametrize("name", ["", "a" * 64, "-a", "a-", "A", "a/b", "a+", "#", "ä", "a b", "a\n"])
def test_names_that_would_break_out_of_their_level_are_refused(name: str) -> None:
    with pytest.raises(TopicError):
        DeviceTopics(name, "node-1")
    with pytest.raises(TopicError):
        DeployerTopics(name)
    with pytest.raises(TopicError):
        DeviceTopics("berlin-01", name)
    with pytest.raises(TopicError):
        staging_topic(name)
    with pytest.raises(TopicError):
        DeviceTopics("berlin-01", "node-1").camera_status(name)


def test_the_centre_subscribes_to_what_devices_send_and_to_nothing_else() -> None:
    topics = DeviceTopics("berlin-01", "node-1")
    sent = [topics.state, topics.telemetry, topics.events, topics.camera_status("aisle-1")]

    def matches(pattern: str, topic: str) -> bool:
        parts, levels = pattern.split("/"), topic.split("/")
        return len(parts) == len(levels) and all(
            p in ("+", level) for p, level in zip(parts, levels, strict=True)
        )

    assert all(sum(matches(s, topic) for s in FLEET_SUBSCRIPTIONS) == 1 for topic in sent)
    assert not any(matches(s, topics.acks) for s in FLEET_SUBSCRIPTIONS)
    deployer = DeployerTopics("berlin-01")
    for topic in (deployer.desired, deployer.reported):
        assert sum(matches(s, topic) for s in DEPLOYER_SUBSCRIPTIONS) == 1
        assert not any(matches(s, topic) for s in FLEET_SUBSCRIPTIONS)
