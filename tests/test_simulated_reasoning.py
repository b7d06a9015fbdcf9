from __future__ import annotations

import json

import pytest
from servers import simulated

from batchrun.simulated.author import Author
from batchrun.simulated.chat import ChatRequest
from batchrun.simulated.refusals import Refusal
from batchrun.simulated.scenario import Answers, Scenario
from batchrun.simulated.wire import parse_request

ASK = [{"role": "user", "content": "Why is the sky blue?"}]
SCENARIO = Scenario(answers=Answers(tokens=20, reasoning_tokens=30, sigma=0))


def answer(**params):
    """The answer to a prompt, from a model that reasons only if it is asked to."""
    body = json.dumps({"model": "m", "messages": ASK, **params}).encode()
    return Author(SCENARIO).answer(parse_request(body, ChatRequest), 1)


def reasoning(**params):
    """The reasoning of the first choice."""
    return answer(**params).choices[0].reasoning


@pytest.mark.parametrize(
    "params",
    [
        {"model": "a-reasoner"},
        {"reasoning_effort": "low"},
        {"reasoning_effort": True},
        {"reasoning_effort": 2000},
        {"thinking": {"type": "enabled"}},
    ],
)
def test_reasoning_is_there_where_it_is_wanted(params):
    """The model's name, an effort, or thinking brings it; the words come after it all the same."""
    choice = answer(**params).choices[0]
    assert choice.reasoning.startswith('Simulated reasoning about "Why is the sky blue?"')
    assert (choice.content[:16], choice.finish_reason) == ("Simulated answer", "stop")


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"model": "a-reasoner", "reasoning_effort": "none"},
        {"model": "a-reasoner", "reasoning_effort": False},
        {"model": "a-reasoner", "reasoning_effort": 0},
        {"model": "a-reasoner", "thinking": {"type": "disabled"}},
    ],
)
def test_reasoning_is_missing_where_it_is_not(params):
    """By default, and where it is switched off."""
    assert reasoning(**params) is None
    assert "completion_tokens_details" not in answer(**params).usage()


def test_reasoning_is_part_of_the_completion():
    """Usage counts it among the completion tokens, and by itself."""
    got = answer(reasoning_effort="low")
    usage = got.usage()
    assert usage["completion_tokens_details"] == {"reasoning_tokens": got.choices[0].reasoning_tokens}
    assert usage["completion_tokens"] == got.choices[0].tokens > got.choices[0].reasoning_tokens > 0


def test_a_small_limit_leaves_only_reasoning():
    """All tokens went into it: no content, and finish_reason says so."""
    got = answer(reasoning_effort="low", max_tokens=10)
    choice = got.choices[0]
    assert (choice.content, choice.finish_reason, choice.reasoning_tokens) == (None, "length", 10)
    assert got.usage()["completion_tokens"] == got.usage()["completion_tokens_details"]["reasoning_tokens"] == 10


@pytest.mark.parametrize(
    ("params", "tokens"), [({"reasoning_effort": 5}, 5), ({"reasoning_effort": 5, "max_tokens": 3}, 3)]
)
def test_a_number_is_a_cap_on_reasoning(params, tokens):
    """An effort that is a number caps the tokens, as max_tokens does."""
    assert answer(**params).choices[0].reasoning_tokens == tokens


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"reasoning_effort": "minimal"}, "Invalid reasoning effort: minimal"),
        ({"reasoning_effort": -1}, "Invalid reasoning effort: -1"),
        ({"reasoning_effort": "none", "model": "accounts/fireworks/models/gpt-oss-120b"}, "reasoning effort: none"),
        ({"thinking": {"type": "enabled", "budget_tokens": 10}}, "Expected int >= 1024"),
        ({"thinking": {"type": "on"}}, "Invalid enum value 'on'"),
    ],
)
def test_a_wrong_effort_is_refused(params, message):
    """400, for what no model knows, and for `none` where a model always reasons."""
    with pytest.raises(Refusal) as caught:
        answer(**params)
    assert caught.value.status == 400
    assert message in caught.value.payload["error"]["message"]


def test_reasoning_has_its_own_field():
    """In the message, and in deltas that come before those of the words."""
    with simulated() as server:
        message = server.ask("hello", reasoning_effort="low").json["choices"][0]["message"]
        events = server.ask("hello", reasoning_effort="low", stream=True).events
    deltas = [event["choices"][0]["delta"] for event in events if event["choices"]][1:]
    kinds = [next(iter(delta), "end") for delta in deltas]
    assert kinds == sorted(kinds, key=["reasoning_content", "content", "end"].index)
    assert "".join(delta.get("reasoning_content", "") for delta in deltas) == message["reasoning_content"]
    assert "".join(delta.get("content", "") for delta in deltas) == message["content"]
