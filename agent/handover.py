"""How one agent process leaves a node and the next one takes over, without two of them ever acting.

The holder of the node's lock is the only one that appends to the outbox and publishes. A process of the
next release gets everything ready first (model verified and loaded, detector warm, cameras delivering),
queues as successor and takes the lock within ``node_lock.POLL_S`` of its release. The leaving process, in
order:

1. stops looking at frames and stores its last state (``Loop.run`` has done so when ``leave`` begins);
2. stops its publisher and sends the last telemetry, while it still holds the lock, so that nothing of
   this session comes after the successor's birth but what the client had already queued;
3. with a successor waiting: releases the lock at once, then says goodbye to the broker. No offline state
   is published: the successor's retained birth must not be overwritten. What is left in the outbox is
   the successor's to send;
4. without one: keeps the lock, delivers what it can for ``drain_s`` while watching for a successor
   (then as in 3), publishes its retained offline state, says goodbye, and only then releases the lock. A
   successor that came meanwhile is born after that death, never before.

After a ``kill -9`` the kernel frees the lock, and the broker may send the dead session's will late, over
the successor's retained birth; the publisher sees that and puts the birth back. The centre ignores the
death of any session but the present one in any case.
"""

import logging
import threading
from collections.abc import Callable
from typing import Protocol

from agent.ports import Broker
from agent.publisher import Publisher

_log = logging.getLogger(__name__)


class Claim(Protocol):
    """The node's lock, as held by this process."""

    def wait(self, stop: threading.Event) -> bool: ...

    def owned_by_another(self) -> bool: ...

    def successor_waits(self) -> bool: ...

    def release(self) -> None: ...


def leave(
    claim: Claim,
    publisher: Publisher,
    broker: Broker,
    *,
    drain_s: float,
    monotonic: Callable[[], float],
    reason: str,
) -> bool:
    """Steps 2 to 4, after the publisher's thread has ended; whether a successor took over."""
    if not claim.successor_waits():
        end = monotonic() + drain_s
        publisher.drain(lambda: broker.connected and monotonic() < end and not claim.successor_waits())
    publisher.send_telemetry()
    handed_over = claim.successor_waits()
    if handed_over:
        claim.release()
        broker.close()
    else:
        publisher.send_death(reason)
        broker.close()
        claim.release()
    _log.info("left the node", extra={"handed_over": handed_over})
    return handed_over
