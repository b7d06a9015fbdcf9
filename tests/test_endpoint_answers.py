"""What is a completion and what is not: 200 alone is no success, and no odd detail makes anybody pay twice."""

# ruff: noqa: E501 (a table is read by the row)

from __future__ import annotations

import copy
import json

import pytest
from asking import ask
from peers import ANSWER, READ, http, peer

from batchrun.endpoint.answer import MOST_MENDED_BYTES, Answer
from batchrun.endpoint.fireworks import whole
from batchrun.endpoint.wire import completion_of
from batchrun.errors import Ambiguous, EndpointError, EndpointUnusable, Rejected, Throttled
from batchrun.pricing import Price, cost_nano_usd
from batchrun.store.schema import RESULTS, to_batch
from batchrun.types import Completion, Record

NOTHING = object()


def answer(content=NOTHING, **changes) -> dict:
    """The usual answer with other keys at the top, or with another content."""
    body = copy.deepcopy(ANSWER) | changes
    if content is not NOTHING:
        body["choices"][0]["message"]["content"] = content
    return body


def message(**changes) -> dict:
    """The usual answer with a message of these keys alone; `finish_reason` is the choice's."""
    choice = {"finish_reason": changes.pop("finish_reason", "stop"), "message": changes}
    return answer(choices=[choice])


