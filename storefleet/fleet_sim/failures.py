"""What goes wrong in simulated stores, drawn from a seed. Pure: who, what and when; others make it happen.

Failures begin with the second release that a store gets: the first one is the fleet's good state, from which
a rollout starts. A file names the share of stores for each kind, and single stores::

    shares: {slow: 5%, dead: 2%}
    stores: {store-0007: crash_loop}
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from pydantic import Field, ValidationError, field_validator

from contract.store_config import ConfigPart
from contract.yaml_file import YamlFile

MAX_FILE_BYTES = 1024 * 1024


class Kind(StrEnum):
    SLOW = "slow"
    """Pods take 20 times as long to start."""
    DEAD = "dead"
    """The whole store is off: its API hangs, its agents are silent, its node is lost."""
    FLAPPING = "flapping"
    """Its link comes and goes, every ten seconds or so."""
    CLOCK_SKEWED = "clock_skewed"
    """Its clock is wrong by hours; all that it says is dated so."""
    LYING = "lying"
    """Its pods are Ready, but its agents still run the old model, as their heartbeats tell."""
    OLD_RELEASE = "old_release"
    """It goes off while it changes, and returns as it was before: restored from a backup."""
    IMAGE_PULL = "image_pull"
    """The release's image cannot be pulled."""
    CRASH_LOOP = "crash_loop"
    """The release's agent starts and crashes, again and again."""


LINK_KINDS = frozenset({Kind.DEAD, Kind.FLAPPING, Kind.OLD_RELEASE})
"""Those that the controller sees as a store that is out of reach at times."""

DEFAULT_SHARES: Mapping[Kind, float] = {
    Kind.SLOW: 0.05,
    Kind.DEAD: 0.02,
    Kind.FLAPPING: 0.02,
    Kind.CLOCK_SKEWED: 0.02,
    Kind.LYING: 0.01,
    Kind.OLD_RELEASE: 0.01,
    Kind.IMAGE_PULL: 0.01,
    Kind.CRASH_LOOP: 0.01,
}


class Failures(ConfigPart):
    shares: dict[Kind, float] = Field(default_factory=dict)
    """Share of the stores, between 0 and 1; in a file as a percentage too."""
    stores: dict[str, Kind | None] = Field(default_factory=dict)
    """Single stores; None: nothing goes wrong there."""

    @field_validator("shares", mode="before")
    @classmethod
    def _percentages(cls, value: object) -> object:
        if not isinstance(value, Mapping):
            return value
        return {
            kind: float(share.removesuffix("%")) / 100
            if isinstance(share, str) and share.endswith("%")
            else share
            for kind, share in value.items()
        }

    @field_validator("shares")
    @classmethod
    def _possible(cls, value: dict[Kind, float]) -> dict[Kind, float]:
        if any(share < 0 for share in value.values()) or sum(value.values()) > 1 + 1e-9:
            raise ValueError("shares lie between 0 and 100% and come to at most 100% in all")
        return value


DEFAULT = Failures(shares=dict(DEFAULT_SHARES))
NONE = Failures()


@dataclass(frozen=True, slots=True)
class Character:
    """How one store behaves. Seconds."""

    start_s: float
    """From a pod's place on the node until it is Ready."""
    stop_s: float
    """From the order to end until it is gone."""
    kind: Kind | None = None
    away_after_s: float = 0.0
    """Dead, flapping, returning: from the first pod of the second release until its link breaks."""
    away_s: float = 0.0
    """How long each time; dead ones stay away."""
    skew_s: float = 0.0
    """What its clock is ahead of the right time."""


def read_failures(text: str) -> Failures:
    """Raises ``ConfigError`` naming every problem with its line."""
    file = YamlFile(text, MAX_FILE_BYTES, "shares, stores")
    try:
        return Failures.model_validate(file.raw)
    except ValidationError as error:
        found = [(e["loc"], e["msg"]) for e in error.errors(include_url=False, include_input=False)]
        raise file.refusal(found) from error


def draw_characters(
    stores: Sequence[str], seed: int, failures: Failures, start_s: float = 2.0, stop_s: float = 1.0
) -> dict[str, Character]:
    """By store. ``start_s`` and ``stop_s`` are the medians; each store's lie within 30% of them. The number
    of stores of each kind is its share, rounded; which ones it hits is the seed's choice."""
    order = list(stores)
    random.Random(f"{seed}/failures").shuffle(order)
    kinds: dict[str, Kind | None] = {}
    at = 0
    for kind in Kind:
        count = round(failures.shares.get(kind, 0.0) * len(order))
        kinds |= dict.fromkeys(order[at : at + count], kind)
        at += count
    kinds |= {store: kind for store, kind in failures.stores.items() if store in set(order)}
    return {store: _character(store, seed, kinds.get(store), start_s, stop_s) for store in stores}


def _character(store: str, seed: int, kind: Kind | None, start_s: float, stop_s: float) -> Character:
    chance = random.Random(f"{seed}/{store}/character")
    start, stop = start_s * chance.uniform(0.7, 1.3), stop_s * chance.uniform(0.7, 1.3)
    away_after, away, skew = chance.uniform(0, 5), chance.uniform(6, 14), chance.choice((-1, 1))
    hours = chance.uniform(1, 48)
    if kind is Kind.SLOW:
        start *= 20
    if kind is Kind.OLD_RELEASE:
        away *= 3
    return Character(
        start,
        stop,
        kind,
        away_after if kind in LINK_KINDS else 0.0,
        away if kind in LINK_KINDS else 0.0,
        skew * hours * 3600 if kind is Kind.CLOCK_SKEWED else 0.0,
    )
