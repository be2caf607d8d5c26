"""The part of a batch that says how models do: what cameras saw by them, golden sets, shadow runs.

In the batch's transaction; ``controller.ingest_batch`` calls it.
"""

from collections.abc import Iterable
from datetime import datetime

from contract.events import EventBase
from contract.golden import GoldenReport
from contract.messages import Telemetry
from controller.domain import golden, quality, shadow
from controller.ports import Repositories
from controller.reading import Decoded
from controller.rollout_ports import QualityRepository


def save_quality(
    repository: QualityRepository, accepted: Iterable[Decoded], fresh: Iterable[EventBase], now: datetime
) -> None:
    """Add what heartbeats and new events say to the quarters of an hour that they belong to."""
    said = [(item.store, item.device, item.body) for item in accepted if isinstance(item.body, Telemetry)]
    before = repository.marks({(store, device) for store, device, _ in said})
    marks = dict(before)
    parts = quality.of_events(fresh)
    memory_parts: list[quality.MemoryBucket] = []
    for store, device, telemetry in said:
        taken = quality.take_in(marks.get((store, device)), store, device, telemetry, now)
        if taken is not None:
            marks[store, device] = taken.mark
            parts += taken.quality
            memory_parts.append(taken.memory)
    buckets = repository.buckets({part.key for part in parts})
    for part in parts:
        known = buckets.get(part.key)
        buckets[part.key] = part if known is None else quality.add(known, part)
    memory = repository.memory({part.key for part in memory_parts})
    for sample in memory_parts:
        sums = memory.get(sample.key)
        memory[sample.key] = sample if sums is None else quality.add_memory(sums, sample)
    changed = [mark for key, mark in marks.items() if before.get(key) != mark]
    repository.save(changed, buckets.values(), memory.values())


def save_judgements(repositories: Repositories, items: Iterable[Decoded], now: datetime) -> None:
    """What nodes say of models: on golden sets, and in the shadow of their own."""
    outcomes, figures = [], []
    for item in items:
        if isinstance(item.body, GoldenReport):
            outcomes.append(golden.take_in(item.store, item.device, item.body, now))
        elif isinstance(item.body, Telemetry) and item.body.shadow is not None:
            figures.append(shadow.take_in(item.store, item.device, item.body.shadow, now))
    repositories.golden.save(outcomes)
    repositories.shadows.save(figures)
