"""Generated answers: valid ones, damaged by rules, from kept seeds. Whatever comes, the outcome is classified."""

from __future__ import annotations

import asyncio
import copy
import json
import random
import time
from itertools import pairwise
from typing import Any, get_args

import engines
import pytest
from asking import endpoint, outcome, request
from catalogue_sse import CALL, FRAGMENT, chunk, ends, says
from peers import ANSWER, CLOSE, END_OF_CHUNKS, READ, RESET, STREAMED, chunked, http, peer, sse

from batchrun.endpoint.answer import Answer
from batchrun.endpoint.refusal import error_of
from batchrun.endpoint.stream import Stream
from batchrun.endpoint.wire import completion_of
from batchrun.engine.attempts import Row
from batchrun.engine.money import NOTHING, Money
from batchrun.engine.records import record_of
from batchrun.errors import EndpointError
from batchrun.store.schema import FAILURES, RESULTS, to_batch
from batchrun.types import Completion, ErrorType

KNOWN = set(get_args(ErrorType)) - {"input_invalid"}

BODIES: list[Any] = [
    ANSWER,
    {**ANSWER, "choices": ANSWER["choices"] * 2},
    {**ANSWER, "perf_metrics": {"server-time-to-first-token": "0.1", "cached-prompt-tokens": 3}},
    {
        "choices": [
            {
                "message": {
                    "content": None,
                    "reasoning_content": "hm",
                    "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
                },
                "finish_reason": "tool_calls",
                "logprobs": {"content": [{"token": "a", "logprob": -0.1, "top_logprobs": []}]},
            }
        ],
        "usage": {
            "prompt_tokens": 7,
            "completion_tokens": 3,
            "total_tokens": 10,
            "prompt_tokens_details": {"cached_tokens": 2},
            "completion_tokens_details": {"reasoning_tokens": 1},
        },
    },
    {"error": {"message": "boom", "code": "internal", "type": "error", "param": None}},
    {"error": "Too Many Requests", "message": "slow down"},
    {"detail": [{"loc": ["body", "messages", 0], "msg": "wrong", "type": "enum"}]},
    {"code": 5, "message": "not found", "details": []},
]
STREAMS: list[list[Any]] = [
    STREAMED,
    [says("yes"), {**ends(), "usage": ANSWER["usage"]}],
    [
        chunk({"reasoning_content": "hm"}),
        says("yes"),
        {**ends("length"), "perf_metrics": {"server-processing-time": 1}},
    ],
    [chunk({"tool_calls": [CALL]}), chunk({"tool_calls": [FRAGMENT]}), ends("tool_calls")],
    [says("y"), {"choices": [{"index": 1, "delta": {"content": "no"}, "finish_reason": "stop"}]}, says("es"), ends()],
    [chunk({"content": "yes"}, logprobs={"content": [{"token": "yes", "logprob": -0.1}]}), ends()],
    [says("y"), {"error": {"message": "boom", "code": 500}}],
]
VALUES: list[Any] = [
    *(None, True, False, 0, -1, 7, 1.5, -0.0, 1e308, 2**63, 2**64, -(2**63) - 1, 10**40, 429, "429", "content_filter"),
    *(
        "",
        " ",
        "yes",
        "\x00",
        "\x1b[2J",
        "\ud800",
        "\udfff\ud800",
        "\u2028",
        "x" * 5000,
        "insufficient_quota",
        "length",
    ),
    *([], {}, [[]], [None], [{}], {"": {}}, {"a": [1, {"b": None}]}, [["x"] * 50] * 3, {"error": {"error": {}}}),
    *(float("nan"), float("inf"), -float("inf")),
]
SPELLINGS: list[tuple[bytes, bytes]] = [
    *((b"\n\n", b"\n\n: ping\n\n"), (b"data: ", b"event: message\nid: 7\ndata: "), (b"data: ", b"data:")),
    *((b", ", b",\ndata: "), (b"\n", b"\r\n"), (b"\n", b"\r"), (b"data: {", b"\xef\xbb\xbfdata: {")),
]
HEADERS: list[tuple[str, str]] = [
    *(
        ("retry-after", value)
        for value in ("1", "-1", "nan", "1e300", "soon", "Sun, 22 Nov 2026 12:00:00 GMT", ",", "")
    ),
    *(("retry-after-ms", value) for value in ("1", "x", "")),
    *(("date", value) for value in ("Sun, 22 Nov 2026 12:00:00 GMT", "0", "Mon, 99 Xxx 0 0:0:0")),
    *(("content-encoding", value) for value in ("identity", "gzip", "deflate", "br", "")),
    *(("fireworks-cached-prompt-tokens", value) for value in ("1", "1e300", "-1", "x")),
    ("x-request-id", "r" * 3000),
    ("location", "http://elsewhere.example/"),
]
STATUSES = [200] * 12 + [201, 204, 301, 400, 401, 402, 403, 404, 408, 409, 412, 422, 429, 500, 502, 503, 520, 599, 999]


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every container with a key of it, over the whole tree."""
    found: list[tuple[Any, Any]] = []
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            found += [(value, key), *places(value[key])]
    return found


def damaged_value(rng: random.Random, bodies: list[Any]) -> Any:
    """One of the bodies with some of its parts replaced, removed, doubled or moved."""
    body = copy.deepcopy(rng.choice(bodies))
    for _ in range(rng.choice([0, 1, 1, 1, 2, 3])):
        here = places(body)
        if not here:
            break
        holder, key = rng.choice(here)
        act = rng.randrange(5)
        if act == 0:
            del holder[key]
        elif act == 1:
            other, at = rng.choice(here)
            holder[key] = copy.deepcopy(other[at])
        elif act == 2 and isinstance(holder, list):
            holder.extend([copy.deepcopy(holder[key])] * rng.choice([1, 2, 50]))
        else:
            holder[key] = copy.deepcopy(rng.choice(VALUES))
    return body


def damaged_bytes(data: bytes, rng: random.Random, times: int) -> bytes:
    """Bytes with some flipped, cut out, doubled or put in."""
    grown = bytearray(data)
    for _ in range(times):
        at = rng.randrange(len(grown) + 1)
        to = min(len(grown), at + rng.choice([1, 1, 2, 10, 100]))
        act = rng.randrange(5)
        if act == 0 and at < len(grown):
            grown[at] ^= 1 << rng.randrange(8)
        elif act == 1:
            del grown[at:to]
        elif act == 2:
            grown[at:at] = grown[at:to] * rng.choice([1, 2, 20])
        elif act == 3:
            grown[at:at] = rng.choice(
                [b"\x00", b"\xff", b"\r\n", b"\n\n", b'"', b"{", b"[" * 2000, b"NaN", b"\\ud800", b"1e999"]
            )
        else:
            del grown[at:]
    return bytes(grown)


def generated(rng: random.Random) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of one answer."""
    value = damaged_value(rng, BODIES[:4] if rng.random() < 0.8 else BODIES[4:])
    body = json.dumps(value, ensure_ascii=rng.random() < 0.5).encode("utf-8", "surrogatepass")
    body = damaged_bytes(body, rng, rng.choice([0, 0, 1, 2, 5]))
    return rng.choice(STATUSES), dict(rng.sample(HEADERS, rng.choice([0, 0, 1, 2]))), body


