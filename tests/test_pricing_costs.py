"""What a usage costs: exact to the nano-dollar, in each tier, from either way that endpoints state it."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchrun.endpoint.answer import Answer
from batchrun.endpoint.stream import Stream
from batchrun.endpoint.wire import completion_of
from batchrun.pricing import Price, cost_nano_usd, load_prices, tier_of
from batchrun.types import Request, Usage

TOKENS = st.none() | st.integers(-5, 2**63 - 1)
USD_PER_MTOK = st.integers(0, 100_000_000).map(lambda micro: 0.0 if micro < 100 else micro / 1e6)
PRICES = st.tuples(USD_PER_MTOK, USD_PER_MTOK, USD_PER_MTOK)
FLASH = load_prices().price_for("glm-5p3-flash")


def price(input_usd: float, output_usd: float, cached_usd: float | None = None, **more: float) -> Price:
    """A price of the model m."""
    return Price(
        model="m",
        input_usd_per_mtok=input_usd,
        output_usd_per_mtok=output_usd,
        cached_input_usd_per_mtok=cached_usd,
        **more,
    )


def tokens(prompt: int | None = None, completion: int | None = None, cached: int | None = None) -> Usage:
    """A usage."""
    return Usage(prompt_tokens=prompt, cached_tokens=cached, completion_tokens=completion)


def test_cost_of_a_known_usage():
    """900 fresh and 100 cached prompt tokens and 300 completion tokens at 0.15 / 0.03 / 0.50 are $0.000288."""
    assert cost_nano_usd(tokens(1000, 300, 100), price(0.15, 0.5, 0.03)) == 288_000


def test_cached_tokens_cost_half_where_no_price_is_given():
    """Fireworks' rule for models whose cached price is not listed."""
    assert cost_nano_usd(tokens(1000, 0, 1000), price(0.6, 1)) == 300_000


def test_a_half_nano_dollar_is_rounded_up():
    """One token at $0.0005 per million is half a nano-dollar."""
    assert cost_nano_usd(tokens(1), price(0.0005, 0)) == 1


def test_fewer_cached_tokens_than_none_are_none():
    """An endpoint that states nonsense makes nothing dearer either."""
    assert cost_nano_usd(tokens(1000, -1, -100), price(1, 1)) == cost_nano_usd(tokens(1000), price(1, 1))


@pytest.mark.parametrize("usage", [Usage(), Usage(cached_tokens=5, total_tokens=10)])
def test_unknown_usage_has_no_cost(usage):
    """Unknown is not zero."""
    assert cost_nano_usd(usage, price(1, 1)) is None


def test_unknown_price_has_no_cost():
    """A model without a price is unpriced, not free."""
    assert cost_nano_usd(tokens(1, 1), None) is None


@pytest.mark.parametrize(("tier", "nano_usd"), [("standard", 288_000), ("priority", 360_000), ("batch", 144_000)])
def test_each_tier_has_its_price(tier, nano_usd):
    """Priority is 1.25 times the standard price for this model, a batch job half."""
    assert cost_nano_usd(tokens(1000, 300, 100), FLASH, tier=tier) == nano_usd


def test_a_cached_token_of_the_priority_tier_costs_half_where_no_price_is_given():
    """The same rule as in the standard tier."""
    row = price(1, 1, 0.1, priority_input_usd_per_mtok=2.0, priority_output_usd_per_mtok=3.0)
    assert row.pico_at("priority") == (2_000_000, 1_000_000, 3_000_000)


@pytest.mark.parametrize("known", [{}, {"priority_input_usd_per_mtok": 1.0}, {"priority_output_usd_per_mtok": 1.0}])
def test_priority_without_a_price_is_unpriced(known):
    """It is dearer than the standard tier by an unknown amount: neither that price nor nothing."""
    assert cost_nano_usd(tokens(1000, 300), price(1, 1, **known), tier="priority") is None


