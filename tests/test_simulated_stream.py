from __future__ import annotations

import gzip
import json
import socket
from urllib.parse import urlsplit

import pytest
from servers import simulated

from batchrun.simulated.author import Author
from batchrun.simulated.chat import ChatRequest
from batchrun.simulated.forms import form_for
from batchrun.simulated.scenario import Scenario, Stream
from batchrun.simulated.stream import _Events
from batchrun.simulated.wire import parse_request

FAULTS = [
    {"kind": kind, "match": f"please {kind}"}
    for kind in ("truncated", "bad_json", "error_in_200", "empty", "no_choices")
]


@pytest.fixture(scope="module")
def server():
    """Answers at once, except for the prompts that name a fault."""
    with simulated({"faults": FAULTS}) as running:
        yield running


def request(prompt, **params):
    """The body that `ask` sends."""
    return json.dumps({"model": "m", "messages": [{"role": "user", "content": prompt}], **params}).encode()


def joined(events, index=0):
    """The words of one choice, put together again."""
    choices = [choice for event in events for choice in event["choices"] if choice["index"] == index]
    return "".join(choice["delta"].get("content", "") for choice in choices)


def reasons(events):
    """Every finish_reason that was sent."""
    return [choice["finish_reason"] for event in events for choice in event["choices"] if choice["finish_reason"]]


def test_a_stream_has_the_words_of_the_plain_answer(server):
    """Put together, the pieces are what a plain request gets."""
    assert joined(server.ask("hello", stream=True).events) == server.ask("hello").content


def test_a_stream_opens_with_the_role_and_ends_with_done(server):
    """The first delta has the role, the last line is the end mark."""
    answer = server.ask("hello", stream=True)
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.events[0]["choices"][0]["delta"]["role"] == "assistant"
    assert answer.body.endswith(b"\n\ndata: [DONE]\n\n")
    assert {event["object"] for event in answer.events} == {"chat.completion.chunk"}


def test_usage_is_on_the_last_choice_by_default(server):
    """Without stream_options the chunk with finish_reason has it."""
    last = server.ask("hello", stream=True).events[-1]
    assert last["choices"][0]["finish_reason"] == "stop"
    assert last["usage"] == server.ask("hello").json["usage"]


def test_usage_is_a_chunk_of_its_own_when_asked_for(server):
    """With include_usage a last chunk without choices has it, and no other."""
    events = server.ask("hello", stream=True, stream_options={"include_usage": True}).events
    assert events[-1]["choices"] == []
    assert events[-1]["usage"] == server.ask("hello").json["usage"]
    assert [event["usage"] for event in events[:-1]] == [None] * (len(events) - 1)


def test_metrics_are_in_the_last_chunk_when_asked_for(server):
    """The whole set is known only at the end; the headers have what is known before."""
    answer = server.ask("hello", stream=True, perf_metrics_in_response=True)
    assert "server-processing-time" in answer.events[-1]["perf_metrics"]
    assert "fireworks-server-time-to-first-token" in answer.headers
    assert "fireworks-server-processing-time" not in answer.headers


def test_a_stream_is_charged_as_the_plain_answer(server):
    """The ledger has the tokens of the usage."""
    usage = server.ask("hello", stream=True).events[-1]["usage"]
    assert server.ledger()[-1]["completion_tokens"] == usage["completion_tokens"]


def test_choices_are_streamed_side_by_side(server):
    """With n = 2 the pieces are mixed, and each choice ends once."""
    events = server.ask("hello", stream=True, n=2).events
    plain = server.ask("hello", n=2).json["choices"]
    assert [joined(events, index) for index in (0, 1)] == [choice["message"]["content"] for choice in plain]
    assert [event["choices"][0]["index"] for event in events[:6]] == [0, 1] * 3
    assert reasons(events) == ["stop", "stop"]


