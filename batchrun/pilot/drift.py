"""Whether the rest of a run costs what its pilot said."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from batchrun.pilot.estimate import Estimate

LEAST_ROWS = 30
_NOISE = 3.0
"""Standard errors: what is nearer to the pilot than this says nothing."""


class Drift:
    """Compares rows, as they are settled, with what the pilot expected of just these; all values are dollars.

    The whole rest is projected to be as many times its estimate as these rows are theirs. That is no noise if what they
    are off by is more than three standard errors, with the same two parts as the interval's (see `estimate`).
    """

    def __init__(self, estimate: Estimate) -> None:
        self._estimate, self._told = estimate, False
        self.said = estimate.total
        self.rows, self._expected, self._scatter, self._spent = 0, 0.0, 0.0, 0.0

    def add(self, row: int, usd: float) -> float | None:
        """Take in what a row cost; the projected cost of the rest, once, as soon as it has left the interval."""
        expected = None if self._told else self._estimate.of(row)
        if expected is None:
            return None
        self.rows += 1
        self._expected += expected[0]
        self._scatter += expected[1]
        self._spent += usd
        if self.rows < LEAST_ROWS or self._expected <= 0:
            return None
        projected = self.said.likely * self._spent / self._expected
        variance = self._scatter + self._estimate.relative_variance * self._expected**2
        is_noise = (self._spent - self._expected) ** 2 <= _NOISE**2 * variance
        if is_noise or self.said.low <= projected <= self.said.high:
            return None
        self._told = True
        return projected
