"""Takes one batch of messages into the database, in one transaction.

What cannot be taken in becomes a dead letter and holds up nothing else. An event that is refused but
says which number it has is accounted for in its stream: otherwise the device would keep it, and
everything after it, for ever. Its only copy is then the dead letter, which is never trimmed.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TypeVar

from contract.events import EventBase
from contract.messages import CameraStatusMessage, DeviceState, EventAck, Telemetry
from controller.device_clocks import DeviceClocks
from controller.domain import fleet, stock
from controller.domain.fleet import Camera, Device, Handover
from controller.domain.journal import DeadLetter
from controller.domain.keys import CameraKey, DeviceKey, ZoneKey
from controller.domain.sequence import Gap, Stream, StreamKey, advance, give_up
from controller.domain.stock import ZoneStock
from controller.errors import PermanentError
from controller.ingest_models import save_judgements, save_quality
from controller.ports import Received, Repositories, Transactions
from controller.reading import CameraGone, Decoded, Refused, read, refuse
from controller.stores import configured_zones

GIVE_UP_AFTER_S = 30.0
"""How long a gap stays open that the device says it cannot fill."""

SEQUENCE_REUSED = "sequence reused: another event has this number; its device was asked for a new stream"
"""A device whose disk lost its last events. They come again under the new stream, if it still has them."""


K = TypeVar("K")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Ack:
    store: str
    device: str
    ack: EventAck


@dataclass(frozen=True, slots=True)
class BatchResult:
    stored: int = 0
    """Events new in the database."""
    duplicates: int = 0
    refused: int = 0
    """Messages that became dead letters."""
    lost: int = 0
    """Events given up because the device no longer has them."""
    acks: tuple[Ack, ...] = ()
    """To send now that everything is committed."""
    heard: frozenset[str] = frozenset()
    """Stores of which a device is alive: it said something just now."""

    def __add__(self, other: "BatchResult") -> "BatchResult":
        return BatchResult(
            self.stored + other.stored,
            self.duplicates + other.duplicates,
            self.refused + other.refused,
            self.lost + other.lost,
            self.acks + other.acks,
            self.heard | other.heard,
        )


def ingest_batch(
    transactions: Transactions,
    messages: Sequence[Received],
    now: datetime,
    clocks: DeviceClocks | None = None,
) -> BatchResult:
    """Store everything in ``messages``; when this returns, it is committed. Safe to repeat. ``clocks`` marks
    the events that came late, beside those that their device marked.

    Raises ``TransientError`` when the database is not available; nothing is stored then.
    """
    items = [read(message, now) for message in messages]
    return ingest_items(transactions, [clocks.mark(item) for item in items] if clocks else items, now)


def ingest_items(
    transactions: Transactions, items: Sequence[Decoded | Refused], now: datetime
) -> BatchResult:
    """A value that the database refuses, against all checks, is found by halving the batch."""
    try:
        with transactions.writing() as repositories:
            return _Batch(repositories, now).run(items)
    except PermanentError as error:
        if len(items) > 1:
            half = len(items) // 2
            return ingest_items(transactions, items[:half], now) + ingest_items(
                transactions, items[half:], now
            )
        item = items[0]
        if isinstance(item, Refused):
            raise
        return ingest_items(transactions, [refuse(item.received, now, f"not storable: {error}")], now)


class _Batch:
    """One attempt at one batch. Loads what it needs, folds the messages over it, saves what changed."""

    def __init__(self, repositories: Repositories, now: datetime) -> None:
        self._db = repositories
        self._now = now

    def run(self, items: Sequence[Decoded | Refused]) -> BatchResult:
        known = self._db.stores.known({item.store for item in items if item.store is not None})
        accepted = [item for item in items if isinstance(item, Decoded) and item.store in known]
        numbered: list[DeadLetter] = []
        others: list[DeadLetter] = []
        for item in items:
            if item.store is not None and item.store not in known:
                others.append(_of_unknown_store(item, self._now))
            elif isinstance(item, Refused):
                (others if item.letter.sequence is None else numbered).append(item.letter)
        before = self._db.fleet.devices({(item.store, item.device) for item in accepted})
        devices = self._fold_devices(before, accepted)
        current = [item for item in accepted if not _is_outdated(item, devices)]
        cameras_before = self._db.fleet.cameras(_camera_keys(current))
        cameras = self._fold_cameras(cameras_before, current)
        events = [item.body for item in accepted if isinstance(item.body, EventBase)]
        heartbeats = _latest_heartbeats(accepted)
        touched = {_stream_key(event) for event in events}
        for letter in numbered:
            if letter.store and letter.device and letter.stream_id:
                touched.add(StreamKey(letter.store, letter.device, letter.stream_id))
        streams_before = self._db.streams.load(touched | set(heartbeats))
        streams, lost = self._fold_streams(streams_before, touched, events, numbered, heartbeats)
        devices = _mark_ahead(devices, streams, heartbeats, self._now)

        self._db.fleet.save(_changed(before, devices), _changed(cameras_before, cameras))
        self._db.fleet.forget_cameras(cameras_before.keys() - cameras.keys())
        self._forget_cameras(before, current)
        self._db.handovers.save(_handovers(accepted))
        added = self._db.events.add(events, self._now)
        fresh = [event for event in events if event.id in added.new]
        self._save_stock(fresh)
        save_quality(self._db.quality, accepted, fresh, self._now)
        save_judgements(self._db, accepted, self._now)
        self._db.streams.save(
            {
                key: (streams_before.get(key, Stream()), stream)
                for key, stream in streams.items()
                if key in touched or streams_before.get(key) != stream
            },
            lost,
            self._now,
        )
        conflicts = [
            refuse(item.received, self._now, SEQUENCE_REUSED).letter
            for item in accepted
            if isinstance(item.body, EventBase) and item.body.id in added.conflicting
        ]
        reused = {_stream_key(event) for event in events if event.id in added.conflicting}
        refused = [*others, *numbered, *conflicts]
        self._db.dead_letters.add(refused)
        return BatchResult(
            stored=len(added.new),
            duplicates=len(events) - len(added.new) - len(conflicts),
            refused=len(refused),
            lost=sum(gap.last - gap.first + 1 for _, gap in lost),
            acks=tuple(_acks(streams, touched, heartbeats, reused)),
            heard=frozenset(item.store for item in accepted if _is_sign_of_life(item)),
        )

    def _fold_devices(
        self, before: dict[DeviceKey, Device], items: Iterable[Decoded]
    ) -> dict[DeviceKey, Device]:
        devices = dict(before)
        for item in items:
            key = (item.store, item.device)
            device = fleet.seen(devices.get(key), *key, self._now, not item.received.retained)
            if isinstance(item.body, DeviceState):
                device = fleet.apply_state(device, item.body)
            elif isinstance(item.body, Telemetry):
                device = fleet.apply_telemetry(device, item.body, self._now)
            devices[key] = device
        return devices

    def _fold_cameras(
        self, before: dict[CameraKey, Camera], items: Iterable[Decoded]
    ) -> dict[CameraKey, Camera]:
        """Newest report wins. A report from the future counts as one of now: it must not outlast the true
        ones that come when the device's clock is right again."""
        cameras = dict(before)
        for item in items:
            place = (item.store, item.device)
            if isinstance(item.body, CameraStatusMessage):
                key = (*place, item.body.camera)
                said = item.body.model_copy(update={"at": min(item.body.at, self._now)})
                cameras[key] = fleet.apply_camera_status(cameras.get(key), *place, said)
            elif isinstance(item.body, CameraGone):
                cameras.pop((*place, item.body.camera), None)
            elif isinstance(item.body, Telemetry):
                at = min(item.body.at, self._now)
                for figures in item.body.cameras:
                    key = (*place, figures.camera)
                    cameras[key] = fleet.apply_camera_telemetry(cameras.get(key), *place, figures, at)
        return cameras

    def _forget_cameras(self, before: dict[DeviceKey, Device], items: Sequence[Decoded]) -> None:
        """Cameras not configured any more, when a heartbeat tells of a new configuration, and those that
        another device has taken over, when a birth lists the ones that are left."""
        left: dict[DeviceKey, set[str]] = {}
        for item in items:
            device = (item.store, item.device)
            if isinstance(item.body, DeviceState) and item.body.status == "online":
                left[device] = set(item.body.cameras)
            elif device in left and isinstance(item.body, CameraStatusMessage):
                left[device].add(item.body.camera)
            elif device in left and isinstance(item.body, Telemetry):
                left[device].update(figures.camera for figures in item.body.cameras)
        for device, cameras in left.items():
            self._db.fleet.keep_cameras(device, cameras)
        for item in items:
            if not isinstance(item.body, Telemetry) or not item.body.cameras:
                continue
            known = before.get((item.store, item.device))
            if known is not None and known.config_digest != item.body.config_digest:
                names = [figures.camera for figures in item.body.cameras]
                self._db.fleet.keep_cameras((item.store, item.device), names)

    def _fold_streams(
        self,
        before: dict[StreamKey, Stream],
        touched: set[StreamKey],
        events: Iterable[EventBase],
        numbered: Iterable[DeadLetter],
        heartbeats: dict[StreamKey, Telemetry],
    ) -> tuple[dict[StreamKey, Stream], list[tuple[StreamKey, Gap]]]:
        arrived: dict[StreamKey, list[int]] = {key: [] for key in touched}
        for event in events:
            arrived[_stream_key(event)].append(event.sequence)
        for letter in numbered:
            if letter.store and letter.device and letter.stream_id and letter.sequence:
                arrived[StreamKey(letter.store, letter.device, letter.stream_id)].append(letter.sequence)
        streams = dict(before)
        for key, numbers in arrived.items():
            streams[key] = advance(streams.get(key, Stream()), numbers, self._now)
        lost: list[tuple[StreamKey, Gap]] = []
        for key, telemetry in heartbeats.items():
            if key not in streams:
                continue
            oldest_held = telemetry.outbox.last_sequence - telemetry.outbox.pending + 1
            streams[key], given_up = give_up(streams[key], oldest_held, self._now, GIVE_UP_AFTER_S)
            lost += [(key, gap) for gap in given_up]
        return streams, lost

    def _save_stock(self, events: Sequence[EventBase]) -> None:
        keys = {(event.store, event.subject) for event in events if event.subject is not None}
        before: dict[ZoneKey, ZoneStock] = self._db.stock.zones(keys)
        after = dict(before)
        for event in events:
            if event.subject is not None:
                key = (event.store, event.subject)
                zone = stock.apply(after.get(key), event)
                if zone is not None:
                    after[key] = zone
        for key in self._removed(after.keys() - before.keys()):
            del after[key]
        history = [change for change in map(stock.history_of, events) if change is not None]
        self._db.stock.save(_changed(before, after), history)
        self._db.events.retract(dict(filter(None, map(stock.retraction_of, events))), self._now)

    def _removed(self, new: Collection[ZoneKey]) -> list[ZoneKey]:
        """Those of ``new`` that are not in their store's configuration: an agent that does not have the
        present one yet reports them. Zones that have stock are configured, else they would have none."""
        configured = {store: configured_zones(self._db, store) for store in {store for store, _ in new}}
        return [
            (store, zone)
            for store, zone in new
            if (names := configured[store]) is not None and zone not in names
        ]


