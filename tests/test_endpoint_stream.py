"""A streamed answer becomes the same Completion as a plain one, or an error that says what is missing."""

from __future__ import annotations

import gzip
import json

import pytest
from asking import ask
from peers import CLOSE, END_OF_CHUNKS, READ, RESET, chunked, http, peer

from batchrun.endpoint.answer import Answer
from batchrun.endpoint.stream import Stream
from batchrun.errors import Ambiguous, EndpointError, Rejected, Throttled
from batchrun.types import Completion, Request, Usage

USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
DONE = "[DONE]"


def chunk(delta=None, *, finish_reason=None, index=0, **more):
    """A chunk with one choice."""
    return {
        "id": "chatcmpl-1",
        "model": "served",
        "choices": [{"index": index, "delta": delta or {}, "finish_reason": finish_reason}],
        **more,
    }


TEXT = [chunk({"role": "assistant", "content": ""}), chunk({"content": "Hel"}), chunk({"content": "lo"})]
STOP = chunk(finish_reason="stop")
LAST = {"id": "chatcmpl-1", "choices": [], "usage": USAGE, "perf_metrics": {"server-time-to-first-token": "0.05"}}


def events(*payloads) -> bytes:
    """The bytes of a stream."""
    texts = [payload if isinstance(payload, str) else json.dumps(payload) for payload in payloads]
    return "".join(f"data: {text}\n\n" for text in texts).encode()


def judge(*pieces: bytes, n: int | None = None, headers: dict | None = None) -> Completion | EndpointError:
    """What becomes of a stream whose n-th piece comes after n seconds, sent at 0."""
    body = {"n": n, "messages": []} if n else {"messages": []}
    request = Request(
        index=0, custom_id="row-0", request_key="0", api="chat", model="m", body=json.dumps(body).encode(), stream=True
    )
    stream = Stream(request, sent_at=0.0)
    for at, piece in enumerate(pieces, 1):
        stream.feed(piece, float(at))
    try:
        answer = Answer(status=200, headers=headers or {}, content=b"".join(pieces), latency_s=float(len(pieces)))
        return stream.completion(answer)
    except EndpointError as error:
        return error


def test_a_whole_stream_is_a_completion():
    """Text, model, id, finish_reason, usage, metrics, and the answer as it came."""
    content = events(*TEXT, STOP, LAST, DONE)
    done = judge(content)
    assert isinstance(done, Completion), done
    assert (done.content, done.finish_reason, done.model, done.request_id) == ("Hello", "stop", "served", "chatcmpl-1")
    assert done.usage == Usage(prompt_tokens=7, completion_tokens=3, total_tokens=10)
    assert done.server_ttft_s == 0.05
    assert json.loads(done.perf_metrics) == {"server-time-to-first-token": "0.05"}
    assert done.response == content.decode()
    assert done.choices is None
    assert not done.usage_estimated


def test_bytes_may_come_one_by_one():
    """The completion is the same, its times apart."""
    content = events(*TEXT, STOP, LAST, DONE)
    done = judge(*(content[at : at + 1] for at in range(len(content))))
    whole = judge(content)
    assert (done.content, done.usage, done.perf_metrics) == (whole.content, whole.usage, whole.perf_metrics)


@pytest.mark.parametrize(
    "ending",
    [
        [{**STOP, "usage": USAGE}, DONE],
        [STOP, LAST, DONE],
        [STOP, {**LAST, "choices": [{"index": 0, "delta": {"content": ""}}]}, DONE],
        [{**STOP, "usage": USAGE}],
        [STOP, LAST],
        [{**STOP, "usage": {**USAGE, "completion_tokens": 1}}, {**LAST, "usage": USAGE}, DONE],
        [STOP, {"usage": USAGE}, DONE],
        [STOP, {"choices": None, "usage": USAGE}, DONE],
    ],
    ids=["on the end", "own chunk", "with a choice", "no DONE", "own chunk, no DONE", "twice", "no choices", "null"],
)
def test_usage_is_taken_from_whichever_chunk_has_it(ending):
    """Every way in which servers send it; the last one counts."""
    done = judge(events(*TEXT, *ending))
    assert (done.content, done.usage.completion_tokens) == ("Hello", 3)