@pytest.mark.parametrize(
    ("body", "answered", "tier"),
    [
        (b'{"model": "m", "service_tier": "priority"}', None, "priority"),
        (b'{"service_tier":"priority","model":"m"}', "priority", "priority"),
        (b'{"service_tier":"priority"}', "default", "standard"),
        (b'{"service_tier":"auto"}', "priority", "priority"),
        (b'{"service_tier":"auto"}', None, "standard"),
        (b'{"service_tier":"flex"}', None, "standard"),
        (b'{"service_tier":null}', None, "standard"),
        (b'{"service_tier":["priority"]}', None, "standard"),
        (b'{"metadata":{"service_tier":"priority"}}', None, "standard"),
        (b'{"messages":[{"role":"user","content":"\\"service_tier\\": \\"priority\\""}]}', None, "standard"),
        (b'{"model": "m"}', None, "standard"),
        (b'"service_tier"', None, "standard"),
        (b'{"service_tier": ', None, "standard"),
        (b'{"service_tier": "\xff"}', None, "standard"),
        (b"", None, "standard"),
    ],
)
def test_the_tier_is_the_answers_else_the_requests(body, answered, tier):
    """Only the key itself counts, wherever else its words may stand."""
    assert tier_of(body, answered) == tier


@settings(max_examples=60)
@given(st.tuples(TOKENS, TOKENS, TOKENS), PRICES)
def test_cost_is_the_formula_in_exact_arithmetic(counts, usd):
    """For any usage, the cost is the exact one rounded half up, and never negative."""
    prompt, cached, completion = counts
    cost = cost_nano_usd(tokens(prompt, completion, cached), price(usd[0], usd[2], usd[1]))
    if prompt is None and completion is None:
        assert cost is None
        return
    tokens_in, tokens_out = max(prompt or 0, 0), max(completion or 0, 0)
    tokens_cached = min(max(cached or 0, 0), tokens_in)
    rates = [Fraction(round(one * 1e6), 1000) for one in usd]
    exact = (tokens_in - tokens_cached) * rates[0] + tokens_cached * rates[1] + tokens_out * rates[2]
    assert cost == (exact + Fraction(1, 2)).__floor__() >= 0


@settings(max_examples=40)
@given(st.integers(0, 10**9), st.integers(0, 10**9), PRICES)
def test_more_cached_tokens_than_the_prompt_has_count_as_all_of_it(prompt, more, usd):
    """An endpoint that states nonsense makes nothing cheaper than free."""
    row = price(usd[0], usd[2], usd[1])
    assert cost_nano_usd(tokens(prompt, 0, prompt + more), row) == cost_nano_usd(tokens(prompt, 0, prompt), row)


@settings(max_examples=40)
@given(st.lists(st.tuples(*[st.integers(0, 10**7)] * 3), max_size=12), PRICES)
def test_rows_add_up_through_whole_nano_dollars_alone(rows, usd):
    """A sum of rows is off the cost of all tokens by half a nano-dollar a row; through floats it is the same."""
    row = price(usd[0], usd[2], usd[1])
    costs = [cost_nano_usd(tokens(prompt, completion, min(cached, prompt)), row) for prompt, completion, cached in rows]
    cached = sum(min(cached, prompt) for prompt, _, cached in rows)
    all_at_once = cost_nano_usd(tokens(sum(r[0] for r in rows), sum(r[1] for r in rows), cached), row)
    assert abs(sum(costs) - all_at_once) <= len(rows) / 2 + 1
    assert sum(round(cost / 1e9 * 1e9) for cost in costs) == sum(costs)


@settings(max_examples=40)
@given(st.tuples(*[st.integers(0, 2**40)] * 3), PRICES)
def test_a_batch_job_costs_half(counts, usd):
    """To the nano-dollar, but for what half a pico-dollar a token rounds up."""
    usage, row = tokens(counts[0], counts[1], min(counts[2], counts[0])), price(usd[0], usd[2], usd[1])
    standard, batch = cost_nano_usd(usage, row), cost_nano_usd(usage, row, tier="batch")
    assert standard / 2 - 1 <= batch <= standard / 2 + 1 + (counts[0] + counts[1]) / 2000


