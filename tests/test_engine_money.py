"""The budget: nothing is sent that could pass it, nothing is lost of it, and whoever waits for room gets it in turn."""

from __future__ import annotations

import asyncio

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from virtual_time import run as run_virtual

from batchrun.engine.money import Money, worst_nano_usd
from batchrun.errors import BudgetReached
from batchrun.pricing import Price, cost_nano_usd
from batchrun.types import Request, Usage

PRICE = Price(model="m", input_usd_per_mtok=1.0, output_usd_per_mtok=4.0)


def request(max_tokens: int | None = 10, *, prompt: str = "hi", api="chat", index: int = 0) -> Request:
    """One that may have so many tokens."""
    limit = "" if max_tokens is None else f',"max_tokens":{max_tokens}'
    body = f'{{"prompt":"{prompt}"{limit}}}'.encode()
    return Request(index=index, custom_id=str(index), request_key="0", api=api, model="m", body=body)


def test_the_worst_case_is_a_token_a_byte_and_the_whole_limit():
    """Of an embedding it is the prompt alone; without limit or price nobody knows."""
    one = request(10)
    assert worst_nano_usd(one, PRICE) == len(one.body) * 1000 + 10 * 4000
    vector = request(None, api="embeddings")
    assert worst_nano_usd(vector, PRICE) == len(vector.body) * 1000
    assert worst_nano_usd(request(None), PRICE) is None
    assert worst_nano_usd(one, None) is None


def test_the_worst_case_of_a_conversation_is_its_last_answer():
    """It is asked with all questions and the longest answers before it; a letter may be two tokens."""
    one = msgspec.structs.replace(request(10), turns=("why?", "où?"))
    questions = len(one.body) + len("why?") + len("où?") + 1
    assert worst_nano_usd(one, PRICE) == (questions + 2 * 10) * 1000 + 10 * 4000


def test_the_worst_case_is_at_the_price_of_the_model_that_is_asked():
    """Whether or not there is a budget."""

    async def main():
        money = Money(None, {"m": PRICE}.get)
        other = msgspec.structs.replace(request(10), model="unpriced")
        return money.worst(request(10)), money.worst(other)

    assert run_virtual(main()) == (worst_nano_usd(request(10), PRICE), None)


def test_without_a_budget_nothing_is_counted():
    """And nothing waits."""

    async def main():
        money = Money(None, lambda model: PRICE)
        nothing = await money.reserve(request(1_000_000))
        money.settle(nothing, request(), Usage(prompt_tokens=10), charged=True)
        assert (money.spent, money.reserved) == (0, 0)

    run_virtual(main())


def test_what_does_not_fit_waits_until_something_is_settled():
    """Then it goes, with what the other did not need."""

    async def main():
        one = request(10)
        worst = worst_nano_usd(one, PRICE)
        money = Money(worst + 60_000, lambda model: PRICE)
        first = await money.reserve(one)
        second = asyncio.create_task(money.reserve(one))
        await asyncio.sleep(1)
        assert not second.done()
        money.settle(first, one, Usage(prompt_tokens=5, completion_tokens=5), charged=True)
        assert (await second).nano_usd == worst
        assert (money.spent, money.reserved) == (25_000, worst)

    run_virtual(main())


def test_a_budget_without_room_is_reached_once_nothing_is_out():
    """The message has the sums, the remedy what to type."""

    async def main():
        one = request(10)
        worst = worst_nano_usd(one, PRICE)
        money = Money(worst + 1, lambda model: PRICE, spent=2)
        with pytest.raises(BudgetReached) as reached:
            await money.reserve(one)
        assert reached.value.exit_code == 4
        assert "--max-cost" in reached.value.remedy
        assert "2e-09 is spent" in reached.value.message

    run_virtual(main())


@pytest.mark.parametrize(
    ("usage", "charged", "spent"),
    [
        (Usage(prompt_tokens=5, completion_tokens=5), True, 25_000),
        (Usage(prompt_tokens=5, completion_tokens=5), False, 25_000),
        (None, False, 0),
        (None, True, None),
    ],
)
def test_an_attempt_is_settled_by_its_usage_or_at_its_worst(usage, charged, spent):
    """What was refused costs nothing, of what nobody knows the worst is believed."""

    async def main():
        one = request(10)
        money = Money(10**9, lambda model: PRICE)
        hold = await money.reserve(one)
        money.settle(hold, one, usage, charged=charged)
        assert (money.spent, money.reserved) == (hold.nano_usd if spent is None else spent, 0)

    run_virtual(main())


