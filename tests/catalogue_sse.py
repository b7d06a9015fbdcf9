"""What a peer may write as a stream of events, in answer to a request for a stream or to a plain one."""

# ruff: noqa: E501 (a table is read by the row)

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from catalogue import (
    BILL,
    EMPTY,
    FILTERED,
    GOOD,
    INVALID,
    LATE,
    LIMITED,
    OVERLOADED,
    REFUSED,
    SERVER_ERROR,
    TOO_LARGE,
    TRUNCATED,
    UNREADABLE,
    WAIT_S,
    Case,
    Form,
    Outcome,
    case,
)
from peers import ANSWER, CLOSE, END_OF_CHUNKS, READ, RESET, STREAMED, for_ever, http, sse

if TYPE_CHECKING:
    from collections.abc import Callable

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
ROLE, Y, ES, STOP, USAGE = STREAMED
DONE = b"data: [DONE]\n\n"
BODY = sse(*STREAMED)
CALL = {"index": 0, "id": "1", "type": "function", "function": {"name": "f", "arguments": ""}}
FRAGMENT = {"index": 0, "function": {"arguments": "{}"}}
MORE_THAN_AN_EVENT = b"x" * ((1 << 20) + 10)
IDLE = {"idle_s": WAIT_S}
SLOW = {"attempt_s": 60}
ATTEMPT = {"attempt_s": 0.4}


def chunk(delta: Any = None, **choice: Any) -> dict[str, Any]:
    """One event with one choice."""
    return {"choices": [{"index": 0, "delta": {} if delta is None else delta, **choice}]}


def says(content: Any) -> dict[str, Any]:
    """An event with this content."""
    return chunk({"content": content})


def ends(why: Any = "stop") -> dict[str, Any]:
    """An event that ends its choice."""
    return chunk(finish_reason=why)


def piece(data: bytes) -> bytes:
    """A chunk of HTTP."""
    return b"%x\r\n%s\r\n" % (len(data), data)


def stream(*events: Any, outcome: Outcome | set[Outcome] = GOOD, end: bytes = DONE, **more: Any) -> Case:
    """A case whose answer is whole as HTTP, with these events."""
    return of(sse(*events, end=end), outcome, **more)


def of(body: bytes, outcome: Outcome | set[Outcome] = GOOD, **more: Any) -> Case:
    """The same for a body that is no list of events."""
    return case(HEAD + piece(body) + END_OF_CHUNKS, outcome, **more)


