"""Which events come late, whatever the devices' clocks say.

An agent marks what it sends late, but cannot know what was late on the way: an event that it sent into a link
that had just broken waits in the buffers of its machine, and arrives unmarked when the link is mended. Its
record time tells, once it is known by how much the device's clock is wrong. That is what the least delayed
of its late heartbeats says: heartbeats are sent with quality of service 0, so no broker keeps them.
"""

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from contract.events import HISTORICAL_AFTER_S, EventBase
from contract.messages import Telemetry
from controller.domain.keys import DeviceKey
from controller.reading import Decoded, Refused

REMEMBERED = timedelta(minutes=10)
"""A clock that was set back is believed after that, at the latest after twice that."""


@dataclass(frozen=True, slots=True)
class _Offset:
    """The least of received minus sent, in seconds, of this period and of the one before."""

    since: datetime
    current: float
    previous: float

    @property
    def seconds(self) -> float:
        return min(self.current, self.previous)


@dataclass
class DeviceClocks:
    """Kept by one ingest thread; forgotten when it ends, and then the devices' clocks are believed until
    their first heartbeats."""

    _offsets: dict[DeviceKey, _Offset] = field(default_factory=dict)

    def mark(self, item: Decoded | Refused) -> Decoded | Refused:
        """``item``, with its event marked historical if it came late. Learns from heartbeats."""
        if not isinstance(item, Decoded):
            return item
        key = (item.store, item.device)
        if isinstance(item.body, Telemetry) and not item.received.retained:
            self._learn(key, item.received.received_at, item.body.at)
        elif isinstance(item.body, EventBase) and not item.body.historical:
            delay = (item.received.received_at - item.body.recordtime).total_seconds()
            known = self._offsets.get(key)
            if delay - (known.seconds if known else 0.0) > HISTORICAL_AFTER_S:
                return replace(item, body=item.body.model_copy(update={"historical": True}))
        return item

    def forget_silent(self, now: datetime) -> None:
        """Those not heard of for so long that what is known of them does not count any more."""
        self._offsets = {
            key: offset for key, offset in self._offsets.items() if abs(now - offset.since) < 3 * REMEMBERED
        }

    def _learn(self, key: DeviceKey, received: datetime, sent: datetime) -> None:
        seconds = (received - sent).total_seconds()
        known = self._offsets.get(key)
        if known is None or abs(received - known.since) >= 2 * REMEMBERED:
            self._offsets[key] = _Offset(received, seconds, seconds)
        elif abs(received - known.since) >= REMEMBERED:
            self._offsets[key] = _Offset(received, seconds, known.current)
        elif seconds < known.current:
            self._offsets[key] = replace(known, current=seconds)
