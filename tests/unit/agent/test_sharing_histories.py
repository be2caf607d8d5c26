"""Never two nodes that may report one camera, whatever the order of reads and writes, pauses, crashes and
clocks. Every node is the real ``LeasedCameras`` in a thread; each waits before and after every access to the
ledger, and Hypothesis chooses who goes on and how much time passes."""

import threading
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.domain.sharing import Kind, Ledger, Record, Terms
from agent.errors import TransientError
from agent.sharing import LeasedCameras

TERMS = Terms(hold_s=8, lease_s=12, renew_s=2, settle_s=10)
CAMERAS = ("c1", "c2", "c3")


@dataclass
class Book:
    """The true ledger: compare and set."""

    records: dict[Kind, dict[str, Record]] = field(default_factory=lambda: {"member": {}, "camera": {}})

    def read(self) -> Ledger:
        return Ledger(dict(self.records["member"]), dict(self.records["camera"]))

    def write(self, kind: Kind, record: Record) -> Record | None:
        old = self.records[kind].get(record.name)
        if (old.version if old else "") != record.version:
            return None
        new = replace(record, version=str(int(record.version or "0") + 1))
        self.records[kind][record.name] = new
        return new


class Killed(BaseException):
    """Ends a node's thread wherever it is."""


class Node:
    """One agent process. ``step`` lets it run to its next stop."""

    def __init__(self, name: str, book: Book, clock: Callable[[], float]) -> None:
        self.name = name
        self._book = book
        self._go, self._stopped = threading.Semaphore(0), threading.Semaphore(0)
        self._killed = False
        self.lossy = False
        """Whether answers are lost just now; what was written stays written."""
        self.clock = clock
        self.sharing = LeasedCameras(self, name, TERMS, clock=lambda: 1.8e9, steady=clock)
        self.sharing.configure(CAMERAS)
        self._thread = threading.Thread(target=self._live)
        self._thread.start()

    def _live(self) -> None:
        try:
            while True:
                self._pause()
                self.sharing.turn()
        except Killed:
            return

    def _pause(self) -> None:
        self._go.acquire()
        if self._killed:
            raise Killed
        self._stopped.release()

    def step(self) -> None:
        self._go.release()
        self._stopped.acquire()

    def kill(self) -> None:
        self._killed = True
        self._go.release()
        self._thread.join()

    def read(self) -> Ledger:
        self._pause()
        found = self._book.read()
        self._pause()
        self._drop()
        return found

    def write(self, kind: Kind, record: Record) -> Record | None:
        self._pause()
        written = self._book.write(kind, record)
        self._pause()
        self._drop()
        return written

    def _drop(self) -> None:
        if self.lossy:
            raise TransientError("lost on the way back")

    def reports(self) -> dict[str, int]:
        """Cameras that it may report at this moment, with their epochs."""
        session = self.sharing._session
        return {c: e for c, e in session.holds.items() if session.may_report(c, e, self.clock())}


class World:
    def __init__(self, rates: list[float]) -> None:
        self.now = 100.0
        self.book = Book()
        self.rates = rates
        self.nodes: list[Node | None] = [None] * len(rates)
        self.epochs: dict[str, tuple[int, str]] = {}
        for number in range(len(rates)):
            self.start(number)

    def start(self, number: int) -> None:
        self.stop(number)
        rate = self.rates[number]
        self.nodes[number] = Node(f"n{number}", self.book, lambda: self.now * rate)

    def stop(self, number: int) -> None:
        node = self.nodes[number]
        if node is not None:
            node.kill()
            self.nodes[number] = None

    def check(self) -> None:
        owners: dict[str, list[str]] = defaultdict(list)
        for node in self.nodes:
            for camera, epoch in node.reports().items() if node else ():
                owners[camera].append(node.name if node else "")
                before, holder = self.epochs.get(camera, (0, ""))
                assert epoch >= before, f"{camera}: epoch {epoch} after {before}"
                assert epoch > before or holder in ("", owners[camera][-1]), f"{camera}: epoch {epoch} shared"
                self.epochs[camera] = (epoch, owners[camera][-1])
        assert all(len(names) == 1 for names in owners.values()), dict(owners)


NODES = st.integers(0, 2)
SLOW = st.sampled_from([0.0, 0.0, 0.1, 0.5, 2.0])
ROUNDS = st.tuples(st.just("round"), NODES, st.sampled_from([0.0, 0.1, 0.4]))
EVENTS = st.one_of(
    st.tuples(st.just("step"), NODES, SLOW),
    ROUNDS,
    ROUNDS,
    ROUNDS,
    st.tuples(st.just("wait"), NODES, st.sampled_from([2.0, 3.0, 6.0, 7.5, 8.1, 12.5])),
    st.tuples(st.sampled_from(["restart", "kill", "lossy", "wait"]), NODES, st.just(0.0)),
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    events=st.lists(EVENTS, min_size=20, max_size=100),
    rates=st.lists(st.sampled_from([1.0, 1.45]), min_size=2, max_size=3),
)
def test_no_two_nodes_may_ever_report_one_camera(
    events: list[tuple[str, int, float]], rates: list[float]
) -> None:
    world = World(rates)
    try:
        for kind, number, seconds in events:
            play(world, kind, number % len(rates), seconds)
        settle(world)
    finally:
        for number in range(len(rates)):
            world.stop(number)


def play(world: World, kind: str, number: int, seconds: float) -> None:
    node = world.nodes[number]
    if kind != "round":
        world.now += seconds
        world.check()
    if kind == "restart":
        world.start(number)
    elif kind == "kill":
        world.stop(number)
    elif node is not None and kind == "lossy":
        node.lossy = not node.lossy
    elif node is not None and kind in ("step", "round"):
        for _ in range(14 if kind == "round" else 1):
            node.step()
            world.check()
            world.now += seconds / 14 if kind == "round" else 0
            world.check()


def settle(world: World) -> None:
    """In quiet times every camera is watched, and each node has its share."""
    living = [node for node in world.nodes if node is not None]
    for node in living:
        node.lossy = False
    for _ in range(60):
        world.now += 1.0
        for node in living:
            for _ in range(8):
                node.step()
                world.check()
    loads = Counter(node.name for node in living for _ in node.reports())
    assert sum(loads.values()) == (len(CAMERAS) if living else 0)
    assert not living or max(loads.values()) - min(loads[node.name] for node in living) <= 1
