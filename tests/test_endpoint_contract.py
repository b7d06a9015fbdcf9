"""What the engine may expect of any endpoint: the tests' own fake, and a server that knows nothing of these tests.

The server is the simulated one, as a process of its own. With BATCHRUN_TEST_BASE_URL, BATCHRUN_TEST_MODEL and perhaps
BATCHRUN_TEST_KEY in the environment it is any OpenAI-compatible server.
"""

from __future__ import annotations

import asyncio
import json
import os
from contextlib import asynccontextmanager

import msgspec
import pytest
from asking import endpoint, request
from engines import FakeEndpoint, completion
from servers import simulated

from batchrun.errors import Ambiguous, EndpointError, Rejected
from batchrun.types import Completion, Usage

SETTINGS = {name: os.environ.get(f"BATCHRUN_TEST_{name}") for name in ("BASE_URL", "MODEL", "KEY")}
SLOW = {"latency": {"ttft_s": 0.02, "per_token_s": 0.005, "sigma": 0}}


@pytest.fixture(scope="module")
def base_url():
    """Where the server is."""
    if SETTINGS["BASE_URL"]:
        yield SETTINGS["BASE_URL"]
    else:
        with simulated(SLOW) as server:
            yield server.base_url


def answered(sent):
    """What the fake says: as many tokens as it may, none of them if the request cannot be."""
    body = json.loads(sent.body)
    if not isinstance(body["messages"], list):
        return 0.001, Rejected("messages is no list", error_type="request_rejected", status_code=400)
    tokens = min(body["max_tokens"], 10)
    usage = Usage(prompt_tokens=5, completion_tokens=tokens, total_tokens=5 + tokens)
    finish_reason = "length" if body["max_tokens"] < 10 else "stop"
    times = {"ttft_s": 0.01, "ttfvt_s": 0.01} if body.get("stream") else {}
    response = json.dumps({"choices": [{"message": {"content": "word " * tokens}}]})
    done = completion(
        content="word " * tokens, finish_reason=finish_reason, usage=usage, response=response, latency_s=0.05, **times
    )
    return 0.05, done


@pytest.fixture(params=["fake", "server"])
def opened(request):
    """Called with time limits, it is a context in which the endpoint is open."""

    @asynccontextmanager
    async def fake(**_):
        yield FakeEndpoint(answered)

    @asynccontextmanager
    async def server(**options):
        limits = {"attempt_s": 120, "first_byte_s": 120, "idle_s": 120, **options}
        async with endpoint(request.getfixturevalue("base_url"), key=SETTINGS["KEY"], **limits) as there:
            yield there

    return fake if request.param == "fake" else server


def asked(prompt: str, *, stream: bool = False, index: int = 0, messages=None, **params):
    """A chat of a few tokens."""
    messages = [{"role": "user", "content": prompt}] if messages is None else messages
    content = {"model": SETTINGS["MODEL"] or "simulated/small", "messages": messages, "max_tokens": 16, **params}
    if stream:
        content |= {"stream": True, "stream_options": {"include_usage": True}}
    return request(index, json.dumps(content).encode(), stream=stream)


def ask_each(opened, *requests, within_s: float = 120.0, **options) -> list[Completion | EndpointError]:
    """Ask them all at once."""

    async def one(there, wanted):
        try:
            return await there.complete(wanted, within_s=within_s)
        except EndpointError as error:
            return error

    async def main():
        async with opened(**options) as there:
            return await asyncio.gather(*(one(there, wanted) for wanted in requests))

    return asyncio.run(main())


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def test_a_completion_has_text_usage_and_times(opened, stream):
    """All that a record needs, the same from a stream."""
    (done,) = ask_each(opened, asked("Name a colour.", stream=stream))
    assert isinstance(done, Completion), done
    assert done.content
    assert done.finish_reason in {"stop", "length"}
    assert done.usage.prompt_tokens > 0
    assert 0 < done.usage.completion_tokens <= 16
    assert done.usage.total_tokens == done.usage.prompt_tokens + done.usage.completion_tokens
    assert not done.usage_estimated
    assert done.latency_s > 0
    assert done.status_code == 200
    assert "choices" in done.response