def lines(form: Form) -> dict[str, Case]:
    """How the events are written down: every spelling that the standard allows, and some that it does not."""
    unsniffed = GOOD if form.stream else UNREADABLE  # it does not begin like a stream
    data = [json.dumps(event).encode() for event in STREAMED]
    tight = b"".join(b"data:%s\n\n" % one for one in data) + b"data:[DONE]\n\n"
    pretty = b"".join(
        b"data: " + json.dumps(one, indent=1).encode().replace(b"\n", b"\ndata: ") + b"\n\n" for one in STREAMED
    )
    return {
        "as usual": of(BODY, charged=True),
        "CRLF": of(BODY.replace(b"\n", b"\r\n")),
        "CR": of(BODY.replace(b"\n", b"\r")),
        "all three in turn": of(BODY.replace(b"\n\n", b"\r\n\n", 1).replace(b"\n\n", b"\r\r", 1)),
        "a byte-order mark": of(b"\xef\xbb\xbf" + BODY),
        "a byte a chunk": case(HEAD + b"".join(piece(bytes([byte])) for byte in BODY) + END_OF_CHUNKS, GOOD, charged=True),
        "a byte a packet": case([READ, HEAD, *[piece(bytes([byte])) for byte in BODY], END_OF_CHUNKS, CLOSE], GOOD),
        "CRLF, a byte a packet": case([READ, HEAD, *[piece(bytes([byte])) for byte in BODY.replace(b"\n", b"\r\n")], END_OF_CHUNKS, CLOSE], GOOD),
        "no space": of(tight),
        "two spaces": of(BODY.replace(b"data: {", b"data:  {")),
        "a tab": of(BODY.replace(b"data: {", b"data:\t{")),
        "comments": of(b": ping\n\n:\n\n" + BODY.replace(b"\n\n", b"\n\n: keep-alive\n\n")),
        "comments inside events": of(BODY.replace(b"\n\n", b"\n: inside\n\n")),
        "a comment of 100 KB": of(b":" + b"x" * 100_000 + b"\n\n" + BODY),
        "comments that hold data": of(b': data: {"error": "no"}\n\n' + BODY),
        "names of events": of(BODY.replace(b"data: {", b"event: message\ndata: {")),
        "other names of events": of(BODY.replace(b"data: {", b"event: completion.chunk\ndata: {")),
        "ids and retry": of(b"retry: 10\n\n" + BODY.replace(b"data: {", b"id: 7\ndata: {")),
        "fields that nobody knows": of(BODY.replace(b"data: {", b"foo: bar\ndatum: x\ndata\x00: y\ndata: {"), unsniffed),
        "JSON over many lines": of(pretty + DONE),
        "many empty lines": of(b"\n" * 100 + BODY.replace(b"\n\n", b"\n" * 50), unsniffed),
        "no end of the last line": of(BODY.rstrip(b"\n")),
        "no empty line at the end": of(BODY[:-1]),
        "spaces after [DONE]": of(BODY.replace(b"[DONE]", b"[DONE]  ")),
        "empty data": of(b"data:\n\ndata\n\ndata: \n\n" + BODY),
        "an event without data": of(b"event: ping\n\n" + BODY),
        "a ping that is JSON": of(b'event: ping\ndata: {"type": "ping"}\n\n' + BODY),
        "two events without a line between": of(BODY.replace(b"\n\n", b"\n", 1), UNREADABLE),
        "capital letters": of(BODY.replace(b"data:", b"DATA:"), {INVALID, TRUNCATED, UNREADABLE}),
        "a space before the colon": of(BODY.replace(b"data:", b"data :"), {INVALID, TRUNCATED, UNREADABLE}),
        "JSON lines without data": of(b"".join(one + b"\n" for one in data), UNREADABLE),
        "a line of 900 KB": stream(ROLE, says("yes"), chunk({"padding": "x" * 900_000}), STOP),
        "a line of more than 1 MiB": stream(Y, chunk({"padding": MORE_THAN_AN_EVENT.decode()}), STOP, outcome=TOO_LARGE),
        "a comment of more than 1 MiB": of(b":" + 2 * MORE_THAN_AN_EVENT + b"\n\n" + BODY, TOO_LARGE if form.stream else GOOD),
        "an event of more than 1 MiB": of(b"data: xxxxxxxxxx\n" * 110_000 + b"\n" + BODY, TOO_LARGE),
        "an endless line": case([READ, HEAD, for_ever(piece(b"x" * 65536))], TOO_LARGE),
        "an endless line of data": case([READ, HEAD, piece(b"data: "), for_ever(piece(b"x" * 65536))], TOO_LARGE),
        "an endless line after a good answer": case([READ, HEAD + piece(BODY[: -len(DONE)]), for_ever(piece(b"x" * 65536))], {TOO_LARGE, GOOD}),
        "endless comments": case([READ, HEAD, for_ever(piece(b": ping\n\n" * 20_000))], TOO_LARGE, limits=SLOW, heavy=True),
        "endless empty lines": case([READ, HEAD, for_ever(piece(b"\n" * 65536))], TOO_LARGE, limits=SLOW, heavy=True),
        "endless lines of empty data": case([READ, HEAD, for_ever(piece(b"data:\n" * 20_000))], TOO_LARGE, limits=SLOW, heavy=True),
        "endless names": case([READ, HEAD, for_ever(piece(b"event: x\n" * 20_000))], TOO_LARGE, limits=SLOW, heavy=True),
    }  # fmt: skip


