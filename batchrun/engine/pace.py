"""How many requests a second the endpoint takes, found out by itself: a rate that doubles until somebody says stop.

Theory of operation. A ceiling on what is in flight cannot hold back requests to an endpoint that answers in a
millisecond: one at a time may still be far more than it allows. So there is a rate as well. It starts at 500 a second
and doubles four times a second, which is no limit after a moment; but as long as it is one, few requests are out when
the first 429 comes, and few are turned away with it. A 429 or 503 then sets it to what was really served since the
last cut, the pause that follows included (so a burst that the endpoint allows at first is averaged out), or to half
of it where nothing was served. From there it grows by 3 % a second until the next one. At most one cut a cooldown;
answers to requests sent before the last cut say nothing new.
"""

from __future__ import annotations

import math

COOLDOWN_S = 1.0
START_PER_S, DOUBLING_S = 500.0, 0.25
GROWTH_PER_S = 1.03
LEAST_PER_S = 0.1
MOST_PER_S = 50_000.0
"""More than one process can send: a rate above it is no limit."""

_SLACK_S = 0.005


class Pace:
    """The rate of one model; all times are the loop's, in seconds."""

    def __init__(self, now: float, *, adaptive: bool = True) -> None:
        self._adaptive, self._next_at = adaptive, now
        self._served = 0
        self.cuts = 0
        self._set(now, START_PER_S if adaptive else MOST_PER_S, 2.0 ** (1 / DOUBLING_S))

    def per_s(self, now: float) -> float:
        """The rate now; infinite where there is none to keep to."""
        if now >= self._free_at:
            return math.inf
        per_s: float = self._base_per_s * math.exp(self._growth * (now - self._since))
        return per_s

    def wait_s(self, now: float) -> float:
        """How long the next request has to wait."""
        return max(0.0, self._next_at - now)

    def took(self, now: float) -> None:
        """A request goes out; a timer that woke late is made up for, up to a few milliseconds."""
        self._next_at = max(self._next_at, now - _SLACK_S) + 1 / self.per_s(now)

    def succeeded(self, sent_at: float) -> None:
        """A request that was sent at this time was served."""
        if sent_at >= self._since:
            self._served += 1

    def throttled(self, sent_at: float, now: float, pause_s: float) -> None:
        """A request that was sent at this time was turned away; a pause follows."""
        if not self._adaptive or sent_at < self._since or (self.cuts and now < self._since + COOLDOWN_S):
            return
        before = min(self.per_s(now), MOST_PER_S)
        served_per_s = self._served / max(now - self._since + pause_s, 0.001)
        self._set(now, max(LEAST_PER_S, min(served_per_s, before) if self._served else before / 2), GROWTH_PER_S)
        self._served = 0
        self.cuts += 1

    def _set(self, now: float, per_s: float, growth_per_s: float) -> None:
        self._base_per_s, self._growth, self._since = per_s, math.log(growth_per_s), now
        self._free_at = now + math.log(MOST_PER_S / per_s) / self._growth
        self._next_at = now
