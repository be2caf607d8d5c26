"""Which node of a store watches which camera, and until when it may say so.

Every node keeps one *member* record alive by writing it again and again; every camera has a record that
names its holder and the *epoch*, which rises whenever the camera changes hands. Records are written by
comparing and setting their version, so of two nodes that want a camera one gets it.

Why two never report at once. A node holds its cameras in a *session*, which lasts ``hold_s`` from the moment
at which it **began** its last successful round of reading and renewing; when it runs out, all holdings are
gone, and each has to be written again. Another node takes a camera only after it has seen the holder's
member record **unchanged** for ``lease_s`` of its own time. Each judges by its own steady clock alone; what
must hold is that no clock runs faster than another by more than ``lease_s / hold_s``, half as fast again.

    node A   renews ●───────── hold_s ────────▶ stops reporting, drops everything
    node B      sees it ○──────────── lease_s ───────────▶ may write itself into A's cameras

A node that was paused or cut off finds its session over when it wakes, whatever others did meanwhile. It
writes its cameras again; a node that decided to take one from it just then has the older version, and
loses. Only the holder's word frees a camera earlier: it stops first, then writes.

All times are seconds of the deciding node's steady clock. What was read from the ledger was so at some
moment between asking and answer: a version counts as seen from the answer on (``answered_at``), and as
unchanged until the next question was asked (``asked_at``).
"""

import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

Kind = Literal["member", "camera"]

NOBODY = ""

EPOCH_ZERO = 1704067200
"""2024-01-01T00:00Z. A camera's first epoch is the number of seconds since then, so that the epochs of a
store whose records were lost go on above the former ones. They fit into 31 bits until 2092."""


@dataclass(frozen=True, slots=True)
class Terms:
    """Seconds. Takeover after a death: at most ``renew_s`` until the last renewal has been seen, ``lease_s``
    until it counts as over, ``renew_s`` until the next look: 18 s, and then the camera has to be opened."""

    hold_s: float = 8.0
    lease_s: float = 12.0
    renew_s: float = 2.0
    settle_s: float = 20.0
    """A node must have been here this long before others give cameras to it that they watch themselves, so
    that one that comes and goes does not take cameras along."""

    def __post_init__(self) -> None:
        if not 0 < self.renew_s < self.hold_s < self.lease_s:
            raise ValueError("it must hold that 0 < renew_s < hold_s < lease_s")


@dataclass(frozen=True, slots=True)
class Record:
    """``name`` is a node or a camera. A member record's holder is the node itself, or nobody once it left."""

    name: str
    holder: str
    epoch: int = 0
    """Of a camera: rises whenever its holder changes."""
    version: str = ""
    """Of the record as it was read; empty: there was none."""


@dataclass(frozen=True, slots=True)
class Ledger:
    """All records of the store at one moment, by name."""

    members: Mapping[str, Record] = field(default_factory=dict)
    cameras: Mapping[str, Record] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Sighting:
    version: str
    since: float
    """When this version was first seen."""
    here_since: float
    """Since when the node has been alive without a break, as far as was seen."""
    left: bool


@dataclass(frozen=True, slots=True)
class Observed:
    """What one node saw of the others, and when."""

    members: Mapping[str, Sighting] = field(default_factory=dict)
    cameras: Mapping[str, tuple[Record, float | None]] = field(default_factory=dict)
    """Each camera's last record, and since when it is missing: its holder has to notice first."""


@dataclass(frozen=True, slots=True)
class Session:
    """This node's right to report. ``holds``: epoch by camera, each written or confirmed in this session."""

    valid_until: float
    holds: Mapping[str, int] = field(default_factory=dict)

    def may_report(self, camera: str, epoch: int, now: float) -> bool:
        return now < self.valid_until and self.holds.get(camera) == epoch


@dataclass(frozen=True, slots=True)
class Share:
    """The cameras of one node as the rest of the agent sees them."""

    epochs: Mapping[str, int] | None = None
    """By camera; None: all cameras are this node's, and there are no epochs."""
    soon: frozenset[str] = frozenset()
    """Cameras to open already."""

    def has(self, camera: str) -> bool:
        return self.epochs is None or camera in self.epochs

    def epoch(self, camera: str) -> int | None:
        return None if self.epochs is None else self.epochs.get(camera)

    def opens(self, camera: str) -> bool:
        return self.has(camera) or camera in self.soon


ALL_CAMERAS = Share()


@dataclass(frozen=True, slots=True)
class Take:
    """Write ``record``; once that succeeded, the camera is ours with its epoch."""

    record: Record
    reason: str


@dataclass(frozen=True, slots=True)
class Release:
    """Stop reporting the camera, then write ``record``."""

    record: Record
    reason: str


@dataclass(frozen=True, slots=True)
class Plan:
    lost: tuple[str, ...] = ()
    """Cameras of our session that the ledger says are not ours: stop at once."""
    release: tuple[Release, ...] = ()
    take: tuple[Take, ...] = ()
    soon: frozenset[str] = frozenset()
    """Cameras that another node will give us: worth opening."""


