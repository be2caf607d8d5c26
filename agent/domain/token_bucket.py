"""How long to wait so that a transfer keeps to its rate: a token bucket as a pure function.

Example:
    >>> bucket = full(rate=1000.0, now=0.0)
    >>> bucket, wait_s = take(bucket, 2250, now=0.0)
    >>> wait_s
    2.0
"""

from dataclasses import dataclass

BURST_S = 0.25
"""The bucket holds what the rate allows in this time: enough to even out the pauses between two reads,
too little to fill a line's queue and delay the cameras' events behind it."""


@dataclass(frozen=True, slots=True)
class Bucket:
    rate: float
    """Tokens (bytes) that flow in per second; 0 or less: no limit."""
    tokens: float
    """Negative while more was taken than had flowed in."""
    at: float
    """Seconds, any steady clock."""


def full(rate: float, now: float) -> Bucket:
    return Bucket(rate, max(0.0, rate) * BURST_S, now)


def take(bucket: Bucket, amount: int, now: float) -> tuple[Bucket, float]:
    """The bucket after ``amount`` tokens were taken out, and how many seconds to pause before the next.

    A clock that went backwards adds nothing.
    """
    if bucket.rate <= 0:
        return bucket, 0.0
    flowed = max(0.0, now - bucket.at) * bucket.rate
    tokens = min(bucket.rate * BURST_S, bucket.tokens + flowed) - amount
    return Bucket(bucket.rate, tokens, max(now, bucket.at)), max(0.0, -tokens / bucket.rate)
