"""Budgets of tokens a minute: kept in every window, given back what was too much, owed what was too little."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress

import engines
import msgspec
import pytest
import virtual_time
from hypothesis import given, settings
from hypothesis import strategies as st

from batchrun.engine.adaptive import Ceiling
from batchrun.engine.budgets import Budget, Spent, TokenBudgets, taken_of
from batchrun.engine.limits import Closed, Turnstile
from batchrun.types import Hints, Usage


def now() -> float:
    """The loop's time."""
    return asyncio.get_running_loop().time()


def most_in_a_minute(spent: list[tuple[float, float]]) -> float:
    """The most that any 60 s hold of (time, tokens)."""
    window: deque[tuple[float, float]] = deque()
    most = 0.0
    for at, tokens in spent:
        window.append((at, tokens))
        while window[0][0] <= at - 60:
            window.popleft()
        most = max(most, sum(tokens for _, tokens in window))
    return most


async def reserve(budget: Budget, tokens: float, settled: asyncio.Event | None = None) -> Spent:
    """Ask for so many until there is room for them: when there may be, and whenever others are settled."""
    settled = settled or asyncio.Event()
    while (at := budget.free_at(tokens, now())) > now():
        settled.clear()
        with suppress(TimeoutError):
            await asyncio.wait_for(settled.wait(), at - now())
    return budget.reserve(tokens, now())


def spending(limit, requests, *, concurrency=1000) -> list[tuple[float, float, int]]:
    """Requests of (reserved, taken, seconds) that all come at once: when each was sent, what it took, its number."""
    line, places, settled = asyncio.Lock(), asyncio.Semaphore(concurrency), asyncio.Event()

    async def one(number, budget, sent):
        reserved, taken, seconds = requests[number]
        async with places:
            async with line:
                spent = await reserve(budget, reserved, settled)
                sent.append((now(), taken, number))
            await asyncio.sleep(seconds)
            budget.settle(spent, taken, now())
            settled.set()

    async def all_of_them():
        budget, sent = Budget(limit), []
        await asyncio.gather(*(one(number, budget, sent) for number in range(len(requests))))
        return sent

    return virtual_time.run(all_of_them())


honest = st.tuples(st.integers(1, 500), st.floats(0, 1), st.floats(0, 90)).map(
    lambda one: (float(one[0]), float(one[0]) * one[1], one[2])
)


@settings(max_examples=40, deadline=None)
@given(limit=st.integers(500, 3000).map(float), requests=st.lists(honest, min_size=1, max_size=60))
def test_no_minute_holds_more_than_the_budget(limit, requests):
    """Of what was really taken, where none takes more than was reserved for it; the first minute included."""
    sent = spending(limit, requests)
    assert most_in_a_minute([(at, taken) for at, taken, _ in sent]) <= limit + 1e-6


@settings(max_examples=20, deadline=None)
@given(
    limit=st.integers(500, 3000).map(float),
    requests=st.lists(st.tuples(st.floats(0, 1500), st.floats(0, 1500), st.floats(0, 90)), min_size=1, max_size=12),
)
def test_whatever_is_reserved_and_taken_everybody_goes_in_order_of_arrival(limit, requests):
    """Also what is larger than the whole budget, and what takes more than anybody thought."""
    assert [number for _, _, number in spending(limit, requests)] == list(range(len(requests)))


@pytest.mark.parametrize("reserved", [5.0, 50.0, 100.0], ids=["a tenth", "exactly", "twice"])
def test_over_a_long_time_what_is_taken_is_the_budget(reserved):
    """However much was reserved for it: refunds and debts add up, to 95 % of the budget and no more than all of it."""
    sent = spending(6000.0, [(reserved, 50.0, 1.0)] * 600)
    begin, end = sent[120][0], sent[-1][0]
    taken_per_minute = 50.0 * (599 - 120) / (end - begin) * 60
    assert 0.95 * 6000 <= taken_per_minute <= 6000 * 1.001


