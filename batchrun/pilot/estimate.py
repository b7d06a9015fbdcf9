"""What some rows of a stratified sample say of other rows: a regression on length, with its 95 % interval.

The model is `value = intercept of the row's stratum + slope * length + residual`, fitted by least squares to the n rows
of the sample. The total of the other rows is estimated as c'b: b are the coefficients, c sums those rows' regressors
(how many are in each stratum, and their lengths). Its standard error has two parts,

    se^2 = c' V c + sum over strata of M_h * s_h^2

V is the covariance of b that allows for residuals of unequal size (HC3: each squared residual over (1 - leverage)^2);
M_h are the other rows of a stratum and s_h^2 is the mean of its squared residuals, each over 1 - leverage: the other
rows' own scatter. The interval is c'b plus and minus t * se, t the 97.5 % point of Student's distribution with
n - coefficients degrees of freedom; it is never narrower than 1 % to either side, and holds nothing below zero.

(MacKinnon and White, 1985, for HC3.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from batchrun._student import t_975
from batchrun.pilot.outlook import Interval
from batchrun.pilot.sample import NO_STRATUM

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from batchrun.pilot.sample import Ints, Sample

    Floats = NDArray[np.float64]

LEAST_ROWS = 2
_LEAST_FOR_A_SLOPE = 6
_LEAST_SPREAD = 0.01
_MOST_LEVERAGE = 0.95


class Estimate:
    """What the values of `known` rows of a sample say of the `rest`; both are rows of the input, by index.

    Raises:
        ValueError: fewer than two rows are known.
    """

    def __init__(self, sample: Sample, known: Ints, values: Floats, rest: Ints) -> None:
        if len(known) < LEAST_ROWS:
            raise ValueError("an interval takes two rows")
        there = np.unique(sample.strata[known])
        self._sample, strata = sample, len(there)
        self._nearest = np.minimum(np.searchsorted(there, np.arange(sample.strata.max() + 1)), strata - 1)
        """Of each stratum its number among those that have a known row; of one that has none the next one's."""
        self._mean, self._scale = float(sample.lengths[known].mean()), float(sample.lengths[known].std())
        self.rows = len(known)
        slopes = int(self.rows >= _LEAST_FOR_A_SLOPE and self._scale > 0)
        design = np.zeros((self.rows, strata + slopes))
        design[np.arange(self.rows), self._stratum(known)] = 1
        counts = np.bincount(self._stratum(rest), minlength=strata).astype(float)
        sums = counts
        if slopes:
            design[:, strata] = self._length(sample.lengths[known])
            sums = np.append(counts, self._length(sample.lengths[rest]).sum())
        inverse = np.linalg.pinv(design.T @ design)
        coefficients = inverse @ design.T @ values
        residuals = values - design @ coefficients
        kept = 1 - np.minimum(np.einsum("ij,jk,ik->i", design, inverse, design), _MOST_LEVERAGE)
        scatter = np.bincount(self._stratum(known), residuals**2 / kept, strata) / design[:, :strata].sum(axis=0)
        variance = float(((design @ inverse @ sums) ** 2 * (residuals / kept) ** 2).sum())
        error = float(variance + counts @ scatter) ** 0.5
        likely = max(0.0, float(sums @ coefficients))
        margin = max(t_975(self.rows - strata - slopes) * error, _LEAST_SPREAD * likely)
        self.total = Interval(low=max(0.0, likely - margin), likely=likely, high=likely + margin)
        self.relative_variance = variance / likely**2 if likely else 0.0
        """How far the estimate may be off for all rows alike: the variance of c'b over its square."""
        self._scatter = scatter[self._nearest].tolist()
        self._slope = float(coefficients[strata]) if slopes else 0.0
        self._intercepts = coefficients[self._nearest].tolist()

    def of(self, row: int) -> tuple[float, float] | None:
        """What one row is expected to come to, and the variance of its own scatter; None if it cannot be sent."""
        stratum = self._sample.strata[row]
        if stratum == NO_STRATUM:
            return None
        expected = self._intercepts[stratum] + self._slope * self._length(int(self._sample.lengths[row]))
        return expected, self._scatter[stratum]

    def _stratum(self, rows: Ints) -> Ints:
        return self._nearest[self._sample.strata[rows]]

    def _length(self, lengths: Any) -> Any:
        return (lengths - self._mean) / (self._scale or 1.0)
