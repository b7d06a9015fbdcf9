"""The turnstile: places, pauses and pace, in order of arrival."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest
import virtual_time
from hypothesis import example, given, settings
from hypothesis import strategies as st

from batchrun.engine.adaptive import Ceiling
from batchrun.engine.limits import BURST_S, SPREAD_S, Closed, Turnstile


def now() -> float:
    """The loop's time."""
    return asyncio.get_running_loop().time()


def most_in_a_minute(times: list[float]) -> int:
    """The largest number of times within any 60 s, both ends included."""
    first = most = 0
    for last, time in enumerate(times):
        while times[first] < time - 60:
            first += 1
        most = max(most, last - first + 1)
    return most


def admitted(limit: float, arrivals: list[float], *, hold_s: float = 0.0, concurrency: int = 10**6) -> list[float]:
    """When requests that arrive at these times pass a turnstile of so many requests a minute."""

    async def one(turnstile, at, times):
        await asyncio.sleep(at)
        await turnstile.enter()
        times.append(now())
        await asyncio.sleep(hold_s)
        turnstile.leave()

    async def all_of_them():
        times: list[float] = []
        turnstile = Turnstile(Ceiling(concurrency, adaptive=False), limit)
        async with asyncio.TaskGroup() as group:
            for at in arrivals:
                group.create_task(one(turnstile, at, times))
        return times

    return virtual_time.run(all_of_them())


def queue(turnstile: Turnstile, count: int, order: list) -> list[asyncio.Task]:
    """Workers that pass the turnstile one after another, and note their number and the time."""

    async def one(number):
        await turnstile.enter()
        order.append((number, now()))

    return [asyncio.create_task(one(number)) for number in range(count)]


limits = st.floats(0.5, 120) | st.integers(1, 120).map(float)
gaps = st.lists(st.tuples(st.floats(0, 90), st.integers(1, 150)), min_size=1, max_size=4)


@settings(max_examples=25, deadline=None)
@given(limit=limits, bursts=gaps)
@example(limit=0.5, bursts=[(0.0, 4)])
@example(limit=1.5, bursts=[(0.0, 5)])
@example(limit=60.0, bursts=[(0.0, 200)])
@example(limit=1250.0, bursts=[(0.0, 150), (59.0, 1500), (2.0, 150)])
def test_no_minute_holds_more_requests_than_the_limit(limit, bursts):
    """Not the first one either, and not after a time in which nothing was sent; below one a minute there is one."""
    arrivals, at = [], 0.0
    for gap_s, count in bursts:
        at += gap_s
        arrivals += [at] * min(count, max(3, int(limit * 2)))
    assert most_in_a_minute(admitted(limit, arrivals)) <= max(1, limit)


def used(times: list[float], limit: float) -> float:
    """The share of the limit that is used from the first to the last."""
    return (len(times) - 1) / (times[-1] - times[0]) * 60 / limit


@pytest.mark.parametrize("limit", [60, 61.9, 100, 601, 1250])
def test_almost_all_of_the_limit_is_used_when_there_is_enough_to_do(limit):
    """At least 97 % of it, and in no minute more than all of it."""
    times = admitted(limit, [0.0] * int(limit * 1.6))
    assert used(times, limit) >= 0.97
    assert most_in_a_minute(times) <= limit


@pytest.mark.rig
@pytest.mark.parametrize("limit", [6000, 20_000, 100_000])
def test_large_limits_are_kept_and_used_as_well(limit):
    """What holds for 60 a minute holds for 100,000."""
    times = admitted(limit, [0.0] * int(limit * 1.6))
    assert used(times, limit) >= 0.97
    assert most_in_a_minute(times) <= limit


def test_no_burst_is_longer_than_a_tenth_of_a_second():
    """Of 6,000 a minute, ten go at once."""
    times = admitted(6000, [0.0] * 1000)
    assert sum(time < 0.001 for time in times) == int(100 * BURST_S)


def test_a_pause_while_the_head_waits_for_the_pace_does_not_add_to_the_minute():
    """What the pace gave before the pause is not saved up for the time after it."""

    async def paced():
        times: list[tuple[int, float]] = []
        turnstile = Turnstile(Ceiling(1000, adaptive=False), 60)
        tasks = queue(turnstile, 150, times)
        await asyncio.sleep(30.5)
        turnstile.pause(20)
        await asyncio.gather(*tasks)
        return [time for _, time in times]

    times = virtual_time.run(paced())
    assert most_in_a_minute(times) <= 60
    assert not [time for time in times if 30.5 < time < 50.5]


