"""What the turnstile costs a request: its CPU time with a thousand workers in line, less that of the same without it.

Nobody waits: the loop's clock jumps to the next timer as soon as nothing is ready, so an hour of pacing takes
seconds, all of them CPU time. What is taken off is the same workers, the same answers and the same loop, with nothing
between them.
"""

from __future__ import annotations

import asyncio
import selectors
import sys
import time
from statistics import median
from typing import TYPE_CHECKING

from batchrun.engine.adaptive import Ceiling
from batchrun.engine.limits import Turnstile
from benchmarks.process import Figure

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

MOST_US = 15
ANSWER_S = 1.0


class _Jumping(selectors.DefaultSelector):
    """Never waits: the time that it was to wait for passes at once."""

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


def measure(workers: int = 1_000, per_minute: int = 6_000, requests: int = 50_000, times: int = 5) -> list[Figure]:
    with_us = [_cpu_us(_paced(workers, per_minute, requests), requests) for _ in range(times)]
    without_us = [_cpu_us(_free(workers, requests), requests) for _ in range(times)]
    name = f"CPU of the turnstile per request, {workers:,} workers at {per_minute:,} a minute"
    return [Figure(name, median(with_us) - median(without_us), "µs", MOST_US)]


def _cpu_us(working: Awaitable[None], requests: int) -> float:
    with asyncio.Runner(loop_factory=_Loop) as runner:
        runner.get_loop()
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


async def _work(workers: int, requests: int, enter: Callable[[], Awaitable[None]], leave: Callable[[], None]) -> None:
    tap = iter(range(requests))

    async def worker() -> None:
        for _ in tap:
            await enter()
            await asyncio.sleep(ANSWER_S)
            leave()

    async with asyncio.TaskGroup() as group:
        for _ in range(workers):
            group.create_task(worker())


if __name__ == "__main__":
    for figure in measure(*map(int, sys.argv[1:])):
        print(*figure)
