"""Two weeks of telemetry of a fleet of shops, drawn from a seed: what quality gates have to tell apart.

What makes real counts hard is all in here: stock that sells by the hour of the day and is refilled at random,
shops that differ, days that differ for all of them, promotions, closed Sundays, cameras that fail, light
that changes, shoppers in front of shelves. Counts of neighbouring frames are nearly the same, so the variance
of a quarter of an hour is far above a Poisson distribution's.

Steps are quarters of an hour. Everything is kept in arrays over all zones; values for the gates are
made for the few hours that they ask for.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import numpy as np

from contract.messages import CONFIDENCE_BINS
from controller.domain.quality import BUCKET, QualityBucket

DAYS = 15
STEPS_A_DAY = 96
STEPS = DAYS * STEPS_A_DAY
FIRST_DAY = datetime(2026, 3, 2, tzinfo=UTC)
"""A Monday; the last of the ``DAYS`` days is one too."""
FPS = 5.0
SKUS = tuple(f"sku-{number:02d}" for number in range(12))
HARDWARE = ("nano", "mini", "server")
CAMERA_MODELS = ("dome-a", "bullet-b")
INFERENCE_MS = {"nano": 45.0, "mini": 25.0, "server": 8.0}
OLD_MODEL = "sha256:" + "0" * 64
OLD_DEPLOYMENT = UUID(int=1)
EVENT_KINDS = ("picked", "restocked", "low_stock", "out_of_stock")

Array = Any
"""A numpy array; shapes are in the comments."""


@dataclass(frozen=True, slots=True)
class Effect:
    """What a model does differently from the one before it."""

    recall: float = 1.0
    """Factor on the detections of ``sku``."""
    sku: int | None = None
    inference: float = 1.0
    """Factor on the time of one inference."""
    leak_mb_per_h: float = 0.0
    crashes_on: str = ""
    """Hardware on which the agent dies about every ten minutes."""


class Fleet:
    """``stores`` shops. All state comes from ``seed``."""

    def __init__(self, seed: int, stores: int) -> None:
        self.random = np.random.default_rng([seed, stores])
        draw = self.random
        self.names = [f"store-{number:04d}" for number in range(stores)]
        self.hardware = draw.choice(HARDWARE, stores, p=[0.5, 0.35, 0.15])
        self.camera_model = draw.choice(CAMERA_MODELS, stores, p=[0.6, 0.4])
        self.opens = draw.choice([28, 32, 36], stores, p=[0.3, 0.5, 0.2])  # steps after midnight
        self.closes = draw.choice([76, 80, 88], stores, p=[0.2, 0.6, 0.2])
        self.sunday = draw.random(stores) < 0.1
        self._zones(stores)
        self._cameras(stores)
        self._days(stores)
        self._run()

    def labels(self, store: int) -> dict[str, str]:
        return {"hardware": str(self.hardware[store]), "camera_model": str(self.camera_model[store])}

    def _zones(self, stores: int) -> None:
        """Each shop has most of the range, each product in one to three places."""
        draw = self.random
        count = draw.choice([0, 1, 2, 3], (stores, len(SKUS)), p=[0.2, 0.45, 0.25, 0.1])
        self.zone_store, self.zone_sku = (
            np.repeat(part, count.ravel()) for part in np.indices(count.shape).reshape(2, -1)
        )
        zones = len(self.zone_store)
        self.capacity = draw.integers(4, 13, zones)
        # Facings sold an hour at a normal time of the day.
        self.demand = draw.lognormal(np.log(0.5), 0.6, zones)
        self.refill = draw.beta(2, 6, zones)  # probability that a step's look at a low shelf refills it

    def _cameras(self, stores: int) -> None:
        draw = self.random
        self.cameras = draw.integers(2, 5, stores)  # of each shop
        first = np.concatenate([[0], np.cumsum(self.cameras)])
        self.camera_first, self.camera_count = first[:-1], int(first[-1])
        self.camera_store = np.repeat(np.arange(stores), self.cameras)
        own = draw.integers(0, 1_000_000, len(self.zone_store)) % self.cameras[self.zone_store]
        self.zone_camera = first[self.zone_store] + own
        self.zones_of = np.bincount(self.zone_camera, minlength=self.camera_count)
        self.recall = np.clip(draw.normal(0.95, 0.02, (self.camera_count, len(SKUS))), 0.6, 0.995)
        self.confidence = draw.normal(0.84, 0.03, self.camera_count)

    def _days(self, stores: int) -> None:
        draw = self.random
        common = draw.lognormal(0, 0.12, DAYS)
        own = draw.lognormal(0, 0.2, (stores, DAYS))
        self.busy = common * own * draw.lognormal(0, 0.3, (stores, 1))
        promoted = draw.random((DAYS, len(SKUS))) < 0.03
        self.promotion = np.where(promoted, draw.uniform(1.5, 3.0, promoted.shape), 1.0)

    def is_open(self, step: int) -> Array:
        """Shape (stores,)."""
        day, of_day = divmod(step, STEPS_A_DAY)
        closed = (day % 7 == 6) & ~self.sunday
        return (of_day >= self.opens) & (of_day < self.closes) & ~closed

    def _run(self) -> None:
        draw, zones = self.random, len(self.zone_store)
        facings = draw.integers(1, self.capacity + 1)
        shape = (STEPS, self.camera_count)
        self.frames = np.zeros(shape, np.int64)
        self.unknown = np.zeros(shape)  # share of the step
        self.detections = np.zeros((*shape, len(SKUS)), np.int64)
        self.mean_confidence = np.zeros(shape)
        self.events = np.zeros((*shape, len(EVENT_KINDS)), np.int64)
        fault_left = np.zeros(self.camera_count, np.int64)
        low = np.maximum(1, self.capacity // 3)
        glare = np.zeros(self.camera_count)
        for step in range(STEPS):
            day, of_day = divmod(step, STEPS_A_DAY)
            open_ = self.is_open(step)
            hour = of_day / 4
            curve = (
                0.5 + 0.8 * np.exp(-(((hour - 12.5) / 2) ** 2)) + 1.1 * np.exp(-(((hour - 17.5) / 1.8) ** 2))
            )
            rate = (
                self.demand * self.busy[self.zone_store, day] * self.promotion[day, self.zone_sku] * curve / 4
            )
            # Shoppers come in bursts: a negative binomial with shape 1.
            sold = (
                np.minimum(facings, draw.poisson(rate * draw.exponential(1.0, zones)))
                * open_[self.zone_store]
            )
            after = facings - sold
            looks = draw.random(zones) < np.where(after <= low, self.refill, 0.004)
            refilled = looks & open_[self.zone_store]
            if of_day == 24:  # before opening
                refilled = refilled | (draw.random(zones) < 0.75)
            top = np.maximum(after, self.capacity - draw.integers(0, 2, zones))
            end = np.where(refilled, top, after)
            self._note_events(step, sold, end, facings, after, low, open_)
            fault_left = np.maximum(0, fault_left - 1)
            fails = (draw.random(self.camera_count) < 0.0007) & (fault_left == 0)
            fault_left = np.where(fails, 1 + draw.geometric(0.12, self.camera_count), fault_left)
            glare = 0.9 * glare + draw.normal(0, 0.006, self.camera_count)
            self._look(step, (facings + end) / 2, open_, fault_left > 0, curve, day, glare)
            facings = end

    def _note_events(
        self, step: int, sold: Array, end: Array, before: Array, after: Array, low: Array, open_: Array
    ) -> None:
        seen = open_[self.zone_store]
        happened = (
            sold > 0,
            end > after,
            (before > low) & (end <= low) & (end > 0),
            (before > 0) & (end == 0),
        )
        for kind, which in enumerate(happened):
            self.events[step, :, kind] = np.bincount(
                self.zone_camera[which & seen], minlength=self.camera_count
            )

    def _look(
        self, step: int, facings: Array, open_: Array, failed: Array, curve: float, day: int, glare: Array
    ) -> None:
        draw = self.random
        lit = open_[self.camera_store]
        frames = np.where(lit & ~failed, FPS * 900 * draw.uniform(0.97, 1.0, self.camera_count), 0).astype(
            int
        )
        crowd = np.minimum(0.5, 0.05 * curve * self.busy[self.camera_store, day])
        hidden = np.clip(draw.gamma(2, crowd / 2), 0, 0.7)
        self.frames[step] = frames
        self.unknown[step] = np.where(failed, 1.0, np.clip(hidden - 0.15, 0, 1)) * lit
        place = self.zone_camera * len(SKUS) + self.zone_sku
        stood = np.bincount(place, facings, self.camera_count * len(SKUS)).reshape(-1, len(SKUS))
        noise = draw.lognormal(0, 0.03, stood.shape)
        rate = stood * (1 - hidden[:, None]) * np.clip(self.recall + glare[:, None], 0, 1) * noise
        self.detections[step] = draw.poisson(rate * frames[:, None] / 25) * 25
        self.mean_confidence[step] = self.confidence + glare + draw.normal(0, 0.004, self.camera_count)
        self.events[step] *= (frames > 0)[:, None]

    def buckets(
        self,
        store: int,
        steps: Iterable[int],
        deployment: UUID = OLD_DEPLOYMENT,
        model: str = OLD_MODEL,
        effect: Effect = Effect(),
    ) -> list[QualityBucket]:
        """What ingest would have made of these steps, had the shop run a model with ``effect``."""
        found = []
        slower = INFERENCE_MS[str(self.hardware[store])] * effect.inference
        speed = min(1.0, 1000 / slower / (FPS * self.cameras[store]))
        for step in steps:
            for number in range(self.cameras[store]):
                camera = self.camera_first[store] + number
                frames, unknown = int(self.frames[step, camera] * speed), float(self.unknown[step, camera])
                if not frames and not unknown:
                    continue
                seen = self.detections[step, camera] * speed
                if effect.sku is not None:
                    seen = seen.copy()
                    seen[effect.sku] *= effect.recall
                detections = {SKUS[i]: int(count) for i, count in enumerate(seen) if count >= 1}
                kinds = self.events[step, camera]
                zone_s = 900.0 * self.zones_of[camera]
                found.append(
                    QualityBucket(
                        self.names[store],
                        f"cam-{number}",
                        deployment,
                        model,
                        time_of(step),
                        frames,
                        detections,
                        _histogram(self.mean_confidence[step, camera], sum(detections.values())),
                        {EVENT_KINDS[i]: int(count) for i, count in enumerate(kinds) if count},
                        zone_s,
                        zone_s * unknown,
                        slower,
                        1,
                    )
                )
        return found


_EDGES = np.linspace(0, 1, CONFIDENCE_BINS + 1)


def _histogram(mean: float, total: int) -> tuple[int, ...]:
    """A triangle around the mean, as wide as detectors' confidences are."""
    width = 0.2
    left = np.clip((_EDGES - (mean - width)) / (2 * width), 0, 1)
    cumulated = left * left * (3 - 2 * left)
    parts = np.diff(cumulated) * total
    return tuple(int(part) for part in np.round(parts))


def time_of(step: int) -> datetime:
    return FIRST_DAY + step * BUCKET


def step_of(at: datetime) -> int:
    return (at - FIRST_DAY) // timedelta(minutes=15)