def test_a_stream_says_when_its_first_token_came(opened):
    """Before its last."""
    (done,) = ask_each(opened, asked("Name a colour.", stream=True))
    assert 0 < done.ttft_s <= done.ttfvt_s <= done.latency_s


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def test_a_length_that_is_too_short_is_told(opened, stream):
    """`finish_reason` says so, and the text is there."""
    (done,) = ask_each(opened, asked("Count from one to a thousand.", max_tokens=3, stream=stream))
    assert (done.finish_reason, done.usage.completion_tokens) == ("length", 3)
    assert done.content


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def test_many_at_once_are_answered(opened, stream):
    """Each with a completion of its own, also where the server closes connections that look alive."""
    requests = [asked(f"Name the number {number}.", index=number, stream=stream) for number in range(40)]
    answers = ask_each(opened, *requests)
    assert [answer for answer in answers if not isinstance(answer, Completion)] == []


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def test_a_request_that_cannot_be_is_rejected(opened, stream):
    """With words for people, and without an end of the run."""
    (error,) = ask_each(opened, asked("", messages=7, stream=stream))
    assert isinstance(error, Rejected), error
    assert error.status_code in {400, 422}
    assert error.message


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def test_an_answer_that_takes_too_long_is_given_up(opened, stream):
    """Nobody knows whether it will be charged."""
    (error,) = ask_each(opened, asked("Count to a thousand.", stream=stream), within_s=0.01)
    assert (type(error), error.error_type) == (Ambiguous, "timed_out")


def test_a_cancelled_request_leaves_the_endpoint_usable(opened):
    """The next one is answered."""

    async def main():
        async with opened() as there:
            given_up = asyncio.create_task(there.complete(asked("Count to a thousand.", stream=True), within_s=120))
            await asyncio.sleep(0.02)
            given_up.cancel()
            await asyncio.gather(given_up, return_exceptions=True)
            return await there.complete(asked("Name a colour."), within_s=120)

    assert asyncio.run(main()).content


def test_a_conversation_with_a_system_message_is_answered(opened):
    """Also with an empty one."""
    history = [
        {"role": "user", "content": "My name is Ada."},
        {"role": "assistant", "content": "Hello Ada."},
        {"role": "user", "content": "What is my name?"},
    ]
    systems = [{"role": "system", "content": text} for text in ("Be brief.", "")]
    answers = ask_each(opened, *(asked("", messages=[system, *history]) for system in systems))
    assert all(isinstance(answer, Completion) and answer.content for answer in answers), answers


# What only a server can show


def served(base_url, *requests, **options):
    """Ask a server."""

    @asynccontextmanager
    async def opened(**options):
        limits = {"attempt_s": 120, "first_byte_s": 120, "idle_s": 120, **options}
        async with endpoint(base_url, key=SETTINGS["KEY"], **limits) as there:
            yield there

    return ask_each(opened, *requests, **options)


def test_a_stream_is_closed_early(base_url):
    """With what came, and the server goes on answering."""
    long = asked("Tell me a long story.", stream=True, max_tokens=400)
    (stopped,) = served(base_url, long, stop_stream={"max_chars": 20})
    assert (stopped.finish_reason, stopped.usage_estimated) == ("stopped_by_client", True)
    assert len(stopped.content) >= 20
    assert served(base_url, asked("Name a colour."))[0].content


def test_a_plain_answer_and_a_stream_say_the_same(base_url):
    """At temperature 0 and with one seed, text, reason and usage are equal."""
    both = [asked("Name a colour.", stream=stream, temperature=0, seed=7) for stream in (False, True)]
    plain, streamed = (served(base_url, one)[0] for one in both)
    assert (plain.content, plain.finish_reason) == (streamed.content, streamed.finish_reason)
    assert (plain.usage.prompt_tokens, plain.usage.completion_tokens) == (
        streamed.usage.prompt_tokens,
        streamed.usage.completion_tokens,
    )


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def test_text_completions_are_answered(base_url, stream):
    """The older path."""
    content = {
        "model": SETTINGS["MODEL"] or "simulated/small",
        "prompt": "One, two,",
        "max_tokens": 8,
        "stream": stream,
    }
    if stream:
        content["stream_options"] = {"include_usage": True}
    wanted = msgspec.structs.replace(request(0, json.dumps(content).encode(), stream=stream), api="completions")
    (done,) = served(base_url, wanted)
    assert isinstance(done, Completion), done
    assert done.content
    assert 0 < done.usage.completion_tokens <= 8


def test_tokens_come_with_their_probabilities(base_url):
    """In OpenAI's form, plain and streamed."""
    wanted = [asked("Name a colour.", stream=stream, logprobs=True, top_logprobs=2) for stream in (False, True)]
    for done in served(base_url, *wanted):
        content = json.loads(done.logprobs)["content"]
        assert len(content) == done.usage.completion_tokens or done.finish_reason == "stop"
        assert all(token["logprob"] <= 0 for token in content)


def test_json_is_json(base_url):
    """Under a schema the answer fits it."""
    schema = {"type": "object", "properties": {"colour": {"type": "string"}}, "required": ["colour"]}
    form = {"type": "json_schema", "json_schema": {"name": "colour", "schema": schema}}
    (done,) = served(base_url, asked("Name a colour as JSON.", response_format=form, max_tokens=60))
    assert isinstance(json.loads(done.content)["colour"], str)