def test_a_place_that_is_long_in_coming_does_not_add_to_the_minute():
    """The pace is asked last: what it gives is used at once."""
    times = admitted(30, [0.0] * 90, hold_s=45, concurrency=20)
    assert most_in_a_minute(times) <= 30


def test_nobody_waits_when_nothing_binds():
    """`enter` returns without giving the loop a turn."""

    async def enter_all():
        turnstile = Turnstile(Ceiling(64))
        for _ in range(64):
            coroutine = turnstile.enter()
            with pytest.raises(StopIteration):
                coroutine.send(None)
        return turnstile.in_flight

    assert virtual_time.run(enter_all()) == 64


def test_places_are_given_in_order_of_arrival():
    """First come, first served."""

    async def serve():
        order: list[tuple[int, float]] = []
        turnstile = Turnstile(Ceiling(1))
        tasks = queue(turnstile, 20, order)
        for _ in tasks:
            await asyncio.sleep(1)
            turnstile.leave()
        await asyncio.gather(*tasks)
        return [number for number, _ in order]

    assert virtual_time.run(serve()) == list(range(20))


def test_a_newcomer_does_not_overtake_the_line():
    """Not even in the moment in which a place is free and the one who is to have it has not woken yet."""

    async def serve():
        order: list[tuple[int | str, float]] = []
        turnstile = Turnstile(Ceiling(1))
        tasks = queue(turnstile, 3, order)
        await asyncio.sleep(1)

        async def newcomer():
            await turnstile.enter()
            order.append(("newcomer", now()))

        turnstile.leave()
        tasks.append(asyncio.create_task(newcomer()))
        for _ in range(4):
            await asyncio.sleep(1)
            turnstile.leave()
        await asyncio.gather(*tasks)
        return [number for number, _ in order]

    assert virtual_time.run(serve()) == [0, 1, 2, "newcomer"]


@pytest.mark.parametrize("turns", range(6))
def test_a_newcomer_at_any_turn_of_the_loop_is_last(turns):
    """However many turns of the loop after a place became free it arrives, the line comes first."""

    async def serve():
        order: list[tuple[int | str, float]] = []
        turnstile = Turnstile(Ceiling(2))
        tasks = queue(turnstile, 5, order)
        await asyncio.sleep(1)
        turnstile.leave()
        turnstile.leave()
        for _ in range(turns):
            await asyncio.sleep(0)
        await_newcomer = asyncio.create_task(turnstile.enter())
        await asyncio.sleep(1)
        early = await_newcomer.done()
        for _ in range(3):
            turnstile.leave()
            await asyncio.sleep(1)
        await asyncio.gather(*tasks, await_newcomer)
        return early

    assert virtual_time.run(serve()) is False


def test_nobody_passes_during_a_pause():
    """Of two pauses the later end counts, whichever was asked for first."""

    async def passes():
        turnstile = Turnstile(Ceiling(10))
        turnstile.pause(10)
        turnstile.pause(5)
        await turnstile.enter()
        return now()

    assert virtual_time.run(passes()) >= 10


def test_a_pause_that_is_made_longer_while_somebody_waits_binds_him_too():
    """The end of the wait is looked at again."""

    async def passes():
        turnstile = Turnstile(Ceiling(10))
        turnstile.pause(10)
        waiting = asyncio.create_task(turnstile.enter())
        await asyncio.sleep(10.0001)
        turnstile.pause(20)
        await waiting
        return now()

    assert virtual_time.run(passes()) >= 30


def test_those_who_waited_out_a_pause_do_not_come_back_together():
    """A hundred are spread over a second: no tenth of it sees a third of them."""

    async def passes():
        order: list[tuple[int, float]] = []
        turnstile = Turnstile(Ceiling(100, adaptive=False))
        turnstile.pause(10)
        await asyncio.gather(*queue(turnstile, 100, order))
        return [time for _, time in order]

    times = virtual_time.run(passes())
    assert min(times) >= 10
    assert max(times) <= 10 + SPREAD_S + 0.5
    assert max(sum(start <= time < start + 0.1 for time in times) for start in times) < 34


def test_the_spread_ends():
    """A second after the pause nobody waits any more."""

    async def passes():
        turnstile = Turnstile(Ceiling(1000, adaptive=False))
        turnstile.pause(10)
        await asyncio.sleep(11)
        with pytest.raises(StopIteration):
            turnstile.enter().send(None)
        return turnstile.in_flight

    assert virtual_time.run(passes()) == 1


