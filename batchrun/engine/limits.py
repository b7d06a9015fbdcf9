"""The turnstile: every request, also a repeated one, passes it before it is sent, in order of arrival.

Theory of operation. There is one for each model, as endpoints have their limits; what all of them share is the Gate. A
worker that wants to send calls `enter` and holds a place until `leave`. When nothing binds, `enter` does not wait at
all. Otherwise workers stand in one line (an asyncio.Lock is first in, first out); only the one at its head waits for
something: the end of a pause or of an outage, a place below the ceiling, requests and tokens a minute, and at last the
pace that was found out, so that what it gives is used at once. So a large request cannot starve behind small ones, and
waking is one future. After a pause as many as may be in flight go out over a second, unless a pace has been found out,
so that those who were turned away together do not come back together. Whatever is waited for, closing the gate ends
the waiting. A place is taken in the same step in which the waiting ends: whoever is cancelled while he waits has taken
nothing, and what he had reserved is given back. `reason` says what the head of the line waits for.
"""

from __future__ import annotations

import asyncio
import math
import random
from typing import TYPE_CHECKING, TypeVar

from aiolimiter import AsyncLimiter

from batchrun.engine.breaker import Breaker
from batchrun.engine.pace import Pace

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from batchrun.engine.adaptive import Ceiling
    from batchrun.engine.budgets import Reserved, TokenBudgets
    from batchrun.types import Request

Result = TypeVar("Result")

BURST_S = 0.1
SPREAD_S = 1.0
_LARGE_BURST = 4
_PACE_MARGIN = 0.995
"""The share of the pace that is used: requests do not arrive as evenly as they are sent."""


Obstacle = tuple[str, "Awaitable[None]"]
"""What is waited for, and the waiting."""


class Closed(Exception):
    """The run is ending: nothing is sent any more."""


class Gate:
    """What the turnstiles of a run share: places, requests a minute, and the end. Make it inside the running loop."""

    def __init__(self, places: float = math.inf, requests_per_minute: float | None = None) -> None:
        self.places, self.in_flight, self.closed = places, 0, False
        self.pace = _bucket(requests_per_minute) if requests_per_minute else None
        # half of a large burst: then one timer lets several pass, and nothing of the pace is lost
        self.nap_s = self.pace.time_period / 2 if self.pace and self.pace.max_rate >= _LARGE_BURST else 0.0
        self._loop = asyncio.get_running_loop()
        self._ends: set[asyncio.Timeout] = set()
        self._heads: set[asyncio.Future[None]] = set()

    def leave(self) -> None:
        """A place is free."""
        self.in_flight -= 1
        for head in self._heads:
            if not head.done():
                head.set_result(None)

    async def change(self) -> None:
        """Wait until somebody has left."""
        head = self._loop.create_future()
        self._heads.add(head)
        try:
            await self.unless_closed(head)
        finally:
            self._heads.discard(head)

    async def sleep(self, seconds: float) -> None:
        """Wait; raises Closed as soon as the run is ending."""
        if self.closed:
            raise Closed
        await self.unless_closed(asyncio.sleep(seconds))

    def close(self) -> None:
        """Turn away everybody who waits, and who comes."""
        self.closed = True
        for end in self._ends:
            end.reschedule(self._loop.time())
        self._ends.clear()

    async def unless_closed(self, awaited: Awaitable[Result]) -> Result:
        """Wait for something; raises Closed as soon as the run is ending."""
        try:
            async with asyncio.timeout(None) as end:
                self._ends.add(end)
                return await awaited
        except TimeoutError:
            raise Closed from None
        finally:
            self._ends.discard(end)


