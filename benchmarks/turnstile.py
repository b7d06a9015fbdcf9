"""What the turnstile costs a request: its CPU time with a thousand workers in line, less that of the same without it.

Nobody waits: the loop's clock jumps to the next timer as soon as nothing is ready, so an hour of pacing takes
seconds, all of them CPU time. What is taken off is the same workers on the same loop with nothing between them and
their answers, each of which comes in a turn of the loop of its own, as real ones do.
"""

from __future__ import annotations

import asyncio
import selectors
import sys
import time
from collections import deque
from functools import partial
from statistics import median
from typing import TYPE_CHECKING

from batchrun.engine.adaptive import Ceiling
from batchrun.engine.limits import Turnstile
from benchmarks.process import Figure

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

MOST_US = 15
ANSWER_S, APART_S = 1.0, 1e-4


class _Jumping(selectors.DefaultSelector):
    """Never waits: the time that it was to wait for passes at once. A turn of the loop takes a nanosecond."""

    now = 0.0

    def select(self, timeout=None):
        ready = super().select(0)
        self.now += 1e-9 if ready else timeout + 1e-9
        return ready


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._jumping = _Jumping()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now


def measure(workers: int = 1_000, per_minute: int = 6_000, requests: int = 20_000, times: int = 5) -> list[Figure]:
    def added_us(working: Callable[[], Awaitable[None]]) -> float:
        return median(_cpu_us(working(), requests) - _cpu_us(_free(workers, requests), requests) for _ in range(times))

    name = f"per request, {workers:,} workers at {per_minute:,} a minute"
    return [
        Figure(f"CPU of the turnstile {name}", added_us(partial(_paced, workers, per_minute, requests)), "µs", MOST_US),
        Figure(f"CPU of a bare timer {name}", added_us(partial(_timed, workers, per_minute, requests)), "µs"),
    ]


def _cpu_us(working: Awaitable[None], requests: int) -> float:
    with asyncio.Runner(loop_factory=_Loop) as runner:
        runner.get_loop()  # is made now
        began_s = time.process_time()
        runner.run(working)
        return (time.process_time() - began_s) / requests * 1e6


async def _paced(workers: int, per_minute: int, requests: int) -> None:
    turnstile = Turnstile(Ceiling(workers, adaptive=False), per_minute)
    await _work(workers, requests, turnstile.enter, turnstile.leave)


async def _free(workers: int, requests: int) -> None:
    async def enter() -> None:
        pass

    await _work(workers, requests, enter, lambda: None)


async def _timed(workers: int, per_minute: int, requests: int) -> None:
    """The least that waking one worker at a time can cost: a timer, a future."""
    loop, line = asyncio.get_running_loop(), deque()

    def wake() -> None:
        line.popleft().set_result(None)
        if line:
            loop.call_later(60 / per_minute, wake)

    async def enter() -> None:
        if not line:
            loop.call_later(60 / per_minute, wake)
        line.append(loop.create_future())
        await line[-1]

    await _work(workers, requests, enter, lambda: None)


async def _work(workers: int, requests: int, enter: Callable[[], Awaitable[None]], leave: Callable[[], None]) -> None:
    tap = iter(range(requests))

    async def worker(number: int) -> None:
        for _ in tap:
            await enter()
            await asyncio.sleep(ANSWER_S + number * APART_S)
            leave()

    async with asyncio.TaskGroup() as group:
        for number in range(workers):
            group.create_task(worker(number))


if __name__ == "__main__":
    for figure in measure(*map(int, sys.argv[1:])):
        print(*figure)
