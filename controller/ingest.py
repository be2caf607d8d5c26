"""The ingest thread: from the broker into the database, then acknowledgements back.

Order matters: commit, acknowledge to the broker, tell the device. Killed anywhere in between, the
broker or the device sends again, and the database knows what it has.
"""

import logging
import random
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from contract.messages import EventAck
from controller.domain.page import MAX_LIMIT, PageRequest
from controller.domain.quality import KEPT, MEMORY_KEPT
from controller.domain.sequence import Stream, StreamKey
from controller.errors import ControllerError, TransientError
from controller.ingest_batch import BatchResult, ingest_batch
from controller.ports import BusStatus, FleetBus, Received, Transactions

log = logging.getLogger(__name__)

BATCH_MESSAGES = 500
BATCH_WAIT_S = 0.05
STALLED_AFTER = timedelta(seconds=5)
"""How long events may be missing before the device is asked to send again, and between two requests."""
BUSY_STALLED_AFTER = timedelta(seconds=60)
"""The same while messages queue up here: what seems missing is most likely among them, and every request
would make the queue longer."""
SEEN_WITHIN = timedelta(seconds=60)
"""Devices silent for longer are not asked; they cannot answer."""
SWEEP_EVERY = timedelta(seconds=1)
TRIM_EVERY = timedelta(minutes=1)
DEAD_LETTERS_KEPT = 10_000
MAX_BACKOFF_S = 10.0


@dataclass(frozen=True, slots=True)
class IngestStatus:
    """Counts since the program started."""

    bus: BusStatus
    messages: int = 0
    stored: int = 0
    duplicates: int = 0
    refused: int = 0
    lost: int = 0
    last_commit_at: datetime | None = None
    waiting_since: datetime | None = None
    """When the oldest message that is not yet in the database was received."""
    error: str = ""
    """Why nothing can be stored just now."""


class Ingest:
    """``run`` is the thread; ``status`` may be called from any other."""

    def __init__(self, transactions: Transactions, bus: FleetBus, clock: Callable[[], datetime]) -> None:
        self._transactions = transactions
        self._bus = bus
        self._clock = clock
        self._lock = threading.Lock()
        self._status = IngestStatus(bus.status())
        self._sessions_lost = 0
        self._asked: dict[StreamKey, datetime] = {}
        self._swept_at = self._trimmed_at = clock()

    def status(self) -> IngestStatus:
        with self._lock:
            return replace(self._status, bus=self._bus.status())

    def run(self, stop: threading.Event) -> None:
        while not stop.is_set():
            batch = self._bus.take(BATCH_MESSAGES, BATCH_WAIT_S)
            if batch:
                self._store(batch, stop)
            self._look_after(stop)

    def _store(self, batch: Sequence[Received], stop: threading.Event) -> None:
        with self._lock:
            self._status = replace(self._status, waiting_since=batch[0].received_at)
        result = self._insist(lambda: ingest_batch(self._transactions, batch, self._clock()), stop)
        if result is None:
            return
        self._bus.acknowledge(batch)
        for ack in result.acks:
            self._bus.send_ack(ack.store, ack.device, ack.ack)
        self._count(len(batch), result)
        if result.refused:
            log.warning("refused %d messages; see storefleet dead-letters", result.refused)
        if result.lost:
            log.error("gave up %d events that their device no longer has; see GET /v1/gaps", result.lost)

    def _insist(self, work: Callable[[], BatchResult], stop: threading.Event) -> BatchResult | None:
        """Until it works, with jittered backoff; None when told to stop. Nothing is acknowledged
        meanwhile, so the broker keeps what comes."""
        pause = 0.25
        while not stop.is_set():
            try:
                return work()
            except ControllerError as error:
                self._fail(error)
                after = error.retry_after if isinstance(error, TransientError) else 0.0
                pause = min(MAX_BACKOFF_S, max(2 * pause, after))
                stop.wait(pause * random.uniform(0.5, 1.0))  # noqa: S311 - spreads retries
        return None

    def _fail(self, error: ControllerError) -> None:
        if str(error) != self._status.error:
            log.error("cannot store messages, retrying: %s", error)
        with self._lock:
            self._status = replace(self._status, error=str(error))

    def _recover(self) -> None:
        if self._status.error:
            log.info("the database works again")
            with self._lock:
                self._status = replace(self._status, error="")

    def _count(self, messages: int, result: BatchResult) -> None:
        self._recover()
        with self._lock:
            done = self._status
            self._status = replace(
                done,
                messages=done.messages + messages,
                stored=done.stored + result.stored,
                duplicates=done.duplicates + result.duplicates,
                refused=done.refused + result.refused,
                lost=done.lost + result.lost,
                last_commit_at=self._clock(),
                waiting_since=None,
            )

    def _look_after(self, stop: threading.Event) -> None:
        now = self._clock()
        if abs(now - self._swept_at) < SWEEP_EVERY or stop.is_set():  # abs: the clock may be set back
            return
        self._swept_at = now
        try:
            lost = self._bus.status().sessions_lost
            if lost != self._sessions_lost:
                self._ask_everyone(now)
                self._sessions_lost = lost
            self._ask_stalled(now)
            if abs(now - self._trimmed_at) >= TRIM_EVERY:
                self._trimmed_at = now
                with self._transactions.writing() as repositories:
                    repositories.dead_letters.trim(DEAD_LETTERS_KEPT)
                    repositories.quality.trim(now - KEPT, now - MEMORY_KEPT)
            self._recover()
        except ControllerError as error:
            self._fail(error)

    def _ask_everyone(self, now: datetime) -> None:
        """The broker forgot our session: whatever was published meanwhile is gone from it."""
        cursor: str | None = None
        while True:
            with self._transactions.reading() as repositories:
                page = repositories.fleet.page_devices(PageRequest(MAX_LIMIT, cursor))
                keys = [StreamKey(d.store, d.device, d.stream_id) for d in page.items if d.stream_id]
                streams = repositories.streams.load(keys)
            for key in keys:
                self._ask(key, streams.get(key, Stream()).committed, now)
            cursor = page.next_cursor
            if cursor is None:
                return

    def _ask_stalled(self, now: datetime) -> None:
        after = STALLED_AFTER if self._bus.status().queued < BATCH_MESSAGES else BUSY_STALLED_AFTER
        self._asked = {key: at for key, at in self._asked.items() if abs(now - at) < after}
        with self._transactions.reading() as repositories:
            stalled = repositories.streams.stalled(now - after, now - SEEN_WITHIN, MAX_LIMIT)
        for stream in stalled:
            if stream.key not in self._asked:
                log.info("asking %s/%s to send again", stream.key.store, stream.key.device)
                self._ask(stream.key, stream.committed, now)

    def _ask(self, key: StreamKey, committed: int, now: datetime) -> None:
        ack = EventAck(stream_id=key.stream_id, committed_sequence=committed, resend=True)
        self._bus.send_ack(key.store, key.device, ack)
        self._asked[key] = now
