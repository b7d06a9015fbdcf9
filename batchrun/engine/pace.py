"""How many requests a second the endpoint takes, found out by itself: a rate that doubles until somebody says stop.

Theory of operation. A ceiling on what is in flight cannot hold back requests to an endpoint that answers in a
millisecond: one at a time may still be far more than it allows. So there is a rate as well. It starts at 500 a second
and doubles four times a second, which is no limit after a moment; but as long as it is one, few requests are out when
the first 429 comes, and few are turned away with it. A 429 or 503 then sets it to what was really served in the last
five seconds, the pause that follows included (so a burst that the endpoint allows at first is averaged out), or, where
no pause follows, to a little less than what was just served. From there it grows by 3 % a second, after ten quiet
seconds by 15 %. After a storm, in which nothing was served any more, it is what was served in the last minute, as
limits are per minute, and grows by half a second. At most one cut a cooldown; answers to requests sent before the last
cut say nothing new.
"""

from __future__ import annotations

import math
from collections import deque

COOLDOWN_S = 1.0
START_PER_S, DOUBLING_S = 500.0, 0.25
GROWTH_PER_S, QUIET_S, QUIET_GROWTH_PER_S = 1.03, 10.0, 1.15
RESUMED_GROWTH_PER_S = 1.5
JUST_NOW_S, RECENT_S, MINUTE_S = 1.5, 5.0, 60.0
UNPAUSED_SHARE = 0.85
"""Of what was served, where no pause lets the endpoint's budget fill again."""

LEAST_PER_S = 0.1
MOST_PER_S = 50_000.0
"""More than one process can send: a rate above it is no limit."""

_SLACK_S = 0.005
_BIN_S = 0.25


class Pace:
    """The rate of one model; all times are the loop's, in seconds."""

    def __init__(self, now: float, *, adaptive: bool = True) -> None:
        self._adaptive, self._began_at, self._next_at = adaptive, now, now
        self._served: deque[list[float]] = deque()
        self.cuts = 0
        growth = math.log(2) / DOUBLING_S
        self._set(now, START_PER_S if adaptive else MOST_PER_S, growth, growth)

    def per_s(self, now: float) -> float:
        """The rate now; infinite where there is none to keep to."""
        if now >= self._free_at:
            return math.inf
        since_s = now - self._since
        grown = self._growth * min(since_s, QUIET_S) + self._quiet_growth * max(0.0, since_s - QUIET_S)
        per_s: float = self._base_per_s * math.exp(grown)
        return per_s

    def wait_s(self, now: float) -> float:
        """How long the next request has to wait."""
        return max(0.0, self._next_at - now)

    def took(self, now: float) -> None:
        """A request goes out; a timer that woke late is made up for, up to a few milliseconds."""
        self._next_at = max(self._next_at, now - _SLACK_S) + 1 / self.per_s(now)

    def succeeded(self, now: float) -> None:
        """A request was served."""
        served = self._served
        if served and now - served[-1][0] < _BIN_S:
            served[-1][1] += 1
        else:
            served.append([now, 1])
            while served[0][0] < now - MINUTE_S:
                served.popleft()

    def throttled(self, sent_at: float, now: float, pause_s: float, *, crowded: bool = False) -> None:
        """A request that was sent at this time was turned away; a pause follows, or none.

        Where it was `crowded`, as many were out as the ceiling allows: then it may be their number that was too much,
        and the rate is quick to come back.
        """
        if not self._adaptive or (self.cuts and (sent_at < self._since or now < self._since + COOLDOWN_S)):
            return
        paused = pause_s >= COOLDOWN_S
        served_per_s = self._served_per_s(now, RECENT_S if paused else JUST_NOW_S, pause_s)
        if served_per_s:
            share = 1.0 if paused else UNPAUSED_SHARE
            self._cut(now, min(share * served_per_s, self.per_s(now)), QUIET_GROWTH_PER_S if crowded else GROWTH_PER_S)

    def resume(self, now: float) -> None:
        """A storm is over, in which nothing was served."""
        if self._adaptive:
            self._cut(now, min(self._served_per_s(now, MINUTE_S), self.per_s(now)), RESUMED_GROWTH_PER_S)

    def _served_per_s(self, now: float, seconds: float, pause_s: float = 0.0) -> float:
        served = sum(count for at, count in self._served if at > now - seconds)
        return served / max(min(seconds, now - self._began_at) + pause_s, _BIN_S)

    def _cut(self, now: float, per_s: float, growth_per_s: float = GROWTH_PER_S) -> None:
        self.cuts += 1
        self._set(now, max(LEAST_PER_S, per_s), math.log(growth_per_s), math.log(QUIET_GROWTH_PER_S))

    def _set(self, now: float, per_s: float, growth: float, quiet_growth: float) -> None:
        self._base_per_s, self._growth, self._quiet_growth, self._since = per_s, growth, quiet_growth, now
        room = math.log(MOST_PER_S / per_s)
        self._free_at = now + min(room / growth, QUIET_S + max(0.0, room - growth * QUIET_S) / quiet_growth)
        self._next_at = now
