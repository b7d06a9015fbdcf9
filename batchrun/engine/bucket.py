"""A leaky bucket that is asked instead of waited at: one look at it serves all who stand in line."""

from __future__ import annotations

import math

_LEAST_S = 1e-6


class Bucket:
    """So much a second, of which `burst` may be had at once; all times are the loop's, in seconds."""

    def __init__(self, per_s: float, burst: float) -> None:
        from aiolimiter import AsyncLimiter  # looks up its own version: most runs have no limit a minute to wait for

        self._limiter = AsyncLimiter(burst, burst / per_s)
        self._per_s, self._half_s = per_s, burst / 2 / per_s
        self._taken_at = -math.inf

    def free_at(self, amount: float, now: float) -> float:
        """When to take so much: now, or when half of what it holds has come, so that one look serves several.

        Nothing is lost by that: a bucket that cannot give half of what it holds is not full again by then.
        """
        if self._limiter.has_capacity(amount):
            return now
        return max(now + _LEAST_S, self._taken_at + max(amount / self._per_s, self._half_s))

    def take(self, amount: float, now: float) -> None:
        """Take what is there; a limiter that has it gives it without waiting."""
        try:
            self._limiter.acquire(amount).send(None)
        except StopIteration:
            self._taken_at = now
