"""What real servers do, and what each of them taught: eight lessons, each with the outcome that it must have."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import pytest
from asking import ask, endpoint, outcome
from catalogue import BILL, GOOD, LIMITED, REFUSED, SERVER_ERROR, TRUNCATED
from catalogue_sse import HEAD, chunk, ends, piece, says
from commands import at, begun, called, kept, prompts, wait_for
from peers import ANSWER, CLOSE, READ, RESET, STREAMED, http, peer, sse
from servers import simulated

from batchrun import read
from batchrun.types import Completion

if TYPE_CHECKING:
    from batchrun.errors import EndpointError

USAGE = ANSWER["usage"]
OUTAGE_S = 1.0
"""Longer than the longest wait before a first retry, so that every row in work meets nobody."""

GOOD_STREAM = http(sse(*STREAMED), content_type="text/event-stream")


def test_1_connections_that_are_closed_without_a_word_cost_free_retries_only():
    """One server in use closed 45 of 300 kept-alive connections after a stream; the next request met a dead one."""
    script = [READ, GOOD_STREAM, READ, GOOD_STREAM, READ, CLOSE]
    count = 60

    async def main(base_url: str) -> tuple[list[Any], int]:
        async with endpoint(base_url) as opened:
            return [await outcome(opened, stream=True) for _ in range(count)], opened.free_retries

    with peer(*[script] * count) as there:
        results, free_retries = asyncio.run(main(there.base_url))
    assert [getattr(result, "content", result) for result in results] == ["yes"] * count
    assert free_retries > count // 4
    assert len(there.requests) == count + free_retries


def test_2_a_stream_ends_with_its_finish_reason_where_nobody_says_done():
    """Neither `[DONE]` nor an end of the body comes; the answer is whole all the same."""
    unfinished = HEAD + piece(sse(*STREAMED, end=b""))
    with peer([READ, unfinished]) as there:
        done = ask(there.base_url, stream=True, idle_s=0.2)
    assert isinstance(done, Completion), done
    assert (done.content, done.finish_reason, done.usage.total_tokens) == ("yes", "stop", 8)


def test_2_done_after_an_error_is_no_success():
    """Some say `[DONE]` after an error too."""
    with peer([READ, http(sse(says("y"), {"error": {"message": "boom"}})), CLOSE]) as there:
        error = ask(there.base_url, stream=True)
    assert (type(error), error.error_type) == SERVER_ERROR
    assert "boom" in error.message


USAGES = {
    "with no choices": [says("yes"), ends(), {"choices": [], "usage": USAGE}],
    "with a choice": [says("yes"), ends(), {**chunk(), "usage": USAGE}],
    "with the finish_reason": [says("yes"), {**ends(), "usage": USAGE}],
    "on every chunk": [
        {**says("y"), "usage": {"prompt_tokens": 7, "completion_tokens": 0, "total_tokens": 7}},
        {**says("es"), "usage": USAGE},
        {**ends(), "usage": USAGE},
    ],
    "never": [says("yes"), ends()],
}


@pytest.mark.parametrize("where", USAGES)
def test_3_usage_is_found_wherever_a_stream_states_it(where):
    """And is unknown, not zero, where it does not."""
    with peer([READ, http(sse(*USAGES[where])), CLOSE]) as there:
        done = ask(there.base_url, stream=True)
    assert done.content == "yes"
    assert done.finish_reason == "stop"
    assert (done.usage and done.usage.total_tokens) == (None if where == "never" else 8)


WAITS = {
    "renamed by a proxy": (b"HTTP/1.1 429 X\r\nllm_provider-retry-after: 3\r\ncontent-length: 0\r\n\r\n", 3.0),
    "renamed, in milliseconds": (
        b"HTTP/1.1 429 X\r\nllm_provider-retry-after-ms: 1500\r\ncontent-length: 0\r\n\r\n",
        1.5,
    ),
    "a proxy's own, without a wait": (http({"error": {"type": "internal_server_error", "code": "429"}}, 429), None),
    "an empty body": (http("", 429, retry_after="1"), 1.0),
}


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("kind", WAITS)
def test_4_a_429_asks_for_patience_whoever_wrote_it(kind, stream):
    """Whatever its type says, and under whichever name its wait comes."""
    answer, wait_s = WAITS[kind]
    with peer([READ, answer]) as there:
        error = ask(there.base_url, stream=stream)
    assert (type(error), error.error_type) == LIMITED
    assert error.retry_after_s == wait_s


BODIES: dict[str, tuple[Any, str | None]] = {
    "wrapped": ({"error": {"message": "no", "code": "bad", "type": "x"}}, "bad"),
    "wrapped, the code a number": ({"error": {"message": "no", "code": 7}}, "7"),
    "bare": ({"object": "error", "message": "no", "code": 7}, "7"),
    "a text": ({"error": "no"}, None),
    "a text and a message": ({"error": "Sorry", "message": "no"}, None),
    "details": ({"detail": [{"loc": ["body"], "msg": "no"}]}, None),
    "a detail": ({"detail": "no"}, None),
    "HTML": ("<html><body>no</body></html>", None),
    "plain text": ("no", None),
    "nothing": ("", None),
}


@pytest.mark.parametrize("body", BODIES)
def test_5_an_error_body_of_any_shape_is_read(body):
    """Its words are in the message, its code is text; the status decides."""
    text, code = BODIES[body]
    for status, expected in ((400, REFUSED), (402, BILL), (500, SERVER_ERROR)):
        with peer([READ, http(text, status)]) as there:
            error = ask(there.base_url)
        assert (type(error), error.error_type) == expected
        assert error.error_code == code
        assert ("no" in error.message.split(": ", 1)[1]) or body == "nothing"


@pytest.mark.rig
def test_6_an_engine_that_dies_and_comes_back_loses_nothing(tmp_path):
    """In one second: good answers, 500s, a read error, refused connections. The run waits it out."""
    rows = 400
    source = prompts(tmp_path / "in.jsonl", rows)
    good = [READ, http(ANSWER)]
    failing = [*good * 5, READ, http("engine dead", 500), *good * rows]
    breaking = [*good * 5, READ, http(ANSWER)[:-20], RESET]
    with (
        peer(failing, breaking, failing, breaking, good * rows) as there,
        begun("run", source, *at(there.base_url, tmp_path / "out", "-c", 4)) as process,
    ):
        wait_for(lambda: len(there.requests) >= 60, process)
        there.end()
        time.sleep(OUTAGE_S)  # how long nobody is there, not a wait for something to happen
        with peer(good * rows, port=there.port) as again:
            _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    results = read(str(tmp_path / "out")).to_pandas()
    assert len(results) == rows
    assert again.requests
    assert results["attempt_log"].str.contains("cannot connect").any(), "nothing was refused"


@pytest.mark.rig
def test_7_a_healthy_server_that_answers_500_now_and_then_costs_no_row(tmp_path):
    """One request in forty; what was asked again is in the attempt log."""
    source = prompts(tmp_path / "in.jsonl", 120)
    with simulated({"faults": [{"kind": "server_error", "every": 40}]}) as server:
        done = called("run", source, *at(server.base_url, tmp_path / "out"))
    assert done.code == 0, done.err
    assert len(kept(tmp_path / "out")) == 120


@pytest.mark.rig
def test_8_a_server_that_truncates_every_other_stream_is_asked_again(tmp_path):
    """Half a stream is never taken for an answer; the rows are complete in the end, ten of them after a second try."""
    source = prompts(tmp_path / "in.jsonl", 20, words="is the question")
    with simulated({"faults": [{"kind": "truncated", "match": "q[0-9]*[02468] ", "tries": 1}]}) as server:
        done = called("run", source, *at(server.base_url, tmp_path / "out", "--set", "request.stream=always"))
        charged = len(server.ledger())
    assert done.code == 0, done.err
    assert len(kept(tmp_path / "out")) == 20
    assert charged == 30


def test_8_every_other_stream_is_truncated_and_told_apart():
    """At the endpoint: one good, one broken off, in turn."""
    half = HEAD + piece(sse(*STREAMED[:2], end=b""))

    async def main(base_url: str) -> list[Completion | EndpointError]:
        async with endpoint(base_url) as opened:
            return [await outcome(opened, stream=True) for _ in range(10)]

    with peer(*[[READ, GOOD_STREAM, CLOSE], [READ, half, CLOSE]] * 5) as there:
        results = asyncio.run(main(there.base_url))
    assert [(type(result), getattr(result, "error_type", None)) for result in results] == [GOOD, TRUNCATED] * 5
    assert [result.content for result in results[::2]] == ["yes"] * 5
