"""A streamed answer that is cut at any byte is a success only where it says itself that it is whole."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any, NamedTuple

import pytest
from asking import endpoint, outcome
from catalogue_sse import chunk, ends, says
from peers import ANSWER, CLOSE, END_OF_CHUNKS, READ, RESET, STREAMED, peer, sse

from batchrun.errors import Ambiguous
from batchrun.types import Completion

BROKEN = {"connection_failed", "response_truncated", "response_unreadable", "response_invalid"}
ROLE, Y, ES, STOP, USAGE = STREAMED
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
COUNTS = {
    "usual": 1200,
    "without finish_reason": 250,
    "two choices": 320,
    "one choice that ends late": 160,
    "one choice that begins late": 160,
    "a tool call": 220,
}
"""The cuts of an answer in one framing; fewer would be a loss. All three framings together: over 6,000."""


class Answer(NamedTuple):
    """Events, and the last of them without which the answer is not whole; the text of its choices; a request's body."""

    events: list[Any]
    last: bytes
    content: str | None = "yes"
    request: bytes | None = None


def second(**choice: Any) -> dict[str, Any]:
    """An event of the second choice."""
    return {"choices": [{"index": 1, "delta": {}, **choice}]}


CALL = {"index": 0, "id": "1", "type": "function", "function": {"name": "f", "arguments": '{"a'}}
CALL_ENDS = {"index": 0, "function": {"arguments": '": 1}'}}
TWO = b'{"messages": [], "stream": true, "n": 2}'

ANSWERS = {
    "usual": Answer([ROLE, Y, ES, STOP, USAGE], last=json.dumps(STOP).encode()),
    "without finish_reason": Answer([ROLE, Y, ES, USAGE], last=b"data: [DONE]"),
    "two choices": Answer(
        [second(delta={"content": "no"}), Y, ES, STOP, second(finish_reason="stop"), USAGE],
        last=json.dumps(second(finish_reason="stop")).encode(),
        request=TWO,
    ),
    "one choice that ends late": Answer(
        [says("yes"), second(delta={"content": "no"}, finish_reason="stop"), STOP],
        last=json.dumps(STOP).encode(),
        request=TWO,
    ),
    "one choice that begins late": Answer(
        [says("yes"), STOP, second(delta={"content": "no"}, finish_reason="stop")],
        last=json.dumps(second(delta={"content": "no"}, finish_reason="stop")).encode(),
        request=TWO,
    ),
    "a tool call": Answer(
        [chunk({"tool_calls": [CALL]}), chunk({"tool_calls": [CALL_ENDS]}), ends("tool_calls"), USAGE],
        last=json.dumps(ends("tool_calls")).encode(),
        content=None,
    ),
}
FRAMINGS = ["length", "chunks", "until closed"]


def pieces_of(body: bytes, framing: str) -> list[tuple[bytes, bool]]:
    """The bytes on the wire, each piece with whether it belongs to the body."""
    if framing == "length":
        return [(HEAD + b"content-length: %d\r\n\r\n" % len(body), False), (body, True)]
    if framing == "until closed":
        return [(HEAD + b"\r\n", False), (body, True)]
    pieces = [(HEAD + b"transfer-encoding: chunked\r\n\r\n", False)]
    for event in body.splitlines(keepends=True):
        pieces += [(b"%x\r\n" % len(event), False), (event, True), (b"\r\n", False)]
    return [*pieces, (END_OF_CHUNKS, False)]


def delivered(pieces: list[tuple[bytes, bool]], offset: int) -> int:
    """How much of the body so many bytes on the wire hold."""
    held = 0
    for data, is_body in pieces:
        held += min(len(data), max(0, offset)) if is_body else 0
        offset -= len(data)
    return held


def cut_at(answer: Answer, framing: str, end: str, step: int = 1) -> int:
    """Cut an answer at each so many bytes, a connection each, and judge what comes of it; how many cuts there were."""
    body = sse(*answer.events)
    pieces = pieces_of(body, framing)
    wire = b"".join(data for data, _ in pieces)
    offsets = list(range(0, len(wire) + 1, step))

    async def main(base_url: str) -> list[Any]:
        async with endpoint(base_url) as opened:
            results = [await outcome(opened, body=answer.request, stream=True) for _ in offsets]
            assert opened.free_retries == opened.probes == 0
            return results

    with peer(*([READ, wire[:offset], end] for offset in offsets)) as there:
        results = asyncio.run(main(there.base_url))
        assert there.connections == len(offsets)
    whole_at = body.index(answer.last) + len(answer.last)
    for offset, result in zip(offsets, results, strict=True):
        held = delivered(pieces, offset)
        if isinstance(result, Completion):
            assert held >= whole_at, (framing, end, offset, result)
            assert is_all_there(answer, result), (framing, end, offset, result)
        else:  # a reset may take with it what was on its way
            assert (type(result), result.error_type in BROKEN) == (Ambiguous, True), (framing, end, offset, result)
            assert held < whole_at + len(b"\n\n") or end == RESET, (framing, end, offset, result)
    return len(offsets)


def is_all_there(answer: Answer, result: Completion) -> bool:
    """Whether a success has the whole text, all choices, the whole arguments, and the usage as stated or none."""
    calls = json.loads(result.tool_calls or "[]")
    arguments = [call["function"]["arguments"] for call in calls]
    choices = json.loads(result.choices or "[0]")
    stated = {ANSWER["usage"]["total_tokens"], None}
    return (
        result.content == answer.content
        and arguments == ([] if answer.content else ['{"a": 1}'])
        and len(choices) == (2 if answer.request else 1)
        and (result.usage and result.usage.total_tokens) in stated
    )


@pytest.mark.parametrize("end", [CLOSE, RESET])
@pytest.mark.parametrize("framing", ["chunks", "until closed"])
def test_a_stream_that_is_cut_is_a_success_only_where_it_is_whole(framing, end):
    """The short form: every fourteenth byte of one answer."""
    assert cut_at(ANSWERS["usual"], framing, end, step=14) > 40


@pytest.mark.rig
@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("name", ANSWERS)
def test_a_stream_that_is_cut_at_any_byte_is_a_success_only_where_it_is_whole(name, framing):
    """Closed and reset; the usual answer at every byte, the others at every fourth."""
    step = 1 if name == "usual" else 4
    count = sum(cut_at(ANSWERS[name], framing, end, step) for end in (CLOSE, RESET))
    sys.stdout.write(f"{name}, {framing}: {count} cuts\n")
    assert count >= COUNTS[name]