def judged(body, **headers) -> Completion | EndpointError:
    """What an answer of 200 with this body is taken for, without a socket between."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    try:
        return completion_of(Answer(status=200, headers=headers, content=content, latency_s=0.5))
    except EndpointError as error:
        return error


NO_COMPLETION = {
    # not JSON
    "nothing": (b"", Ambiguous, "response_unreadable"),
    "blank": (b" \r\n ", Ambiguous, "response_unreadable"),
    "HTML": (b"<html><body><h1>502 Bad Gateway</h1></body></html>", Ambiguous, "response_unreadable"),
    "half of it": (json.dumps(ANSWER).encode()[:-10], Ambiguous, "response_unreadable"),
    "two of it": (json.dumps(ANSWER).encode() * 2, Ambiguous, "response_unreadable"),
    "a stream": (b'data: {"choices": []}\n\ndata: [DONE]\n\n', Ambiguous, "response_invalid"),
    "NUL": (b"\x00" * 100, Ambiguous, "response_unreadable"),
    "no UTF-8": (b"\xff\xfe\xfd", Ambiguous, "response_unreadable"),
    "UTF-16": (json.dumps(ANSWER).encode("utf-16"), Ambiguous, "response_unreadable"),
    "100,000 lists deep": (b"[" * 100_000 + b"]" * 100_000, Ambiguous, "response_unreadable"),
    "100,000 objects deep": (b'{"choices":' * 100_000 + b"1" + b"}" * 100_000, Ambiguous, "response_unreadable"),
    "100,000 lists deep elsewhere": (
        b'{"x": ' + b"[" * 100_000 + b"]" * 100_000 + b', "choices": []}',
        Ambiguous,
        "response_unreadable",
    ),
    "a number of 100,000 digits": (
        b'{"usage": ' + b"9" * 100_000 + b', "choices": []}',
        Ambiguous,
        "response_unreadable",
    ),
    # not an answer
    "a list": ([], Ambiguous, "response_invalid"),
    "a text": ("yes", Ambiguous, "response_invalid"),
    "null": (None, Ambiguous, "response_invalid"),
    "an empty object": ({}, Ambiguous, "response_invalid"),
    "no choices": ({"id": "x", "usage": {}}, Ambiguous, "response_invalid"),
    "choices null": (answer(choices=None), Ambiguous, "response_invalid"),
    "choices empty": (answer(choices=[]), Ambiguous, "response_invalid"),
    "choices a text": (answer(choices="yes"), Ambiguous, "response_invalid"),
    "choices an object": (answer(choices={"0": {}}), Ambiguous, "response_invalid"),
    "a choice null": (answer(choices=[None]), Ambiguous, "response_invalid"),
    "a choice a text": (answer(choices=["yes"]), Ambiguous, "response_invalid"),
    "a choice empty": (answer(choices=[{}]), Ambiguous, "response_invalid"),
    "message null": (answer(choices=[{"message": None}]), Ambiguous, "response_invalid"),
    "message a text": (answer(choices=[{"message": "yes"}]), Ambiguous, "response_invalid"),
    "message a list": (answer(choices=[{"message": []}]), Ambiguous, "response_invalid"),
    "a delta instead of a message": (answer(choices=[{"delta": {"content": "yes"}}]), Ambiguous, "response_invalid"),
    "content a number": (answer(7), Ambiguous, "response_invalid"),
    "content an object": (answer({"text": "yes"}), Ambiguous, "response_invalid"),
    # an empty answer
    "message empty": (message(), Rejected, "empty_response"),
    "content null": (answer(None), Rejected, "empty_response"),
    "content empty": (answer(""), Rejected, "empty_response"),
    "content no parts": (answer([]), Rejected, "empty_response"),
    "content parts without text": (answer([{"type": "image"}, 7, None]), Rejected, "empty_response"),
    "empty for its length": (message(content="", finish_reason="length"), Rejected, "empty_response"),
    "only reasoning": (message(content="", reasoning_content="hm"), Rejected, "empty_response"),
    "no tool calls": (message(content=None, tool_calls=[]), Rejected, "empty_response"),
    "no tool calls, spaced": (b'{"choices": [{"message": {"tool_calls": [ ]}}]}', Rejected, "empty_response"),
    "tool calls a text": (message(tool_calls="yes"), Rejected, "empty_response"),
    "tool calls false": (message(tool_calls=False), Rejected, "empty_response"),
    "tool calls null": (message(tool_calls=[None]), Rejected, "empty_response"),
    "refusal empty": (message(refusal=""), Rejected, "empty_response"),
    "filtered": (message(content="", finish_reason="content_filter"), Rejected, "content_filtered"),
    # an error in an answer of 200
    "an error": ({"error": {"message": "boom", "code": "internal"}}, Ambiguous, "server_error"),
    "an error as text": ({"error": "boom"}, Ambiguous, "server_error"),
    "an error as list": ({"error": ["boom"]}, Ambiguous, "server_error"),
    "an error as true": ({"error": True}, Ambiguous, "server_error"),
    "an error beside an answer": (answer(error={"message": "boom"}), Ambiguous, "server_error"),
    "an error with a status": ({"error": {"code": 429, "message": "slow"}}, Throttled, "rate_limited"),
    "an error with a status as text": ({"error": {"code": "400", "message": "no"}}, Rejected, "request_rejected"),
    "an error with status 502": ({"error": {"code": 502}}, Ambiguous, "server_error"),
    "an error of the account": ({"error": {"code": "insufficient_quota"}}, EndpointUnusable, "billing"),
    "an error of the filter": ({"error": {"type": "content_filter"}}, Rejected, "content_filtered"),
}


@pytest.mark.parametrize("name", NO_COMPLETION)
def test_what_is_no_completion_has_its_own_error(name):
    """Over a socket: its class says what follows, its error_type how it counts."""
    body, kind, error_type = NO_COMPLETION[name]
    with peer([READ, http(body if isinstance(body, bytes) else json.dumps(body))]) as there:
        error = ask(there.base_url)
    assert (type(error), error.error_type) == (kind, error_type), error
    assert error.status_code == 200
    assert error.message
    assert len(error.message) < 700
    assert error.message.isprintable()


def test_an_empty_answer_that_was_charged_keeps_its_usage():
    """It was paid for all the same."""
    assert judged(answer("")).usage.prompt_tokens == 7
    assert judged(answer(choices=[])).usage.completion_tokens == 1
    assert judged(answer(error="boom")).usage.total_tokens == 8


def test_tokens_that_all_went_into_reasoning_are_named():
    """So that somebody raises max_tokens."""
    error = judged(message(content="", reasoning_content="hm" * 100, finish_reason="length"))
    assert error.error_code == "reasoning_exhausted"
    assert "raise max_tokens" in error.message


COMPLETION = {
    "plain": (ANSWER, {"content": "yes", "finish_reason": "stop", "model": "served", "request_id": "chatcmpl-1"}),
    "parts": (answer([{"type": "text", "text": "y"}, "e", {"text": 7}, {"text": "s"}]), {"content": "yes"}),
    "cut short": (message(content="ye", finish_reason="length"), {"content": "ye", "finish_reason": "length"}),
    "filtered in the middle": (message(content="ye", finish_reason="content_filter"), {"content": "ye"}),
    "a tool call": (
        message(content=None, tool_calls=[{"id": "1", "function": {"name": "f", "arguments": "{broken"}}]),
        {"content": None, "tool_calls": '[{"id": "1", "function": {"name": "f", "arguments": "{broken"}}]'},
    ),
    "a refusal": (message(content=None, refusal="no"), {"content": None, "refusal": "no"}),
    "reasoning": (message(content="yes", reasoning_content="hm"), {"reasoning_content": "hm"}),
    "reasoning, as others call it": (message(content="yes", reasoning="hm"), {"reasoning_content": "hm"}),
    "reasoning that is no text": (message(content="yes", reasoning=[{"x": 1}]), {"reasoning_content": None}),
    "logprobs": (
        b'{"choices": [{"message": {"content": "yes"}, "logprobs": {"content": [ ]}}]}',
        {"logprobs": '{"content": [ ]}'},
    ),
    "no logprobs": (message(content="yes", logprobs=None), {"logprobs": None}),
    "one choice": (ANSWER, {"choices": None}),
    "two choices": (
        b'{"choices": [{"message": {"content": "yes"}}, {"message": {"content": "no"}}]}',
        {"content": "yes", "choices": '[{"message": {"content": "yes"}}, {"message": {"content": "no"}}]'},
    ),
    "unknown keys": (answer(new={"key": [1]}), {"content": "yes"}),
    "a finish_reason that is a number": (message(content="yes", finish_reason=7), {"finish_reason": None}),
    "a model that is a number": (answer(model=7), {"model": None}),
    "an id that is a list": (answer(id=[1]), {"request_id": None}),
    "an error that is none": (answer(error={}), {"content": "yes"}),
    "an error that is null": (answer(error=None), {"content": "yes"}),
    # JSON that only a lenient reader takes
    "a byte-order mark": (b"\xef\xbb\xbf" + json.dumps(ANSWER).encode(), {"content": "yes"}),
    "NaN": (b'{"choices": [{"message": {"content": "yes"}, "logprobs": {"a": NaN, "b": -Infinity, "c": 1e999}}]}',
            {"content": "yes", "logprobs": '{"a": null, "b": null, "c": null}'}),
    "half a surrogate pair": (b'{"choices": [{"message": {"content": "y\\ud800es\\udfff"}}]}', {"content": "y\ufffdes\ufffd"}),
    "half a surrogate pair in a key": (b'{"\\udc00": 1, "choices": [{"message": {"content": "yes"}}]}', {"content": "yes"}),
    "a whole surrogate pair": (b'{"choices": [{"message": {"content": "\\ud83d\\ude00"}}]}', {"content": "\U0001f600"}),
    "broken UTF-8": (b'{"choices": [{"message": {"content": "y\xffes"}}]}', {"content": "y\ufffdes"}),
    "two NaN choices": (
        b'{"x": NaN, "choices": [{"message": {"content": "yes"}}, {"message": {"content": "no"}}]}',
        {"choices": '[{"message": {"content": "yes"}}, {"message": {"content": "no"}}]'},
    ),
    "NUL in the text": (answer("y\x00es"), {"content": "y\x00es"}),
    "line separators": (answer("y\u2028\u2029es"), {"content": "y\u2028\u2029es"}),
    "keys twice": (
        b'{"choices": [], "choices": [{"message": {"content": "no", "content": "yes"}}]}',
        {"content": "yes"},
    ),
    "integers of 60 digits": (answer(created=10**60), {"content": "yes"}),
    "integers of 60 digits in metrics": (answer(perf_metrics={"x": 10**60}), {"perf_metrics": '{"x":' + "1" + "0" * 60 + "}"}),
    "500 lists deep": (b'{"x": ' + b"[" * 500 + b"]" * 500 + b', "choices": [{"message": {"content": "yes"}}]}', {"content": "yes"}),
}  # fmt: skip


@pytest.mark.parametrize("name", COMPLETION)
def test_what_is_a_completion_is_taken(name):
    """Over a socket, with the fields that it has; what cannot be understood beside the content is null."""
    body, expected = COMPLETION[name]
    with peer([READ, http(body if isinstance(body, bytes) else json.dumps(body))]) as there:
        done = ask(there.base_url)
    assert isinstance(done, Completion), done
    assert {key: getattr(done, key) for key in expected} == expected


USAGE = {
    "as usual": ({"prompt_tokens": 7, "completion_tokens": 1, "total_tokens": 8}, (7, None, 1, None, 8)),
    "with details": (
        {
            "prompt_tokens": 7,
            "completion_tokens": 5,
            "prompt_tokens_details": {"cached_tokens": 3},
            "completion_tokens_details": {"reasoning_tokens": 2},
        },
        (7, 3, 5, 2, None),
    ),
    "details null": ({"prompt_tokens": 7, "prompt_tokens_details": None, "completion_tokens_details": 7}, (7, None, None, None, None)),
    "as text": ({"prompt_tokens": "7", "completion_tokens": " 1 "}, (7, None, 1, None, None)),
    "as floats": ({"prompt_tokens": 7.0, "completion_tokens": 1.5}, (7, None, None, None, None)),
    "negative": ({"prompt_tokens": -7, "completion_tokens": 1, "total_tokens": -8}, (None, None, 1, None, None)),
    "2^63": ({"prompt_tokens": 2**63, "completion_tokens": 2**63 - 1}, (None, None, 2**63 - 1, None, None)),
    "10^60": ({"prompt_tokens": 10**60, "completion_tokens": 1}, (None, None, 1, None, None)),
    "1e300": ({"prompt_tokens": 1e300, "completion_tokens": 1}, (None, None, 1, None, None)),
    "true": ({"prompt_tokens": True, "completion_tokens": 1}, (None, None, 1, None, None)),
    "words": ({"prompt_tokens": "many", "completion_tokens": [1], "total_tokens": {}}, None),
    "nothing in it": ({}, None),
    "null": (None, None),
    "a list": ([7, 1], None),
    "a text": ("7", None),
}  # fmt: skip


@pytest.mark.parametrize("name", USAGE)
def test_usage_is_read_leniently_and_never_invented(name):
    """A count that cannot be one is null; the answer is taken all the same, and its cost is never negative."""
    stated, expected = USAGE[name]
    done = judged(answer(usage=stated))
    assert isinstance(done, Completion), done
    usage = done.usage
    assert (usage and (usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens,
            usage.reasoning_tokens, usage.total_tokens)) == expected  # fmt: skip
    cost = usage and cost_nano_usd(usage, Price(model="m", input_usd_per_mtok=1, output_usd_per_mtok=1))
    assert cost is None or cost >= 0
    assert json.loads(done.response)["usage"] == stated


@pytest.mark.parametrize("name", USAGE)
def test_no_usage_breaks_a_column(name):
    """Whatever is stated fits the Arrow columns."""
    usage = judged(answer(usage=USAGE[name][0])).usage
    fields = {name: getattr(usage, name) for name in usage.__struct_fields__} if usage else {}
    assert to_batch([Record(index=0, custom_id="x", **fields)], RESULTS).num_rows == 1


def test_cached_tokens_come_from_the_metrics_where_the_usage_does_not_say():
    """And the usage wins where it does."""
    assert judged(ANSWER, **{"fireworks-cached-prompt-tokens": "3"}).usage.cached_tokens == 3
    said = answer(usage={"prompt_tokens": 7, "prompt_tokens_details": {"cached_tokens": 0}})
    assert judged(said, **{"fireworks-cached-prompt-tokens": "3"}).usage.cached_tokens == 0


@pytest.mark.parametrize(("stated", "expected"), [("1e300", None), ("-3", None), ("3.5", None), ("x", None), ("3", 3)])
def test_cached_tokens_from_a_header_must_be_a_count(stated, expected):
    """A header may say anything."""
    assert judged(ANSWER, **{"fireworks-cached-prompt-tokens": stated}).usage.cached_tokens == expected


@pytest.mark.parametrize(("value", "expected"), [("0.044", 0.044), (1, 1.0), ("nan", None), ("-1", None), ("inf", None),
                                                 (None, None), ([], None), (10**400, None), ("1e400", None)])  # fmt: skip
def test_durations_are_seconds_or_null(value, expected):
    """In the body or in a header, as a number or as text; nonsense is null."""
    assert judged(answer(perf_metrics={"server-time-to-first-token": value})).server_ttft_s == expected
    if isinstance(value, str):
        assert judged(ANSWER, **{"fireworks-server-processing-time": value}).server_processing_s == expected


def test_metrics_of_the_body_win_over_the_headers():
    """Both are kept under the same names, as JSON text."""
    headers = {"fireworks-prompt-tokens": "7", "fireworks-deployment": "d", "x-other": "1"}
    done = judged(answer(perf_metrics={"prompt-tokens": 8}), **headers)
    assert json.loads(done.perf_metrics) == {"prompt-tokens": 8, "deployment": "d"}
    assert judged(ANSWER).perf_metrics is None
    assert judged(answer(perf_metrics=[1])).perf_metrics is None


def test_the_request_id_is_the_headers_where_there_is_one():
    """Else that of the answer."""
    assert judged(ANSWER, **{"x-request-id": "r-1"}).request_id == "r-1"
    assert judged(ANSWER).request_id == "chatcmpl-1"


def test_a_huge_answer_gets_no_second_look():
    """What only a lenient reader takes is taken up to 4 MiB: beyond that it would cost too much memory."""
    body = json.dumps(answer("x" * MOST_MENDED_BYTES)).encode()
    assert isinstance(judged(body), Completion)
    assert isinstance(judged(b"\xef\xbb\xbf" + body), Completion)
    assert judged(body[:-1] + b', "beside": NaN}').error_type == "response_unreadable"


def test_the_answer_is_kept_as_it_came():
    """Not as it was understood."""
    body = b' {"choices": [{"message": {"content": "y\\u0065s"}}], "new": [ 1 ]}\n'
    assert judged(body).response == body.decode()


def test_counts_are_whole_numbers_that_fit():
    """Text is taken where it is one."""
    assert [whole(value) for value in (0, "0", 3.0, "3.0", "", "0x3", None, float("nan"))] == [0, 0, 3, 3, *[None] * 4]