def _of_unknown_store(item: Decoded | Refused, now: datetime) -> DeadLetter:
    """One letter per topic, without contents: a store that nobody registered must not push other
    letters out. Nothing is accounted for, so its devices send their events again once it is known."""
    reason = f"unknown store {item.store}: register it, and its devices send again"
    return DeadLetter(item.received.topic, reason, b"", 0, now, item.store)


def _stream_key(event: EventBase) -> StreamKey:
    return StreamKey(event.store, event.device, event.streamid)


def _is_sign_of_life(item: Decoded) -> bool:
    """Not what the broker kept from earlier, nor what it says in the name of a device that is gone."""
    dead = isinstance(item.body, DeviceState) and item.body.status == "offline"
    return not item.received.retained and not dead


def _is_outdated(item: Decoded, devices: dict[DeviceKey, Device]) -> bool:
    """Whether a heartbeat tells of cameras as they were before the device's present session."""
    device = devices[item.store, item.device]
    return isinstance(item.body, Telemetry) and fleet.of_older_session(device, item.body)


def _handovers(items: Iterable[Decoded]) -> list[Handover]:
    return [
        handover
        for item in items
        if isinstance(item.body, Telemetry)
        for handover in fleet.handovers_of(item.store, item.device, item.body)
    ]


def _camera_keys(items: Iterable[Decoded]) -> set[CameraKey]:
    keys: set[CameraKey] = set()
    for item in items:
        if isinstance(item.body, CameraStatusMessage | CameraGone):
            keys.add((item.store, item.device, item.body.camera))
        elif isinstance(item.body, Telemetry):
            keys.update((item.store, item.device, figures.camera) for figures in item.body.cameras)
    return keys


