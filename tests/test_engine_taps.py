"""One engine, one tap after the other: what was learnt stays, and an end between them is an end."""

from __future__ import annotations

import asyncio

import virtual_time
from engines import Engine, completion, request

from batchrun.errors import BatchrunError


def taps(script, *counts, stopped_after=None, **sections):
    """Run an engine on taps of so many rows each, perhaps stopped between them."""

    async def main():
        engine = Engine(script, 0, count=sum(counts), **sections)
        first = 0
        for number, count in enumerate(counts):
            engine.tap = (request(index) for index in range(first, first + count))
            await engine.pool.run(engine.tap)
            first += count
            if number == stopped_after:
                engine.pool.stop(BatchrunError("enough"))
        return engine

    return virtual_time.run(main())


def test_another_tap_may_follow():
    """By the same workers' rules; whoever watches is told of each beginning and each end."""
    engine = taps(lambda _: (1.0, completion()), 3, 20, limits={"concurrency": 4})
    assert sorted(engine.records) == list(range(23))
    assert engine.endpoint.most_in_flight == 4
    assert engine.watch.told == ["begin", "end", "begin", "end"]
    assert engine.pool.cause is None


def test_what_ends_the_run_between_two_taps_ends_the_second():
    """Nothing of it is sent."""
    engine = taps(lambda _: (1.0, completion()), 3, 20, stopped_after=0)
    assert sorted(engine.records) == [0, 1, 2]
    assert str(engine.pool.cause) == "enough"
    assert list(engine.tap) == [], "it is closed, unread"


def test_the_wait_between_two_taps_ends_with_the_run():
    """With nothing to show, and without waiting for the grace; else with what was waited for."""
    said = []

    async def told(word):
        said.append(word)

    async def main():
        engine, loop = Engine(lambda _: (1.0, completion()), 0), asyncio.get_running_loop()
        assert await engine.pool.unless_ended(asyncio.sleep(5, "yes")) == "yes"
        waiting = asyncio.create_task(engine.pool.unless_ended(asyncio.sleep(5, "yes")))
        await asyncio.sleep(1)
        engine.pool.stop(BatchrunError("enough"))
        assert await waiting is None
        assert 6 <= loop.time() < 6.1
        assert await engine.pool.unless_ended(told("asked")) is None
        assert said == [], "it does not even begin"

    virtual_time.run(main())


def test_what_is_spent_is_told_with_the_budget():
    """After each row."""
    told = []

    async def main():
        engine = Engine(lambda _: (1.0, completion()), [], limits={"max_cost_usd": 1, "concurrency": 1})
        engine.watch.spent = lambda spent, budget: told.append((spent, budget))
        await engine.pool.run(request(index) for index in range(3))

    virtual_time.run(main())
    assert told == [(120_000, 10**9), (240_000, 10**9), (360_000, 10**9)]
