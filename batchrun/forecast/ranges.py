"""Numbers that are not known yet: the least and the most that is to be expected, and the likeliest between them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    import numpy as np

_LEAST_SPREAD = 0.05


class Range(msgspec.Struct, frozen=True, kw_only=True):
    """A number that is not known yet."""

    low: float
    likely: float
    high: float

    def __add__(self, other: Range) -> Range:
        return Range(low=self.low + other.low, likely=self.likely + other.likely, high=self.high + other.high)

    def at_most(self, most: float) -> Range:
        """The same, cut at what cannot be passed."""
        return Range(low=min(self.low, most), likely=min(self.likely, most), high=min(self.high, most))


NOTHING = Range(low=0.0, likely=0.0, high=0.0)


def exactly(value: float) -> Range:
    """A number that is known."""
    return Range(low=value, likely=value, high=value)


def around(seen: np.ndarray, rows: int, factor: float) -> Range:
    """What the mean of a sample, times a factor, will be for other rows: three standard errors to either side."""
    mean = float(seen.mean())
    error = 3 * float(seen.std()) / mean * (1 / len(seen) + 1 / max(rows, 1)) ** 0.5 if mean else 0.0
    spread = max(error, _LEAST_SPREAD)
    return Range(low=factor * mean * max(0.0, 1 - spread), likely=factor * mean, high=factor * mean * (1 + spread))
