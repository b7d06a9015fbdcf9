"""Cancellation at every place where it can strike: no place, no turn and no pace is lost."""

from __future__ import annotations

import asyncio

import engines
import pytest
import virtual_time

from batchrun.engine.adaptive import Ceiling
from batchrun.engine.limits import Turnstile


async def cancelled(task: asyncio.Task) -> None:
    """Cancel a task and see it end so."""
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def is_whole(turnstile: Turnstile, places: int) -> None:
    """Nobody holds or waits for anything, and exactly so many can pass at once."""
    assert turnstile.in_flight == 0
    assert not turnstile._line
    assert not turnstile.gate.lines
    for _ in range(places):
        async with asyncio.timeout(130):
            await turnstile.enter()
    one_more = asyncio.create_task(turnstile.enter())
    await asyncio.sleep(1000)
    assert not one_more.done()
    one_more.cancel()


def strike(setting, places: int = 2) -> None:
    """Let a setting run, then look whether the turnstile is whole."""

    async def run():
        turnstile = Turnstile(Ceiling(places, adaptive=False), setting.per_minute)
        await setting(turnstile)
        await is_whole(turnstile, places)

    virtual_time.run(run())


def setting(*, per_minute=None):
    """Say at what pace a setting plays."""

    def mark(function):
        function.per_minute = per_minute
        return function

    return mark


@setting()
async def in_the_line(turnstile):
    """Behind the head, which waits for a place."""
    await turnstile.enter()
    await turnstile.enter()
    head, behind = (asyncio.create_task(turnstile.enter()) for _ in range(2))
    await asyncio.sleep(1)
    await cancelled(behind)
    turnstile.leave()
    await head
    turnstile.leave()
    turnstile.leave()


@setting()
async def waiting_for_a_place(turnstile):
    """At the head; the next in line moves up and gets the place."""
    await turnstile.enter()
    await turnstile.enter()
    head, behind = (asyncio.create_task(turnstile.enter()) for _ in range(2))
    await asyncio.sleep(1)
    await cancelled(head)
    turnstile.leave()
    async with asyncio.timeout(1):
        await behind
    turnstile.leave()
    turnstile.leave()


@setting()
async def as_the_place_comes(turnstile):
    """The place is free and the head has not woken yet: the next in line gets it."""
    await turnstile.enter()
    await turnstile.enter()
    head, behind = (asyncio.create_task(turnstile.enter()) for _ in range(2))
    await asyncio.sleep(1)
    turnstile.leave()
    await cancelled(head)
    async with asyncio.timeout(1):
        await behind
    turnstile.leave()
    turnstile.leave()


@setting()
async def as_the_turn_comes(turnstile):
    """The head has passed, and the next in line has been told but has not woken yet."""
    await turnstile.enter()
    await turnstile.enter()
    head, second, third = (asyncio.create_task(turnstile.enter()) for _ in range(3))
    await asyncio.sleep(1)
    turnstile.leave()
    while not head.done():  # noqa: ASYNC110 (the very turn of the loop in which it is done)
        await asyncio.sleep(0)
    await cancelled(second)
    turnstile.leave()
    async with asyncio.timeout(1):
        await third
    turnstile.leave()
    turnstile.leave()


@setting()
async def in_a_pause(turnstile):
    """The pause goes on for the others."""
    turnstile.pause(10)
    head, behind = (asyncio.create_task(turnstile.enter()) for _ in range(2))
    await asyncio.sleep(1)
    await cancelled(head)
    await behind
    assert asyncio.get_running_loop().time() >= 10
    turnstile.leave()
    await asyncio.sleep(10)


@setting()
async def in_the_spread_after_a_pause(turnstile):
    """Between the end of the pause and the own turn."""
    turnstile.pause(10)
    tasks = [asyncio.create_task(turnstile.enter()) for _ in range(2)]
    await asyncio.sleep(10.0000001)
    assert not any(task.done() for task in tasks)
    for task in tasks:
        await cancelled(task)
    await asyncio.sleep(10)


@setting(per_minute=1)
async def waiting_for_the_pace(turnstile):
    """What the pace gives goes to the next one."""
    await turnstile.enter()
    head, behind = (asyncio.create_task(turnstile.enter()) for _ in range(2))
    await asyncio.sleep(30)
    await cancelled(head)
    await behind
    assert 60 <= asyncio.get_running_loop().time() <= 62
    turnstile.leave()
    turnstile.leave()


@pytest.mark.parametrize(
    "place",
    [
        in_the_line,
        waiting_for_a_place,
        as_the_place_comes,
        as_the_turn_comes,
        in_a_pause,
        in_the_spread_after_a_pause,
        waiting_for_the_pace,
    ],
    ids=lambda place: place.__name__,
)
def test_whoever_is_cancelled_at_the_turnstile_has_taken_nothing(place):
    """One test for each place: afterwards all places are free, and the others were served."""
    strike(place)


@pytest.mark.parametrize("turns", range(40))
def test_cancelling_after_any_number_of_turns_of_the_loop_loses_nothing(turns):
    """A busy turnstile with a pause in it; every tenth is cancelled after so many turns."""

    async def worker(turnstile):
        for _ in range(5):
            await turnstile.enter()
            try:
                await asyncio.sleep(0)
            finally:
                turnstile.leave()

    async def run():
        turnstile = Turnstile(Ceiling(2, adaptive=False))
        tasks = [asyncio.create_task(worker(turnstile)) for _ in range(20)]
        for turn in range(turns):
            await asyncio.sleep(0)
            if turn == 7:
                turnstile.pause(1)
        for task in tasks[::3]:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(10)
        await is_whole(turnstile, 2)

    virtual_time.run(run())


def test_a_cancelled_attempt_gives_its_place_back_and_is_named():
    """It may be charged: its row is among the abandoned."""

    async def run():
        engine = engines.Engine(lambda _: (100.0, engines.completion()), 3, limits={"concurrency": 3})
        task = asyncio.create_task(engine.fulfiller.fulfil(engines.request(1)))
        await asyncio.sleep(10)
        await cancelled(task)
        assert engine.turnstile.in_flight == 0
        assert engine.pool.abandoned == {1}

    virtual_time.run(run())


def test_a_row_that_is_cancelled_between_attempts_is_not_named():
    """Its last attempt has come back: nothing of it is out."""

    async def run():
        engine = engines.Engine(lambda _: (1.0, engines.throttled(50.0)), 3)
        task = asyncio.create_task(engine.fulfiller.fulfil(engines.request(1)))
        await asyncio.sleep(10)
        await cancelled(task)
        assert engine.turnstile.in_flight == 0
        assert engine.pool.abandoned == set()

    virtual_time.run(run())