def ending(form: Form) -> dict[str, Case]:
    """When a stream is whole, and when it only stops."""
    late = GOOD if form.stream else LATE  # a plain answer is judged when it has ended
    half = sse(ROLE, Y, ES, end=b"")
    ended = sse(ROLE, Y, ES, STOP, end=b"")
    used = sse(ROLE, Y, ES, STOP, USAGE, end=b"")
    return {
        "finish_reason and no [DONE]": of(ended, charged=False),
        "usage and no [DONE]": of(used, charged=True),
        "[DONE] and no finish_reason": of(half + DONE, charged=False),
        "neither": of(half, TRUNCATED),
        "a role and no more": of(sse(ROLE, end=b""), TRUNCATED),
        "nothing": case(HEAD + END_OF_CHUNKS, TRUNCATED if form.stream else UNREADABLE),
        "comments alone": of(b": ping\n\n" * 3, TRUNCATED),
        "[DONE] alone": of(DONE, INVALID),
        "usage alone": stream(USAGE, outcome=INVALID, charged=True),
        "a finish_reason alone": stream(STOP, outcome=EMPTY),
        "no content": stream(ROLE, STOP, USAGE, outcome=EMPTY, charged=True),
        "empty content": stream(says(""), says(""), STOP, outcome=EMPTY),
        "null content": stream(says(None), STOP, outcome=EMPTY),
        "filtered": stream(says(""), ends("content_filter"), USAGE, outcome=FILTERED, charged=True),
        "only reasoning": stream(chunk({"reasoning_content": "hm"}), ends("length"), USAGE, outcome=EMPTY, charged=True),
        "events after [DONE]": of(BODY + sse(says("EVIL"))),
        "garbage after [DONE]": of(BODY + b"\x00\xff garbage"),
        "a second stream after [DONE]": of(BODY + BODY),
        "an error after [DONE]": of(BODY + b'data: {"error": "no"}\n\n'),
        "content after finish_reason": stream(Y, STOP, ES),
        "finish_reason twice": stream(Y, ES, STOP, STOP),
        "finish_reason on the last content": stream(Y, chunk({"content": "es"}, finish_reason="stop")),
        "finish_reason null to the end": stream(chunk({"content": "yes"}, finish_reason=None), end=b"", outcome=TRUNCATED),
        "finish_reason empty": stream(says("yes"), ends(""), end=b"", outcome=TRUNCATED),
        "one of two choices ends": stream(says("yes"), {"choices": [{"index": 1, "delta": {"content": "no"}}]}, STOP, end=b"", outcome=TRUNCATED),
        "closed after a third": case([READ, HEAD + piece(half), CLOSE], TRUNCATED),
        "reset after a third": case([READ, HEAD + piece(half), 0.2, RESET], {TRUNCATED}),
        "closed inside an event": case([READ, HEAD + piece(half + b'data: {"choi'), CLOSE], TRUNCATED),
        "closed inside a letter": case([READ, HEAD + piece(half + 'data: {"choices": [{"delta": {"content": "é'.encode()[:-1]), CLOSE], TRUNCATED),
        "closed after finish_reason": case([READ, HEAD + piece(ended), CLOSE], form.whole),
        "reset after finish_reason": case([READ, HEAD + piece(ended), 0.2, RESET], form.whole),
        "a bad chunk after finish_reason": case([READ, HEAD + piece(ended), 0.05, b"zz\r\n", CLOSE], form.whole, limits=IDLE),
        "closed after [DONE]": case([READ, HEAD + piece(BODY), CLOSE], form.whole, charged=form.stream),
        "reset after [DONE]": case([READ, HEAD + piece(BODY), 0.2, RESET], form.whole, charged=form.stream),
        "a bad chunk after [DONE]": case([READ, HEAD + piece(BODY), 0.05, b"zz\r\n", CLOSE], form.whole, limits=IDLE, charged=form.stream),
        "silence before the first event": case([READ, HEAD, 2], LATE, limits=IDLE),
        "silence after a third": case([READ, HEAD + piece(half), 2], LATE, limits=IDLE),
        "silence after finish_reason": case([READ, HEAD + piece(ended), 2], late, limits=IDLE, charged=False),
        "silence after usage": case([READ, HEAD + piece(used), 2], late, limits=IDLE, charged=form.stream),
        "silence after [DONE]": case([READ, HEAD + piece(BODY), 2], late, limits=IDLE, charged=form.stream),
        "comments for ever": case([READ, HEAD, for_ever(piece(b": ping\n\n"), 0.02)], LATE, limits=ATTEMPT),
        "comments for ever after a third": case([READ, HEAD + piece(half), for_ever(piece(b": ping\n\n"), 0.02)], LATE, limits=ATTEMPT),
        "comments for ever after finish_reason": case([READ, HEAD + piece(ended), for_ever(piece(b": ping\n\n"), 0.02)], late, limits=ATTEMPT),
        "empty events for ever": case([READ, HEAD, for_ever(piece(sse(ROLE, end=b"")), 0.02)], LATE, limits=ATTEMPT),
        "words for ever": case([READ, HEAD, for_ever(piece(sse(Y, end=b"")), 0.02)], LATE, limits=ATTEMPT),
        "words for ever, at once": case([READ, HEAD, for_ever(piece(sse(says("y" * 4000), end=b"") * 16))], TOO_LARGE, limits=SLOW, heavy=True),
        "role after role": case([READ, HEAD, for_ever(piece(sse(ROLE, end=b"") * 500))], TOO_LARGE, limits=SLOW, heavy=True),
        "one JSON object": case(http(ANSWER, content_type="application/json"), GOOD, charged=True),
        "one JSON object that calls itself a stream": case(http(ANSWER, content_type="text/event-stream"), GOOD),
        "one JSON object with an error": case(http({"error": {"code": 429}}), LIMITED),
        "a stream that calls itself JSON": case(http(BODY, content_type="application/json"), GOOD),
        "a stream that calls itself text": case(http(BODY, content_type="text/plain"), GOOD),
        "a page of HTML": case(http("<html><h1>Welcome</h1></html>", content_type="text/html"), UNREADABLE),
        "words": case(http("upstream connect error", content_type="text/plain"), {UNREADABLE, TRUNCATED, INVALID}),
        "one answer as one event": of(b"data: %s\n\n" % json.dumps(ANSWER).encode() + DONE),
    }  # fmt: skip


