from __future__ import annotations

import json
import math

import pytest
from servers import simulated

openai = pytest.importorskip("openai")

ASK = [{"role": "user", "content": "hello"}]
LOOK = {
    "type": "function",
    "function": {"name": "look", "parameters": {"type": "object", "properties": {"place": {"type": "string"}}}},
}
SCHEMA = {"type": "object", "properties": {"label": {"enum": ["a", "b"]}, "score": {"type": "integer"}}}
FAULTS = [{"kind": "rate_limited", "match": "too fast"}, {"kind": "slow", "match": "wait for ever", "seconds": 3600}]


@pytest.fixture(scope="module")
def server():
    """A server with a key, that serves any model but those that are missing."""
    with simulated({"faults": FAULTS}, api_key="right") as running:
        yield running


@pytest.fixture(scope="module")
def client(server):
    """The official client, without its retries."""
    with openai.OpenAI(base_url=server.base_url, api_key="right", max_retries=0) as made:
        yield made


def create(client, content="hello", **params):
    """Ask for a chat completion."""
    return client.chat.completions.create(
        **{"model": "m", "messages": [{"role": "user", "content": content}], **params}
    )


def test_the_official_client_reads_a_plain_answer(client):
    """Words, finish_reason and usage are where it looks for them."""
    answer = create(client)
    assert answer.choices[0].message.content.startswith("Simulated answer")
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_the_official_client_reads_a_stream(client):
    """Put together, its chunks are the plain answer."""
    plain = create(client)
    chunks = list(create(client, stream=True, stream_options={"include_usage": True}))
    words = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert words == plain.choices[0].message.content
    assert chunks[-1].usage == plain.usage


def test_the_official_client_puts_a_stream_together(client):
    """Its own accumulator makes of words, reasons and usage what the plain answer has."""
    plain = create(client)
    with client.chat.completions.stream(model="m", messages=ASK, stream_options={"include_usage": True}) as stream:
        final = stream.get_final_completion()
    assert final.choices[0].message.content == plain.choices[0].message.content
    assert (final.choices[0].finish_reason, final.usage) == ("stop", plain.usage)


def test_the_official_client_reads_tool_calls(client):
    """Both tools are called, where several may be, with arguments that are JSON."""
    other = {"type": "function", "function": {**LOOK["function"], "name": "listen"}}
    answer = create(client, tools=[LOOK, other], tool_choice="required", parallel_tool_calls=True)
    calls = answer.choices[0].message.tool_calls
    assert [call.function.name for call in calls] == ["look", "listen"]
    assert [json.loads(call.function.arguments) for call in calls] == [{"place": "simulated"}] * 2


def test_the_official_client_puts_tool_calls_together(client):
    """From fragments by index it makes the calls of the plain answer."""
    other = {"type": "function", "function": {**LOOK["function"], "name": "listen"}}
    asked = {"tools": [LOOK, other], "tool_choice": "required", "parallel_tool_calls": True}
    plain = create(client, **asked).choices[0]
    with client.chat.completions.stream(model="m", messages=ASK, **asked) as stream:
        choice = stream.get_final_completion().choices[0]
    calls, wanted = (
        [(call.id, call.function.name, call.function.arguments) for call in one.message.tool_calls]
        for one in (choice, plain)
    )
    assert calls == wanted
    assert choice.finish_reason == "tool_calls"


def test_the_official_client_sends_the_result_of_a_tool_back(client):
    """A history with its own message objects, a call and its result is accepted."""
    called = create(client, tools=[LOOK], tool_choice="required").choices[0].message
    result = {"role": "tool", "tool_call_id": called.tool_calls[0].id, "content": "a lake"}
    history = [*ASK, called.model_dump(exclude_none=True, include={"role", "tool_calls"}), result]
    assert create(client, messages=history, tools=[LOOK]).choices[0].finish_reason == "stop"