def test_a_ceiling_that_has_fallen_binds_until_enough_have_left():
    """Those who are in flight stay; the next one waits."""

    async def passes():
        ceiling = Ceiling(8)
        turnstile = Turnstile(ceiling)
        for _ in range(8):
            await turnstile.enter()
        ceiling.throttled(0.0, 1.0)
        waiting = asyncio.create_task(turnstile.enter())
        left = 0
        while not waiting.done():
            await asyncio.sleep(1)
            if not waiting.done():
                turnstile.leave()
                left += 1
        return left

    assert virtual_time.run(passes()) == 5


def closes(*, limit=None, ceiling=1, pause_s=0.0, before_s=0.0, waiting=5) -> tuple[list, float, int]:
    """What becomes of those who wait when the turnstile closes, after how long, and how many places are left."""

    async def wait():
        turnstile = Turnstile(Ceiling(ceiling), limit)
        await turnstile.enter()
        if pause_s:
            turnstile.pause(pause_s)
        tasks = queue(turnstile, waiting, [])
        await asyncio.sleep(before_s)
        closed_at = now()
        turnstile.close()
        turnstile.close()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        return [type(outcome) for outcome in outcomes], now() - closed_at, turnstile.in_flight

    return virtual_time.run(wait())


@pytest.mark.parametrize(
    "wait",
    [
        {"before_s": 1},
        {"before_s": 1, "limit": 1, "ceiling": 10},
        {"before_s": 1, "pause_s": 3600, "ceiling": 10},
        {"before_s": 5.0001, "pause_s": 5, "ceiling": 10, "waiting": 1},
    ],
    ids=["for a place", "for the pace", "for the end of a pause", "after a pause"],
)
def test_closing_turns_everybody_away_at_once(wait):
    """Whatever they wait for, also at one request a minute; and no place is taken."""
    outcomes, after_s, in_flight = closes(**wait)
    assert set(outcomes) == {Closed}
    assert after_s < 0.001
    assert in_flight == 1


def test_who_comes_after_closing_is_turned_away():
    """From `enter` and from `sleep`."""

    async def come():
        turnstile = Turnstile(Ceiling(10))
        turnstile.close()
        for coroutine in (turnstile.enter(), turnstile.sleep(10)):
            with pytest.raises(Closed):
                await coroutine
        return now(), turnstile.in_flight

    assert virtual_time.run(come()) == (pytest.approx(0, abs=0.001), 0)


def test_closing_ends_a_sleep():
    """Whoever waits for his next attempt is told at once."""

    async def sleep():
        turnstile = Turnstile(Ceiling(10))
        sleeping = asyncio.create_task(turnstile.sleep(3600))
        await asyncio.sleep(1)
        turnstile.close()
        with pytest.raises(Closed):
            await sleeping
        return now()

    assert virtual_time.run(sleep()) == pytest.approx(1)


def test_a_sleep_lasts_as_long_as_it_says():
    """Nothing ends it early but closing."""

    async def sleep():
        turnstile = Turnstile(Ceiling(10))
        await turnstile.sleep(7.5)
        return now()

    assert virtual_time.run(sleep()) == pytest.approx(7.5)


def test_a_place_that_is_free_when_the_turnstile_closes_is_given_to_nobody():
    """Closing wins over whatever happens in the same turn of the loop."""

    async def both():
        turnstile = Turnstile(Ceiling(1))
        await turnstile.enter()
        waiting = asyncio.create_task(turnstile.enter())
        await asyncio.sleep(1)
        turnstile.leave()
        turnstile.close()
        with pytest.raises(Closed):
            await waiting
        return turnstile.in_flight

    assert virtual_time.run(both()) == 0


def test_whoever_gives_up_as_the_turnstile_closes_does_not_disturb_it():
    """He is cancelled in the same turn of the loop; the one behind him is turned away all the same."""

    async def both():
        turnstile = Turnstile(Ceiling(1))
        await turnstile.enter()
        tasks = queue(turnstile, 2, [])
        await asyncio.sleep(1)
        tasks[0].cancel()
        turnstile.close()
        return [type(outcome) for outcome in await asyncio.gather(*tasks, return_exceptions=True)]

    assert virtual_time.run(both()) == [asyncio.CancelledError, Closed]


def test_the_pace_is_even():
    """At 60 a minute nobody goes sooner than a second after the one before."""
    times = admitted(60, [0.0] * 30)
    assert min(after - before for before, after in pairwise(times)) >= 1
