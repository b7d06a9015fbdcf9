"""Conversations in the engine: turn after turn in one row, whose record is the sum of what the turns took."""

from __future__ import annotations

import asyncio
import json

import msgspec
import pytest
import virtual_time
from engines import COST_USD, USAGE, Engine, completion, conversation, no_answer, rejected, rows, server_error, unusable

from batchrun.engine.turns import following
from batchrun.errors import BatchrunError
from batchrun.types import Usage


def answer(sent, **values):
    """A completion that says which of the user's questions it answers."""
    asked = json.loads(sent.body)["messages"][-1]["content"]
    return completion(content=f"A{asked[1:]}", **values)


def run(script, *requests, stop_at_s=None, **sections):
    """Run conversations to their end in virtual time."""

    async def to_the_end():
        engine = Engine(script, iter_of(requests), **sections)
        if stop_at_s is not None:
            asyncio.get_running_loop().call_later(stop_at_s, engine.pool.stop, BatchrunError("enough"))
        return await engine.run()

    return virtual_time.run(to_the_end())


def iter_of(requests):
    """A tap."""
    yield from requests


def says(role, content, **values):
    """A message."""
    return {"role": role, "content": content, **values}


def test_each_turn_is_asked_with_the_answers_so_far():
    """The body stays as it is but for its messages, which grow by an answer and a question."""
    engine = run(lambda sent: (1.0, answer(sent)), conversation(0, "Q2", "Q3", top_p=0.10, user=None))
    first, second, third = (sent.body for sent in engine.endpoint.sent)
    asked = [
        says("user", "Q1"),
        says("assistant", "A1"),
        says("user", "Q2"),
        says("assistant", "A2"),
        says("user", "Q3"),
    ]
    assert [json.loads(body)["messages"] for body in (first, second, third)] == [asked[:1], asked[:3], asked]
    assert {name: value for name, value in json.loads(third).items() if name != "messages"} == {
        "top_p": 0.1,
        "user": None,
    }


def test_numbers_and_keys_of_a_body_are_sent_on_as_they_were_written():
    """Only the messages are new: no number is rounded, no key changes its place."""
    big = b'{"seed":123456789012345678901234567890,"messages":[{"role":"user","content":"Q1"}],"a":1.50}'
    first = msgspec.structs.replace(conversation(0, "Q2"), body=big)
    second = run(lambda sent: (1.0, answer(sent)), first).endpoint.sent[1].body
    assert second.startswith(b'{"seed":123456789012345678901234567890,"messages":[{"role":"user","content":"Q1"},')
    assert second.endswith(b'"a":1.50}')


def test_a_conversation_is_one_record_with_the_sums_of_its_turns():
    """Tokens, cost and attempts add up, the waiting and the start are the first turn's, the rest is the last one's."""

    def script(sent):
        return float(sent.number), answer(sent, ttft_s=0.1 * sent.number, request_id=f"r{sent.number}")

    engine = run(script, conversation(0, "Q2", "Q3"))
    record = engine.records[0]
    assert (record.prompt_tokens, record.completion_tokens, record.total_tokens) == (300, 30, 330)
    assert (record.cached_tokens, record.reasoning_tokens) == (None, None)
    assert (record.cost_usd, record.usage_source, record.attempts) == (3 * 120_000 / 1e9, "endpoint", 3)
    assert (record.content, record.request_id, record.ttft_s, record.attempt_log) == ("A3", "r3", 0.1 * 3, None)
    assert json.loads(record.messages)[-2:] == [says("user", "Q3"), says("assistant", "A3")]
    assert (engine.watch.rows, len(engine.records)) == (1, 1)
    assert record.started_at == engine.keeper.turns[0].started_at


def test_the_waiting_of_a_conversation_is_that_before_its_first_turn():
    """At one request a second the second turn waits, and the row did not."""
    limits = {"requests_per_minute": 60}
    engine = run(lambda sent: (0.01, answer(sent)), conversation(0, "Q2"), limits=limits)
    first, second = (sent.at for sent in engine.endpoint.sent)
    assert second - first > 0.9
    assert engine.records[0].queued_s == engine.keeper.turns[0].queued_s < 0.1