def errors(form: Form) -> dict[str, Case]:
    """An error in an event, at the beginning, in the middle, at the end, in every shape."""

    def inside(error: Any, outcome: Outcome, *before: Any, **more: Any) -> Case:
        return stream(*before, {"error": error}, outcome=outcome, **more)

    boom = {"message": "boom", "type": "internal", "code": None}
    return {
        "an object": inside(boom, SERVER_ERROR),
        "a text": inside("boom", SERVER_ERROR),
        "a list": inside(["boom"], SERVER_ERROR),
        "true": stream({"error": True}, outcome=SERVER_ERROR),
        "a number": inside(7, SERVER_ERROR),
        "null": stream(ROLE, {"error": None}, says("yes"), STOP),
        "empty": stream(ROLE, {"error": {}}, says("yes"), STOP),
        "429": inside({"code": 429}, LIMITED),
        "429 as text": inside({"code": "429", "message": "slow"}, LIMITED),
        "503": inside({"code": 503}, OVERLOADED),
        "400": inside({"code": 400}, REFUSED),
        "502": inside({"code": 502}, SERVER_ERROR),
        "200": inside({"code": 200, "message": "well"}, SERVER_ERROR),
        "the account": inside({"code": "insufficient_quota"}, BILL),
        "the filter": inside({"code": "content_filter"}, FILTERED),
        "the context": inside({"code": "context_length_exceeded"}, (REFUSED[0], "context_length_exceeded")),
        "after a role": inside(boom, SERVER_ERROR, ROLE),
        "after words": inside(boom, SERVER_ERROR, Y, ES),
        "after words, without [DONE]": inside(boom, SERVER_ERROR, Y, ES, end=b""),
        "after words, then silence": case([READ, HEAD + piece(sse(Y, {"error": boom}, end=b"")), 2], SERVER_ERROR if form.stream else LATE, limits=IDLE),
        "after finish_reason": inside(boom, SERVER_ERROR, Y, ES, STOP),
        "before words": stream({"error": boom}, Y, ES, STOP, outcome=SERVER_ERROR),
        "with usage before": inside(boom, SERVER_ERROR, Y, USAGE, charged=True),
        "with usage beside": stream({"error": boom, "usage": USAGE["usage"]}, outcome=SERVER_ERROR, charged=True),
        "beside a choice": stream({**Y, "error": boom}, STOP, outcome=SERVER_ERROR),
        "named by the event": of(sse(b'event: error\ndata: {"error": {"message": "boom"}}\n\n'), SERVER_ERROR),
        "finish_reason says so": stream(Y, ends("error"), outcome={GOOD, SERVER_ERROR}, content=None),
        "two of them": stream({"error": {"code": 429}}, {"error": boom}, outcome=LIMITED),
        "of 500 KB": inside({"message": "x" * 500_000}, SERVER_ERROR),
        "with an escape sequence": inside({"message": "\x1b[2J\r\n"}, SERVER_ERROR),
    }  # fmt: skip