def test_a_tool_call_is_streamed_in_pieces(server):
    """Id and name come first, the arguments after and after."""
    parameters = {"type": "object", "properties": {"place": {"type": "string"}}}
    tools = [{"type": "function", "function": {"name": "look", "parameters": parameters}}]
    events = server.ask("hello", stream=True, tools=tools, tool_choice="required").events
    calls = [call for event in events for call in event["choices"][0]["delta"].get("tool_calls", [])]
    assert calls[0]["function"]["name"] == "look"
    assert ["id" in call for call in calls] == [True] + [False] * (len(calls) - 1)
    assert json.loads("".join(call["function"]["arguments"] for call in calls)) == {"place": "simulated"}
    assert reasons(events) == ["tool_calls"]


def test_a_truncated_stream_ends_in_good_order_without_an_end(server):
    """Half of the words, no finish_reason, no end mark."""
    answer = server.ask("please truncated", stream=True)
    whole = Author(Scenario()).answer(parse_request(request("please truncated"), ChatRequest), 1)
    assert reasons(answer.events) == []
    assert joined(answer.events) == whole.choices[0].content[: whole.completion_tokens // 2 * 4]
    assert b"[DONE]" not in answer.body


def test_an_error_can_come_in_the_middle(server):
    """The last event is an error, and the end mark is missing."""
    answer = server.ask("please error_in_200", stream=True)
    assert list(answer.events[-1]) == ["error"]
    assert b"[DONE]" not in answer.body


def test_a_bad_event_stands_among_good_ones(server):
    """One line is not JSON, and the stream goes on to its end."""
    answer = server.ask("please bad_json", stream=True)
    with pytest.raises(json.JSONDecodeError):
        _ = answer.events
    assert answer.body.endswith(b"data: [DONE]\n\n")


def test_empty_streams(server):
    """One has a choice that says nothing, the other no choice at all; both have usage."""
    events = server.ask("please empty", stream=True).events
    assert (joined(events), reasons(events), events[-1]["usage"]["completion_tokens"]) == ("", ["stop"], 0)
    (only,) = server.ask("please no_choices", stream=True).events
    assert only["choices"] == []
    assert only["usage"]


def test_every_other_stream_can_be_truncated():
    """As a server does that serves one request at a time; plain answers are spared."""
    fault = {"kind": "truncated", "match": '"stream": ?true', "every": 2}
    with simulated({"faults": [fault]}) as server:
        assert server.ask("hello").status == 200
        ends = [server.ask("hello", stream=True).body.endswith(b"data: [DONE]\n\n") for _ in range(4)]
    assert ends == [True, False, True, False]


def usages(habit, **params):
    """The usage of every chunk that tells one, of a stream from a server with this habit: (has choices, tokens)."""
    asked = parse_request(request("hello", max_tokens=2, n=2, **params), ChatRequest)
    answer = Author(Scenario()).answer(asked, 1)
    events = _Events(asked, answer, form_for(asked), Stream(usage=habit))
    token = next(form_for(asked).tokens(answer.choices[0]))
    lines = [events.opening(), *(events.token(token, generated) for generated in (1, 2)), events.ending()]
    chunks = [json.loads(line[6:]) for line in b"".join(lines).split(b"\n\n") if line not in (b"", b"data: [DONE]")]
    return [(bool(chunk["choices"]), chunk["usage"]["completion_tokens"]) for chunk in chunks if chunk["usage"]]


@pytest.mark.parametrize(
    ("habit", "told"),
    [
        ("last", [(True, 4)]),
        ("own_chunk", [(False, 4)]),
        ("every_chunk", [(True, count) for count in (0, 0, 1, 2, 4, 4)]),
        ("never", []),
    ],
)
@pytest.mark.parametrize("asked", [{}, {"stream_options": {"include_usage": True}}])
def test_a_server_may_have_its_own_idea_of_usage(habit, told, asked):
    """Whatever is asked for: on the last choice, in a chunk of its own, on every chunk as it grows, or nowhere."""
    assert usages(habit, **asked) == told


@pytest.fixture(scope="module")
def odd():
    """A server with all the habits that the usual one has not."""
    habits = {"done": False, "stream_options": "rejected", "role_chunk": False, "comments": True, "crlf": True}
    with simulated({"stream": habits, "gzip": True, "strict": False}) as running:
        yield running


def test_a_stream_can_be_compressed_unasked(odd):
    """The header says so, and the whole is one gzip member."""
    answer = odd.ask("hello", stream=True)
    assert answer.headers["content-encoding"] == "gzip"
    assert gzip.decompress(answer.body).startswith(b": keep-alive")


def test_a_plain_answer_can_be_compressed_unasked(odd, server):
    """It is the answer that it would be otherwise, but for the time."""
    answer = odd.ask("hello")
    assert answer.headers["content-encoding"] == "gzip"
    assert json.loads(gzip.decompress(answer.body))["choices"] == server.ask("hello").json["choices"]


def test_lines_can_end_with_crlf(odd):
    """All of them do."""
    stream = gzip.decompress(odd.ask("hello", stream=True).body)
    assert stream.count(b"\n") == stream.count(b"\r\n") > 0


def test_a_comment_can_stand_before_every_event(odd):
    """Without the end mark, as many as there are events."""
    stream = gzip.decompress(odd.ask("hello", stream=True).body)
    assert stream.count(b": keep-alive\r\n\r\n") == stream.count(b"data: {") > 0


def test_the_end_mark_and_the_role_can_be_missing(odd):
    """The first event has words, the last one finish_reason."""
    stream = gzip.decompress(odd.ask("hello", stream=True).body).decode()
    events = [json.loads(line[6:]) for line in stream.split("\r\n\r\n") if line.startswith("data: ")]
    assert events[0]["choices"][0]["delta"] == {"content": "Simu"}
    assert events[-1]["choices"][0]["finish_reason"] == "stop"


def test_stream_options_can_be_rejected(odd):
    """400 that names them, also from a server that is not strict; without them the stream comes."""
    answer = odd.ask("hello", stream=True, stream_options={"include_usage": True})
    assert (answer.status, answer.json["error"]["param"]) == (400, "stream_options")


def test_an_unknown_key_can_be_passed_over(odd, server):
    """Only a strict server, as by default, refuses it."""
    assert [running.ask("hello", best_of=2).status for running in (odd, server)] == [200, 400]


def leave(server, prompt, tokens, **params):
    """Ask for a stream, close the connection after so many events with words, and wait until the server knows."""
    url = urlsplit(server.base_url)
    body = request(prompt, stream=True, ignore_eos=True, **params)
    with socket.create_connection((url.hostname, url.port), timeout=10) as connection:
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode() + body)
        received = b""
        while received.count(b"data: ") < tokens + 1:  # the role comes first
            more = connection.recv(65_536)
            assert more, "the stream ended too early"
            received += more
    while server.totals()["in_flight"]:
        pass
    return server.ledger()[-1]


def test_a_client_that_leaves_is_charged_for_what_was_generated():
    """Closing the stream ends the generation: fewer tokens than the whole answer, more than none."""
    with simulated({"latency": {"ttft_s": 0, "per_token_s": 0.01, "sigma": 0}}) as slow:
        line = leave(slow, "x", 4, max_tokens=100_000)
    assert 4 <= line["completion_tokens"] < 5000
    assert (line["aborted"], line["status"]) == (True, 200)


def test_what_was_generated_is_exactly_what_was_sent():
    """A stream that stands still after half of its tokens, and is left then, costs that half; so does its reasoning."""
    with simulated({"faults": [{"kind": "slow", "seconds": 3600}]}) as slow:
        lines = [leave(slow, "x", 50, max_tokens=100, **asked) for asked in ({}, {"reasoning_effort": "low"})]
    assert [(line["completion_tokens"], line["aborted"]) for line in lines] == [(50, True)] * 2


def test_a_stream_that_is_read_to_its_end_is_not_aborted(server):
    """Nor is a plain answer."""
    server.ask("hello", stream=True)
    server.ask("hello")
    assert [line["aborted"] for line in server.ledger()[-2:]] == [False, False]
