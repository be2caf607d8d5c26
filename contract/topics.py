"""The MQTT topic space ``storefleet/v1/{store}/{device}/…``.

Example:
    >>> topic = DeviceTopics("berlin-01", "node-1")
    >>> topic.events
    'storefleet/v1/berlin-01/node-1/events'
    >>> parse(topic.events)
    ParsedTopic(store='berlin-01', device='node-1', channel=<Channel.EVENTS: 'events'>, camera=None)
"""

from dataclasses import dataclass
from enum import StrEnum

from contract.errors import TopicError
from contract.names import is_name

PREFIX = "storefleet/v1"

STAGING = "staging"
"""Last part of a topic of a whole store: ``storefleet/v1/{store}/staging``, see ``staging_topic``."""
SHADOW = "shadow"
"""Last part of another one: ``storefleet/v1/{store}/shadow``, see ``shadow_topic``."""


class Channel(StrEnum):
    """The last part of a topic: what kind of message it carries."""

    STATE = "state"
    """Retained ``DeviceState``: birth, and death by last will. Device → centre."""
    TELEMETRY = "telemetry"
    """``Telemetry`` heartbeat. Device → centre."""
    EVENTS = "events"
    """One CloudEvents event, QoS 1. Device → centre."""
    CAMERA_STATUS = "status"
    """Retained ``CameraStatusMessage``, under ``cameras/{camera}/status``; empty once the device no longer
    has the camera. Device → centre."""
    GOLDEN = "golden"
    """Retained ``GoldenReport``: how the node's newest release did on the golden set. Device → centre."""
    ACKS = "acks"
    """``EventAck``: what is committed in the central database. Centre → device."""
    DESIRED = "desired"
    """Retained ``Signed`` of a ``DesiredState``, under ``deployer/``. Centre → store's deployer."""
    REPORTED = "reported"
    """Retained ``ReportedState``, under ``deployer/``. Store's deployer → centre."""


@dataclass(frozen=True, slots=True)
class DeviceTopics:
    """Topics of one device. Names must satisfy ``is_name``, else ``TopicError``."""

    store: str
    device: str

    def __post_init__(self) -> None:
        for name in (self.store, self.device):
            if not is_name(name):
                raise TopicError(f"{name!r} cannot be a topic level: use a-z, 0-9 and '-', at most 63")

    @property
    def prefix(self) -> str:
        return f"{PREFIX}/{self.store}/{self.device}"

    @property
    def state(self) -> str:
        return f"{self.prefix}/{Channel.STATE}"

    @property
    def telemetry(self) -> str:
        return f"{self.prefix}/{Channel.TELEMETRY}"

    @property
    def events(self) -> str:
        return f"{self.prefix}/{Channel.EVENTS}"

    @property
    def golden(self) -> str:
        return f"{self.prefix}/{Channel.GOLDEN}"

    @property
    def acks(self) -> str:
        return f"{self.prefix}/{Channel.ACKS}"

    def camera_status(self, camera: str) -> str:
        if not is_name(camera):
            raise TopicError(f"camera {camera!r} cannot be a topic level")
        return f"{self.prefix}/cameras/{camera}/{Channel.CAMERA_STATUS}"


FLEET_SUBSCRIPTIONS: tuple[str, ...] = (
    f"{PREFIX}/+/+/{Channel.STATE}",
    f"{PREFIX}/+/+/{Channel.TELEMETRY}",
    f"{PREFIX}/+/+/{Channel.EVENTS}",
    f"{PREFIX}/+/+/cameras/+/{Channel.CAMERA_STATUS}",
    f"{PREFIX}/+/+/{Channel.GOLDEN}",
)
"""What the centre subscribes to."""


def staging_topic(store: str) -> str:
    """Retained ``StagingOrder``: models that every device of the store shall fetch ahead of time.
    Centre → store. Raises ``TopicError`` for a name that cannot be a topic level."""
    return _store_topic(store, STAGING)


