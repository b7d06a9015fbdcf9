"""N workers on one tap: how many are out, how a run ends, and what is kept when it does."""

from __future__ import annotations

import asyncio
import math
from itertools import count

import pytest
import virtual_time
from engines import (
    Engine,
    completion,
    no_answer,
    refused,
    rejected,
    request,
    rows,
    server_error,
    throttled,
    unusable,
)

from batchrun.engine.lag import Lag
from batchrun.errors import BatchrunError, EndpointUnusable, Rejected


def run(script, tap=1, **sections):
    """Run an engine to its end in virtual time; an hour and a half is too long for any of them."""

    async def to_the_end():
        async with asyncio.timeout(5000):
            return await Engine(script, tap, **sections).run()

    return virtual_time.run(to_the_end())


def stopped(script, tap, *, after_s, cause=None, grace_s=None, hurry_after_s=None, **sections):
    """Run an engine and stop it after a while; perhaps hurry it a while later."""

    async def main():
        engine = Engine(script, tap, **sections)
        running = asyncio.create_task(engine.run())
        await asyncio.sleep(after_s)
        engine.pool.stop(cause or BatchrunError("enough"), grace_s=grace_s)
        if hurry_after_s is not None:
            await asyncio.sleep(hurry_after_s)
            engine.pool.stop(BatchrunError("another"), grace_s=0)
        return await running

    return virtual_time.run(main())


# How many are out


@pytest.mark.parametrize("concurrency", [1, 100, 101, 1000])
@pytest.mark.parametrize("adaptive", [False, True])
def test_exactly_as_many_are_in_flight_as_the_user_says(concurrency, adaptive):
    """No more, and no fewer once the ramp is over."""
    rows_to_send = max(20, 3 * concurrency)
    engine = run(lambda _: (1.0, completion()), rows_to_send, limits={"concurrency": concurrency, "adaptive": adaptive})
    assert engine.endpoint.most_in_flight == concurrency
    assert len(engine.records) == rows_to_send


def test_a_worker_takes_the_next_row_at_once():
    """A hundred rows of a second at ten at a time take ten seconds."""
    engine = run(lambda _: (1.0, completion()), 100, limits={"concurrency": 10})
    assert engine.ended_at == pytest.approx(10, abs=0.05)


def test_tasks_and_rows_in_memory_are_bounded_by_the_concurrency():
    """At most 2 N and a constant, however many rows there are."""
    most_tasks = most_taken = 0

    async def main():
        nonlocal most_tasks, most_taken
        taken = 0

        def tap():
            nonlocal taken
            for one in rows(400):
                taken += 1
                yield one

        def script(_):
            nonlocal most_tasks, most_taken
            most_tasks = max(most_tasks, len(asyncio.all_tasks()))
            most_taken = max(most_taken, taken - len(engine.records))
            return 0.1, completion()

        engine = Engine(script, tap(), limits={"concurrency": 20, "adaptive": False})
        return await engine.run()

    engine = virtual_time.run(main())
    assert len(engine.records) == 400
    assert most_tasks <= 2 * 20 + 5
    assert most_taken <= 2 * 20


def test_more_places_than_rows_do_no_harm():
    """Three rows, a thousand places."""
    assert len(run(lambda _: (1.0, completion()), 3, limits={"concurrency": 1000}).records) == 3


def test_a_run_without_rows_ends_at_once():
    """With no cause and nothing sent."""
    engine = run(lambda _: (1.0, completion()), 0)
    assert (engine.pool.cause, engine.pool.exit_code, engine.endpoint.sent) == (None, 0, [])


def test_the_status_says_what_is_out_and_since_when():
    """As the progress line asks for it."""

    async def main():
        engine = Engine(
            lambda sent: (math.inf if sent.index == 0 else 1.0, completion()), 50, limits={"concurrency": 5}
        )
        running = asyncio.create_task(engine.run())
        before = engine.pool.status()
        await asyncio.sleep(3.5)
        status = engine.pool.status()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        return before, status

    before, status = virtual_time.run(main())
    assert (before.in_flight, before.oldest_s) == (0, 0.0)
    assert (status.in_flight, status.ceiling, status.throttled) == (5, 5, 0)
    assert status.oldest_s == pytest.approx(3.5)