def generated_stream(rng: random.Random) -> bytes:
    """The body of one stream: its events damaged, lost, doubled or moved, in any spelling, and damaged as bytes."""
    events = damaged_value(rng, STREAMS)
    body = sse(*(events if isinstance(events, list) else [events]), end=rng.choice([b"", *[b"data: [DONE]\n\n"] * 4]))
    for old, new in SPELLINGS:
        if rng.random() < 0.1:
            body = body.replace(old, new)
    return damaged_bytes(body, rng, rng.choice([0, 0, 0, 1, 2, 5]))


def check(result: Completion | EndpointError) -> None:
    """The outcome is of a known kind and becomes a row of a table; nothing raw is in its message."""
    row = Row(request=engines.request(0), lane=None, turn=None, taken_at=0.0, queued_s=0.0)
    nano_usd = Money(None, lambda model: engines.PRICE).settle(NOTHING, row.request, result.usage, charged=True)
    row.cost_usd = None if nano_usd is None else nano_usd / 1e9
    record = record_of(row, result, keep_response=True)
    assert record.cost_usd is None or record.cost_usd >= 0
    if isinstance(result, Completion):
        assert result.content or result.tool_calls or result.refusal
        assert to_batch([record], RESULTS).num_rows == 1
        return
    assert result.error_type in KNOWN
    assert result.message.isprintable()
    assert len(result.message) < 1000
    assert result.retry_after_s is None or result.retry_after_s >= 0
    assert to_batch([record], FAILURES).num_rows == 1


def judge_all(seed: int, count: int) -> int:
    """Judge so many generated answers; how many of them were completions."""
    rng = random.Random(seed)
    completions = 0
    for _ in range(count):
        status, headers, body = generated(rng)
        answer = Answer(status=status, headers=headers, content=body, latency_s=0.1)
        try:
            result: Completion | EndpointError = completion_of(answer) if status < 300 else error_of(answer, "http://x")
        except EndpointError as error:
            result = error
        check(result)
        completions += isinstance(result, Completion)
    return completions


