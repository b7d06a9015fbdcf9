from __future__ import annotations

import json
import socket
from urllib.parse import urlsplit

import pytest
from servers import simulated

from batchrun.simulated.answers import Author
from batchrun.simulated.scenario import Scenario
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
    whole = Author(Scenario()).answer(parse_request(request("please truncated")), 1)
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


def test_a_client_that_leaves_is_charged_for_what_was_generated():
    """Closing the stream ends the generation: fewer tokens than the whole answer, more than none."""
    with simulated({"latency": {"ttft_s": 0, "per_token_s": 0.01, "sigma": 0}}) as slow:
        url = urlsplit(slow.base_url)
        body = request("x", stream=True, max_tokens=100_000, ignore_eos=True)
        with socket.create_connection((url.hostname, url.port), timeout=10) as connection:
            head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n"
            connection.sendall(head.encode() + body)
            received = b""
            while received.count(b"data: ") < 5:
                received += connection.recv(4096)
        while slow.totals()["in_flight"]:
            pass
        (line,) = slow.ledger()
    assert 3 <= line["completion_tokens"] < 5000