def test_whoever_watches_is_told_of_the_beginning_each_row_and_the_end():
    """In this order."""
    engine = run(lambda _: (1.0, completion()), 7)
    assert (engine.watch.told, engine.watch.rows) == (["begin", "end"], 7)


# Causes


def test_a_refused_key_ends_the_run():
    """Exit 8, nothing new is sent, and the row stays open for the next run."""
    engine = run(lambda _: (1.0, unusable()), 1000, limits={"concurrency": 10})
    assert isinstance(engine.pool.cause, EndpointUnusable)
    assert engine.pool.exit_code == 8
    assert len(engine.endpoint.sent) == 10
    assert engine.records == {}


def test_when_the_key_is_refused_what_is_in_flight_is_waited_for_four_seconds():
    """What was answered by then is kept, the rest is named as abandoned."""
    slow = {1: 3.9, 2: 30.0}
    engine = run(
        lambda sent: (slow.get(sent.index, 0.5), completion() if sent.index in slow else unusable()),
        100,
        limits={"concurrency": 3},
    )
    assert engine.ended_at == pytest.approx(4.5, abs=0.01)
    assert set(engine.records) == {1}
    assert engine.pool.abandoned == {2}


def test_a_short_grace_holds_for_a_refused_key_too():
    """`grace_s` below four seconds is the user's wish."""
    engine = run(
        lambda sent: (0.5, unusable()) if sent.index == 0 else (30.0, completion()),
        2,
        timeouts={"grace_s": 1},
    )
    assert engine.ended_at == pytest.approx(1.5, abs=0.01)


def test_not_found_ends_the_run_while_nothing_has_succeeded():
    """The model is not there: no row needs to be tried."""
    engine = run(lambda _: (1.0, unusable(404)), 100, limits={"concurrency": 2})
    assert (engine.pool.exit_code, len(engine.endpoint.sent)) == (8, 2)


def test_not_found_is_one_rows_failure_once_another_has_succeeded():
    """A row may name a model of its own."""
    engine = run(lambda sent: (1.0, unusable(404) if sent.index == 5 else completion()), 10, limits={"concurrency": 1})
    assert engine.pool.cause is None
    assert [index for index, record in engine.records.items() if record.error_type == "not_found"] == [5]


def test_a_redirect_ends_the_run_at_any_time():
    """It is never one row's trouble."""
    engine = run(lambda sent: (1.0, unusable(302) if sent.index == 5 else completion()), 10, limits={"concurrency": 1})
    assert (engine.pool.exit_code, len(engine.records)) == (8, 5)


def test_a_run_against_nobody_ends_when_a_connection_should_have_come_about():
    """After connect_s, and not after the hour that a row has."""
    engine = run(lambda _: (0.0, refused()), 100, limits={"concurrency": 16}, timeouts={"connect_s": 10})
    assert engine.pool.exit_code == 8
    assert 10 <= engine.ended_at <= 30
    assert engine.records == {}


@pytest.mark.parametrize("first", [server_error(), throttled(), no_answer(), rejected()])
def test_an_endpoint_that_was_there_is_waited_for(first):
    """It answers once, is gone for two minutes and comes back: nothing but what it rejected has failed."""
    engine = run(
        lambda sent: (0.1, first if sent.at < 0.05 else refused() if sent.at < 120 else completion()),
        20,
        limits={"concurrency": 4},
    )
    assert engine.pool.cause is None
    expected = [first.error_type] * 4 if first.error_type == "request_rejected" else []
    assert [record.error_type for record in engine.records.values() if record.error_type] == expected


@pytest.mark.parametrize(
    "outcome",
    [throttled(), throttled(60.0), refused(), no_answer()],
    ids=["429", "429 and a wait", "refused", "broken"],
)
def test_a_run_that_nobody_answers_ends_after_stall_s(outcome):
    """Told to wait, refused or broken for ever: exit 8, and the rows stay open or failed, none is lost."""
    engine = run(
        lambda sent: (0.1, completion() if sent.index == 0 else outcome),
        5000,
        limits={"concurrency": 2},
        timeouts={"stall_s": 300, "row_s": 36_000},
        retry={"max_attempts": 1000, "max_wait_s": 100},
    )
    assert isinstance(engine.pool.cause, EndpointUnusable)
    assert engine.pool.exit_code == 8
    assert engine.ended_at == pytest.approx(300, abs=1)
    assert engine.pool.cause.message.endswith(f" for 300 s: {outcome.message}")