def _latest_heartbeats(items: Iterable[Decoded]) -> dict[StreamKey, Telemetry]:
    return {
        StreamKey(item.store, item.device, item.body.outbox.stream_id): item.body
        for item in items
        if isinstance(item.body, Telemetry)
    }


def _mark_ahead(
    devices: dict[DeviceKey, Device],
    streams: dict[StreamKey, Stream],
    heartbeats: dict[StreamKey, Telemetry],
    now: datetime,
) -> dict[DeviceKey, Device]:
    """Note since when a device has told of events that did not come in."""
    marked = dict(devices)
    for key in heartbeats:
        device = marked[key.store, key.device]
        if device.stream_id != key.stream_id:
            continue
        ahead = device.outbox_last_sequence > streams.get(key, Stream()).committed
        since = (device.outbox_ahead_since or now) if ahead else None
        marked[key.store, key.device] = replace(device, outbox_ahead_since=since)
    return marked


def _acks(
    streams: dict[StreamKey, Stream],
    touched: set[StreamKey],
    heartbeats: dict[StreamKey, Telemetry],
    reused: set[StreamKey],
) -> Iterable[Ack]:
    """One for every stream that sent events, and for every device that still holds committed ones
    (because an earlier acknowledgement was lost). Devices of ``reused`` streams are to begin new ones."""
    for key, stream in streams.items():
        telemetry = heartbeats.get(key)
        holds = telemetry is not None and telemetry.outbox.pending > 0
        forgotten = telemetry.outbox.last_sequence - telemetry.outbox.pending if telemetry else 0
        if key in touched or (holds and forgotten < stream.committed):
            ack = EventAck(
                stream_id=key.stream_id, committed_sequence=stream.committed, begin_stream=key in reused
            )
            yield Ack(key.store, key.device, ack)


def _changed(before: dict[K, T], after: dict[K, T]) -> list[T]:
    return [value for key, value in after.items() if before.get(key) != value]