def test_what_was_turned_away_costs_nothing():
    """A thousand requests, each as large as the budget and given back at once, do not wait a minute each."""

    async def turned_away():
        budget = Budget(600.0)
        spent = await reserve(budget, 10.0)
        before = now()
        for _ in range(100):
            budget.settle(spent, 0.0, now())
            spent = await reserve(budget, 10.0)
        return now() - before

    assert virtual_time.run(turned_away()) < 1


def test_what_is_settled_after_its_minute_does_not_change_the_window():
    """It is no longer in it; what was owed is still owed."""

    async def late():
        budget = Budget(600.0)
        spent = await reserve(budget, 100.0)
        await asyncio.sleep(70)
        budget.settle(spent, 400.0, now())
        before = now()
        await reserve(budget, 1.0)
        return now() - before

    assert virtual_time.run(late()) >= 300 / 600 * 60 * 0.95


def test_a_request_larger_than_the_budget_goes_alone():
    """Nothing else is in its minute."""
    sent = spending(100.0, [(30.0, 30.0, 1.0), (500.0, 100.0, 1.0), (30.0, 30.0, 1.0)])
    times = [at for at, _, _ in sent]
    assert times[1] >= times[0] + 60
    assert times[2] >= times[1] + 60


# At the turnstile


def entering(per_minute, bodies, *, cancel=(), at_s=0.0, close_s=None, ceiling=10**6):
    """Requests through a turnstile with budgets; some cancelled, or all turned away, after a while."""

    async def one(turnstile, index, sent):
        reserved = (await turnstile.enter(engines.request(index))).reserved
        sent.append((index, now()))
        try:
            await asyncio.sleep(0.5)
        finally:
            reserved.settle(bodies[index], charged=True)
            turnstile.leave()

    async def main():
        budgets = TokenBudgets(per_minute)
        turnstile = Turnstile(Ceiling(ceiling, adaptive=False), budgets=budgets)
        sent: list[tuple[int, float]] = []
        tasks = [asyncio.create_task(one(turnstile, index, sent)) for index in range(len(bodies))]
        await asyncio.sleep(at_s)
        for index in cancel:
            tasks[index].cancel()
        if close_s is not None:
            await asyncio.sleep(close_s)
            turnstile.close()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        return sent, outcomes, turnstile, budgets

    return virtual_time.run(main())


USAGE = Usage(prompt_tokens=10, completion_tokens=100, total_tokens=110, cached_tokens=4)


@pytest.mark.parametrize("at_s", [0.0, 0.0001, 1.0, 3.3, 10.0, 25.0])
def test_cancelling_at_the_turnstile_loses_no_place_and_no_tokens(at_s):
    """Every third is cancelled; the others go in order, and all places are free afterwards."""
    sent, _, turnstile, _ = entering({"generated_tokens": 6000.0}, [USAGE] * 30, cancel=range(0, 30, 3), at_s=at_s)
    order = [index for index, _ in sent]
    assert order == sorted(order)
    assert {index for index in range(30) if index % 3} <= set(order)
    assert turnstile.in_flight == 0
    undisturbed, *_ = entering({"generated_tokens": 6000.0}, [USAGE] * 30)
    assert sent[-1][1] <= undisturbed[-1][1] + 1.5


def test_who_is_cancelled_as_he_passes_gives_his_tokens_back():
    """He has passed and has not woken yet: nothing of the budget is spent."""

    async def main():
        budgets = TokenBudgets({"generated_tokens": 6000.0})
        turnstile = Turnstile(Ceiling(1, adaptive=False), budgets=budgets)
        first = await turnstile.enter(engines.request(0))
        second = asyncio.create_task(turnstile.enter(engines.request(1)))
        await asyncio.sleep(10)
        first.reserved.settle(None, charged=False)
        turnstile.leave()
        passed = turnstile.in_flight
        second.cancel()
        await asyncio.gather(second, return_exceptions=True)
        return passed, turnstile.in_flight, budgets.of["generated_tokens"]._in_window

    assert virtual_time.run(main()) == (1, 0, 0.0)