def test_an_outage_has_a_reason_while_it_goes_on():
    """What the last attempt failed of is in the status; before and after it, and for less, there is nothing to say."""
    told = []

    def answer(sent):
        told.append(engine.pool.status().outage)
        if 0.25 < sent.at < 0.35:
            return 0.1, server_error()
        return 0.1, refused() if 1 < sent.at < 20 else completion()

    async def to_the_end():
        nonlocal engine
        engine = Engine(answer, 200, limits={"concurrency": 4})
        await engine.run()
        return engine.pool.status().outage

    engine = None
    assert virtual_time.run(to_the_end()) == ""
    assert set(told) == {"", "cannot connect"}
    assert told[0] == told[-1] == ""


def test_a_limit_is_no_outage():
    """Who serves eight at a time and turns all others away, as on an ordinary day, works: nothing is said of it."""
    taken_until, told, held_back = [0.0] * 8, set(), 0

    def answer(sent):
        nonlocal held_back
        held_back += engine.lanes.outage_since() is not None
        told.add(engine.pool.status().outage)
        place = taken_until.index(min(taken_until))
        if taken_until[place] > sent.at:
            return 0.05, throttled()
        taken_until[place] = sent.at + 20
        return 20, completion()

    async def to_the_end():
        nonlocal engine
        engine = Engine(answer, 100, limits={"concurrency": 64})
        await engine.run()

    engine = None
    virtual_time.run(to_the_end())
    assert held_back
    assert told == {""}


def test_the_outage_of_one_model_is_told_while_another_waits_for_its_limit():
    """With what went wrong, whichever of them was asked last; nothing is said of the one that is only throttled."""
    told = set()

    def answer(sent):
        told.add(engine.pool.status().outage)
        return 0.1, server_error() if sent.index % 2 else throttled()

    async def to_the_end():
        nonlocal engine
        tap = (request(index, model="mb"[index % 2]) for index in range(200))
        sections = {"limits": {"concurrency": 16}, "timeouts": {"stall_s": 100}, "retry": {"max_attempts": 1000}}
        engine = Engine(answer, tap, models=2, count=200, **sections)
        await engine.run()

    engine = None
    virtual_time.run(to_the_end())
    assert engine.pool.exit_code == 8
    assert told == {"", "HTTP 500"}


def test_a_silent_endpoint_is_a_stall_however_short_the_time_outs_are():
    """A row that timed out was not answered."""
    engine = run(
        lambda _: (math.inf, completion()),
        10_000,
        limits={"concurrency": 4},
        timeouts={"row_s": 20, "stall_s": 100},
    )
    assert engine.pool.exit_code == 8
    assert engine.ended_at == pytest.approx(100, abs=1)


def test_a_silence_has_no_old_reason():
    """What went wrong before the last success is not why it says nothing now."""

    def answer(sent):
        return (0.1, server_error() if sent.at < 0.05 else completion()) if sent.at < 50 else (math.inf, completion())

    engine = run(answer, 100_000, limits={"concurrency": 4}, timeouts={"stall_s": 100})
    assert engine.pool.cause.message == "the endpoint has not answered for 100 s"


def test_a_silence_is_not_blamed_on_a_request_that_was_rejected():
    """A 400 is an answer, of an endpoint that works."""

    def answer(sent):
        return (0.1, rejected() if sent.index == 2 else completion()) if sent.index < 3 else (math.inf, completion())

    engine = run(answer, 100, limits={"concurrency": 1}, timeouts={"stall_s": 100})
    assert engine.pool.cause.message == "the endpoint has not answered for 100 s"


def test_a_pace_slower_than_stall_s_is_no_stall():
    """One request every two minutes, answered each time, where silence of a minute and a half would end the run."""
    limits, timeouts = {"concurrency": 4, "requests_per_minute": 0.5}, {"stall_s": 90}
    engine = run(lambda _: (1.0, completion()), 4, limits=limits, timeouts=timeouts)
    assert (engine.pool.cause, len(engine.records)) == (None, 4)


