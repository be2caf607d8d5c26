"""What a rollout shall do, as its owner wrote it down: the YAML file and the API's JSON are this.

Example::

    version: 1
    name: shelf-2-spring
    release: v2
    select: {labels: {region: [north, south]}, exclude: {names: [berlin-07]}}
    strata: [hardware, camera_model]
    waves:
      - {name: canary, size: 2%, soak: 1h, approval: true}
      - {name: half, size: 50%, soak: 30m}
      - {name: rest}
    limits: {concurrency: 10%, max_unavailable: 1, failures: 2%, offline: 10%}
    windows:
      - {days: [mon, tue, wed, thu], start: "22:00", end: "05:00"}
    gates:
      - {kind: staged, percent: 98}
      - {kind: health}
      - {kind: quality, alpha: 0.01}

``name`` and ``release`` are the only fields that must be given.
"""

import re
from datetime import date, time, timedelta
from math import ceil, floor
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, PlainSerializer, model_serializer, model_validator

from contract.base import UtcTime
from contract.names import Name
from contract.store_config import ConfigPart

MAX_WAVES = 50
MAX_GATES = 32
MAX_NAMES = 20_000

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_UNIT_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def parse_duration(value: Any) -> timedelta:
    """``90s``, ``1h30m``, ``2d``, or a number of seconds. Raises ``ValueError``."""
    if isinstance(value, timedelta):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        seconds = float(value)
    else:
        text = str(value).replace(" ", "")
        parts = _DURATION.findall(text)
        if not parts or "".join(number + unit for number, unit in parts) != text:
            raise ValueError(f"{str(value)[:40]!r} is no duration; write 90s, 30m, 1h30m or 2d")
        seconds = sum(float(number) * _UNIT_S[unit] for number, unit in parts)
    if not 0 <= seconds <= 366 * 86400:
        raise ValueError("a duration is between 0 and 366 days")
    return timedelta(seconds=seconds)


def format_duration(value: timedelta) -> str:
    """The shortest text that ``parse_duration`` reads as ``value``."""
    seconds = value.total_seconds()
    text = ""
    for unit in ("d", "h", "m"):
        count, seconds = divmod(seconds, _UNIT_S[unit])
        text += f"{int(count)}{unit}" if count else ""
    return text + (f"{seconds:g}s" if seconds or not text else "")


Duration = Annotated[
    timedelta, BeforeValidator(parse_duration), PlainSerializer(format_duration, return_type=str)
]


class Amount(ConfigPart):
    """A number of stores, or a percentage of them: ``3`` or ``20%``."""

    count: Annotated[int, Field(ge=0)] | None = None
    percent: Annotated[float, Field(ge=0, le=100)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _read(cls, value: Any) -> Any:
        if isinstance(value, bool):
            raise ValueError("write a number of stores such as 3, or a percentage such as 20%")
        if isinstance(value, int):
            return {"count": value}
        if isinstance(value, str):
            number, percent = value.strip().removesuffix("%"), value.strip().endswith("%")
            try:
                return {"percent": float(number)} if percent else {"count": int(number)}
            except ValueError as error:
                words = f"{value[:40]!r}: write a number of stores such as 3, or a percentage such as 20%"
                raise ValueError(words) from error
        return value

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.count is None) == (self.percent is None):
            raise ValueError("write a number of stores such as 3, or a percentage such as 20%")
        return self

    @model_serializer
    def _write(self) -> int | str:
        return self.count if self.count is not None else f"{self.percent:g}%"

    def at_most(self, total: int) -> int:
        """Rounded down, so that a limit is never exceeded."""
        return self.count if self.count is not None else floor(total * (self.percent or 0.0) / 100 + 1e-9)

    def at_least(self, total: int) -> int:
        """Rounded up: a wave of 1% of 20 stores is one store."""
        return self.count if self.count is not None else ceil(total * (self.percent or 0.0) / 100 - 1e-9)


def _percent(value: Any) -> Any:
    return value.strip().removesuffix("%") if isinstance(value, str) else value


Percent = Annotated[float, BeforeValidator(_percent), Field(gt=0, le=100)]
"""``10`` or ``10%``."""

