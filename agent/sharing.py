"""Keeps this node's part in sharing the store's cameras: one round of reading and writing every ``renew_s``.

A thread of its own, so that a slow disk, camera or model never costs the node its cameras; what it decides
reaches the inference loop as a new ``Share``. The rules are in ``agent.domain.sharing``.
"""

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from typing import Protocol

from agent.domain import sharing
from agent.domain.sharing import (
    ALL_CAMERAS,
    EPOCH_ZERO,
    NOBODY,
    Observed,
    Record,
    Session,
    Share,
    Terms,
)
from agent.errors import AgentError
from agent.ports import CameraLeases

_log = logging.getLogger(__name__)


def steady() -> float:
    """Seconds that also count while the machine sleeps, unlike those of ``time.monotonic``: a node that wakes
    must know that its time is over."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Tenure(Protocol):
    """What the pipeline asks before it reports."""

    def while_held(self, camera: str, epoch: int | None) -> AbstractContextManager[bool]:
        """Whether this node may report the camera, and goes on to hold it of its own will for the block."""


class Sharing(Tenure, Protocol):
    """This node's part of the store's cameras."""

    @property
    def share(self) -> Share: ...

    def foresee(self, cameras: Collection[str]) -> Share:
        """What this node will watch, as far as can be told before it takes part."""

    def begin(self, cameras: Collection[str]) -> Share:
        """Take part: the first round. One that fails leaves the share empty, to be tried again by ``run``."""

    def configure(self, cameras: Collection[str]) -> None:
        """These are the store's cameras from now on."""

    def run(
        self, stop: threading.Event, on_change: Callable[[Share], None], turns: Callable[[], bool]
    ) -> None:
        """Take rounds until ``stop`` is set. ``on_change`` is called with every new share. While ``turns``
        denies that anybody looks at the cameras, nothing is renewed, so that others take them."""

    def resign(self) -> None:
        """After the last report: let others have the cameras at once."""


class Solo:
    """Implements ``Sharing`` for a node that is alone: all cameras are its own."""

    share = ALL_CAMERAS

    def while_held(self, camera: str, epoch: int | None) -> AbstractContextManager[bool]:
        return nullcontext(True)

    def foresee(self, cameras: Collection[str]) -> Share:
        return ALL_CAMERAS

    def begin(self, cameras: Collection[str]) -> Share:
        return ALL_CAMERAS

    def configure(self, cameras: Collection[str]) -> None:
        """All are ours."""

    def run(
        self, stop: threading.Event, on_change: Callable[[Share], None], turns: Callable[[], bool]
    ) -> None:
        """Nothing ever changes."""

    def resign(self) -> None:
        """Nobody is there to take them."""


class LeasedCameras:
    """Implements ``Sharing``. ``while_held`` may be called from any thread, ``run`` belongs to one."""

    def __init__(
        self,
        leases: CameraLeases,
        me: str,
        terms: Terms,
        *,
        clock: Callable[[], float] = time.time,
        steady: Callable[[], float] = steady,
    ) -> None:
        self._leases = leases
        self._me = me
        self._terms = terms
        self._clock = clock
        self._steady = steady
        self._cameras: frozenset[str] = frozenset()
        self._seen = Observed()
        self._session = Session(steady())
        self._reporting = threading.Lock()
        """Held while something is reported, and to give a camera away."""
        self._share = Share({})
        self._complaint = ""

    @property
    def share(self) -> Share:
        return self._share

    @contextmanager
    def while_held(self, camera: str, epoch: int | None) -> Iterator[bool]:
        with self._reporting:
            yield epoch is not None and self._session.may_report(camera, epoch, self._steady())

    def foresee(self, cameras: Collection[str]) -> Share:
        try:
            records = self._leases.read().cameras
        except AgentError as error:
            self._complain(error)
            return Share({})
        return Share({}, frozenset(c for c in cameras if c in records and records[c].holder == self._me))

    def begin(self, cameras: Collection[str]) -> Share:
        self.configure(cameras)
        self.turn()
        return self._share

    def configure(self, cameras: Collection[str]) -> None:
        self._cameras = frozenset(cameras)

    def run(
        self, stop: threading.Event, on_change: Callable[[Share], None], turns: Callable[[], bool]
    ) -> None:
        while not stop.wait(self._terms.renew_s):
            before = self._share
            if turns():
                self.turn()
            else:
                self._note({}, frozenset())
            if self._share != before:
                on_change(self._share)

    def turn(self) -> None:
        """One round. What goes wrong is logged and tried again in the next one; the cameras then stay ours
        until the session is over."""
        soon: frozenset[str] = frozenset()
        try:
            soon = self._round()
            self._complaint = ""
        except AgentError as error:
            self._complain(error)
        session = self._session
        self._note(session.holds if self._steady() < session.valid_until else {}, soon)

    def _note(self, held: Mapping[str, int], soon: frozenset[str]) -> None:
        for camera in self._share.epochs.keys() - held.keys() if self._share.epochs else ():
            _log.info("camera is another node's from now on", extra={"camera": camera})
        self._share = Share(dict(held), soon)

    def resign(self) -> None:
        with self._reporting:
            self._session = Session(self._steady())
        try:
            record = self._leases.read().members.get(self._me)
            if record is not None:
                self._leases.write("member", replace(record, holder=NOBODY))
        except AgentError as error:
            self._complain(error)  # Others then wait until our time is over.

    def _round(self) -> frozenset[str]:
        """The cameras that will soon be ours. Raises ``AgentError``."""
        terms, cameras = self._terms, self._cameras
        asked_at = self._steady()
        ledger = self._leases.read()
        self._seen = sharing.observe(self._seen, ledger, cameras, self._steady(), terms)
        mine = ledger.members.get(self._me, Record(self._me, NOBODY))
        if self._leases.write("member", replace(mine, holder=self._me)) is None:
            return self._share.soon  # An earlier renewal got through after all; the next round sees it.
        session = sharing.renewed(self._session, asked_at, self._steady(), terms)
        first_epoch = max(1, int(self._clock()) - EPOCH_ZERO)
        todo = sharing.plan(self._me, cameras, ledger, self._seen, session, asked_at, terms, first_epoch)
        self._session = session
        self._let_go(todo.lost)
        for release in todo.release:
            self._let_go([release.record.name])
            self._leases.write("camera", release.record)
            _log.info("camera released", extra={"camera": release.record.name, "reason": release.reason})
        for take in todo.take:
            if self._steady() - asked_at > terms.renew_s:
                break  # A slow ledger: renewing what we hold comes first.
            record = self._leases.write("camera", take.record)
            if record is not None:
                self._session = sharing.holding(self._session, record.name, record.epoch)
                extra = {"camera": record.name, "epoch": record.epoch, "reason": take.reason}
                _log.info("camera taken", extra=extra)
        return todo.soon

    def _let_go(self, cameras: Collection[str]) -> None:
        with self._reporting:
            self._session = sharing.without(self._session, cameras)

    def _complain(self, error: AgentError) -> None:
        if str(error) != self._complaint:
            self._complaint = str(error)
            _log.error("cameras cannot be shared at the moment", extra={"detail": self._complaint})