MESSAGE = b'{"id":"c","model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"4"}}],"usage":%s}'
FIREWORKS = b'{"prompt_tokens":47,"total_tokens":49,"completion_tokens":2%s}'
FIREWORKS_REASONING = b"""{"prompt_tokens":47,"total_tokens":149,"completion_tokens":102,
    "completion_tokens_details":{"reasoning_tokens":100}}"""
OPENAI = b"""{"prompt_tokens":2006,"completion_tokens":300,"total_tokens":2306,
    "prompt_tokens_details":{"cached_tokens":1920,"audio_tokens":0,"cache_write_tokens":0},
    "completion_tokens_details":{"reasoning_tokens":192,"audio_tokens":0,"accepted_prediction_tokens":0,
        "rejected_prediction_tokens":0}}"""
OPENAI_WITH_NULLS = b"""{"prompt_tokens":10,"completion_tokens":4,"total_tokens":14,
    "prompt_tokens_details":{"cached_tokens":null},"completion_tokens_details":null}"""


@pytest.mark.parametrize(
    ("stated", "headers", "nano_usd"),
    [
        (FIREWORKS % b"", {}, 8_050),
        (FIREWORKS % b',"prompt_tokens_details":{"cached_tokens":29}', {}, 4_570),
        (FIREWORKS % b',"prompt_tokens_details":null', {}, 8_050),
        (FIREWORKS % b"", {"fireworks-cached-prompt-tokens": "29"}, 4_570),
        (FIREWORKS_REASONING, {}, 58_050),
        (OPENAI, {}, 220_500),
        (OPENAI_WITH_NULLS, {}, 3_500),
    ],
)
def test_usage_as_endpoints_state_it_costs(stated, headers, nano_usd):
    """Both shapes at 0.15 / 0.03 / 0.50, worked out by hand; reasoning is part of the completion."""
    answer = Answer(status=200, headers=headers, content=MESSAGE % stated, latency_s=0.0)
    assert cost_nano_usd(completion_of(answer).usage, FLASH) == nano_usd


CHUNKS = (
    b'{"choices":[{"index":0,"delta":{"role":"assistant","content":"4"},"finish_reason":null}]%s}',
    b'{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]%s}',
    b'{"choices":[]%s}',
)
STATED = b',"usage":' + FIREWORKS % b',"prompt_tokens_details":{"cached_tokens":29}'


@pytest.mark.parametrize(
    "ends",
    [
        (b"", STATED, None),  # beside the finish_reason, as Fireworks' guide has it
        (b"", b"", STATED),  # in a last chunk without choices, as OpenAI's reference and newer models have it
        (b',"usage":null', STATED, b',"usage":null'),
        (b"", b',"usage":' + FIREWORKS % b"", b',"perf_metrics":{"cached-prompt-tokens":"29"}'),
    ],
)
def test_usage_of_a_stream_costs_the_same_wherever_it_comes(ends):
    """The second shape of the table above, in chunks."""
    request = Request(index=0, custom_id="c", request_key="k", api="chat", model="m", body=b"{}", stream=True)
    stream = Stream(request, sent_at=0.0)
    for chunk, end in zip(CHUNKS, ends, strict=True):
        if end is not None:
            stream.feed(b"data: " + chunk % end + b"\n\n", 1.0)
    stream.feed(b"data: [DONE]\n\n", 1.0)
    done = stream.completion(Answer(status=200, headers={}, content=b"", latency_s=0.0))
    assert cost_nano_usd(done.usage, FLASH) == 4_570


@pytest.mark.parametrize("named", [b'"default"', b'"priority"', b"null", b"7", b"[]"])
def test_the_tier_that_an_answer_names_is_read(named):
    """As text; anything else names none."""
    content = (MESSAGE % FIREWORKS % b"").replace(b'"id":"c"', b'"service_tier":' + named)
    tier = completion_of(Answer(status=200, headers={}, content=content, latency_s=0.0)).service_tier
    assert tier == {b'"default"': "default", b'"priority"': "priority"}.get(named)