@pytest.mark.parametrize("seed", range(2))
def test_generated_answers_are_classified(seed):
    """Five hundred in all: no other exception, no row that a table cannot hold; some are good, most are not."""
    assert 25 < judge_all(seed, 250) < 200


@pytest.mark.rig
@pytest.mark.parametrize("seed", range(100, 120))
def test_many_generated_answers_are_classified(seed):
    """Twenty thousand in all."""
    began = time.monotonic()
    judge_all(seed, 1000)
    assert time.monotonic() - began < 60


def judge_stream(body: bytes, pieces: list[bytes]) -> Completion | EndpointError:
    """What a stream is taken for that comes in these pieces."""
    answer = Answer(status=200, headers={}, content=body, latency_s=0.1)
    stream = Stream(request(stream=True), sent_at=0.0)
    try:
        for piece in pieces:
            stream.feed(piece, 0.05)
        return stream.completion(answer)
    except EndpointError as error:
        return error


def cut_up(body: bytes, rng: random.Random) -> list[bytes]:
    """The same bytes in pieces."""
    cuts = {rng.randrange(1, len(body) + 1) for _ in range(rng.choice([1, 3, 10, len(body)]) if body else 0)}
    ends_at = sorted(cuts | {0, len(body)})
    return [body[start:end] for start, end in pairwise(ends_at)]


def said(result: Completion | EndpointError) -> tuple[Any, ...]:
    """All of an outcome that does not depend on time."""
    if isinstance(result, EndpointError):
        return type(result), result.error_type, result.error_code, result.message, result.usage
    return result.content, result.reasoning_content, result.tool_calls, result.choices, result.logprobs, result.usage


def judge_streams(seed: int, count: int) -> int:
    """Judge so many generated streams, whole and in pieces; how many of them were completions."""
    rng = random.Random(seed)
    completions = 0
    for _ in range(count):
        body = generated_stream(rng)
        result = judge_stream(body, [body])
        check(result)
        assert said(judge_stream(body, cut_up(body, rng))) == said(result), body
        completions += isinstance(result, Completion)
    return completions


@pytest.mark.parametrize("seed", range(2))
def test_generated_streams_are_classified_however_they_are_cut_up(seed):
    """Four hundred in all: in one piece or in many, what comes out is the same."""
    assert 20 < judge_streams(seed, 200) < 180


@pytest.mark.rig
@pytest.mark.parametrize("seed", range(100, 110))
def test_many_generated_streams_are_classified_however_they_are_cut_up(seed):
    """Ten thousand in all."""
    judge_streams(seed, 1000)


def wire(rng: random.Random) -> list[Any]:
    """A script for one connection: a generated answer, whole or damaged as bytes, in one way or another."""
    status, headers, body = generated(rng)
    if status == 200 and rng.random() < 0.5:
        body = generated_stream(rng)
    named = {name.replace("-", "_"): value for name, value in headers.items()}
    whole = http(body, status, **named)
    if status == 200 and rng.random() < 0.3:
        cut = rng.randrange(len(body) + 1)
        whole = chunked(body[:cut], body[cut:]) + END_OF_CHUNKS
    whole = damaged_bytes(whole, rng, rng.choice([0, 1, 1, 2, 4]))
    cut = rng.randrange(len(whole) + 1)
    return [READ, whole[:cut], whole[cut:], rng.choice([CLOSE, CLOSE, RESET])]


def ask_all(seed: int, count: int) -> list[Completion | EndpointError]:
    """Ask a peer that answers so, one connection each, eight at a time."""
    rng = random.Random(seed)
    scripts = [wire(rng) for _ in range(count)]

    async def main(there):
        async def ask_some():
            return [await outcome(opened, stream=index % 2 == 1) for index in range(count // 8)]

        async with endpoint(there.base_url, idle_s=2, first_byte_s=2) as opened:
            return [result for some in await asyncio.gather(*(ask_some() for _ in range(8))) for result in some]

    with peer(*scripts) as there:
        return asyncio.run(main(there))


def test_generated_bytes_on_the_wire_are_classified():
    """Two hundred connections with damaged HTTP on them."""
    results = ask_all(0, 200)
    assert len(results) == 200
    for result in results:
        check(result)


@pytest.mark.rig
@pytest.mark.parametrize("seed", range(100, 110))
def test_many_generated_bytes_on_the_wire_are_classified(seed):
    """Ten thousand connections in all."""
    results = ask_all(seed, 1000)
    assert len(results) == 1000
    for result in results:
        check(result)
