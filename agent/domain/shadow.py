"""How two models differ on the same frames, and which frames are looked at.

The budget is a token bucket of processor time (``agent.domain.token_bucket``): what a frame cost, loading
included, is taken out after it was spent, and the next frame waits until the budget has paid for it. So
the sampling adapts by itself to a slow candidate or a busy machine.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from agent.domain.detection import Detection
from agent.domain.matching import Labelled, match

OFFERED_WITHIN_S = 5.0
"""A camera that offered no frame for so long is not waited for."""


@dataclass(frozen=True, slots=True)
class FrameComparison:
    matched: Counter[str]
    only_current: Counter[str]
    only_candidate: Counter[str]
    confidence_delta: float
    """Sum over the matched ones of the candidate's confidence less the current one's."""


def compare(current: Sequence[Detection], candidate: Sequence[Detection]) -> FrameComparison:
    """Both of the same frame."""
    left = [Labelled(d.label, d.xyxy) for d in current]
    right = [Labelled(d.label, d.xyxy) for d in candidate]
    pairs = match(left, right)
    matched = Counter(left[i].label for i, _ in pairs)
    return FrameComparison(
        matched,
        Counter(one.label for one in left) - matched,
        Counter(one.label for one in right) - matched,
        sum(candidate[j].confidence - current[i].confidence for i, j in pairs),
    )


@dataclass(slots=True)
class Totals:
    """Sums over frames. One run owns it."""

    frames: int = 0
    matched: Counter[str] = field(default_factory=Counter)
    only_current: Counter[str] = field(default_factory=Counter)
    only_candidate: Counter[str] = field(default_factory=Counter)
    confidence_delta: float = 0.0

    def add(self, frame: FrameComparison) -> None:
        self.frames += 1
        self.matched += frame.matched
        self.only_current += frame.only_current
        self.only_candidate += frame.only_candidate
        self.confidence_delta += frame.confidence_delta

    def worst(self, most: int) -> list[str]:
        """Names of at most ``most`` classes, those that differ most often first."""
        differs = self.only_current + self.only_candidate
        names = sorted(self.matched.keys() | differs.keys())
        return sorted(names, key=lambda name: -differs[name])[:most]


@dataclass(slots=True)
class Turns:
    """Whose frame is taken next: of the cameras that offer any, the one that had the fewest."""

    _taken: dict[str, int] = field(default_factory=dict)
    _offered_at: dict[str, float] = field(default_factory=dict)

    def offer(self, camera: str, now: float) -> bool:
        """Whether the frame that ``camera`` offers at ``now`` (steady seconds) is to be taken, which then
        counts. Cameras that fell silent are forgotten."""
        present = [c for c, at in self._offered_at.items() if 0 <= now - at <= OFFERED_WITHIN_S]
        self._offered_at = {c: self._offered_at[c] for c in present} | {camera: now}
        fewest = min((self._taken[c] for c in present if c in self._taken), default=0)
        self._taken = {c: self._taken.get(c, fewest) for c in self._offered_at}
        if self._taken[camera] > min(self._taken.values()):
            return False
        self._taken[camera] += 1
        return True


def microseconds(seconds: float) -> int:
    """Processor time as tokens of the bucket."""
    return max(0, round(seconds * 1e6))