def test_whoever_gives_up_at_the_head_of_the_line_makes_way_at_once():
    """He waited for the whole minute's budget; who is behind him needs a little of it."""

    def asking(index, max_tokens):
        body = f'{{"max_tokens":{max_tokens}}}'.encode()
        return msgspec.structs.replace(engines.request(index), body=body)

    async def main():
        turnstile = Turnstile(Ceiling(9, adaptive=False), budgets=TokenBudgets({"generated_tokens": 60.0}))
        await turnstile.enter(asking(0, 20))
        large = asyncio.create_task(turnstile.enter(asking(1, 60)))
        small = asyncio.create_task(turnstile.enter(asking(2, 5)))
        await asyncio.sleep(30)
        assert not small.done()
        large.cancel()
        await small
        return asyncio.get_running_loop().time()

    assert virtual_time.run(main()) == pytest.approx(30, abs=0.01)


def test_closing_turns_away_those_who_wait_for_tokens():
    """At once, and no place is taken."""
    sent, outcomes, turnstile, _ = entering({"generated_tokens": 600.0}, [USAGE] * 10, close_s=100.0)
    assert len(sent) + sum(isinstance(outcome, Closed) for outcome in outcomes) == 10
    assert turnstile.in_flight == 0


@settings(max_examples=20, deadline=None)
@given(answers=st.lists(st.integers(1, 512), min_size=2, max_size=60))
def test_two_budgets_are_both_kept(answers):
    """In every minute, counted from when each request goes out, however long it waited for the other budget."""
    usages = [Usage(prompt_tokens=0, completion_tokens=answer) for answer in answers]
    sent, *_ = entering({"prompt_tokens": 6.0, "generated_tokens": 3000.0}, usages)
    learnt = 512.0  # what was reserved for an answer that took more than the mean is owed, and may pass the budget
    assert most_in_a_minute([(at, answers[index]) for index, at in sent]) <= 3000 + learnt


def test_a_minute_begins_when_the_request_goes_out():
    """Its tokens of one budget were there long before those of the other: a minute after it went, and no sooner."""
    usage = Usage(prompt_tokens=1, completion_tokens=512)

    async def main():
        budgets = TokenBudgets({"prompt_tokens": 60.0, "generated_tokens": 600.0})
        turnstile = Turnstile(Ceiling(10, adaptive=False), budgets=budgets)
        times = []
        for length in (4, 400, 4):
            request = msgspec.structs.replace(engines.request(0), body=b"x" * length)
            reserved = (await turnstile.enter(request)).reserved
            times.append(now())
            reserved.settle(usage, charged=True)
            turnstile.leave()
        return times

    times = virtual_time.run(main())
    assert times[1] >= times[0] + 60
    assert times[2] >= times[1] + 60


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_two_budgets_are_drawn_on_at_the_same_time(share):
    """Of the one that binds 95 % are used, though each request is as large as seconds of both."""
    usage = Usage(prompt_tokens=int(500 * share), completion_tokens=500)
    body = b"x" * int(4 * 500 * share)

    async def one(turnstile, index, times):
        place = await turnstile.enter(msgspec.structs.replace(engines.request(index), body=body))
        times.append(now())
        place.reserved.settle(usage, charged=True)
        turnstile.leave()

    async def main():
        budgets = TokenBudgets({"prompt_tokens": 30_000.0, "generated_tokens": 30_000.0})
        turnstile = Turnstile(Ceiling(1000, adaptive=False), budgets=budgets)
        times: list[float] = []
        await asyncio.gather(*(one(turnstile, index, times) for index in range(180)))
        return times

    times = virtual_time.run(main())
    assert times[-1] - times[60] <= 119 / 0.95


