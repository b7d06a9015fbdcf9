"""How late our own event loop is: a histogram of fixed size, so that any run can say its 99th percentile."""

from __future__ import annotations

_STEP_S = 0.001
_STEPS = 2000


class Lag:
    """Counts delays in steps of 1 ms up to 2 s; what is longer counts as 2 s, the maximum is exact."""

    def __init__(self) -> None:
        self._counts = [0] * (_STEPS + 1)
        self._total = 0
        self.max_s = 0.0

    def add(self, lag_s: float) -> None:
        """Count one delay."""
        self._counts[min(_STEPS, max(0, int(lag_s / _STEP_S)))] += 1
        self._total += 1
        self.max_s = max(self.max_s, lag_s)

    @property
    def p99_s(self) -> float | None:
        """The delay that 99 % of the samples did not pass; None without samples."""
        seen = 0
        for step, count in enumerate(self._counts):
            seen += count
            if count and seen >= 0.99 * self._total:
                return min((step + 1) * _STEP_S, self.max_s)
        return None