Labels = dict[str, Annotated[tuple[str, ...], BeforeValidator(lambda v: (v,) if isinstance(v, str) else v)]]
"""Label → the values of which a store has to have one. All labels have to match."""


class Exclusion(ConfigPart):
    names: Annotated[tuple[Name, ...], Field(max_length=MAX_NAMES)] = ()
    labels: Labels = Field(default_factory=dict)


class Selector(ConfigPart):
    """Which stores. Everything that is given has to match; nothing given means all stores."""

    names: Annotated[tuple[Name, ...], Field(max_length=MAX_NAMES)] = ()
    labels: Labels = Field(default_factory=dict)
    percent: Percent | None = None
    """Of those that match otherwise; the same ones every time, chosen by a hash of rollout and store name."""
    exclude: Exclusion = Exclusion()


class Wave(ConfigPart):
    """Stores that are updated together. Without ``size``, ``labels`` or ``names``: all that are left."""

    name: Name
    size: Amount | None = None
    """Of all targets of the rollout."""
    labels: Labels = Field(default_factory=dict)
    names: Annotated[tuple[Name, ...], Field(max_length=MAX_NAMES)] = ()
    soak: Duration = timedelta(0)
    """How long the wave's stores have to run the release before its gates may pass."""
    approval: bool = False
    """Whether somebody has to approve before this wave's stores are touched."""


