"""What money costs a request: the CPU time of reserving its worst case, and of pricing and settling its answer.

The least of many short measurements counts: what disturbs one is not ours. A body is read once under a budget, so the
time grows with it; that of a kilobyte is the one with a figure to reach.
"""

from __future__ import annotations

import asyncio
import time
from functools import cache

from batchrun.engine.money import Money
from batchrun.pricing import load_prices
from batchrun.types import Request, Usage
from benchmarks.process import Figure
from benchmarks.work import MODEL

MOST_US = 3.0
_USAGE = Usage(prompt_tokens=250, cached_tokens=0, completion_tokens=180, total_tokens=430)


def measure(times: int = 300, requests: int = 200) -> list[Figure]:
    """Of requests of some sizes, with and without a budget."""
    price_for = cache(load_prices().price_for)

    def least_us(body_bytes: int, budget: int | None) -> float:
        one = _request(body_bytes)
        return min(asyncio.run(_account(Money(budget, price_for), one, requests)) for _ in range(times))

    return [
        Figure("CPU of accounting per request of 1 KB, under a budget", least_us(1_000, 10**18), "µs", MOST_US),
        Figure("CPU of accounting per request of 1 KB, without one", least_us(1_000, None), "µs", MOST_US),
        Figure("CPU of accounting per request of 8 KB, under a budget", least_us(8_000, 10**18), "µs"),
    ]


def _request(body_bytes: int) -> Request:
    start = b'{"model":"%s","messages":[{"role":"user","content":"' % MODEL.encode()
    end = b'"}],"max_tokens":512,"temperature":0}'
    text = (b"some words " * body_bytes)[: body_bytes - len(start) - len(end)]
    return Request(index=0, custom_id="c", request_key="0" * 32, api="chat", model=MODEL, body=start + text + end)


async def _account(money: Money, request: Request, requests: int) -> float:
    began_s = time.process_time()
    for _ in range(requests):
        hold = await money.reserve(request)
        money.settle(hold, request, _USAGE, charged=True)
    return (time.process_time() - began_s) / requests * 1e6


if __name__ == "__main__":
    for figure in measure():
        print(*figure)
