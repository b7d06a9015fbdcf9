"""A lane for each model; places, requests a minute and the end are shared."""

from __future__ import annotations

import asyncio

import pytest
import virtual_time
from engines import config_of

from batchrun.engine.breaker import OPENS_AFTER
from batchrun.engine.lanes import Lanes
from batchrun.engine.limits import Closed


def with_lanes(test, **limits):
    """Run something with the lanes of these limits."""

    async def main():
        return await test(Lanes(config_of(limits=limits).limits))

    return virtual_time.run(main())


def test_each_model_has_its_own_lane():
    """Asked for again, it is the same one; a cut of one is not one of the other."""

    async def test(lanes):
        a, b = lanes.of("a"), lanes.of("b")
        assert lanes.of("a") is a
        a.ceiling.throttled(0.0, 1.0)
        return a.ceiling.limit, b.ceiling.limit

    assert with_lanes(test, concurrency=8) == (4, 8)


def test_how_many_may_be_in_flight():
    """What the lanes allow together, and never more than the user does."""

    async def test(lanes):
        limits = [lanes.limit]
        lanes.of("a").ceiling.throttled(0.0, 1.0)
        limits.append(lanes.limit)
        lanes.of("b")
        limits.append(lanes.limit)
        return limits

    assert with_lanes(test, concurrency=8) == [8, 4, 8]


def test_the_places_are_shared():
    """With all of them taken by one model, another waits until one is free."""

    async def test(lanes):
        a, b = lanes.of("a"), lanes.of("b")
        for _ in range(3):
            await a.enter()
        waiting = asyncio.create_task(b.enter())
        await asyncio.sleep(1)
        before = waiting.done(), lanes.in_flight, lanes.reason
        a.leave()
        await asyncio.sleep(1)
        return before, waiting.done(), lanes.in_flight, lanes.reason

    assert with_lanes(test, concurrency=3) == ((False, 3, "concurrency"), True, 3, "")


def test_a_free_place_wakes_the_heads_of_all_lanes():
    """And one of them has it."""

    async def test(lanes):
        a, b = lanes.of("a"), lanes.of("b")
        await a.enter()
        waiting = [asyncio.create_task(lane.enter()) for lane in (a, b)]
        await asyncio.sleep(1)
        a.leave()
        await asyncio.sleep(1)
        first = sum(task.done() for task in waiting)
        a.leave()
        await asyncio.sleep(1)
        return first, sum(task.done() for task in waiting), lanes.in_flight

    assert with_lanes(test, concurrency=1) == (1, 2, 1)


def test_a_free_place_goes_to_whoever_may_have_it():
    """Of nine lanes that wait, eight are at their own ceilings."""

    async def test(lanes):
        full = [lanes.of(f"full-{number}") for number in range(8)]
        for lane in full:
            await lane.enter()
            await lane.enter()
            lane.ceiling._value = 1.0
        waiting = [asyncio.create_task(lane.enter()) for lane in full]
        free = asyncio.create_task(lanes.of("free").enter())
        await asyncio.sleep(1)
        before = free.done()
        full[0].leave()
        await asyncio.sleep(1)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        return before, free.done()

    assert with_lanes(test, concurrency=16) == (False, True)


def test_the_requests_a_minute_are_shared():
    """Two models together make no more than one would."""

    async def test(lanes):
        times = []

        async def one(lane):
            await lane.enter()
            times.append(asyncio.get_running_loop().time())

        await asyncio.gather(*(one(lanes.of(model)) for model in "ab" * 10))
        return times

    times = with_lanes(test, concurrency=100, requests_per_minute=10)
    assert max(sum(start <= at < start + 60 for at in times) for start in times) <= 10


@pytest.mark.parametrize("limits", [{"requests_per_minute": 60}, {"concurrency": 1}], ids=["requests", "places"])
def test_the_lanes_take_turns(limits):
    """Of what is shared each model that waits gets one after the other, though one of them was there first."""

    async def test(lanes):
        order = []

        async def one(model):
            await lanes.of(model).enter()
            order.append(model)
            await asyncio.sleep(0.01)
            lanes.of(model).leave()

        await asyncio.gather(*(one(model) for model in "aaaaaabbbbbb"))
        return "".join(order)

    assert with_lanes(test, **limits) in {"aababababbbb", "ababababbbbb", "aabababababb", "abababababab"}


def test_a_pause_of_one_model_is_not_one_of_the_others():
    """The other goes at once."""

    async def test(lanes):
        lanes.of("a").pause(100)
        await lanes.of("b").enter()
        return asyncio.get_running_loop().time()

    assert with_lanes(test) < 1


def test_an_outage_is_one_if_every_model_has_it():
    """Since the last of them came to have it."""

    async def test(lanes):
        known = [lanes.outage_since()]
        for model, at in (("a", 5.0), ("b", 9.0)):
            lanes.of("b")
            for _ in range(OPENS_AFTER):
                lanes.of(model).breaker.trouble(at, probe=False)
            known.append(lanes.outage_since())
        return known

    assert with_lanes(test) == [None, None, 9.0]


def test_closing_turns_away_whoever_waits_in_any_lane():
    """And whoever sleeps."""

    async def test(lanes):
        for model in "ab":
            lanes.of(model).pause(1000)
        waiting = [asyncio.create_task(lanes.of(model).enter()) for model in "aabb"]
        waiting.append(asyncio.create_task(lanes.sleep(1000)))
        await asyncio.sleep(1)
        lanes.close()
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        return {type(outcome) for outcome in outcomes}, asyncio.get_running_loop().time(), lanes.in_flight

    assert with_lanes(test) == ({Closed}, pytest.approx(1, abs=0.01), 0)


@pytest.mark.parametrize(("storm", "reason"), [(False, "outage"), (True, "pause")])
def test_an_outage_holds_everybody_back_but_one(storm, reason):
    """The probe goes alone; while it is out the others wait for its return. Limits that were met are no outage."""

    async def test(lanes):
        lane = lanes.of("a")
        lane.storm = storm
        for _ in range(OPENS_AFTER):
            lane.breaker.trouble(0.0, probe=False)
        probes = []

        async def one():
            probes.append((await lane.enter()).probe)

        waiting = [asyncio.create_task(one()) for _ in range(5)]
        await asyncio.sleep(50)
        during, reason = list(probes), lane.reason
        lane.breaker.returned(probe=True)
        lane.breaker.alive()
        lane.leave()
        await asyncio.gather(*waiting)
        return during, reason, probes

    assert with_lanes(test) == ([True], reason, [True, False, False, False, False])