def chunks(_: Form) -> dict[str, Case]:
    """What an event may hold."""
    raw = b"data: %s\n\n"

    def odd(data: bytes, outcome: Outcome | set[Outcome]) -> Case:
        return of(sse(ROLE, raw % data, Y, ES, STOP), outcome)

    def index(value: Any) -> dict[str, Any]:
        return {"choices": [{"index": value, "delta": {"content": "yes"}, "finish_reason": "stop"}]}

    return {
        # not JSON
        "half a JSON": odd(b'{"choices": [', UNREADABLE),
        "words": odd(b"hello", UNREADABLE),
        "HTML": odd(b"<html></html>", UNREADABLE),
        "NUL": odd(b"\x00", UNREADABLE),
        "two objects": odd(b"{}{}", UNREADABLE),
        "5,000 lists deep": odd(b"[" * 5000 + b"]" * 5000, {UNREADABLE, INVALID}),
        "100,000 objects deep": odd(b'{"choices":' * 50_000 + b"1" + b"}" * 50_000, UNREADABLE),
        "a number of 100,000 digits": odd(b'{"usage": ' + b"9" * 100_000 + b"}", UNREADABLE),
        # JSON that only a lenient reader takes
        "NaN": odd(b'{"choices": [], "x": NaN}', GOOD),
        "half a surrogate pair": odd(b'{"choices": [{"delta": {"role": "\\ud800"}}]}', GOOD),
        "broken UTF-8": odd(b'{"choices": [{"delta": {"role": "\xff"}}]}', GOOD),
        "keys twice": of(sse(raw % b'{"choices": [], "choices": [{"delta": {"content": "yes"}}]}', STOP)),
        "keys that nobody knows": stream(ROLE, {"x": [1], "choices": [{"index": 0, "y": {}, "delta": {"z": 1}}]}, Y, ES, STOP),
        # JSON of another kind
        "a list": odd(b"[]", {INVALID, UNREADABLE}),
        "null": odd(b"null", {INVALID, UNREADABLE, GOOD}),
        "a text": odd(b'"hello"', {INVALID, UNREADABLE}),
        "a number": odd(b"7", {INVALID, UNREADABLE}),
        "an empty object": odd(b"{}", GOOD),
        "no choices": stream({"id": "x"}, Y, ES, STOP),
        "choices null": stream({"choices": None}, Y, ES, STOP),
        "choices empty": stream({"choices": []}, Y, ES, STOP),
        "choices a text": stream({"choices": "yes"}, Y, ES, STOP, outcome=INVALID),
        "choices an object": stream({"choices": {}}, Y, ES, STOP, outcome=INVALID),
        "a choice null": stream({"choices": [None]}, Y, ES, STOP, outcome=INVALID),
        "a choice a text": stream({"choices": ["x"]}, Y, ES, STOP, outcome=INVALID),
        "a choice empty": stream({"choices": [{}]}, Y, ES, STOP),
        "no delta": stream({"choices": [{"index": 0}]}, Y, ES, STOP),
        "delta null": stream({"choices": [{"index": 0, "delta": None}]}, Y, ES, STOP),
        "delta a text": stream(chunk("yes"), STOP, outcome=INVALID),
        "delta a list": stream(chunk([]), Y, ES, STOP, outcome=INVALID),
        "content a number": stream(says(7), Y, ES, STOP, outcome={INVALID, GOOD}),
        "content an object": stream(says({"text": "x"}), STOP, outcome={INVALID, EMPTY}),
        "content parts": stream(says([{"type": "text", "text": "yes"}]), STOP, outcome={GOOD, INVALID, EMPTY}),
        "message instead of delta": stream({"choices": [{"message": {"content": "yes"}, "finish_reason": "stop"}]}),
        "text instead of delta": stream({"choices": [{"text": "yes", "finish_reason": "stop"}]}),
        # places
        "no index": stream({"choices": [{"delta": {"content": "yes"}, "finish_reason": "stop"}]}),
        "an index of null": stream(index(None), outcome={GOOD, INVALID}),
        "an index as text": stream(index("0"), outcome={GOOD, INVALID}),
        "an index as float": stream(index(0.0), outcome={GOOD, INVALID}),
        "an index of -1": stream(index(-1), outcome={GOOD, INVALID}),
        "an index of 7 alone": stream(index(7), outcome={GOOD, INVALID}),
        "an index of 10^9": stream(Y, index(10**9), content="y"),
        "an index of 10^60": stream(Y, index(10**60), content=None),
        "an index that is a list": stream(Y, index([]), outcome={GOOD, INVALID}, content=None),
        "10,000 choices": stream(*[{"choices": [{"index": at, "delta": {"content": "x"}} for at in range(at, at + 100)]} for at in range(0, 10_000, 100)], content="x"),
        "two choices in turn": stream(Y, {"choices": [{"index": 1, "delta": {"content": "no"}}]}, ES, STOP, {"choices": [{"index": 1, "delta": {}, "finish_reason": "stop"}]}),
        "two choices at once": stream({"choices": [{"index": 1, "delta": {"content": "no"}, "finish_reason": "stop"}, {"index": 0, "delta": {"content": "yes"}, "finish_reason": "stop"}]}),
        # tools
        "a tool call in pieces": stream(chunk({"tool_calls": [CALL]}), chunk({"tool_calls": [FRAGMENT]}), ends("tool_calls"), content=None),
        "a tool call of 10^9": stream(chunk({"tool_calls": [{**CALL, "index": 10**9}]}), ends("tool_calls"), outcome={GOOD, INVALID, EMPTY}, content=None),
        "a tool call of -1": stream(chunk({"tool_calls": [{**CALL, "index": -1}]}), ends("tool_calls"), outcome={GOOD, INVALID, EMPTY}, content=None),
        "a tool call without a place": stream(chunk({"tool_calls": [{**CALL, "index": None}]}), ends("tool_calls"), outcome={GOOD, INVALID, EMPTY}, content=None),
        "a tool call that is null": stream(chunk({"tool_calls": [None]}), Y, ES, STOP, outcome={GOOD, INVALID}),
        "tool calls that are a text": stream(chunk({"tool_calls": "f()"}), Y, ES, STOP, outcome={GOOD, INVALID}),
        "a function that is a list": stream(chunk({"tool_calls": [{"index": 0, "function": []}]}), Y, ES, STOP, outcome={GOOD, INVALID}),
        "arguments that are an object": stream(chunk({"tool_calls": [{**CALL, "function": {"name": "f", "arguments": {}}}]}), ends("tool_calls"), outcome={GOOD, INVALID, EMPTY}, content=None),
        "arguments that are a number": stream(chunk({"tool_calls": [{**CALL, "function": {"name": 7, "arguments": 7}}]}), ends("tool_calls"), outcome={GOOD, INVALID, EMPTY}, content=None),
        "10,000 tool calls": stream(*[chunk({"tool_calls": [{**CALL, "index": at} for at in range(at, at + 100)]}) for at in range(0, 10_000, 100)], ends("tool_calls"), outcome={GOOD, INVALID, TOO_LARGE}, content=None),
        # the rest is no reason to pay twice
        "reasoning": stream(chunk({"reasoning_content": "hm"}), Y, ES, STOP),
        "reasoning, as others call it": stream(chunk({"reasoning": "hm"}), Y, ES, STOP),
        "reasoning that is a list": stream(chunk({"reasoning_content": [1]}), Y, ES, STOP),
        "a refusal": stream(chunk({"refusal": "no"}), STOP, content=None),
        "a refusal that is a number": stream(chunk({"refusal": 7}), Y, ES, STOP),
        "a role that is a number": stream(chunk({"role": 7}), Y, ES, STOP),
        "a finish_reason that is a number": stream(Y, ES, ends(7)),
        "a finish_reason that is an object": stream(Y, ES, ends({"x": 1})),
        "a finish_reason of 100 KB": stream(Y, ES, ends("x" * 100_000)),
        "an id that is a list": stream({**Y, "id": [1], "model": {}, "created": "x"}, ES, STOP),
        "logprobs": stream(chunk({"content": "yes"}, logprobs={"content": [{"token": "yes", "logprob": -0.1}]}), STOP),
        "logprobs that are a number": stream(chunk({"content": "yes"}, logprobs=7), STOP),
        "logprobs that are lists": stream(chunk({"content": "yes"}, logprobs={"content": [[], None]}), chunk(logprobs=[1]), STOP),
        "perf_metrics that are a list": stream(Y, ES, {**STOP, "perf_metrics": [1]}),
        "half a surrogate pair in the text": of(sse(raw % b'{"choices": [{"delta": {"content": "\\ud83d"}}]}', raw % b'{"choices": [{"delta": {"content": "\\ude00"}}]}', STOP), content=None),
        "NUL in the text": stream(says("y\x00es"), STOP, content="y\x00es"),
        "line separators in the text": of(sse(*["data: {}\n\n".format(json.dumps(says("y\u2028\u2029\x85es"), ensure_ascii=False)).encode(), STOP]), content="y\u2028\u2029\x85es"),
    }  # fmt: skip


