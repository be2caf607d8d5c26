"""The few statistics that gates need, with nothing but the standard library.

All of them are deterministic: where others would resample at random, the distribution of a sum is computed
by convolution, so the same evidence always gives the same verdict, on every machine.
"""

from collections import Counter
from collections.abc import Sequence
from itertools import combinations
from math import exp, lgamma, log, log1p, sqrt
from statistics import fmean, median

MAD_TO_SD = 1.4826
"""Median absolute deviation to standard deviation of a normal distribution (Rousseeuw and Croux, 1993)."""
EXACT_UP_TO = 12
"""Sums of more values are taken to be near enough to Student's t (central limit theorem)."""
GRID = 0.25
"""Step, in robust standard deviations, to which values are rounded."""
GRID_END = 120
"""Steps; values further out count as being there."""
FAR = 0.25
"""Kernels of far values are as wide as this share of their distance, so that the tail goes on as it came (an
adaptive kernel; Silverman, 1986, section 5.3)."""
MAX_DF = 200
Z_99 = 2.326


def theil_sen(points: Sequence[tuple[float, float]]) -> float | None:
    """The median of the slopes between all pairs of points (Theil, 1950; Sen, 1968): up to 29% of the points
    may be wrong. None when all have the same abscissa."""
    slopes = [(y2 - y1) / (x2 - x1) for (x1, y1), (x2, y2) in combinations(points, 2) if x1 != x2]
    return median(slopes) if slopes else None


def theil_sen_lower(points: Sequence[tuple[float, float]]) -> float | None:
    """What the slope exceeds with 99% confidence (one-sided), by Kendall's variance (Gilbert, 1987, 16.4.2);
    None with fewer than five points."""
    n = len(points)
    slopes = sorted((y2 - y1) / (x2 - x1) for (x1, y1), (x2, y2) in combinations(points, 2) if x1 != x2)
    if n < 5 or not slopes:
        return None
    below = int((len(slopes) - Z_99 * sqrt(n * (n - 1) * (2 * n + 5) / 18)) / 2)
    return slopes[max(0, below)]


def robust_scale(values: Sequence[float]) -> float:
    """Standard deviation of the bulk of the values around zero: the scaled median absolute value."""
    return MAD_TO_SD * median([abs(value) for value in values]) if values else 0.0


def slope_through_zero(pairs: Sequence[tuple[float, float]]) -> float:
    """Of y on x by least squares, for centred values; 0 without any variation."""
    below = sum(x * x for x, _ in pairs)
    return sum(x * y for x, y in pairs) / below if below else 0.0


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p values (Holm, 1979): rejecting those up to alpha makes a false rejection with a probability
    of at most alpha, however the tests depend on one another."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted, least = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        least = max(least, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = least
    return adjusted


def student_tail(t: float, df: float) -> float:
    """P(T > t) of Student's t, through the incomplete beta function (Abramowitz and Stegun 26.7.1).
    Raises ``ValueError`` for ``df`` of zero or less; above ``MAX_DF`` it counts as that."""
    if df <= 0:
        raise ValueError("degrees of freedom: more than 0")
    df = min(df, MAX_DF)
    half = _incomplete_beta(df / (df + t * t), df / 2, 0.5) / 2
    return half if t > 0 else 1 - half


def kernel_tail(t: float) -> float:
    """P(T > t) of Student's t with 4 degrees of freedom, in closed form (Shaw, 2006). The smoothing kernel:
    its heavy tail stands for what is too rare to be in a sample."""
    square = 1 + t * t / 4
    return max(0.0, 0.5 - 0.375 * t / sqrt(square) * (1 - t * t / square / 12))


def _incomplete_beta(x: float, a: float, b: float) -> float:
    """Regularised, by its continued fraction (Abramowitz and Stegun 26.5.8, by Lentz's method)."""
    if x <= 0 or x >= 1:
        return 0.0 if x <= 0 else 1.0
    if x > (a + 1) / (a + b + 2):
        return 1 - _incomplete_beta(1 - x, b, a)
    front = exp(lgamma(a + b) - lgamma(a) - lgamma(b) + a * log(x) + b * log1p(-x)) / a
    tiny = 1e-300
    c, d = 1.0, 1 / _away(1 - (a + b) * x / (a + 1), tiny)
    total = d
    for m in range(1, 300):
        for step in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1 / _away(1 + step * d, tiny)
            c = _away(1 + step / c, tiny)
            total *= c * d
        if abs(c * d - 1) < 1e-12:
            break
    return front * total


def _away(value: float, tiny: float) -> float:
    return value if abs(value) > tiny else tiny


class Placebo:
    """What sums of ``n`` values look like when nothing happened, learnt from values that nothing happened to.

    The distribution of one value is that of the placebo values, smoothed (Silverman and Young, 1987, with
    a heavy-tailed kernel); that of a sum is its convolution with itself, which is what a bootstrap would
    approach with infinitely many draws. ``values`` are in robust standard deviations.
    """

    def __init__(self, values: Sequence[float], independent: int) -> None:
        """``independent``: how many values at most are independent of one another (stores, or days)."""
        self.size = len(values)
        self._df = max(2, independent - 1)
        counts = Counter(max(-GRID_END, min(GRID_END, round(value / GRID))) for value in values)
        one = {step: count / self.size for step, count in counts.items()}
        self._sums: dict[int, dict[int, float]] = {1: one}
        centre = fmean(values) if values else 0.0
        self._sd = sqrt(sum(share * (step * GRID - centre) ** 2 for step, share in one.items())) or 1.0
        self._bandwidth = 0.9 * max(self.size, 1) ** -0.2
        """Silverman's rule of thumb (1986), for a bulk of standard deviation 1."""

    def tail(self, total: float, n: int) -> float:
        """P(sum of ``n`` values ≥ ``total``)."""
        return self._beyond(total, n, 1)

    def below(self, total: float, n: int) -> float:
        """P(sum of ``n`` values ≤ ``total``)."""
        return self._beyond(-total, n, -1)

    def _beyond(self, total: float, n: int, sign: int) -> float:
        if n > EXACT_UP_TO:
            return student_tail(total / (self._sd * sqrt(n)), self._df)
        width = self._bandwidth * sqrt(n)
        return sum(
            share * kernel_tail((total - sign * step * GRID) / max(width, FAR * abs(step) * GRID))
            for step, share in self._sum(n).items()
        )

    def _sum(self, n: int) -> dict[int, float]:
        if n not in self._sums:
            before = self._sum(n - 1)
            after: dict[int, float] = {}
            for a, share_a in before.items():
                for b, share_b in self._sums[1].items():
                    after[a + b] = after.get(a + b, 0.0) + share_a * share_b
            self._sums[n] = after
        return self._sums[n]