def test_whoever_is_cancelled_while_waiting_has_reserved_nothing():
    """Those behind him are served."""

    async def main():
        one = request(10)
        worst = worst_nano_usd(one, PRICE)
        money = Money(worst, lambda model: PRICE)
        first = await money.reserve(one)
        waiting = [asyncio.create_task(money.reserve(one)) for _ in range(2)]
        await asyncio.sleep(1)
        waiting[0].cancel()
        money.settle(first, one, None, charged=False)
        assert (await waiting[1]).nano_usd == worst
        assert money.reserved == worst

    run_virtual(main())


Steps = st.lists(
    st.tuples(st.integers(1, 60), st.floats(0.01, 3), st.sampled_from(["told", "less", "lost", "refused"])),
    min_size=1,
    max_size=40,
)


def spend(steps, limit: int) -> None:
    """Many at once: never past the limit, everything settled in the end, and an end in any case."""

    async def main():
        money, sent = Money(limit, lambda model: PRICE), []

        async def one(number, tokens, seconds, how):
            asked = request(tokens, index=number)
            hold = await money.reserve(asked)
            sent.append(number)
            assert money.spent >= 0
            assert money.spent + money.reserved <= limit
            await asyncio.sleep(seconds)
            used = tokens if how == "told" else tokens // 2
            usage = Usage(prompt_tokens=3, completion_tokens=used) if how in {"told", "less"} else None
            money.settle(hold, asked, usage, charged=how != "refused")

        tasks = [asyncio.create_task(one(number, *step)) for number, step in enumerate(steps)]
        ends = await asyncio.gather(*tasks, return_exceptions=True)
        assert {type(end) for end in ends} <= {type(None), BudgetReached}
        assert money.reserved == 0
        assert money.spent <= limit
        assert sent == sorted(sent)
        left = limit - money.spent
        smallest = min(worst_nano_usd(request(tokens), PRICE) for tokens, _, _ in steps)
        if any(isinstance(end, BudgetReached) for end in ends):
            assert left < max(worst_nano_usd(request(tokens), PRICE) for tokens, _, _ in steps)
        assert left >= 0
        assert smallest > 0

    run_virtual(main())


@settings(max_examples=30, deadline=None)
@given(steps=Steps, limit=st.integers(0, 3_000_000))
def test_no_schedule_passes_the_budget(steps, limit):
    """The short form."""
    spend(steps, limit)


@pytest.mark.rig
@settings(max_examples=1000, deadline=None)
@given(steps=Steps, limit=st.integers(0, 3_000_000))
def test_none_of_many_schedules_passes_the_budget(steps, limit):
    """The long form."""
    spend(steps, limit)


@given(prompt=st.integers(0, 10**6), cached=st.integers(0, 10**6), completion=st.integers(0, 10**5))
def test_no_usage_within_the_limits_costs_more_than_the_worst(prompt, cached, completion):
    """Cached or not."""
    one = request(completion, prompt="x" * min(prompt, 1000))
    usage = Usage(prompt_tokens=min(prompt, len(one.body)), cached_tokens=cached, completion_tokens=completion)
    assert cost_nano_usd(usage, PRICE) <= worst_nano_usd(one, PRICE)


def test_the_priority_tier_is_reserved_and_settled_at_its_price():
    """As the request asks for it."""
    dear = Price(
        model="m",
        input_usd_per_mtok=1.0,
        output_usd_per_mtok=4.0,
        priority_input_usd_per_mtok=2.0,
        priority_cached_input_usd_per_mtok=1.0,
        priority_output_usd_per_mtok=8.0,
    )
    body = b'{"prompt":"hi","max_tokens":10,"service_tier":"priority"}'
    one = Request(index=0, custom_id="0", request_key="0", api="chat", model="m", body=body)

    async def main():
        money = Money(10**9, lambda model: dear)
        hold = await money.reserve(one)
        assert hold.nano_usd == len(body) * 2000 + 10 * 8000
        money.settle(hold, one, Usage(prompt_tokens=5, completion_tokens=5), charged=True)
        assert money.spent == 50_000

    run_virtual(main())