class Turnstile:
    """Admission for one model; make it inside the running loop."""

    def __init__(
        self,
        ceiling: Ceiling,
        requests_per_minute: float | None = None,
        *,
        gate: Gate | None = None,
        pace: Pace | None = None,
        budgets: TokenBudgets | None = None,
    ) -> None:
        self.gate = gate or Gate(requests_per_minute=requests_per_minute)
        self.ceiling, self.budgets = ceiling, budgets
        self._loop = asyncio.get_running_loop()
        self.pace = pace or Pace(self._loop.time(), adaptive=False)
        self.breaker = Breaker()
        self.in_flight = 0
        self.reason = ""
        self._line = asyncio.Lock()
        self._waiting = 0
        self._paused_until = 0.0
        self._spread_until = 0.0

    async def enter(self, request: Request | None = None) -> Reserved | None:
        """Return with a place, to be given back by `leave`, and what is reserved of token budgets.

        Raises:
            Closed: the run is ending.
        """
        if not self._waiting and self._nothing_binds():
            return self._admit(None)
        self._waiting += 1
        try:
            async with self._line:
                return await self._wait_at_the_head(request)
        finally:
            self._waiting -= 1
            if not self._waiting:
                self.reason = ""

    def leave(self) -> None:
        """Give the place back."""
        self.in_flight -= 1
        self.gate.leave()

    def pause(self, seconds: float) -> None:
        """Admit nobody for a while; of two pauses the later end counts."""
        self._paused_until = max(self._paused_until, self._loop.time() + seconds)
        self._spread_until = self._paused_until + SPREAD_S

    async def sleep(self, seconds: float) -> None:
        """Wait; raises Closed as soon as the run is ending."""
        await self.gate.sleep(seconds)

    def close(self) -> None:
        """Turn away everybody who waits, and who comes."""
        self.gate.close()

    def _nothing_binds(self) -> bool:
        now, gate = self._loop.time(), self.gate
        return (
            self.in_flight < self.ceiling.limit
            and gate.in_flight < gate.places
            and gate.pace is None
            and not (self.budgets and self.budgets.any)
            and self.pace.wait_s(now) <= 0
            and now >= self._spread_until
            and not self.breaker.is_open
            and not gate.closed
        )

    def _admit(self, reserved: Reserved | None) -> Reserved | None:
        now = self._loop.time()
        self.pace.took(now)
        if reserved:
            reserved.sent(now)
        self.in_flight += 1
        self.gate.in_flight += 1
        return reserved

    async def _wait_at_the_head(self, request: Request | None) -> Reserved | None:
        head = _Head(self.budgets.reservation(request) if self.budgets and request else None)
        try:
            while not self.gate.closed:
                now = self._loop.time()
                obstacle = self._before_a_place(now, head) or self._before_sending(now, head)
                if obstacle is None:
                    return self._admit(head.reserved)
                self.reason, waiting = obstacle
                await waiting
            raise Closed
        except BaseException:
            if head.reserved:
                head.reserved.settle(None, charged=False)
            raise

    def _before_a_place(self, now: float, head: _Head) -> Obstacle | None:
        """What keeps everybody back: a pause, an outage, no free place."""
        if now < self._paused_until:
            head.spread = head.paced = False
            return "pause", self.gate.sleep(self._paused_until - now)
        probe_s = self.breaker.wait_s(now)
        if probe_s is None:
            return "outage", self.gate.change()
        if probe_s > 0:
            return "outage", self.gate.sleep(probe_s)
        if self.in_flight >= self.ceiling.limit or self.gate.in_flight >= self.gate.places:
            return "ceiling" if self.ceiling.below_maximum else "concurrency", self.gate.change()
        return None

    def _before_sending(self, now: float, head: _Head) -> Obstacle | None:
        """What the head of the line still needs: its turn after a pause, its share of the limits."""
        if now < self._spread_until and not head.spread and not self.pace.cuts:
            head.spread = True
            return "pause", self.gate.sleep(random.uniform(0, 2 * SPREAD_S / self.ceiling.limit))
        if self.gate.pace and not head.paced:
            free = self.gate.pace.has_capacity()
            if not free and self.gate.nap_s:
                return "requests", self.gate.sleep(self.gate.nap_s)
            head.paced = True
            acquired = self.gate.pace.acquire()
            return "requests", acquired if free else self.gate.unless_closed(acquired)
        if head.reserved and (name := head.reserved.missing()):
            return name, self.gate.unless_closed(head.reserved.reserve(name))
        wait_s = self.pace.wait_s(now)
        return ("pace", self.gate.sleep(wait_s)) if wait_s > 0 else None


class _Head:
    """What the one at the head of a line has behind him."""

    def __init__(self, reserved: Reserved | None) -> None:
        self.reserved = reserved
        self.spread = self.paced = False


def _bucket(per_minute: float) -> AsyncLimiter:
    """A leaky bucket of which no 60 s, the first ones included, hold more than `per_minute` requests.

    A bucket of size b lets b through at once, so b - 1 of each minute's requests are kept back for that. Below one a
    minute there is one in each `60 / per_minute` seconds.
    """
    whole = math.floor(per_minute) if per_minute >= 1 else per_minute
    burst = max(1, int(whole / 60 * BURST_S))
    per_second = (whole - (burst - 1)) / 60 * _PACE_MARGIN
    return AsyncLimiter(burst, burst / per_second)
