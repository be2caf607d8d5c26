"""How well a model does on a golden set: recall and count error of each class, and whether they suffice."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from agent.domain.detection import Detection
from agent.domain.matching import Labelled, match
from contract.golden import GoldenClass, GoldenFrame

TOLD = 3
"""Classes named in a refusal; the report has all of them."""


@dataclass(frozen=True, slots=True)
class Thresholds:
    min_recall: float = 0.9
    """Of each class."""
    max_count_error: float = 0.5
    """Mean absolute error in facings of each class and frame."""


@dataclass(slots=True)
class Tally:
    """What was seen so far. One replay owns it."""

    classes: Sequence[str]
    frames: int = 0
    expected: Counter[str] = field(default_factory=Counter)
    recalled: Counter[str] = field(default_factory=Counter)
    found: Counter[str] = field(default_factory=Counter)
    miscounted: Counter[str] = field(default_factory=Counter)
    """Sum over frames of the absolute difference of counts."""

    def add(self, frame: GoldenFrame, detections: Iterable[Detection]) -> None:
        """``detections`` in pixels of ``frame``. Classes that the set does not know are not judged."""
        seen = [Labelled(d.label, d.xyxy) for d in detections if d.label in self.classes]
        wanted = [Labelled(d.label, d.xyxy) for d in frame.detections]
        counted = Counter(one.label for one in seen)
        self.frames += 1
        self.expected += frame.counts
        self.found += counted
        self.recalled += Counter(wanted[i].label for i, _ in match(wanted, seen))
        for name in self.classes:
            self.miscounted[name] += abs(counted[name] - frame.counts[name])

    def result(self) -> dict[str, GoldenClass]:
        """By class; a class that is never expected would have recall 1."""
        return {
            name: GoldenClass(
                expected=self.expected[name],
                found=self.found[name],
                recall=self.recalled[name] / self.expected[name] if self.expected[name] else 1.0,
                count_error=self.miscounted[name] / self.frames if self.frames else 0.0,
            )
            for name in self.classes
        }


def refusal(classes: Mapping[str, GoldenClass], thresholds: Thresholds) -> str:
    """Why the model does not pass, the worst first; empty: it passes."""
    low = [(name, c.recall) for name, c in classes.items() if c.recall < thresholds.min_recall]
    off = [(name, c.count_error) for name, c in classes.items() if c.count_error > thresholds.max_count_error]
    low.sort(key=lambda item: item[1])
    off.sort(key=lambda item: -item[1])
    parts = []
    if low:
        words = ", ".join(f"{name} {recall:.3f}" for name, recall in low[:TOLD])
        parts.append(f"recall of {words}{_more(low)} (at least {thresholds.min_recall:g})")
    if off:
        words = ", ".join(f"{name} {error:.2f}" for name, error in off[:TOLD])
        parts.append(f"count error of {words}{_more(off)} (at most {thresholds.max_count_error:g})")
    return "; ".join(parts)


def _more(items: Sequence[object]) -> str:
    return f" and {len(items) - TOLD} more" if len(items) > TOLD else ""


def percentile(values: Sequence[float], share: float) -> float:
    """The value that ``share`` of ``values`` did not exceed (nearest rank); 0 without any."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0