def shadow_topic(store: str) -> str:
    """Retained ``Signed`` of a ``ShadowOrder``: a model that every device of the store shall try beside its
    own. Centre → store. Raises ``TopicError`` for a name that cannot be a topic level."""
    return _store_topic(store, SHADOW)


STAGING_SUBSCRIPTION = f"{PREFIX}/+/{STAGING}"
SHADOW_SUBSCRIPTION = f"{PREFIX}/+/{SHADOW}"
"""What the centre subscribes to, to see which orders the broker keeps."""


def parse_staging_topic(topic: str) -> str:
    """The store of a ``staging_topic``. Raises ``TopicError`` for any other topic."""
    return _parse_store_topic(topic, STAGING)


def parse_shadow_topic(topic: str) -> str:
    """The store of a ``shadow_topic``. Raises ``TopicError`` for any other topic."""
    return _parse_store_topic(topic, SHADOW)


def _store_topic(store: str, last: str) -> str:
    if not is_name(store):
        raise TopicError(f"{store!r} cannot be a topic level: use a-z, 0-9 and '-', at most 63")
    return f"{PREFIX}/{store}/{last}"


def _parse_store_topic(topic: str, last: str) -> str:
    levels = topic.split("/")
    if len(levels) != 4 or "/".join(levels[:2]) != PREFIX or levels[3] != last or not is_name(levels[2]):
        raise TopicError(f"{topic[:120]!r} is not the {last} topic of a store")
    return levels[2]


DEPLOYER = "deployer"
"""Level under which a store's deployer talks to the centre, in the place of a device."""


@dataclass(frozen=True, slots=True)
class DeployerTopics:
    """Topics of one store's deployer. The name must satisfy ``is_name``, else ``TopicError``."""

    store: str

    def __post_init__(self) -> None:
        if not is_name(self.store):
            raise TopicError(f"{self.store!r} cannot be a topic level: use a-z, 0-9 and '-', at most 63")

    @property
    def desired(self) -> str:
        return f"{PREFIX}/{self.store}/{DEPLOYER}/{Channel.DESIRED}"

    @property
    def reported(self) -> str:
        return f"{PREFIX}/{self.store}/{DEPLOYER}/{Channel.REPORTED}"


DEPLOYER_SUBSCRIPTIONS: tuple[str, ...] = (
    f"{PREFIX}/+/{DEPLOYER}/{Channel.DESIRED}",
    f"{PREFIX}/+/{DEPLOYER}/{Channel.REPORTED}",
)
"""What the centre subscribes to for stores with a deployer: what they report, and what it told them
itself, which it need not remember otherwise."""


@dataclass(frozen=True, slots=True)
class ParsedTopic:
    store: str
    device: str
    channel: Channel
    camera: str | None = None


def parse(topic: str) -> ParsedTopic:
    """Take a topic apart. Raises ``TopicError`` for anything outside the topic space."""
    levels = topic.split("/")
    if len(levels) < 5 or "/".join(levels[:2]) != PREFIX:
        raise TopicError(f"{topic[:120]!r} is not under {PREFIX}/")
    store, device, rest = levels[2], levels[3], levels[4:]
    if not (is_name(store) and is_name(device)):
        raise TopicError(f"{topic[:120]!r} has an invalid store or device name")
    match rest:
        case ["cameras", camera, Channel.CAMERA_STATUS] if is_name(camera):
            return ParsedTopic(store, device, Channel.CAMERA_STATUS, camera)
        case [Channel.STATE | Channel.TELEMETRY | Channel.EVENTS | Channel.GOLDEN | Channel.ACKS as channel]:
            return ParsedTopic(store, device, Channel(channel))
        case [Channel.DESIRED | Channel.REPORTED as channel] if device == DEPLOYER:
            return ParsedTopic(store, device, Channel(channel))
    raise TopicError(f"{topic[:120]!r} names no known channel")
