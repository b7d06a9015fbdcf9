"""The turnstile: every request, also a repeated one, passes it before it is sent, in order of arrival.

Theory of operation. There is one for each model, as endpoints have their limits; what all of them share is the Gate. A
worker that wants to send calls `enter` and holds a place until `leave`. When nothing binds, `enter` does not wait at
all. Otherwise its place stands in the model's line and the worker waits for one future. Only the head of a line is
looked at: a pause or an outage, places, requests and tokens a minute, the pace that was found out; so a large request
cannot starve behind small ones. The look (`Gate.pump`) takes no time: it lets in as many as may pass, one of each line
in turn, and sets one timer for the next look; a worker that leaves brings about a look as well. Whoever passes has his
place, his request of the minute and his tokens in the same step; whoever is cancelled before has taken nothing, and who
is cancelled between his passing and his waking gives it back. After a pause as many as may be in flight go out over a
second, unless a pace has been found out, so that those who were turned away together do not come back together.
Closing the gate ends all waiting. `reason` says what the head of the line waits for.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections import deque
from typing import TYPE_CHECKING

import msgspec

from batchrun.engine.breaker import Breaker
from batchrun.engine.bucket import Bucket
from batchrun.engine.budgets import Reserved
from batchrun.engine.pace import Pace
from batchrun.types import Request

if TYPE_CHECKING:
    from batchrun.engine.adaptive import Ceiling
    from batchrun.engine.budgets import TokenBudgets

BURST_S = 0.1
SPREAD_S = 1.0
_PACE_MARGIN = 0.995
"""The share of the pace that is used: requests do not arrive as evenly as they are sent."""

_SOON_S = 0.1
"""Whoever waits for longer than this is looked at whenever somebody leaves."""

_AGAIN = 0.0
"""Of `let_in`: somebody has passed, so the next one is to be looked at."""


class Closed(Exception):
    """The run is ending: nothing is sent any more."""


class Gate:
    """What the turnstiles of a run share: places, requests a minute, and the end. Make it inside the running loop."""

    def __init__(self, places: float = math.inf, requests_per_minute: float | None = None) -> None:
        self.places, self.in_flight, self.closed = places, 0, False
        self.requests = bucket(requests_per_minute) if requests_per_minute else None
        self.lines: dict[Turnstile, None] = {}
        """Where somebody waits, the one that was served longest ago first."""
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._look_on_leaving = False
        self._end: asyncio.Future[None] = self._loop.create_future()

    def pump(self) -> None:
        """Let in whoever may pass, one of each line in turn, and look again when the next one may."""
        now, ats = self._loop.time(), [_AGAIN]
        while self.lines and _AGAIN in ats:
            ats = [lane.let_in(now) for lane in tuple(self.lines)]
        if self._timer:
            self._timer.cancel()
        at = min(ats)
        self._timer = self._loop.call_at(at, self.pump) if _AGAIN < at < math.inf else None
        self._look_on_leaving = max(ats) > now + _SOON_S

    def leave(self) -> None:
        """A place is free."""
        self.in_flight -= 1
        if self._look_on_leaving:
            self.pump()

    async def sleep(self, seconds: float) -> None:
        """Wait; raises Closed as soon as the run is ending."""
        await asyncio.wait((self._end,), timeout=seconds)
        if self.closed:
            raise Closed

    def close(self) -> None:
        """Turn away everybody who waits, and who comes."""
        if self.closed:
            return
        self.closed = True
        self._end.set_result(None)
        for lane in tuple(self.lines):
            lane.dismiss()
        self.pump()


class Place(msgspec.Struct):
    """One request at a turnstile: while it stands in line, and what it has when it has passed.

    `reserved` is what it holds of token budgets, `probe` says that it asks whether an outage is over.
    """

    request: Request | None
    reserved: Reserved | None = None
    passed: bool = False
    probe: bool = False


class Turnstile:
    """Admission for one model; make it inside the running loop.

    `storm` says that the last trouble was a limit that was met, and no outage.
    """

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
        self.storm = False
        self.reason = ""
        self._line: deque[tuple[Place, asyncio.Future[None]]] = deque()
        self._held_until = 0.0
        self._spread_until = 0.0

    async def enter(self, request: Request | None = None) -> Place:
        """Return with a place, to be given back by `leave`.

        Raises:
            Closed: the run is ending.
        """
        place, gate = Place(request), self.gate
        if gate.closed:
            raise Closed
        if not gate.lines and self._obstacle(place, now := self._loop.time()) is None:
            self._pass(place, now)
            return place
        turn = self._loop.create_future()
        self._line.append((place, turn))
        if self not in gate.lines:
            gate.lines[self] = None
            gate.pump()
        try:
            await turn
            if gate.closed:
                raise Closed
        except BaseException:
            self._withdraw(place)
            raise
        return place

    def leave(self) -> None:
        """Give the place back."""
        self.in_flight -= 1
        self.gate.leave()

    def pause(self, seconds: float) -> None:
        """Admit nobody for a while; of two pauses the later end counts."""
        until = self._loop.time() + seconds
        self._held_until = max(self._held_until, until + self._apart_s())
        self._spread_until = max(self._spread_until, until + SPREAD_S)

    async def sleep(self, seconds: float) -> None:
        """Wait; raises Closed as soon as the run is ending."""
        await self.gate.sleep(seconds)

    def close(self) -> None:
        """Turn away everybody who waits, and who comes."""
        self.gate.close()

    def let_in(self, now: float) -> float:
        """Let those at the head of the line pass, one if others wait as well; says when to look again, or `_AGAIN`."""
        line, lines = self._line, self.gate.lines
        while line:
            place, turn = line[0]
            if not turn.cancelled():
                obstacle = self._obstacle(place, now)
                if obstacle:
                    self.reason, at = obstacle
                    return at
                self._pass(place, now)
                turn.set_result(None)
            line.popleft()
            if len(lines) > 1:
                break
        del lines[self]
        if line:
            lines[self] = None
        else:
            self.reason = ""
        return _AGAIN

    def dismiss(self) -> None:
        """Wake everybody in the line, to find that the gate is closed."""
        for _, turn in self._line:
            if not turn.done():
                turn.set_result(None)
        self._line.clear()

    def _pass(self, place: Place, now: float) -> None:
        if self.gate.requests:
            self.gate.requests.take(1.0, now)
        if place.reserved:
            place.reserved.take(now)
        self.pace.took(now)
        place.probe = self.breaker.sent()
        if now < self._spread_until:
            self._held_until = now + self._apart_s()
        self.in_flight += 1
        self.gate.in_flight += 1
        place.passed = True

    def _withdraw(self, place: Place) -> None:
        """Whoever had passed gives back what he has; who had not may have been in others' way."""
        if place.passed:
            self.breaker.returned(probe=place.probe)
            if place.reserved:
                place.reserved.settle(None, charged=False)
            self.leave()
        else:
            self.gate.pump()

    def _obstacle(self, place: Place, now: float) -> tuple[str, float] | None:
        """What keeps a request back, and when to look again; never, where only one that leaves can change it."""
        gate = self.gate
        if now < self._held_until:
            return "pause", self._held_until
        if (at := self.breaker.probe_at) > now:
            return "pause" if self.storm else "outage", at
        if self.in_flight >= self.ceiling.limit or gate.in_flight >= gate.places:
            full = "ceiling" if self.ceiling.below_maximum else "concurrency"
            return full if gate.places else "paused", math.inf
        if gate.requests and (at := gate.requests.free_at(1.0, now)) > now:
            return "requests", at
        if self.budgets and place.request:
            place.reserved = place.reserved or self.budgets.reservation(place.request)
            if place.reserved and (short := place.reserved.short(now)):
                return short
        return ("pace", self.pace.next_at) if self.pace.next_at > now else None

    def _apart_s(self) -> float:
        """How far from each other requests go out after a pause."""
        return 0.0 if self.pace.cuts else random.uniform(0, 2 * SPREAD_S / self.ceiling.limit)


def bucket(per_minute: float) -> Bucket:
    """A bucket of which no 60 s, the first ones included, hold more than `per_minute` requests.

    A bucket of size b lets b through at once, so b - 1 of each minute's requests are kept back for that. Below one a
    minute there is one in each `60 / per_minute` seconds.
    """
    whole = math.floor(per_minute) if per_minute >= 1 else per_minute
    burst = max(1, int(whole / 60 * BURST_S))
    per_second = (whole - (burst - 1)) / 60 * _PACE_MARGIN
    return Bucket(per_second, burst)
