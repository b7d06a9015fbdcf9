"""A run is retuned while it goes on: what changes for what is not yet sent, and what stays as it is."""

from __future__ import annotations

import asyncio

import msgspec
import pytest
import virtual_time
from engines import Engine, completion, config_of, no_answer

from batchrun.engine.controls import Controls
from batchrun.errors import BatchrunError, ConfigError


def steered(script, tap, steer, **sections):
    """Run an engine in virtual time while `steer(controls, engine)` turns its controls; gives the engine."""

    async def main():
        engine = Engine(script, tap, **sections)
        controls = Controls(engine.pool, engine.lanes, engine.fulfiller.money, config_of(**sections))
        running = asyncio.create_task(engine.run())
        await asyncio.sleep(0)
        await steer(controls, engine)
        return await running

    return virtual_time.run(main())


def a_second(_):
    """Each answer takes one."""
    return 1.0, completion()


def sent_between(engine, since, until):
    """How many requests went out in that time."""
    return sum(since <= one.at < until for one in engine.endpoint.sent)


@pytest.mark.parametrize("adaptive", [False, True])
@pytest.mark.parametrize(("before", "after"), [(4, 20), (20, 4), (4, 1)])
def test_another_concurrency(before, after, adaptive):
    """From then on so many are out, neither more nor fewer, once those are answered who were."""

    async def steer(controls, engine):
        await asyncio.sleep(10)
        controls.set_limit("concurrency", after)
        await asyncio.sleep(10)
        engine.then = engine.endpoint.in_flight, engine.pool.status().ceiling

    engine = steered(a_second, 400, steer, limits={"concurrency": before, "adaptive": adaptive})
    assert engine.then == (after, after)
    assert engine.endpoint.most_in_flight == max(before, after)
    assert len(engine.records) == 400


def test_a_ceiling_that_is_not_adaptive_follows_at_once():
    """It has nothing to find out."""

    async def steer(controls, engine):
        await asyncio.sleep(10.1)
        controls.set_limit("concurrency", 20)
        await asyncio.sleep(0.5)
        engine.then = engine.endpoint.in_flight

    assert steered(a_second, 200, steer, limits={"concurrency": 4, "adaptive": False}).then == 20


def test_a_pause_sends_nothing_and_loses_nothing():
    """What is out is answered, nothing goes out for long past `stall_s`, and then all the rest does."""

    async def steer(controls, engine):
        await asyncio.sleep(5.5)
        controls.pause("ctl")
        await asyncio.sleep(300)
        engine.then = engine.endpoint.in_flight, len(engine.endpoint.sent), engine.pool.cause
        controls.resume("ctl")

    engine = steered(a_second, 100, steer, limits={"concurrency": 4}, timeouts={"stall_s": 60})
    assert engine.then == (0, 24, None)
    assert len(engine.records) == 100
    assert engine.pool.bounds.seconds["paused"] == pytest.approx(300, abs=1)


def test_a_pause_is_no_stall_even_where_nobody_answered():
    """An endpoint that was silent when the pause began has its time from the end of the pause on."""

    async def steer(controls, engine):
        await asyncio.sleep(5)
        controls.pause("ctl")
        await asyncio.sleep(500)
        engine.then = engine.pool.cause
        controls.resume("ctl")
        await asyncio.sleep(1)
        engine.later = engine.pool.cause
        controls.stop(BatchrunError("enough"))

    engine = steered(
        lambda _: (50.0, no_answer()), 4, steer, limits={"concurrency": 4}, timeouts={"stall_s": 100, "row_s": 9000}
    )
    assert (engine.then, engine.later) == (None, None)


def test_where_the_run_stands_may_be_asked():
    """How many are out, of how many that may be."""

    async def steer(controls, engine):
        await asyncio.sleep(0.5)
        engine.then = controls.status()

    engine = steered(a_second, 10, steer, limits={"concurrency": 4})
    assert (engine.then.in_flight, engine.then.ceiling, engine.then.oldest) == (4, 4, "row-0")


def test_two_who_pause_both_have_to_resume():
    """One of them does not do it for the other."""

    async def steer(controls, engine):
        controls.pause("ctl")
        controls.pause("stdout")
        controls.resume("ctl")
        await asyncio.sleep(60)
        engine.then = len(engine.endpoint.sent), controls.paused
        controls.resume("stdout")

    engine = steered(a_second, 4, steer, limits={"concurrency": 4})
    assert engine.then[1]
    assert engine.then[0] <= 4
    assert len(engine.records) == 4


def test_another_rate():
    """The new one holds from then on; null lifts it."""

    async def steer(controls, _):
        await asyncio.sleep(60)
        controls.set_limit("requests_per_minute", 600)
        await asyncio.sleep(60)
        controls.set_limit("requests_per_minute", None)

    engine = steered(a_second, 3000, steer, limits={"concurrency": 50, "requests_per_minute": 60})
    assert sent_between(engine, 0, 60) <= 60
    assert 500 < sent_between(engine, 60, 120) <= 600
    assert sent_between(engine, 120, 130) > 400


def test_another_budget_of_tokens():
    """One is set where there was none, and lifted again; an answer takes ten."""

    async def steer(controls, _):
        await asyncio.sleep(60)
        controls.set_limit("generated_tokens_per_minute", 600)
        await asyncio.sleep(120)
        controls.set_limit("generated_tokens_per_minute", None)

    engine = steered(a_second, 3000, steer, limits={"concurrency": 10})
    assert sent_between(engine, 0, 60) > 500
    assert sent_between(engine, 120, 180) <= 60
    assert sent_between(engine, 180, 240) > 500
    assert len(engine.records) == 3000


def test_a_larger_budget_of_dollars():
    """Whoever waits for money goes on; a smaller one ends the run."""

    async def steer(controls, _):
        controls.set_limit("max_cost_usd", 50)
        await asyncio.sleep(3)
        controls.set_limit("max_cost_usd", 0.0001)

    engine = steered(
        a_second,
        100,
        steer,
        limits={"concurrency": 2, "max_cost_usd": 0.001},
        request={"params": {"max_tokens": 10}},
    )
    assert engine.pool.exit_code == 4
    assert "the budget of $0.0001 is reached" in str(engine.pool.cause)


@pytest.mark.parametrize(("name", "value"), [("concurrency", 0), ("concurrency", 2.5), ("requests_per_minute", "x")])
def test_a_value_that_is_none_changes_nothing(name, value):
    """Whoever asks was wrong, and the run goes on as it was."""

    async def steer(controls, _):
        with pytest.raises(msgspec.ValidationError):
            controls.set_limit(name, value)
        assert controls.limits.concurrency == 4

    assert len(steered(a_second, 10, steer, limits={"concurrency": 4}).records) == 10


def test_a_budget_is_not_begun_on_the_way():
    """What was spent before was not counted."""

    async def steer(controls, _):
        with pytest.raises(ConfigError):
            controls.set_limit("max_cost_usd", 5)

    assert len(steered(a_second, 10, steer, limits={"concurrency": 4}).records) == 10


def test_a_drain_waits_longer_than_the_grace():
    """Every answer that is out has its time."""

    async def steer(controls, _):
        await asyncio.sleep(1)
        controls.drain(BatchrunError("drained"))

    engine = steered(lambda _: (300.0, completion()), 9, steer, limits={"concurrency": 3}, timeouts={"grace_s": 5})
    assert len(engine.records) == 3
    assert engine.ended_at == pytest.approx(300, abs=1)