def usage(form: Form) -> dict[str, Case]:
    """Where a stream states what it used, and what cannot be."""
    stated = USAGE["usage"]
    wrong: dict[str, Any] = {
        "null": None, "a list": [1], "a text": "7", "a number": 7, "empty": {}, "negative": {"prompt_tokens": -7, "completion_tokens": -1},
        "10^60": {"prompt_tokens": 10**60, "completion_tokens": 10**60}, "true": {"prompt_tokens": True}, "lists": {"prompt_tokens": [7]},
    }  # fmt: skip
    return {
        "in a chunk without choices": stream(Y, ES, STOP, USAGE, charged=True),
        "with finish_reason": stream(Y, ES, {**STOP, "usage": stated}, charged=True),
        "in a chunk with a choice": stream(Y, ES, STOP, {**chunk(), "usage": stated}, charged=True),
        "in a chunk whose choices are null": stream(Y, ES, STOP, {"choices": None, "usage": stated}, charged=True),
        "in a chunk that has no choices": stream(Y, ES, STOP, {"usage": stated}, charged=True),
        "on every chunk": stream(*({**one, "usage": stated} for one in (ROLE, Y, ES, STOP)), charged=True),
        "at the beginning": stream({**ROLE, "usage": stated}, Y, ES, STOP, charged=True),
        "null on every chunk but one": stream(*({**one, "usage": None} for one in (ROLE, Y, ES)), {**STOP, "usage": stated}, charged=True),
        "stated, then null": stream({**Y, "usage": stated}, {**ES, "usage": None}, {**STOP, "usage": None}, charged=True),
        "never": stream(Y, ES, STOP, charged=False),
        "with words, then closed": case([READ, HEAD + piece(sse({**Y, "usage": stated}, end=b"")), CLOSE], TRUNCATED, charged=form.stream),
        "with words that break off": stream({**Y, "usage": stated}, end=b"", outcome=TRUNCATED, charged=True),
        **{name: stream(Y, ES, STOP, {"choices": [], "usage": value}, charged=False) for name, value in wrong.items()},
    }  # fmt: skip


def behaviours(form: Form) -> dict[str, Case]:
    """All of them, by chapter and name."""
    chapters: list[Callable[[Form], dict[str, Case]]] = [lines, ending, errors, chunks, usage]
    return {f"{chapter.__name__}: {name}": one for chapter in chapters for name, one in chapter(form).items()}