def test_usage_on_every_chunk_counts_once():
    """It is what was used so far, not what the chunk took."""
    growing = [{**piece, "usage": {**USAGE, "completion_tokens": at}} for at, piece in enumerate([*TEXT, STOP])]
    assert judge(events(*growing, DONE)).usage.completion_tokens == 3


def test_a_stream_without_usage_is_a_completion_without_usage():
    """Some never say it."""
    done = judge(events(*TEXT, STOP, DONE))
    assert (done.content, done.usage) == ("Hello", None)


def test_times_are_those_of_the_pieces():
    """First token of any kind, first visible one, and the gaps between tokens; an empty role chunk is no token."""
    pieces = [
        events(TEXT[0]),
        events(chunk({"reasoning_content": "hm"})),
        events(chunk({"reasoning_content": "!"}), chunk({"content": "Hel"})),
        events(chunk({"content": "lo"})),
        b": keep-alive\n\n",
        events(chunk({"content": "."}), STOP, LAST, DONE),
    ]
    done = judge(*pieces)
    assert (done.ttft_s, done.ttfvt_s, done.latency_s) == (2.0, 3.0, 6.0)
    assert (done.itl_mean_s, done.itl_p99_s) == (1.0, 2.0)
    assert (done.reasoning_content, done.content) == ("hm!", "Hello.")


def test_tool_calls_are_joined_by_their_index():
    """The first fragment has id and name, the later ones more arguments; two calls may come side by side."""
    fragments = [
        [{"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": ""}}],
        [{"index": 1, "id": "b", "type": "function", "function": {"name": "g", "arguments": '{"y"'}}],
        [{"index": 0, "function": {"arguments": '{"x": 1}'}}, {"index": 1, "function": {"arguments": ": 2}"}}],
    ]
    chunks = [chunk({"tool_calls": calls}) for calls in fragments]
    done = judge(events(*chunks, chunk(finish_reason="tool_calls"), DONE))
    assert json.loads(done.tool_calls) == [
        {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}},
        {"id": "b", "type": "function", "function": {"name": "g", "arguments": '{"y": 2}'}},
    ]
    assert (done.content, done.finish_reason) == (None, "tool_calls")


def test_tool_calls_without_an_index_are_told_apart_by_their_id():
    """Some servers leave it out, and repeat the name."""
    fragments = [
        {"id": "a", "function": {"name": "f", "arguments": "1"}},
        {"id": "a", "function": {"name": "f", "arguments": "2"}},
        {"function": {"arguments": "3"}},
        {"id": "b", "function": {"name": "g", "arguments": {"z": 4}}},
    ]
    done = judge(events(*(chunk({"tool_calls": [part]}) for part in fragments), STOP, DONE))
    said = [
        (call["id"], call["function"]["name"], call["function"]["arguments"]) for call in json.loads(done.tool_calls)
    ]
    assert said == [("a", "f", "123"), ("b", "g", '{"z":4}')]


def test_several_choices_are_kept_apart():
    """The first is the record's, all of them are in `choices`, in their order."""
    pieces = [chunk({"content": "b"}, index=1), chunk({"content": "a"}), chunk({"content": "B"}, index=1)]
    ends = [chunk(finish_reason="length", index=1), chunk(finish_reason="stop")]
    done = judge(events(*pieces, *ends, LAST, DONE), n=2)
    assert (done.content, done.finish_reason) == ("a", "stop")
    assert json.loads(done.choices) == [
        {"index": 0, "message": {"role": "assistant", "content": "a"}, "finish_reason": "stop"},
        {"index": 1, "message": {"role": "assistant", "content": "bB"}, "finish_reason": "length"},
    ]