def test_the_log_of_turns_has_the_figures_of_each():
    """One entry a finished turn, with what it used and how long it took."""
    usage = Usage(prompt_tokens=9, cached_tokens=4, completion_tokens=3, reasoning_tokens=2, total_tokens=12)

    def script(sent):
        values = {"usage": usage, "server_ttft_s": 0.5} if sent.number == 2 else {}
        return 1.0, answer(sent, ttfvt_s=0.25, finish_reason="stop", request_id=f"r{sent.number}", **values)

    record = run(script, conversation(0, "Q2")).records[0]
    first, second = json.loads(record.turn_log)
    assert second.pop("started_at") >= first.pop("started_at")
    both = {"finish_reason": "stop", "latency_s": 1.0, "ttfvt_s": 0.25, "usage_source": "endpoint", "attempts": 1}
    assert first == both | {
        "turn": 1,
        "prompt_tokens": 100,
        "completion_tokens": 10,
        "total_tokens": 110,
        "cost_usd": COST_USD,
        "request_id": "r1",
    }
    assert second == both | {
        "turn": 2,
        "request_id": "r2",
        "server_ttft_s": 0.5,
        "cost_usd": 0.000013,
        **{name: getattr(usage, name) for name in Usage.__struct_fields__},
    }


def test_a_row_that_is_no_conversation_has_neither_messages_nor_a_log_of_turns():
    """Nothing changes for it, and no turn of it is kept."""
    engine = run(lambda _: (1.0, completion()), *rows(1))
    assert (engine.records[0].messages, engine.records[0].turn_log, engine.keeper.turns) == (None, None, [])


def test_what_is_finished_is_kept_before_the_next_turn_is_asked():
    """After each turn but the last the keeper has the conversation so far."""
    seen = []

    def script(sent):
        seen.append([len(json.loads(turn.messages)) for turn in engine.keeper.turns])
        return 1.0, answer(sent)

    async def to_the_end():
        nonlocal engine
        engine = Engine(script, iter_of([conversation(0, "Q2", "Q3")]))
        await engine.run()

    engine = None
    virtual_time.run(to_the_end())
    assert seen == [[], [2], [2, 4]]


def test_attempts_of_all_turns_are_in_one_log():
    """Each with the number of its turn, and its number within it."""
    script = [server_error(usage=USAGE), None, no_answer(), server_error(), None]
    engine = run(lambda sent: (0.1, script[sent.number - 1] or answer(sent)), conversation(0, "Q2"))
    record = engine.records[0]
    log = json.loads(record.attempt_log)
    assert [(attempt["turn"], attempt["number"]) for attempt in log] == [(1, 1), (2, 1), (2, 2)]
    assert (record.attempts, record.cost_usd) == (5, 3 * 120_000 / 1e9)
    assert [turn["attempts"] for turn in json.loads(record.turn_log)] == [2, 3]
    assert (record.prompt_tokens, engine.fulfiller.counts.requests) == (200, 5)


@pytest.mark.parametrize(
    ("values", "source", "tokens"),
    [
        ({"usage": None}, "missing", 100),
        ({"usage_estimated": True}, "estimated", 200),
        ({"usage": Usage(completion_tokens=1)}, "endpoint", 100),
    ],
)
@pytest.mark.parametrize("turn", [1, 2])
def test_the_least_certain_usage_of_a_turn_is_that_of_the_sum(values, source, tokens, turn):
    """What is not known of one turn stays visible, whichever it was; what is known is summed."""
    record = run(
        lambda sent: (0.1, answer(sent, **(values if sent.number == turn else {}))), conversation(0, "Q2")
    ).records[0]
    assert (record.usage_source, record.prompt_tokens) == (source, tokens)


def test_a_failed_turn_ends_the_conversation_and_keeps_what_was_finished():
    """The failure has the words and the log of the finished turns, and what all of it used and cost."""
    engine = run(
        lambda sent: (0.1, rejected() if sent.number == 3 else answer(sent)), conversation(0, "Q2", "Q3", "Q4")
    )
    record = engine.records[0]
    assert (record.error_type, record.attempts, record.usage_source) == ("request_rejected", 3, "endpoint")
    assert (record.prompt_tokens, record.cost_usd) == (200, 2 * 120_000 / 1e9)
    assert [message["content"] for message in json.loads(record.messages)] == ["Q1", "A1", "Q2", "A2"]
    assert [turn["turn"] for turn in json.loads(record.turn_log)] == [1, 2]
    assert (record.started_at > engine.keeper.turns[0].started_at, len(engine.endpoint.sent)) == (True, 3)


def test_a_failed_first_turn_has_nothing_finished():
    """Nothing is kept of it but the failure."""
    record = run(lambda _: (0.1, rejected()), conversation(0, "Q2")).records[0]
    assert (record.messages, record.turn_log, record.attempts) == (None, None, 1)