class Limits(ConfigPart):
    concurrency: Amount = Amount(percent=20)
    """Stores of the whole rollout that may be in the middle of the change at one time; at least one."""
    max_unavailable: Annotated[int, Field(ge=1, le=100)] = 1
    """Nodes of one store that change at one time. Where the server cannot start the new agent beside the old
    one (Kubernetes before 1.22) so many are without an agent meanwhile."""
    failures: Amount = Amount(percent=5)
    """Stores that may fail, of those of the wave; one more stops the rollout."""
    offline: Amount = Amount(percent=20)
    """Stores of a wave that may be out of reach while the next one begins; updated when they return."""
    store_deadline: Duration = timedelta(minutes=30)
    """From the apply until a reachable store has to be ready; then it counts as failed."""


Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
DAYS: tuple[Day, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


def _wall_time(value: Any) -> Any:
    if isinstance(value, int) and not isinstance(value, bool):  # YAML 1.1 reads 22:00 as 22 * 60
        return time(value // 60, value % 60) if 0 <= value < 1440 else value
    return value


WallTime = Annotated[time, BeforeValidator(_wall_time)]


class Window(ConfigPart):
    """When a store may be changed, by the store's own clock. ``end`` before ``start`` is the next morning."""

    days: Annotated[tuple[Day, ...], Field(min_length=1)] = DAYS
    """On which it begins."""
    start: WallTime
    end: WallTime


class Blackout(ConfigPart):
    """Days, by the store's own calendar, on which nothing is changed; the last one is included."""

    first: date
    last: date
    reason: str = ""


class HealthGate(ConfigPart):
    """Agents of exactly this deployment are ready, and stay so."""

    kind: Literal["health"]
    max_restarts: Annotated[int, Field(ge=0)] = 1
    """Of one store's containers since the deployment was applied."""


class PerformanceGate(ConfigPart):
    """Floors for each camera; the worst stratum counts."""

    kind: Literal["performance"]
    min_fps_ratio: Annotated[float, Field(gt=0, le=1)] = 0.8
    """Frames inferred a second, of what the store's configuration asks for."""
    max_frame_age_s: Annotated[float, Field(gt=0)] = 2.0
    max_inference_ratio: Annotated[float, Field(gt=1)] = 2.0
    """Median inference time, compared with the store's own before."""
    max_memory_percent: Annotated[float, Field(gt=0, le=100)] = 90.0
    max_memory_growth_mb_per_h: Annotated[float, Field(gt=0)] = 50.0


class QualityGate(ConfigPart):
    """The updated stores see what the others see, and what they saw before (see ``quality``)."""

    kind: Literal["quality"]
    alpha: Annotated[float, Field(gt=0, lt=0.5)] = 0.01
    """Probability of a false alarm, over all classes and measures of one wave together."""
    min_frames: Annotated[int, Field(ge=1)] = 500
    """Of updated and of control stores; fewer are inconclusive."""
    min_change: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Relative; smaller changes are none, however certain."""


class GoldenGate(ConfigPart):
    """The signed golden set, replayed on the store's own hardware before the cut-over."""

    kind: Literal["golden"]
    min_recall: Annotated[float, Field(ge=0, le=1)] = 0.9
    """Of each class."""
    max_count_error: Annotated[float, Field(ge=0)] = 0.5
    """Mean absolute error in facings of each class and frame."""
    set: Annotated[str, Field(max_length=128)] = ""
    """Name or digest of the golden set; of a name the newest, empty: the newest of all. When the rollout is
    started, the digest is written here: later sets do not change what a rollout asks for."""


class ShadowGate(ConfigPart):
    """The candidate, beside the current model, on a sample of live frames."""

    kind: Literal["shadow"]
    max_disagreement: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Share of detections that only one of the two makes."""
    min_frames: Annotated[int, Field(ge=1)] = 200
    cpu_percent: Annotated[float, Field(gt=0, le=100)] = 20.0
    """Of one core, at most, spent by each store on it."""


class StagedGate(ConfigPart):
    """The model lies on the nodes before a wave begins."""

    kind: Literal["staged"]
    percent: Percent = 98.0
    """Of the wave's stores."""


class WebhookGate(ConfigPart):
    """Something that only the customer knows: answers ``{"verdict": "pass" | "fail" | "inconclusive"}``."""

    kind: Literal["webhook"]
    url: Annotated[str, Field(pattern=r"^https?://", max_length=2048)]
    timeout: Duration = timedelta(seconds=10)


class PrometheusGate(ConfigPart):
    """A query that gives one number, compared with a bound."""

    kind: Literal["prometheus"]
    url: Annotated[str, Field(pattern=r"^https?://", max_length=2048)]
    query: Annotated[str, Field(min_length=1, max_length=4096)]
    op: Literal["<", "<=", ">", ">="]
    value: float
    timeout: Duration = timedelta(seconds=10)


Gate = Annotated[
    HealthGate
    | PerformanceGate
    | QualityGate
    | GoldenGate
    | ShadowGate
    | StagedGate
    | WebhookGate
    | PrometheusGate,
    Field(discriminator="kind"),
]

BEFORE_WAVE = frozenset({"staged", "shadow"})
"""Kinds that are judged before a wave's stores are touched; all others after its soak."""


class OnFailure(ConfigPart):
    """What happens when a gate fails or a budget is used up."""

    action: Literal["pause", "rollback"] = "rollback"
    concurrency: Amount = Amount(percent=50)
    """Of the exposed stores, at one time, while they go back; at least one."""


class RolloutSpec(ConfigPart):
    version: Literal[1] = 1
    name: Name
    release: Annotated[str, Field(min_length=1, max_length=63)]
    select: Selector = Selector()
    strata: Annotated[tuple[str, ...], Field(max_length=8)] = ()
    """Labels each of whose values has to be represented in the first wave."""
    waves: Annotated[tuple[Wave, ...], Field(min_length=1, max_length=MAX_WAVES)] = (Wave(name="all"),)
    limits: Limits = Limits()
    gates: Annotated[tuple[Gate, ...], Field(max_length=MAX_GATES)] = (HealthGate(kind="health"),)
    gate_timeout: Duration = timedelta(hours=24)
    """A gate that is inconclusive for so long pauses the rollout."""
    windows: Annotated[tuple[Window, ...], Field(max_length=64)] = ()
    """None: at any time."""
    blackouts: Annotated[tuple[Blackout, ...], Field(max_length=64)] = ()
    on_failure: OnFailure = OnFailure()
    deadline: UtcTime | None = None
    """After it no further store is changed. The rollout pauses, or ends if every wave has passed."""
    priority: Annotated[int, Field(ge=-100, le=100)] = 0
    """A store that two rollouts want takes the higher one; of equal ones, the newer."""
    after: Annotated[tuple[Name, ...], Field(max_length=16)] = ()
    """Rollouts that have to have succeeded before this one touches a store."""
    emergency: bool = False
    """Windows, blackouts and the stores' own deferrals do not count."""
    notes: Annotated[str, Field(max_length=2000)] = ""
