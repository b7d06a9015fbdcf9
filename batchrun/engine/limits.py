"""The turnstile: every request, also a repeated one, passes it before it is sent, in order of arrival.

Theory of operation. A worker that wants to send calls `enter` and holds a place until `leave`. When nothing binds,
`enter` does not wait at all. Otherwise workers stand in one line (an asyncio.Lock is first in, first out); only the
one at its head waits for something: the end of a pause, a place below the ceiling, and at last the pace, so that what
the pace gives is used at once. So a large request cannot starve behind small ones, and waking is one future. After a
pause as many as may be in flight go out over a second, so that those who were turned away together do not come back
together. Whatever is waited for, `close` ends the waiting. A place is taken in the same step in which the waiting
ends: whoever is cancelled while he waits has taken nothing.
"""

from __future__ import annotations

import asyncio
import math
import random
from typing import TYPE_CHECKING

from aiolimiter import AsyncLimiter

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from batchrun.engine.adaptive import Ceiling

BURST_S = 0.1
SPREAD_S = 1.0
_PACE_MARGIN = 0.99
"""The share of the pace that is used: requests do not arrive as evenly as they are sent."""


class Closed(Exception):
    """The run is ending: nothing is sent any more."""


class Turnstile:
    """Admission for one run; make it inside the running loop."""

    def __init__(self, ceiling: Ceiling, requests_per_minute: float | None = None) -> None:
        self.ceiling = ceiling
        self.in_flight = 0
        self._loop = asyncio.get_running_loop()
        self._pace = _bucket(requests_per_minute) if requests_per_minute else None
        self._line = asyncio.Lock()
        self._waiting = 0
        self._paused_until = 0.0
        self._spread_until = 0.0
        self._place_free: asyncio.Future[None] | None = None
        self._ends: set[asyncio.Timeout] = set()
        self._closed = False

    async def enter(self) -> None:
        """Return with a place, to be given back by `leave`; raises Closed when the run is ending."""
        if self._pace is None and not self._waiting and self._nothing_binds():
            self.in_flight += 1
            return
        self._waiting += 1
        try:
            async with self._line:
                await self._wait_at_the_head()
                self.in_flight += 1
        finally:
            self._waiting -= 1

    def leave(self) -> None:
        """Give the place back."""
        self.in_flight -= 1
        if self._place_free and not self._place_free.done():
            self._place_free.set_result(None)

    def pause(self, seconds: float) -> None:
        """Admit nobody for a while; of two pauses the later end counts."""
        self._paused_until = max(self._paused_until, self._loop.time() + seconds)
        self._spread_until = self._paused_until + SPREAD_S

    async def sleep(self, seconds: float) -> None:
        """Wait; raises Closed as soon as the run is ending."""
        if self._closed:
            raise Closed
        await self._unless_closed(asyncio.sleep(seconds))

    def close(self) -> None:
        """Turn away everybody who waits, and who comes."""
        self._closed = True
        for end in self._ends:
            end.reschedule(self._loop.time())
        self._ends.clear()

    def _nothing_binds(self) -> bool:
        free = self.in_flight < self.ceiling.limit
        return free and self._loop.time() >= self._spread_until and not self._closed

    async def _wait_at_the_head(self) -> None:
        spread = paced = False
        while not self._closed:
            now = self._loop.time()
            if now < self._paused_until:
                await self._unless_closed(asyncio.sleep(self._paused_until - now))
                spread = paced = False
            elif self.in_flight >= self.ceiling.limit:
                self._place_free = self._loop.create_future()
                await self._unless_closed(self._place_free)
            elif now < self._spread_until and not spread:
                share_s = SPREAD_S / self.ceiling.limit
                await self._unless_closed(asyncio.sleep(random.uniform(0, 2 * share_s)))
                spread = True
            elif self._pace and not paced:
                await self._unless_closed(self._pace.acquire())
                paced = True
            else:
                return
        raise Closed

    async def _unless_closed(self, awaited: Awaitable[None]) -> None:
        try:
            async with asyncio.timeout(None) as end:
                self._ends.add(end)
                await awaited
        except TimeoutError:
            raise Closed from None
        finally:
            self._ends.discard(end)


def _bucket(per_minute: float) -> AsyncLimiter:
    """A leaky bucket of which no 60 s, the first ones included, hold more than `per_minute` requests.

    A bucket of size b lets b through at once, so b - 1 of each minute's requests are kept back for that. Below one a
    minute there is one in each `60 / per_minute` seconds.
    """
    whole = math.floor(per_minute) if per_minute >= 1 else per_minute
    burst = max(1, int(whole / 60 * BURST_S))
    per_second = (whole - (burst - 1)) / 60 * _PACE_MARGIN
    return AsyncLimiter(burst, burst / per_second)