def test_a_budget_asks_little_of_the_loop():
    """A thousand waiters: fewer than thirty calls of the loop for each that passes."""

    async def one(turnstile, index):
        reserved = (await turnstile.enter(engines.request(index))).reserved
        reserved.settle(USAGE, charged=True)
        turnstile.leave()

    async def main():
        budgets = TokenBudgets({"generated_tokens": 600_000.0, "prompt_tokens": 600_000.0})
        turnstile = Turnstile(Ceiling(10**6, adaptive=False), budgets=budgets)
        loop = asyncio.get_running_loop()
        calls = 0
        call_soon = loop.call_soon

        def counted(*values, **names):
            nonlocal calls
            calls += 1
            return call_soon(*values, **names)

        tasks = [asyncio.create_task(one(turnstile, index)) for index in range(1000)]
        loop.call_soon = counted
        await asyncio.gather(*tasks)
        return calls

    assert virtual_time.run(main()) <= 30 * 1000


# What is learnt, and what headers say


def budgets_of(**per_minute) -> TokenBudgets:
    """Budgets with these limits a minute."""
    return TokenBudgets(per_minute)


def hinted(budgets: TokenBudgets, **hints: float) -> dict[str, float]:
    """The budgets after these hints."""
    budgets.hint(Hints(**{f"{name}_per_minute": value for name, value in hints.items()}), engines.request(0))
    return {name: budget.per_minute for name, budget in budgets.of.items()}


def in_a_loop(test):
    """Run something that needs a running loop."""

    async def main():
        return test()

    return virtual_time.run(main())


def test_headers_make_budgets_and_change_them():
    """Of all four kinds; what they raise later is raised."""

    def test():
        budgets = budgets_of()
        assert budgets.any is False
        assert hinted(budgets, requests=60.0, generated_tokens=36_000.0) == {"requests": 60, "generated_tokens": 36_000}
        assert hinted(budgets, generated_tokens=72_000.0) == {"requests": 60, "generated_tokens": 72_000}
        return budgets.any

    assert in_a_loop(test)


def test_headers_may_lower_what_the_user_has_set_and_never_raise_it():
    """Down, back up to the user's, and no further."""

    def test():
        budgets = budgets_of(generated_tokens=10_000.0)
        said = [5000.0, 20_000.0, 10_000.0, 9000.0]
        return [hinted(budgets, generated_tokens=value)["generated_tokens"] for value in said]

    assert in_a_loop(test) == [5000, 10_000, 10_000, 9000]


def test_a_limit_that_lets_no_request_through_says_nothing():
    """The first guess for an answer is 512 tokens."""

    def test():
        return hinted(budgets_of(), generated_tokens=511.0, requests=0.5), hinted(budgets_of(), generated_tokens=512.0)

    assert in_a_loop(test) == ({}, {"generated_tokens": 512})


@pytest.mark.parametrize(
    ("name", "usage", "taken"),
    [
        ("requests", None, 1.0),
        ("requests", USAGE, 1.0),
        ("prompt_tokens", USAGE, 10),
        ("uncached_prompt_tokens", USAGE, 6),
        ("uncached_prompt_tokens", Usage(prompt_tokens=10), 10),
        ("uncached_prompt_tokens", Usage(), None),
        ("generated_tokens", USAGE, 100),
        ("generated_tokens", Usage(prompt_tokens=10), None),
        ("generated_tokens", None, None),
    ],
)
def test_what_a_usage_says_of_a_budget(name, usage, taken):
    """None where it does not say."""
    assert taken_of(name, usage) == taken


@pytest.mark.parametrize("charged", [True, False])
def test_what_is_not_known_counts_as_expected_if_it_may_have_been_charged(charged):
    """A broken answer was charged, a 429 was not."""

    async def main():
        budgets = TokenBudgets({"generated_tokens": 60_000.0})
        budget = budgets.of["generated_tokens"]
        reserved = budgets.reservation(engines.request(0))
        reserved.take(0.0)
        held = budget._in_window
        reserved.settle(None, charged=charged)
        reserved.settle(None, charged=False)
        return held, budget._in_window

    held, after = virtual_time.run(main())
    assert held == 512
    assert after == (held if charged else 0)
