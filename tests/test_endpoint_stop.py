"""When a stream is closed early, what is kept of it, and that nothing after it is generated."""

from __future__ import annotations

import json

import pytest
from asking import ask, request
from hypothesis import given, settings
from hypothesis import strategies as st
from peers import READ, chunked, for_ever, http, peer
from servers import simulated

from batchrun.config import StopStreamConfig
from batchrun.endpoint.stop import LOOP_CHARS, MATCH_CHARS, Stop
from batchrun.endpoint.stream import Stream
from batchrun.types import Completion


def struck_after(pieces: list[str], *, reasoning: bool = False, **rules) -> int | None:
    """After how many pieces a stream with these rules is closed; None if never."""
    stop = Stop(StopStreamConfig(**rules))
    for number, piece in enumerate(pieces, 1):
        if stop.strikes("" if reasoning else piece, piece if reasoning else ""):
            return number
    return None


@pytest.mark.parametrize(
    ("rules", "pieces", "after"),
    [
        ({"pattern": "END"}, ["a", "EN", "D.", "b"], 3),
        ({"pattern": r"\bno\b"}, ["know ", "no", " more"], 2),
        ({"pattern": "(?i)end"}, ["The eNd"], 1),
        ({"pattern": "x{3}"}, ["x", "x", "y", "xx"], None),
        ({"pattern": "^a.c"}, ["ab", "c"], 2),
        ({"max_chars": 5}, ["abc", "de", "f"], 2),
        ({"max_chars": 5}, ["abcdefgh"], 1),
        ({"max_chars": 5}, ["äöüß"], None),
        ({"json_complete": True}, ['Sure: {"a": [1, {"b": "}"', "}]", "} Anything", " else?"], 3),
        ({"json_complete": True}, ['["\\"]', '"', "]"], 3),
        ({"json_complete": True}, ["no } json ]"], None),
        ({"json_complete": True, "max_chars": 3}, ["abc"], 1),
    ],
)
def test_a_rule_strikes_where_it_should(rules, pieces, after):
    """Across the borders of pieces, and not before."""
    assert struck_after(pieces, **rules) == after


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(), lambda v: st.lists(v) | st.dictionaries(st.text(), v)
)


@settings(max_examples=25, deadline=None)
@given(ANYTHING)
def test_json_is_complete_exactly_at_its_end(value):
    """Whatever an object holds, character by character."""
    text = json.dumps({"value": value})
    assert struck_after([*text, "}", "}"], json_complete=True) == len(text)


@pytest.mark.rig
@settings(max_examples=200, deadline=None)
@given(ANYTHING)
def test_any_json_is_complete_exactly_at_its_end(value):
    """The same for many more."""
    test_json_is_complete_exactly_at_its_end.hypothesis.inner_test(value)


