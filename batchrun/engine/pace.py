"""How many requests a second the endpoint takes, found out by itself: a rate that doubles until somebody says stop.

Theory of operation. A ceiling on what is in flight cannot hold back requests to an endpoint that answers in a
millisecond: one at a time may still be far more than it allows. So there is a rate as well. It starts at 500 a second
and doubles four times a second, which is no limit after a moment; but as long as it is one, few requests are out when
the first 429 comes, and few are turned away with it.

A 429 or 503 then names a wall, which is what was really let in lately. From nine tenths of it the rate climbs on a
cubic curve, as TCP CUBIC does: fast at first, slow near the wall, fast beyond it, so that most of the time is spent
just below the wall. A wall is sure where the rate had lasted for a while and most requests were let in. Else it is a
guess from the time since the last cut, with the pause that follows (so a burst that the endpoint allows at first is
averaged out), no less than a third of the rate, and the climb is quick. After a storm, in which nothing was let in any
more, the wall is what was let in in the last minute, as limits are per minute. There is one cut in a second, or in
twenty requests; answers to requests sent before the last cut say nothing new.
"""

from __future__ import annotations

import math
from collections import deque
from itertools import takewhile
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator

COOLDOWN_S, COOLDOWN_REQUESTS = 1.0, 20
START_PER_S, DOUBLING_S = 500.0, 0.25
BELOW_WALL, LEAST_SHARE = 0.1, 1 / 3
CLIMB_S, UNSURE_CLIMB_S, QUICK_CLIMB_S, RESUMED_CLIMB_S = 15.0, 5.0, 2.0, 1.0
"""How long it takes back to the wall: one that is sure, one that was passed fast, a guess, one after a storm."""

CLIMB_PER_S = 5.0
"""Where less is sent than this, climbing takes longer, so that few requests find out where the wall is."""

JUST_NOW_S, RECENT_S, MINUTE_S = 1.5, 5.0, 60.0
ENOUGH, MOSTLY, NEARLY = 20, 0.8, 0.9

LEAST_PER_S = 0.1
MOST_PER_S = 50_000.0
"""More than one process can send: a rate above it is no limit."""

_SLACK_S, _BIN_S = 0.005, 0.05


class _Bin(msgspec.Struct):
    """What was sent within a twentieth of a second, from `at` on."""

    at: float
    requests: int = 0
    refused: int = 0


class Pace:
    """The rate of one model; all times are the loop's, in seconds. `next_at` is when the next request may go out."""

    def __init__(self, now: float, *, adaptive: bool = True) -> None:
        self._adaptive, self._began_at, self._since, self.next_at = adaptive, now, now, now
        self._free_at = now + DOUBLING_S * math.log2(MOST_PER_S / START_PER_S) if adaptive else now
        self._sent: deque[_Bin] = deque()
        self._wall_per_s = self._climb_s = 0.0
        self.cuts = 0

    def per_s(self, now: float) -> float:
        """The rate now; infinite where there is none to keep to."""
        since_s = max(0.0, now - self._since)
        if now >= self._free_at:
            return math.inf
        if not self.cuts:
            return START_PER_S * math.exp2(since_s / DOUBLING_S)
        return self._wall_per_s * (1 + BELOW_WALL * (since_s / self._climb_s - 1) ** 3)

    def took(self, now: float) -> None:
        """A request goes out; a timer that woke late is made up for, up to a few milliseconds."""
        if now < self._free_at:
            self.next_at = max(self.next_at, now - _SLACK_S) + 1 / self.per_s(now)
        sent = self._sent
        if sent and now - sent[-1].at < _BIN_S:
            sent[-1].requests += 1
        elif self._adaptive:
            sent.append(_Bin(at=now, requests=1))
            while sent[0].at < now - MINUTE_S:
                sent.popleft()

    def accepted(self, now: float, seconds: float) -> int:
        """How many of the requests sent lately were not turned away, as far as is known."""
        return sum(one.requests - one.refused for one in self._lately(now - seconds))

    def throttled(self, sent_at: float, now: float, pause_s: float) -> None:
        """A request that was sent at this time was turned away; a pause follows, or none."""
        for one in self._lately(sent_at - _BIN_S):
            if one.at <= sent_at:
                one.refused += 1
                break
        if not self._adaptive or (self.cuts and (sent_at < self._since or now < self._since + self._cooldown_s())):
            return
        per_s = self.per_s(now)
        wall_per_s, climb_s = self._wall(now, per_s, pause_s)
        if wall_per_s:
            wall_per_s = max(LEAST_PER_S, min(per_s, wall_per_s))
            self._cut(now + pause_s, wall_per_s, climb_s * max(1.0, CLIMB_PER_S / wall_per_s))

    def _wall(self, now: float, per_s: float, pause_s: float) -> tuple[float, float]:
        """What the endpoint allows, as far as can be told, and how long to take back to it."""
        paused, lasted_s = pause_s >= COOLDOWN_S, now - self._since
        span_s = max(RECENT_S if paused else JUST_NOW_S, ENOUGH / per_s)
        if self.cuts and lasted_s >= span_s and self._mostly_accepted(now, span_s):
            accepted_per_s = self._accepted_per_s(now, max(JUST_NOW_S, ENOUGH / per_s))
            return accepted_per_s, CLIMB_S if accepted_per_s >= NEARLY * per_s else UNSURE_CLIMB_S
        if self.cuts and not paused:
            span_s = min(span_s, lasted_s)
        least_per_s = LEAST_SHARE * per_s if per_s < math.inf else 0.0
        return max(least_per_s, self._accepted_per_s(now, span_s, pause_s)), QUICK_CLIMB_S

    def _mostly_accepted(self, now: float, seconds: float) -> bool:
        sent = sum(one.requests for one in self._lately(now - seconds))
        return self.accepted(now, seconds) >= MOSTLY * sent

    def _lately(self, since: float) -> Iterator[_Bin]:
        """What was sent since then, the last first."""
        return takewhile(lambda one: one.at > since, reversed(self._sent))

    def resume(self, now: float, storm_s: float) -> None:
        """A storm is over, in which nothing was served; a short one was what happens when the rate is not known yet."""
        if self._adaptive and storm_s >= RECENT_S:
            self._cut(now, min(self._accepted_per_s(now, MINUTE_S), self.per_s(now)), RESUMED_CLIMB_S)

    def _cooldown_s(self) -> float:
        return min(COOLDOWN_S, COOLDOWN_REQUESTS / self._wall_per_s)

    def _accepted_per_s(self, now: float, seconds: float, pause_s: float = 0.0) -> float:
        return self.accepted(now, seconds) / max(min(seconds, now - self._began_at) + pause_s, _BIN_S)

    def _cut(self, since: float, wall_per_s: float, climb_s: float) -> None:
        self.cuts += 1
        self._since = self.next_at = since
        self._wall_per_s = max(LEAST_PER_S, wall_per_s)
        self._climb_s = climb_s
        self._free_at = since + self._climb_s * (1 + ((MOST_PER_S / self._wall_per_s - 1) / BELOW_WALL) ** (1 / 3))