def test_an_answer_while_others_are_out_starts_the_wait_anew():
    """Two rows at a time, one of them hanging: the run goes on while the other one is answered."""
    engine = run(
        lambda sent: (math.inf if sent.index == 0 else 10.0, completion()),
        30,
        limits={"concurrency": 2},
        timeouts={"stall_s": 100, "row_s": 1000},
    )
    assert len(engine.records) == 29
    assert engine.ended_at == pytest.approx(390, abs=1)
    assert engine.pool.exit_code == 8


def test_a_bug_in_one_worker_ends_the_run_and_loses_no_answer():
    """It becomes the cause, exit 1; what the others have in flight is kept."""
    engine = run(
        lambda sent: (1.0 if sent.index == 0 else 3.0, ZeroDivisionError() if sent.index == 0 else completion()),
        100,
        limits={"concurrency": 5},
    )
    assert isinstance(engine.pool.cause, ZeroDivisionError)
    assert engine.pool.exit_code == 1
    assert set(engine.records) == {1, 2, 3, 4}


def test_a_tap_that_raises_ends_the_run_and_loses_no_answer():
    """The input broke in the middle: what was taken from it before is kept."""

    def tap():
        yield from (request(index) for index in range(3))
        raise OSError("the input is gone")

    engine = run(lambda _: (1.0, completion()), tap(), limits={"concurrency": 5, "adaptive": False})
    assert isinstance(engine.pool.cause, OSError)
    assert set(engine.records) == {0, 1, 2}


def test_a_stop_from_inside_the_tap_ends_the_run():
    """A disk may fail while the tap keeps an invalid row: a generator that runs cannot be closed, and is not asked."""

    async def main():
        def tap():
            for index in count():
                if index == 5:
                    engine.pool.stop(BatchrunError("the disk is full"))
                yield request(index)

        engine = Engine(lambda _: (1.0, completion()), tap(), limits={"concurrency": 2})
        return await engine.run()

    engine = virtual_time.run(main())
    assert engine.watch.told == ["begin", "stopping: the disk is full", "end"]
    assert 4 <= len(engine.records) <= 5


def test_a_keeper_that_fails_ends_the_run():
    """Nothing is sent that cannot be kept."""

    async def main():
        engine = Engine(lambda _: (1.0, completion()), 100, limits={"concurrency": 2})
        engine.keeper.keep = full
        return await engine.run()

    def full(_):
        raise BatchrunError("the disk is full")

    engine = virtual_time.run(main())
    assert str(engine.pool.cause) == "the disk is full"
    assert len(engine.endpoint.sent) == 2


def test_a_watch_that_fails_at_the_beginning_leaves_no_task_behind():
    """The error passes, and nothing runs on."""

    async def main():
        engine = Engine(lambda _: (1.0, completion()), 100)
        engine.watch.begin = broken
        with pytest.raises(OSError, match="no terminal"):
            await engine.run()
        return len(asyncio.all_tasks())

    def broken(_):
        raise OSError("no terminal")

    assert virtual_time.run(main()) == 1


# Stopping


def test_stopping_waits_for_what_is_in_flight():
    """Nothing new is sent; the answers that come within the grace are kept."""
    engine = stopped(
        lambda _: (5.0, completion()), 100, after_s=2, timeouts={"grace_s": 20}, limits={"concurrency": 10}
    )
    assert engine.ended_at == pytest.approx(5, abs=0.05)
    assert len(engine.endpoint.sent) == len(engine.records) == 10
    assert engine.pool.abandoned == set()
    assert engine.pool.bounds.seconds == {"concurrency": pytest.approx(2, abs=0.2), "ending": pytest.approx(3, abs=0.2)}


def test_after_the_grace_what_is_in_flight_is_abandoned():
    """And named, for it may be charged."""
    engine = stopped(
        lambda sent: (5.0 if sent.index < 3 else 500.0, completion()),
        100,
        after_s=2,
        timeouts={"grace_s": 20},
        limits={"concurrency": 10},
    )
    assert engine.ended_at == pytest.approx(22, abs=0.01)
    assert set(engine.records) == {0, 1, 2}
    assert engine.pool.abandoned == set(range(3, 10))


