"""95 % intervals of what differs between two runs over the same rows.

Theory of operation. A row's two values belong together (a long prompt is long for both models), so pairs are drawn, not
values; the pairs themselves are taken to be independent of each other. All draws have one seed: the same runs, the same
intervals.

- Means of up to `MOST_RESAMPLED` pairs: the percentile bootstrap, widened for few pairs (Hesterberg 2015, "What
  teachers should know about the bootstrap"). Of more: the normal approximation, which agrees with it there, and
  Fieller's interval of the ratio, which holds 1 exactly where that of the difference holds 0.
- Percentiles: what resampling does to them is to move the rank that is read. So ranks are drawn, jointly normal with
  the correlation that the pairs have: it takes two sorted columns, however long they are.
- Shares of pairs: Tango's score interval (1998), which stays honest where hardly a pair differs.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from batchrun._student import t_975
from batchrun.report.compare.shape import Method

if TYPE_CHECKING:
    from batchrun.report.columns import Floats

LEAST_PAIRS = 10
"""With fewer nobody can tell."""
LEAST_BEYOND = 5
"""So many pairs must lie beyond a percentile: 100 pairs for a p95."""
MOST_RESAMPLED = 5000
REPLICATES = 2000
TAIL = 0.025
Z = NormalDist().inv_cdf(1 - TAIL)

_SEED = 20261123
_HALVINGS = 50
_DRAWN_AT_ONCE = 1_000_000


class Interval(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds of the difference b - a, and of the ratio b / a where there is one."""

    low: float
    high: float
    ratio_low: float | None = None
    ratio_high: float | None = None
    method: Method


def of_means(a: Floats, b: Floats) -> Interval | None:
    """The interval of mean(b) - mean(a), and of their ratio; None for too few pairs."""
    if len(a) < LEAST_PAIRS:
        return None
    return _resampled(a, b) if len(a) <= MOST_RESAMPLED else _normal(a, b)


def of_percentiles(a: Floats, b: Floats, share: float) -> Interval | None:
    """The interval of the difference of two percentiles (`share` 0.95: the p95); None for too few pairs."""
    count = len(a)
    if count < LEAST_PAIRS or count * min(share, 1 - share) < LEAST_BEYOND - 1e-9:
        return None
    below_both = np.mean((a <= np.quantile(a, share)) & (b <= np.quantile(b, share)))
    correlation = float(np.clip((below_both - share**2) / (share * (1 - share)), -1, 1))
    drawn = np.random.default_rng(_SEED).standard_normal((2, REPLICATES))
    drawn[1] = correlation * drawn[0] + math.sqrt(1 - correlation**2) * drawn[1]
    ranks = np.clip(share + math.sqrt(share * (1 - share) / count) * drawn, 0, 1) * (count - 1)
    places = np.arange(count)
    differences = np.interp(ranks[1], places, np.sort(b)) - np.interp(ranks[0], places, np.sort(a))
    low, high = np.quantile(differences, [TAIL, 1 - TAIL]).tolist()
    return Interval(low=low, high=high, method="ranks")


def of_shares(only_a: int, only_b: int, pairs: int) -> Interval | None:
    """The interval of a difference of two shares, from the pairs that only one run has it in; None for too few."""
    if pairs < LEAST_PAIRS:
        return None
    middle = (only_b - only_a) / pairs
    low, high = (_score_bound(only_a, only_b, pairs, middle, end) for end in (-1, 1))
    return Interval(low=low, high=high, method="score")


def _score_bound(only_a: int, only_b: int, pairs: int, inside: float, outside: float) -> float:
    """Where between two differences the counts begin to speak against them."""
    for _ in range(_HALVINGS):
        difference = (inside + outside) / 2
        # what the share of pairs that only A has would be, most likely, if the shares differed by so much
        by = (2 * pairs - only_b + only_a) * difference - only_a - only_b
        root = math.sqrt(by**2 + 8 * pairs * only_a * difference * (1 - difference))
        share = max(root - by, 0) / (4 * pairs)
        variance = pairs * (2 * share + difference * (1 - difference))
        likely = (only_b - only_a - pairs * difference) ** 2 <= Z**2 * variance
        inside, outside = (difference, outside) if likely else (inside, difference)
    return inside


def _resampled(a: Floats, b: Floats) -> Interval:
    means = _means_of_resamples(np.stack([a, b - a], axis=1))
    tail = _widened_tail(len(a))
    low, high = np.quantile(means[:, 1], [tail, 1 - tail]).tolist()
    ratio_low = ratio_high = None
    if (means[:, 0] > 0).all():
        ratio_low, ratio_high = (1 + np.quantile(means[:, 1] / means[:, 0], [tail, 1 - tail])).tolist()
    return Interval(low=low, high=high, ratio_low=ratio_low, ratio_high=ratio_high, method="bootstrap")


def _means_of_resamples(values: Floats) -> Floats:
    """Means of columns, once for each time that as many rows are drawn as there are, with repetition."""
    count, columns = values.shape
    means = np.empty((REPLICATES, columns))
    draw = np.random.default_rng(_SEED)
    step = max(_DRAWN_AT_ONCE // count, 1)
    for start in range(0, REPLICATES, step):
        picked = draw.integers(0, count, (min(step, REPLICATES - start), count), dtype=np.int32)
        for column in range(columns):
            means[start : start + step, column] = values[:, column][picked].mean(axis=1)
    return means


def _widened_tail(count: int) -> float:
    """The share of replicates to cut off on each side: less than TAIL, as n values spread too little, and t > z."""
    return NormalDist().cdf(-t_975(count - 1) * math.sqrt(count / (count - 1)))


def _normal(a: Floats, b: Floats) -> Interval:
    difference = b - a
    middle, reach = float(difference.mean()), Z * float(difference.std(ddof=1)) / math.sqrt(len(a))
    ratio_low, ratio_high = _fieller(a, difference)
    return Interval(
        low=middle - reach, high=middle + reach, ratio_low=ratio_low, ratio_high=ratio_high, method="normal"
    )


def _fieller(a: Floats, difference: Floats) -> tuple[float | None, float | None]:
    """The ratios b / a that the pairs do not speak against; None if the mean of `a` may be zero."""
    (var_a, covariance), (_, var_difference) = (np.cov(a, difference) / len(a)).tolist()
    mean_a, mean_difference = float(a.mean()), float(difference.mean())
    square = mean_a**2 - Z**2 * var_a
    middle = mean_a * mean_difference - Z**2 * covariance
    rest = mean_difference**2 - Z**2 * var_difference
    under_root = middle**2 - square * rest
    if mean_a <= 0 or square <= 0 or under_root < 0:
        return None, None
    reach = math.sqrt(under_root)
    return 1 + (middle - reach) / square, 1 + (middle + reach) / square
