"""What headers say of limits: both families are read, nonsense is not said, and a reset is a wait."""

from __future__ import annotations

import pytest
from asking import ask
from hypothesis import given
from hypothesis import strategies as st
from peers import ANSWER, READ, STREAMED, http, peer, sse

from batchrun.endpoint.hints import hints_of, reset_s
from batchrun.types import Hints

FIREWORKS = {
    "x-ratelimit-limit-tokens-prompt": "11250000",
    "x-ratelimit-limit-tokens-cache-adjusted-prompt": "5400000",
    "x-ratelimit-limit-tokens-generated": "36000",
    "x-ratelimit-remaining-tokens-generated": "0",
    "x-ratelimit-over-limit": "no",
}
NONSENSE = ["", " ", "nan", "inf", "-inf", "0", "-1", "0.9", "1e13", "9" * 5000, "many", "60;w=60", "10, 20", "0x10"]
STATED = Hints(
    prompt_tokens_per_minute=11_250_000,
    uncached_prompt_tokens_per_minute=5_400_000,
    generated_tokens_per_minute=36_000,
)


def test_the_three_token_limits_of_fireworks():
    """As tokens a minute; what is left of them says nothing."""
    assert hints_of(FIREWORKS) == STATED


def test_requests_a_minute():
    """Either family has this name."""
    assert hints_of({"x-ratelimit-limit-requests": "6000"}) == Hints(requests_per_minute=6000)


def test_a_limit_of_prompt_and_answer_together_is_left_out():
    """Neither of the two is known from it."""
    headers = {"x-ratelimit-limit-requests": "60", "x-ratelimit-limit-tokens": "150000"}
    assert hints_of(headers) == Hints(requests_per_minute=60)
    assert hints_of({"x-ratelimit-limit-tokens": "150000"}) is None


def test_an_answer_that_states_no_limit():
    """Also where a limit is said to be kept or passed."""
    assert hints_of({}) is None
    assert hints_of({"x-ratelimit-over-limit": "no", "x-request-id": "r-1"}) is None


@pytest.mark.parametrize("value", NONSENSE)
@pytest.mark.parametrize("name", ["x-ratelimit-limit-requests", *list(FIREWORKS)[:3]])
def test_a_limit_that_makes_no_sense_is_not_said(name, value):
    """Alone it is nothing, and beside others it leaves them as they are."""
    assert hints_of({name: value}) is None
    both = FIREWORKS | {"x-ratelimit-limit-requests": "60"}
    assert hints_of(both | {name: value}) == hints_of({header: both[header] for header in both if header != name})


@pytest.mark.parametrize(("value", "limit"), [("60", 60), (" 60 ", 60), ("1", 1), ("7.5", 7.5), ("1e12", 1e12)])
def test_a_limit_may_be_any_number_that_can_be_one(value, limit):
    """From one to 10^12 a minute."""
    assert hints_of({"x-ratelimit-limit-requests": value}) == Hints(requests_per_minute=limit)


@given(
    st.dictionaries(
        st.sampled_from(["x-ratelimit-limit-requests", *FIREWORKS]), st.text("0123456789.+-einfa_ ", max_size=9)
    )
)
def test_no_header_can_break_an_answer(headers):
    """Whatever is in them, a limit stays in its range."""
    hints = hints_of(headers) or Hints()
    limits = [getattr(hints, name) for name in Hints.__struct_fields__]
    assert all(limit is None or 1 <= limit <= 1e12 for limit in limits)


@pytest.mark.parametrize("stream", [False, True])
def test_the_limits_reach_the_engine_with_an_answer(stream):
    """Over a socket, plain or streamed."""
    body = sse(*STREAMED) if stream else ANSWER
    with peer([READ, http(body, **FIREWORKS)]) as there:
        assert ask(there.base_url, stream=stream).hints == STATED


def reset(value: str, budget: str = "requests", remaining: str = "0") -> dict[str, str]:
    """A budget that is used up, and when it is said to be there again."""
    return {f"x-ratelimit-remaining-{budget}": remaining, f"x-ratelimit-reset-{budget}": value}


@pytest.mark.parametrize(
    ("value", "wait_s"),
    [
        ("1s", 1.0),
        (" 1s ", 1.0),
        ("6m0s", 360.0),
        ("250ms", 0.25),
        ("2m59.56s", 179.56),
        ("1h0m5s", 3605.0),
        ("2d", 172_800.0),
        ("0s", 0.0),
        ("8.64s", 8.64),
        ("-6m0s", 0.0),
        ("", None),
        ("s", None),
        ("nan", None),
        ("NaNs", None),
        ("infs", None),
        ("9" * 400 + "h", None),
        ("1700000000", None),
        ("2026-11-22T12:00:00Z", None),
        ("1s soon", None),
        ("1.s", None),
    ],
)
def test_a_reset_is_read_as_it_is_written(value, wait_s):
    """Days to milliseconds; what is past is no wait, what is no duration is ignored."""
    assert reset_s(reset(value)) == (None if wait_s is None else pytest.approx(wait_s))


def test_of_two_used_up_budgets_the_later_counts():
    """Also where one of the two makes no sense."""
    assert reset_s(reset("1s") | reset("6m0s", "tokens")) == 360
    assert reset_s(reset("soon") | reset("6m0s", "tokens")) == 360


@pytest.mark.parametrize("remaining", ["1", "0.5", "nan", "", "none"])
def test_a_budget_that_is_not_used_up_is_not_waited_for(remaining):
    """Its reset is when it will be full."""
    assert reset_s(reset("6m0s", remaining=remaining)) is None


def test_nothing_is_known_without_both_headers():
    """A budget without a reset, a reset without a budget."""
    assert reset_s({"x-ratelimit-remaining-requests": "0"}) is None
    assert reset_s({"x-ratelimit-reset-requests": "1s"}) is None