def test_logprobs_are_joined():
    """In OpenAI's form, and in the legacy one."""
    content = [{"token": "Hel", "logprob": -0.1}, {"token": "lo", "logprob": -0.2}]
    openai = [chunk({"content": one["token"]}) for one in content]
    for piece, one in zip(openai, content, strict=True):
        piece["choices"][0]["logprobs"] = {"content": [one], "refusal": None}
    assert json.loads(judge(events(*openai, STOP, DONE)).logprobs) == {"content": content, "refusal": None}
    legacy = [chunk({"content": "a"}), chunk({"content": "b"})]
    for at, piece in enumerate(legacy):
        piece["choices"][0]["logprobs"] = {"tokens": ["ab"[at]], "token_logprobs": [-at], "text_offset": [at]}
    joined = {"tokens": ["a", "b"], "token_logprobs": [0, -1], "text_offset": [0, 1]}
    assert json.loads(judge(events(*legacy, STOP, DONE)).logprobs) == joined


def test_a_text_completion_streams_its_text():
    """The chunks of /completions have `text` where a chat has a delta."""
    chunks = [{"choices": [{"index": 0, "text": text, "finish_reason": None}]} for text in ("Hel", "lo")]
    end = {"choices": [{"index": 0, "text": "", "finish_reason": "length"}], "usage": USAGE}
    done = judge(events(*chunks, end, DONE))
    assert (done.content, done.finish_reason, done.usage.total_tokens) == ("Hello", "length", 10)


def test_a_content_of_parts_and_a_refusal_are_text():
    """As in plain answers."""
    done = judge(events(chunk({"content": [{"type": "text", "text": "a"}, 5]}), chunk({"refusal": "no"}), STOP, DONE))
    assert (done.content, done.refusal) == ("a", "no")


