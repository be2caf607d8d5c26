"""Lets the fleet's agents speak: whose pod is Ready is born, and heard of until it ends or its line breaks.

One thread for the whole fleet; heartbeats are spread evenly over their interval.
"""

import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

from contract.messages import ModelRef
from storefleet.fleet_sim.agents import Agent, Said
from storefleet.fleet_sim.failures import Character, Kind
from storefleet.fleet_sim.kubelet import Running
from storefleet.fleet_sim.shops import Shop

TURN_S = 0.25
VERSION = "simulated"
UNEXPECTED = "connection lost"


class Voices:
    """``publish(topic, payload, retained)`` must not block."""

    def __init__(
        self,
        shops: Sequence[Shop],
        characters: Mapping[str, Character],
        publish: Callable[[str, bytes, bool], None],
        interval_s: float,
        is_armed: Callable[[str, str], bool],
    ) -> None:
        self._shops = {shop.name: shop for shop in shops}
        self._order = [shop.name for shop in shops]
        self._characters = characters
        self._publish = publish
        self._interval_s = interval_s
        self._is_armed = is_armed
        self._streams = {shop.name: uuid.uuid4() for shop in shops}
        self._agents: dict[str, Agent] = {}
        self._before: dict[str, Agent] = {}
        """The last agent of each store that told the truth."""
        self._off: set[str] = set()
        self._cached: dict[str, list[str]] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="voices", daemon=True)
        self.heartbeats = 0

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join(5)

    def ready(self, running: Running) -> None:
        """The agent of a pod is up."""
        character, now = self._characters[running.store], datetime.now(UTC)
        agent = Agent(
            self._shops[running.store],
            uuid.uuid4(),
            self._streams[running.store],
            uuid.UUID(running.rollout_id),
            ModelRef(digest=running.model_digest, version=VERSION),
            now,
            timedelta(seconds=character.skew_s if self._is_armed(running.store, running.rollout_id) else 0),
        )
        with self._lock:
            earlier = self._before.get(running.store)
            lying = character.kind is Kind.LYING and self._is_armed(running.store, running.rollout_id)
            if lying and earlier is not None:
                agent = agent.as_before(earlier)
            else:
                self._before[running.store] = agent
                cached = self._cached.setdefault(running.store, [])
                if running.model_digest not in cached:
                    cached.insert(0, running.model_digest)
            self._agents[running.store] = agent
            if running.store not in self._off:
                self._say(agent.born(now))
                self._beat(agent, now)

    def ended(self, store: str) -> None:
        """Its pod is gone, and it said goodbye."""
        with self._lock:
            agent = self._agents.pop(store, None)
            if agent is not None and store not in self._off:
                self._say(agent.died("stopped", datetime.now(UTC)))

    def silence(self, store: str) -> None:
        """The store's line breaks: the broker publishes the agent's last will."""
        with self._lock:
            self._off.add(store)
            agent = self._agents.get(store)
            if agent is not None:
                self._say(agent.died(UNEXPECTED, datetime.now(UTC)))

    def restore(self, store: str) -> None:
        """Its line is back."""
        now = datetime.now(UTC)
        with self._lock:
            self._off.discard(store)
            agent = self._agents.get(store)
            if agent is not None:
                self._say(agent.born(now))
                self._beat(agent, now)

    def _run(self) -> None:
        """Every store's turn comes once in an interval."""
        turns = max(1, round(self._interval_s / TURN_S))
        turn = 0
        while not self._stop.wait(TURN_S):
            now = datetime.now(UTC)
            with self._lock:
                for store in self._order[turn::turns]:
                    agent = self._agents.get(store)
                    if agent is not None and store not in self._off:
                        self._beat(agent, now)
            turn = (turn + 1) % turns

    def _beat(self, agent: Agent, now: datetime) -> None:
        self.heartbeats += 1
        self._say(agent.heartbeat(now, self._interval_s, self._cached.get(agent.shop.name, ())))

    def _say(self, said: Said) -> None:
        self._publish(said.topic, said.payload, said.retained)