@pytest.mark.parametrize("unit", ["a", "ha ", "I am a loop. ", "".join(map(chr, range(192, 392)))])
@pytest.mark.parametrize("reasoning", [False, True])
def test_a_loop_is_seen_within_a_few_turns(unit, reasoning):
    """In the answer, and in what is thought before it."""
    turns = max(20, LOOP_CHARS // len(unit))
    pieces = ["Here it comes: ", *[unit] * (2 * turns + 100)]
    after = struck_after(pieces, repetition=20, reasoning=reasoning)
    assert after is not None
    assert turns <= after <= turns + 2 + 64 // len(unit) + 1


@pytest.mark.parametrize(
    "text",
    [
        "-" * 150,
        "ab" * 9 + "c",
        "\n".join(f"| {n} | {n * n} |" for n in range(300)),
        "word " * 19 + "end " + "word " * 19,
    ],
)
def test_what_is_style_is_no_loop(text):
    """Rulers, tables, and repetitions that end in time."""
    assert struck_after([text[at : at + 4] for at in range(0, len(text), 4)], repetition=40) is None


def test_a_pattern_is_searched_in_a_bounded_tail():
    """So that a long answer takes time in proportion to its length."""
    pieces = ["A", "x" * (MATCH_CHARS + 10), "B"]
    assert struck_after(pieces, pattern="A.*B") is None
    assert struck_after(["A", "x" * (MATCH_CHARS - 10), "B"], pattern="A.*B") == 3


def test_no_pattern_backtracks_for_ever():
    """The classic that takes a backtracking engine longer than the universe has."""
    assert struck_after(["a" * 5000 + "!"] * 3, pattern="^(a+)+$") is None


def test_a_lone_surrogate_is_no_trouble():
    """A pair may be split by JSON escapes."""
    assert struck_after(["\ud83d", "\ude00 END"], pattern="END") == 2


def chunk(text: str, **more) -> bytes:
    """An event with some text."""
    return b"data: " + json.dumps({"choices": [{"index": 0, "delta": {"content": text}}], **more}).encode() + b"\n\n"


def test_a_stopped_stream_is_closed_and_keeps_what_came():
    """Of a stream that never ends."""
    with peer(
        [READ, chunked(chunk("Hello ")), for_ever(chunked(chunk("x")).partition(b"\r\n\r\n")[2], 0.001)]
    ) as there:
        done = ask(there.base_url, stream=True, stop_stream={"max_chars": 20}, attempt_s=8)
    assert isinstance(done, Completion), done
    assert done.finish_reason == "stopped_by_client"
    assert done.content.startswith("Hello xxx")
    assert len(done.content) >= 20
    assert done.usage_estimated
    assert done.usage.completion_tokens >= 15


def test_tokens_after_the_close_are_not_generated():
    """The server's own ledger says what it generated: little more than what was kept."""
    scenario = {"latency": {"ttft_s": 0.01, "per_token_s": 0.01, "sigma": 0}, "answers": {"tokens": 400, "sigma": 0}}
    body = {
        "model": "m",
        "messages": [{"role": "user", "content": "Tell me a lot."}],
        "stream": True,
        "max_tokens": 500,
    }
    with simulated(scenario) as server:
        done = ask(server.base_url, body=json.dumps(body).encode(), stream=True, stop_stream={"max_chars": 60})
        generated = server.totals()["completion_tokens"]
    assert done.finish_reason == "stopped_by_client"
    assert done.usage.completion_tokens <= generated < 100


def test_a_stream_that_ends_by_itself_is_not_stopped():
    """The last piece may strike a rule: the answer is whole all the same."""
    end = b'data: {"choices": [{"delta": {}, "finish_reason": "stop"}], "usage": {"completion_tokens": 2}}'
    with peer([READ, http(chunk("Hello") + end + b"\n\ndata: [DONE]\n\n")]) as there:
        done = ask(there.base_url, stream=True, stop_stream={"max_chars": 3})
    assert (done.finish_reason, done.usage_estimated, done.usage.completion_tokens) == ("stop", False, 2)


def stopped(body: bytes, headers: dict[str, str]):
    """A stopped stream's estimated usage, for a request with this body and an answer with these headers."""
    from batchrun.endpoint.answer import Answer

    stream = Stream(request(body=body, stream=True), sent_at=0.0, stop=Stop(StopStreamConfig(max_chars=1)))
    stream.feed(chunk("four tokens of a text"), 1.0)
    return stream.completion(Answer(status=200, headers=headers, content=b"", latency_s=1.0)).usage


def test_the_prompt_is_counted_by_the_headers_where_they_say_it():
    """Fireworks' do, before the first token."""
    usage = stopped(b"{}", {"fireworks-prompt-tokens": "70", "fireworks-cached-prompt-tokens": "60"})
    assert (usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens, usage.total_tokens) == (70, 60, 5, 75)


def test_a_prompt_that_nobody_counted_is_guessed_unless_it_holds_an_image():
    """The letters of an image say nothing about its tokens: unknown is better than wrong."""
    assert stopped(b"x" * 400, {}).prompt_tokens == 100
    assert stopped(b'{"url": "data:image/png;base64,AAAA"}', {}).prompt_tokens is None