def test_the_official_client_gets_json_for_a_schema(client):
    """The words are JSON that fits."""
    shape = {"type": "json_schema", "json_schema": {"name": "label", "schema": SCHEMA}}
    got = json.loads(create(client, response_format=shape).choices[0].message.content)
    assert got["label"] in {"a", "b"}
    assert isinstance(got["score"], int)


def test_the_official_client_gets_two_choices(client):
    """With n = 2 there are two texts, each with its index."""
    choices = create(client, n=2).choices
    assert [choice.index for choice in choices] == [0, 1]
    assert len({choice.message.content for choice in choices}) == 2


def test_the_official_client_reads_logprobs(client):
    """The tokens together are the words, each with as many alternatives as were asked for."""
    choice = create(client, logprobs=True, top_logprobs=2).choices[0]
    assert "".join(entry.token for entry in choice.logprobs.content) == choice.message.content
    assert {len(entry.top_logprobs) for entry in choice.logprobs.content} == {2}


def test_the_official_client_reads_logprobs_of_a_stream(client):
    """Each chunk has those of its own token."""
    chunks = [chunk.choices[0] for chunk in create(client, logprobs=True, stream=True)]
    told = [
        (entry.token, chunk.delta.content) for chunk in chunks if chunk.logprobs for entry in chunk.logprobs.content
    ]
    assert told
    assert [token for token, _ in told] == [content for _, content in told]


def test_the_official_client_reads_text_completions(client):
    """Plain and streamed, with logprobs in the legacy form."""
    plain = client.completions.create(model="m", prompt="Once upon a time", logprobs=1)
    streamed = list(client.completions.create(model="m", prompt="Once upon a time", stream=True))
    assert plain.choices[0].text.startswith('Simulated answer to "Once upon a time"')
    assert "".join(chunk.choices[0].text for chunk in streamed) == plain.choices[0].text
    assert "".join(plain.choices[0].logprobs.tokens) == plain.choices[0].text


def test_the_official_client_reads_embeddings(client):
    """Base64, which it asks for by itself, and lists of numbers are the same vectors, of length 1."""
    by_default = client.embeddings.create(model="m", input=["a", "b"], dimensions=8)
    as_lists = client.embeddings.create(model="m", input=["a", "b"], dimensions=8, encoding_format="float")
    assert [list(one.embedding) for one in by_default.data] == [one.embedding for one in as_lists.data]
    assert math.hypot(*as_lists.data[0].embedding) == pytest.approx(1)
    assert by_default.usage.total_tokens == by_default.usage.prompt_tokens > 0


@pytest.mark.parametrize(
    ("error", "asked", "message"),
    [
        ("BadRequestError", {"extra_body": {"best_of": 2}}, "Extra inputs are not permitted, field: 'best_of'"),
        (
            "AuthenticationError",
            {"extra_headers": {"authorization": "Bearer wrong"}},
            "API key you provided is invalid",
        ),
        ("NotFoundError", {"model": "missing"}, "Model not found"),
        ("RateLimitError", {"content": "too fast"}, "429"),
    ],
)
def test_the_official_client_reads_errors(client, error, asked, message):
    """Each status is an exception of its own, with the message of the endpoint."""
    with pytest.raises(getattr(openai, error), match=message):
        create(client, **asked)


def test_the_official_client_lists_the_models(client):
    """GET /models is read as a list."""
    assert "simulated" in [model.id for model in client.models.list()]


def test_the_official_client_leaves_a_stream(client, server):
    """It is charged for what it got by then, and the ledger says that it left."""
    asked = {"max_tokens": 1000, "extra_body": {"ignore_eos": True}}
    with create(client, "wait for ever", stream=True, **asked) as stream:
        for at, _ in enumerate(stream):
            if at == 500:  # the role and half of the tokens; the rest never comes
                break
    while server.totals()["in_flight"]:
        pass
    assert [server.ledger()[-1][name] for name in ("completion_tokens", "aborted", "status")] == [500, True, 200]
