from __future__ import annotations

import json
from contextlib import suppress
from http.client import IncompleteRead

import pytest
from servers import simulated

from batchrun.simulated.author import Author
from batchrun.simulated.completions import CompletionRequest
from batchrun.simulated.forms import payload
from batchrun.simulated.refusals import Refusal
from batchrun.simulated.scenario import Scenario
from batchrun.simulated.wire import parse_request

CHARGED = ("reset_before_answer", "reset", "truncated", "bad_json", "error_in_200")


@pytest.fixture(scope="module")
def server():
    """Answers at once, except for the prompts that name a fault."""
    kinds = [*CHARGED, "overloaded", "redirect"]
    with simulated({"faults": [{"kind": kind, "match": f"please {kind}"} for kind in kinds]}) as running:
        yield running


def answer(**params):
    """The body of the answer to these parameters."""
    body = json.dumps({"model": "m", "prompt": "Once", **params}).encode()
    request = parse_request(body, CompletionRequest)
    return payload(request, Author(Scenario()).answer(request, 1))


def texts(**params):
    """The texts of all choices."""
    return [choice["text"] for choice in answer(**params)["choices"]]


def post(server, **params):
    """Send a request."""
    return server.post(json.dumps({"model": "m", "prompt": "Once", **params}).encode(), "/v1/completions")


def test_the_answer_is_a_text_completion(server):
    """Object, text, finish_reason and usage have their places, and the ledger says on which path it was charged."""
    got = post(server).json
    assert (got["object"], got["choices"][0]["finish_reason"]) == ("text_completion", "stop")
    assert got["choices"][0]["text"].startswith('Simulated answer to "Once"')
    line = server.ledger()[-1]
    assert (line["api"], line["last_user"]) == ("completions", "Once")
    assert line["completion_tokens"] == got["usage"]["completion_tokens"]


def test_a_stream_has_the_text_of_the_plain_answer(server):
    """All chunks are text completions; together they are the text, and the last one has the usage."""
    answer = post(server, stream=True)
    plain = post(server).json
    assert {event["object"] for event in answer.events} == {"text_completion"}
    assert "".join(event["choices"][0]["text"] for event in answer.events) == plain["choices"][0]["text"]
    assert answer.events[-1]["usage"] == plain["usage"]
    assert answer.body.endswith(b"data: [DONE]\n\n")


def test_each_prompt_gets_n_choices():
    """They are numbered through: the first prompt's, then the second's; prompt tokens are those of both."""
    got = answer(prompt=["first", "second"], n=2)
    assert [choice["index"] for choice in got["choices"]] == [0, 1, 2, 3]
    assert ['"first"' in choice["text"] for choice in got["choices"]] == [True, True, False, False]
    assert len({choice["text"] for choice in got["choices"]}) == 4
    assert got["usage"]["prompt_tokens"] == 4


def test_token_ids_are_prompts_too():
    """A list of numbers is one prompt, a list of lists is several; each number is a token."""
    assert answer(prompt=[1, 2, 3])["usage"]["prompt_tokens"] == 3
    many = answer(prompt=[[1, 2], [3]])
    assert (len(many["choices"]), many["usage"]["prompt_tokens"]) == (2, 3)


def test_max_tokens_and_stop_cut():
    """As in a chat."""
    assert texts(max_tokens=2) == ["Simulate"]
    assert texts(stop=" answer") == ["Simulated"]


def test_echo_puts_the_prompt_first():
    """It is part of the text, but nobody generated it."""
    echoed, plain = answer(echo=True), answer()
    assert echoed["choices"][0]["text"] == "Once" + plain["choices"][0]["text"]
    assert echoed["usage"] == plain["usage"]


def test_a_number_of_logprobs_is_the_legacy_form():
    """Tokens, their logprobs, so many alternatives, and where each begins in the text."""
    choice = answer(logprobs=2, max_tokens=3)["choices"][0]
    logprobs = choice["logprobs"]
    assert "".join(logprobs["tokens"]) == choice["text"]
    assert logprobs["text_offset"] == [0, 4, 8]
    assert answer(logprobs=2, max_tokens=2, echo=True)["choices"][0]["logprobs"]["text_offset"] == [4, 8]
    assert [len(others) for others in logprobs["top_logprobs"]] == [2, 2, 2]
    assert all(logprob <= 0 for logprob in logprobs["token_logprobs"])


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"messages": []}, "Extra inputs are not permitted, field: 'messages'"),
        ({"tools": []}, "Extra inputs are not permitted, field: 'tools'"),
        ({"prompt": []}, "length >= 1, field: 'prompt'"),
        ({"prompt": ["x", 1]}, "not both"),
        ({"max_tokens": 4097}, "must have stream=true"),
    ],
)
def test_a_wrong_body_is_refused(params, message):
    """400, as on the path of chats; what only chats have is unknown here."""
    with pytest.raises(Refusal) as caught:
        answer(**params)
    assert message in caught.value.payload["error"]["message"]


@pytest.mark.parametrize("kind", CHARGED)
@pytest.mark.parametrize("stream", [False, True])
def test_faults_strike_here_too(server, kind, stream):
    """A spoilt answer is charged."""
    before = len(server.ledger())
    with suppress(ConnectionResetError, IncompleteRead):
        post(server, prompt=f"please {kind}", stream=stream)
    assert len(server.ledger()) == before + 1


def test_a_redirect_keeps_the_path(server):
    """It leads to the same path elsewhere."""
    assert post(server, prompt="please redirect").headers["location"].endswith("/elsewhere/v1/completions")
    assert post(server, prompt="please overloaded").status == 503