BROKEN = {
    "half of it": (events(*TEXT), Ambiguous, "response_truncated"),
    "half an event at the end": (events(*TEXT) + b'data: {"choices": [{"ind', Ambiguous, "response_truncated"),
    "nothing": (b"", Ambiguous, "response_truncated"),
    "comments alone": (b": a\n\n: b\n\n", Ambiguous, "response_truncated"),
    "DONE alone": (events(DONE), Ambiguous, "response_invalid"),
    "an error": (events(*TEXT, {"error": {"message": "boom", "code": 500}}, DONE), Ambiguous, "server_error"),
    "an error of a rate": (events({"error": {"message": "slow down", "code": 429}}), Throttled, "rate_limited"),
    "a text as error": (events(*TEXT, {"error": "boom"}, STOP, DONE), Ambiguous, "server_error"),
    "an event of type error": (b'event: error\ndata: {"message": "boom"}\n\n', Ambiguous, "server_error"),
    "no JSON": (events(*TEXT) + b"data: {oops\n\n" + events(STOP, DONE), Ambiguous, "response_unreadable"),
    "no object": (events(*TEXT, [1, 2], STOP, DONE), Ambiguous, "response_invalid"),
    "choices that are none": (events({"choices": "none"}, DONE), Ambiguous, "response_invalid"),
    "no text": (events(TEXT[0], STOP, LAST, DONE), Rejected, "empty_response"),
    "withheld": (events(TEXT[0], chunk(finish_reason="content_filter"), DONE), Rejected, "content_filtered"),
    "an endless event": (b"data: " + b"x" * 1_100_000, Ambiguous, "response_too_large"),
    "one of two choices": (events(*TEXT, STOP), Ambiguous, "response_truncated"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_no_completion_has_its_own_error(name):
    """And never passes for a success."""
    content, kind, error_type = BROKEN[name]
    error = judge(content, n=2 if name == "one of two choices" else None)
    assert (type(error), getattr(error, "error_type", error)) == (kind, error_type)


def test_reasoning_that_ate_all_tokens_is_named():
    """The remedy is another cap, not another try."""
    thoughts = [chunk({"reasoning_content": "hm"}), chunk(finish_reason="length"), LAST]
    error = judge(events(*thoughts, DONE))
    assert (error.error_type, error.error_code) == ("empty_response", "reasoning_exhausted")
    assert error.usage.completion_tokens == 3


def test_a_truncated_stream_keeps_the_usage_that_it_stated():
    """What was charged is known."""
    error = judge(events({**TEXT[1], "usage": USAGE}))
    assert error.usage.completion_tokens == 3


def test_a_plain_answer_to_the_request_for_a_stream_is_judged_as_one():
    """Some servers do not stream, and some errors come as JSON with status 200."""
    done = judge(json.dumps({"choices": [{"message": {"content": "yes"}}], "usage": USAGE}).encode())
    assert (done.content, done.usage.total_tokens, done.ttft_s) == ("yes", 10, None)
    assert judge(b'  {"error": {"code": 429}}').error_type == "rate_limited"
    assert judge(b"<html>no</html>").error_type == "response_unreadable"


def test_fields_of_foreign_types_are_passed_over():
    """Only the choices must be a list of objects: the rest is no reason to pay twice."""
    odd = {"id": 5, "model": ["m"], "usage": "much", "perf_metrics": 7, "choices": [{"index": "0", "delta": {}}]}
    strange = [
        chunk({"content": 5, "tool_calls": "none", "reasoning": {}}),
        chunk({"tool_calls": [None, {"index": 1e9}]}),
    ]
    done = judge(events(odd, *strange, *TEXT, STOP, DONE))
    assert (done.content, done.model, done.tool_calls, done.usage) == ("Hello", "served", None, None)


STREAM = events(*TEXT, STOP, LAST, DONE)
ANSWERS = {
    "in chunks": [chunked(STREAM[:40], STREAM[40:]) + END_OF_CHUNKS],
    "until closed": [b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n" + STREAM, CLOSE],
    "with a length": [http(STREAM, content_type="text/event-stream")],
    "gzip that nobody asked for": [http(gzip.compress(STREAM), content_encoding="gzip")],
    "broken off after its end": [chunked(STREAM), RESET],
    "left open after its end": [chunked(STREAM)],
    "going on after its end": [chunked(STREAM, events(*TEXT))],
    "left open, without DONE": [chunked(events(*TEXT, STOP, LAST))],
    "reset, without DONE": [chunked(events(*TEXT, STOP, LAST)), RESET],
}


@pytest.mark.parametrize("name", ANSWERS)
def test_a_stream_over_a_socket(name):
    """However the body ends, once every choice has ended it is a completion."""
    with peer([READ, *ANSWERS[name]]) as there:
        done = ask(there.base_url, stream=True, idle_s=0.3)
    assert isinstance(done, Completion), done
    assert (done.content, done.usage.total_tokens) == ("Hello", 10)
    assert done.response == STREAM.decode() or "DONE" in name or "going on" in name


@pytest.mark.parametrize("end", [CLOSE, RESET, 0.5], ids=["close", "reset", "silence"])
def test_a_stream_that_breaks_off_keeps_what_it_said(end):
    """A failure with the beginning of the answer and the usage stated so far; it may be charged."""
    with peer([READ, chunked(events({**TEXT[1], "usage": USAGE})), end]) as there:
        error = ask(there.base_url, stream=True, idle_s=0.2)
    assert isinstance(error, Ambiguous)
    assert error.error_type == ("timed_out" if end == 0.5 else "response_truncated")
    assert error.usage.total_tokens == 10
    assert '"Hel"' in error.response
    assert error.status_code == 200


def test_an_unasked_stream_is_read():
    """A server that streams whatever it is asked for."""
    with peer([READ, http(STREAM)]) as there:
        assert ask(there.base_url).content == "Hello"