def observe(
    seen: Observed, ledger: Ledger, cameras: Iterable[str], answered_at: float, terms: Terms
) -> Observed:
    """What is known after ``ledger`` was read. Cameras that are neither there nor configured are forgotten,
    and so are members whose record was removed, once they can hold nothing any more."""
    members = {}
    for name in ledger.members.keys() | seen.members.keys():
        old, record = seen.members.get(name), ledger.members.get(name, _REMOVED)
        left = record.version != "" and record.holder == NOBODY
        if old is None:
            members[name] = Sighting(record.version, answered_at, answered_at, left)
        elif old.version != record.version:
            whole = not old.left and answered_at - old.since <= terms.lease_s
            here_since = old.here_since if whole else answered_at
            members[name] = Sighting(record.version, answered_at, here_since, left)
        elif record.version or answered_at - old.since <= 2 * terms.lease_s:
            members[name] = old
    known: dict[str, tuple[Record, float | None]] = {
        n: (record, None) for n, record in ledger.cameras.items()
    }
    for name in cameras:
        if name not in known and name in seen.cameras:
            record, missing_since = seen.cameras[name]
            known[name] = (record, answered_at if missing_since is None else missing_since)
    return Observed(members, known)


def alive(seen: Observed, member: str, asked_at: float, terms: Terms) -> bool:
    """False only when ``member`` can hold nothing any more. ``asked_at``: of the newest read in ``seen``."""
    sighting = seen.members.get(member)
    return sighting is not None and not sighting.left and asked_at - sighting.since <= terms.lease_s


def renewed(session: Session | None, asked_at: float, now: float, terms: Terms) -> Session:
    """After a renewal that has succeeded by ``now``, in a round whose read was asked for at ``asked_at``. One
    that succeeds after the session's end begins a new one, which holds nothing yet."""
    unbroken = session is not None and now < session.valid_until
    return Session(asked_at + terms.hold_s, session.holds if session and unbroken else {})


def holding(session: Session, camera: str, epoch: int) -> Session:
    return replace(session, holds={**session.holds, camera: epoch})


def without(session: Session, cameras: Collection[str]) -> Session:
    return replace(session, holds={c: epoch for c, epoch in session.holds.items() if c not in cameras})


def plan(
    me: str,
    cameras: Collection[str],
    ledger: Ledger,
    seen: Observed,
    session: Session,
    asked_at: float,
    terms: Terms,
    first_epoch: int,
) -> Plan:
    """What this node has to do. ``seen`` includes ``ledger``; ``first_epoch``: of cameras without record."""
    lost = tuple(c for c, epoch in session.holds.items() if not _is(ledger.cameras.get(c), me, epoch))
    held = set(session.holds) - set(lost)
    live = {name for name in seen.members if alive(seen, name, asked_at, terms)} | {me}
    holders = {name: record.holder for name, record in ledger.cameras.items() if record.holder in live}
    wanted = assign(cameras, holders, live)
    release, take, soon = [], [], set()
    for camera, record in sorted(ledger.cameras.items()):
        to = wanted.get(camera)
        if record.holder != me or to == me:
            continue
        if to is None:
            release.append(Release(replace(record, holder=NOBODY), "not configured any more"))
        elif camera not in held or asked_at - seen.members[to].here_since >= terms.settle_s:
            release.append(Release(replace(record, holder=NOBODY), f"given to {to}"))
    for camera in sorted(c for c, to in wanted.items() if to == me and c not in held):
        step = _take(me, camera, ledger.cameras.get(camera), live, seen, asked_at, terms, first_epoch)
        if step is None:
            soon.add(camera)
        else:
            take.append(step)
    return Plan(lost, tuple(release), tuple(take), frozenset(soon))


def assign(cameras: Collection[str], holders: Mapping[str, str], members: Collection[str]) -> dict[str, str]:
    """A member for every camera: as many each as can be, give or take one, and no camera moves without need.

    A deterministic function, so that nodes that see the same agree without talking; where choice is left,
    rendezvous hashing makes it (Thaler and Ravishankar, 1998), so that the first node is not always the one.
    """
    if not members:
        return {}
    mine = {m: [c for c in sorted(cameras) if holders.get(c) == m] for m in members}
    share, extra = divmod(len(cameras), len(members))
    by_load = sorted(members, key=lambda m: (-len(mine[m]), _score("", m)))
    quota = {m: share + (1 if i < extra else 0) for i, m in enumerate(by_load)}
    found = {}
    for member, held in mine.items():
        best = sorted(held, key=lambda camera: _score(camera, member), reverse=True)
        found.update(dict.fromkeys(best[: quota[member]], member))
        quota[member] -= min(len(held), quota[member])
    for camera in sorted(set(cameras) - found.keys()):
        member = max((m for m in members if quota[m] > 0), key=lambda m: _score(camera, m))
        quota[member] -= 1
        found[camera] = member
    return found


def _take(
    me: str,
    camera: str,
    record: Record | None,
    live: set[str],
    seen: Observed,
    asked_at: float,
    terms: Terms,
    first_epoch: int,
) -> Take | None:
    """None: the camera is another's still."""
    if record is None:
        last, missing_since = seen.cameras.get(camera, (None, None))
        if last is None:
            return Take(Record(camera, me, first_epoch), "never watched before")
        if last.holder in live - {me} and asked_at - (missing_since or asked_at) <= terms.lease_s:
            return None
        return Take(Record(camera, me, max(first_epoch, last.epoch + 1)), "its record is gone")
    if record.holder == me:
        return Take(record, "still ours")  # Nobody had it in between: what we know of it still counts.
    if record.holder == NOBODY:
        return Take(replace(record, holder=me, epoch=record.epoch + 1), "free")
    if record.holder not in live:
        return Take(replace(record, holder=me, epoch=record.epoch + 1), f"{record.holder} is gone")
    return None


_REMOVED = Record("", NOBODY)


def _is(record: Record | None, holder: str, epoch: int) -> bool:
    return record is not None and record.holder == holder and record.epoch == epoch


def _score(camera: str, member: str) -> bytes:
    return hashlib.sha256(f"{camera}\0{member}".encode()).digest()