def test_a_second_stop_only_shortens_the_grace():
    """The first cause stays."""
    engine = stopped(lambda _: (500.0, completion()), 10, after_s=2, hurry_after_s=3, timeouts={"grace_s": 20})
    assert engine.ended_at == pytest.approx(5, abs=0.01)
    assert str(engine.pool.cause) == "enough"


def test_stopping_turns_away_those_who_wait_for_another_attempt():
    """They are not failures: their rows stay open."""
    engine = stopped(lambda _: (0.1, throttled(100.0)), 10, after_s=50, limits={"concurrency": 4})
    assert engine.ended_at == pytest.approx(50, abs=0.01)
    assert engine.records == {}


def test_stopping_turns_away_those_who_wait_for_the_pace():
    """At one request a minute the run ends when what is in flight is answered."""
    engine = stopped(
        lambda _: (1.0, completion()), 100, after_s=70, limits={"concurrency": 10, "requests_per_minute": 1}
    )
    assert engine.ended_at == pytest.approx(70, abs=0.01)
    assert len(engine.records) == 2


def test_stopping_before_the_beginning_sends_nothing():
    """A signal may come early."""

    async def main():
        engine = Engine(lambda _: (1.0, completion()), 100)
        engine.pool.stop(BatchrunError("early"))
        return await engine.run()

    engine = virtual_time.run(main())
    assert (engine.endpoint.sent, str(engine.pool.cause)) == ([], "early")


def test_whoever_watches_is_told_once_that_the_run_stops():
    """With the cause."""
    engine = stopped(lambda _: (5.0, completion()), 100, after_s=2, hurry_after_s=1)
    assert engine.watch.told == ["begin", "stopping: enough", "end"]


# Our own loop


def test_a_loop_that_keeps_up_has_no_lag():
    """In virtual time every timer is on time."""
    lag = run(lambda _: (1.0, completion()), 50, limits={"concurrency": 5}).pool.lag
    assert lag.max_s < 0.001
    assert lag.p99_s < 0.001


def test_lag_says_the_99th_percentile_and_the_maximum():
    """To a millisecond, the maximum exactly."""
    lag = Lag()
    assert lag.p99_s is None
    for number in range(1, 101):
        lag.add(number / 1000 - 0.0005)
    assert lag.p99_s == pytest.approx(0.099)
    lag.add(17.0)
    assert lag.max_s == 17.0
    assert lag.p99_s <= 2.001
    lag.add(-1.0)
    assert lag.max_s == 17.0


# Rows that all fail the same way


@pytest.mark.parametrize(("rows_alike", "ends"), [(49, False), (50, True)])
def test_fifty_rows_in_a_row_that_fail_the_same_way_end_the_run(rows_alike, ends):
    """Exit 8, with the number and what the last one said; forty-nine do not."""
    engine = run(
        lambda sent: (0.1, rejected() if sent.index < rows_alike else completion()), 60, limits={"concurrency": 1}
    )
    assert isinstance(engine.pool.cause, EndpointUnusable) == ends
    assert len(engine.records) == (50 if ends else 60)
    if ends:
        assert "50 rows in a row failed the same way: HTTP 400" in str(engine.pool.cause)


def test_failures_of_different_kinds_or_with_an_answer_in_between_do_not_end_the_run():
    """They have to be in a row, and alike."""
    outcomes = [rejected()] * 49 + [completion()] + [rejected(), server_error()] * 49 + [rejected()] * 49
    engine = run(
        lambda sent: (0.1, outcomes[sent.index]),
        len(outcomes),
        limits={"concurrency": 1},
        retry={"max_attempts": 1},
    )
    assert engine.pool.cause is None
    assert len(engine.records) == len(outcomes)


@pytest.mark.parametrize("reason", ["context_length_exceeded", "content_filtered", "input_invalid", "empty_response"])
def test_failures_that_say_something_of_the_row_do_not_end_the_run(reason):
    """A hundred prompts that are too long say nothing of the next one."""
    engine = run(lambda _: (0.1, Rejected("no", error_type=reason, status_code=400)), 100, limits={"concurrency": 4})
    assert engine.pool.cause is None
    assert len(engine.records) == 100
