"""All values of a metric in bounded memory: as they are up to EXACT_VALUES, from there on in a histogram.

The histogram's bins grow by GROWTH, so whatever is read from it is wrong by at most RELATIVE_ERROR of itself, or by a
millionth where it is smaller than that. Least, most and mean stay exact.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from batchrun.report.measures import Distribution, Spread

if TYPE_CHECKING:
    from batchrun.report.columns import Floats, Ints

EXACT_VALUES = 500_000
"""4 MB a metric."""
GROWTH = 1.01
RELATIVE_ERROR = math.sqrt(GROWTH) - 1
_LEAST, _BINS = 1e-6, 3_500
"""From a microsecond to a billion."""
_PERCENT = np.arange(101)
_NAMED = {"p50": 50, "p90": 90, "p95": 95, "p99": 99}


class Values:
    """The values of one metric; what is no finite number is left out."""

    def __init__(self, exact_values: int = EXACT_VALUES) -> None:
        self._exact_values = exact_values
        self._parts: list[Floats] = []
        self._bins: Ints | None = None
        self._count, self._sum = 0, 0.0
        self._least, self._most = math.inf, -math.inf

    def add(self, values: Floats) -> None:
        """Take some more."""
        values = values[np.isfinite(values)]
        if not len(values):
            return
        self._count += len(values)
        self._sum += float(values.sum())
        self._least, self._most = min(self._least, float(values.min())), max(self._most, float(values.max()))
        self._parts.append(values)
        if self._bins is not None or self._count > self._exact_values:
            kept = np.zeros(_BINS, np.int64) if self._bins is None else self._bins
            for part in self._parts:
                kept += np.bincount(_bin_of(part), minlength=_BINS)
            self._parts, self._bins = [], kept

    def seconds(self) -> Distribution | None:
        """The distribution of seconds, None of nothing; the values are gone after that."""
        spread = self.spread()
        if spread is None:
            return None
        return Distribution(
            count=spread.count,
            mean_s=spread.mean,
            min_s=spread.min,
            p50_s=spread.p50,
            p90_s=spread.p90,
            p95_s=spread.p95,
            p99_s=spread.p99,
            max_s=spread.max,
            quantiles_s=spread.quantiles,
            relative_error=spread.relative_error,
        )

    def spread(self) -> Spread | None:
        """The same of what are no seconds."""
        if not self._count:
            return None
        quantiles = self._quantiles()
        return Spread(
            count=self._count,
            mean=self._sum / self._count,
            min=self._least,
            **{name: quantiles[percent] for name, percent in _NAMED.items()},
            max=self._most,
            quantiles=quantiles,
            relative_error=0.0 if self._bins is None else RELATIVE_ERROR,
        )

    def _quantiles(self) -> list[float]:
        """The 0th to the 100th percentile, between two values in a straight line."""
        rank = _PERCENT * (self._count - 1) / 100
        below = rank.astype(np.int64)
        above = np.minimum(below + 1, self._count - 1)
        if self._bins is None:
            ordered, self._parts = np.concatenate(self._parts), []
            ordered.sort()
            self._sum = float(ordered.sum())  # the same however the values came
            low, high = ordered[below], ordered[above]
        else:
            until = np.cumsum(self._bins)
            low, high = (_middle_of(np.searchsorted(until, at, side="right")) for at in (below, above))
        found = np.clip(low + (high - low) * (rank - below), self._least, self._most)
        found[0], found[100] = self._least, self._most
        return [float(value) for value in found]


def _bin_of(values: Floats) -> Ints:
    at = np.log(np.maximum(values, _LEAST) / _LEAST) / math.log(GROWTH)
    return np.minimum(at, _BINS - 1).astype(np.int64)


def _middle_of(bins: Ints) -> Floats:
    """The geometric mean of a bin's ends."""
    middles: Floats = _LEAST * np.power(GROWTH, bins + 0.5)
    return middles