@pytest.mark.parametrize("finished", [1, 2, 3])
def test_a_conversation_goes_on_where_its_record_ends(finished):
    """What was kept of k turns leads to the request of turn k + 1, the same as without the interruption."""
    whole = run(lambda sent: (0.1, answer(sent)), conversation(0, "Q2", "Q3", "Q4"))
    so_far = whole.keeper.turns[finished - 1]
    stored = msgspec.structs.replace(so_far, attempts=0, attempt_log=None, cost_usd=None)
    again = run(lambda sent: (0.1, answer(sent)), following(conversation(0, "Q2", "Q3", "Q4"), stored))
    assert [sent.body for sent in again.endpoint.sent] == [sent.body for sent in whole.endpoint.sent[finished:]]
    record, expected = again.records[0], whole.records[0]
    assert (record.messages, record.prompt_tokens) == (expected.messages, expected.prompt_tokens)
    assert (record.attempts, record.cost_usd) == (4 - finished, (4 - finished) * 120_000 / 1e9)
    assert [turn["turn"] for turn in json.loads(record.turn_log)] == [1, 2, 3, 4]
    assert (record.queued_s, record.started_at) == (so_far.queued_s, whole.keeper.turns[0].started_at)


def test_a_stop_between_turns_leaves_the_finished_ones():
    """The answer that was awaited is kept as a turn; the next turn is not sent, and the row has no record."""
    engine = run(lambda sent: (1.0, answer(sent)), conversation(0, "Q2", "Q3"), stop_at_s=1.5)
    assert ([len(json.loads(turn.turn_log)) for turn in engine.keeper.turns], engine.records) == ([1, 2], {})
    assert (len(engine.endpoint.sent), engine.pool.abandoned) == (2, set())


def test_an_endpoint_that_becomes_unusable_leaves_the_finished_turns():
    """The run ends; what was finished of the row was kept before."""
    engine = run(lambda sent: (1.0, unusable() if sent.number == 2 else answer(sent)), conversation(0, "Q2"))
    assert (len(engine.keeper.turns), engine.records, engine.pool.exit_code) == (1, {}, 8)


def test_each_turn_has_the_deadline_of_a_row():
    """Ten turns of 50 s each pass a deadline of 60 s; one that takes 70 s does not."""
    turns = [f"Q{number}" for number in range(2, 11)]
    engine = run(lambda sent: (50.0, answer(sent)), conversation(0, *turns), timeouts={"row_s": 60})
    assert (engine.records[0].error_type, engine.ended_at > 500) == (None, True)
    late = run(lambda sent: (70.0, answer(sent)), conversation(0, *turns), timeouts={"row_s": 60})
    assert late.records[0].error_type == "timed_out"


@pytest.mark.parametrize(
    ("strategy", "resent"),
    [({}, False), ({"reasoning_history": "disabled"}, False), ({"reasoning_history": None}, False)]
    + [({"reasoning_history": name}, True) for name in ("interleaved", "preserved")],
)
def test_reasoning_goes_back_where_its_history_is_asked_for(strategy, resent):
    """Reasoning is said again only to an endpoint that was told what to do with it."""
    engine = run(lambda sent: (0.1, answer(sent, reasoning_content="hm")), conversation(0, "Q2", **strategy))
    answered = json.loads(engine.endpoint.sent[1].body)["messages"][1]
    assert answered == says("assistant", "A1", **({"reasoning_content": "hm"} if resent else {}))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"content": None, "refusal": "No."}, says("assistant", "No.")),
        ({"content": None, "tool_calls": '[{"id":"c1"}]'}, says("assistant", None, tool_calls=[{"id": "c1"}])),
        ({"content": ""}, says("assistant", "")),
    ],
)
def test_an_answer_without_text_is_what_was_said_all_the_same(values, message):
    """A refusal is its words, a call of a tool stays one."""
    record = run(lambda _: (0.1, completion(**values)), conversation(0, "Q2")).records[0]
    assert json.loads(record.messages)[1] == message


def test_conversations_run_side_by_side_and_each_in_order():
    """Ten rows of three turns at five a time: five in flight, and no turn before the answer that it follows."""
    engine = run(
        lambda sent: (1.0, answer(sent)),
        *(conversation(index, "Q2", "Q3") for index in range(10)),
        limits={"concurrency": 5},
    )
    assert (engine.endpoint.most_in_flight, len(engine.endpoint.sent), len(engine.records)) == (5, 30, 10)
    for index in range(10):
        asked = [
            json.loads(sent.body)["messages"][-1]["content"] for sent in engine.endpoint.sent if sent.index == index
        ]
        assert asked == ["Q1", "Q2", "Q3"]
