"""The turnstile: every request, also a repeated one, passes it before it is sent, in order of arrival.

Theory of operation. A worker that wants to send calls `enter` and holds a place until `leave`. When nothing binds,
`enter` does not wait at all. Otherwise workers stand in one line (an asyncio.Lock is first in, first out); only the
one at its head waits for something: the end of a pause, a place below the ceiling, the pace. So a large request
cannot starve behind small ones, and waking is one future. After a pause admissions are spread out, so that those who
were turned away together do not come back together. `close` turns away everybody who waits.
"""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

from aiolimiter import AsyncLimiter

if TYPE_CHECKING:
    from batchrun.engine.adaptive import Ceiling

BURST_S = 0.1
SPREAD_S = 1.0


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
        self._pacing: asyncio.Timeout | None = None
        self._closed = asyncio.Event()

    async def enter(self) -> None:
        """Return with a place, to be given back by `leave`; raises Closed when the run is ending."""
        if self._pace is None and not self._line.locked() and self._nothing_binds():
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
        self._spread_until = max(self._spread_until, self._paused_until + SPREAD_S)

    async def sleep(self, seconds: float) -> None:
        """Wait; raises Closed as soon as the run is ending."""
        try:
            async with asyncio.timeout(seconds):
                await self._closed.wait()
        except TimeoutError:
            return
        raise Closed

    def close(self) -> None:
        """Turn away everybody who waits, and who comes."""
        self._closed.set()
        if self._pacing:
            self._pacing.reschedule(self._loop.time())
        if self._place_free and not self._place_free.done():
            self._place_free.set_result(None)

    def _nothing_binds(self) -> bool:
        return (
            self.in_flight < self.ceiling.limit
            and self._loop.time() >= self._spread_until
            and not self._closed.is_set()
        )

    async def _wait_for_the_pace(self) -> None:
        if self._closed.is_set():
            raise Closed
        if self._pace is None:
            return
        try:
            async with asyncio.timeout(None) as self._pacing:
                await self._pace.acquire()
        except TimeoutError:
            raise Closed from None
        finally:
            self._pacing = None

    async def _wait_at_the_head(self) -> None:
        await self._wait_for_the_pace()
        while not self._nothing_binds():
            if self._closed.is_set():
                raise Closed
            now = self._loop.time()
            if now < self._paused_until:
                await self.sleep(self._paused_until - now)
            elif self.in_flight >= self.ceiling.limit:
                self._place_free = self._loop.create_future()
                await self._place_free
            else:
                await self.sleep(random.uniform(0, 2 * SPREAD_S / self._waiting))
                return


def _bucket(per_minute: float) -> AsyncLimiter:
    """A leaky bucket of which no 60 s, the first ones included, hold more than `per_minute` requests.

    A bucket of size b lets b through at once, so b - 1 of each minute's requests are kept back for that.
    """
    burst = max(1, int(per_minute / 60 * BURST_S))
    per_second = (per_minute - (burst - 1)) / 60
    return AsyncLimiter(burst, burst / per_second)
