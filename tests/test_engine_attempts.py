"""One request, tried until it succeeds or cannot: how often, when, and what is kept of it."""

from __future__ import annotations

import json
import math
from itertools import pairwise

import engines
import pytest
import virtual_time
from engines import Engine, completion, no_answer, refused, rejected, server_error, throttled

from batchrun.engine import records
from batchrun.errors import Ambiguous, PromptError, Throttled


def run(script, tap=1, **sections):
    """Run an engine to its end in virtual time."""

    async def to_the_end():
        return await Engine(script, tap, **sections).run()

    return virtual_time.run(to_the_end())


@pytest.mark.parametrize("max_attempts", [1, 2, 4, 7])
def test_a_server_that_always_says_500_sees_exactly_max_attempts_a_row(max_attempts):
    """There is one layer of retries."""
    engine = run(lambda _: (0.1, server_error()), 10, retry={"max_attempts": max_attempts})
    assert [len(engine.endpoint.tries(index)) for index in range(10)] == [max_attempts] * 10
    assert {record.attempts for record in engine.records.values()} == {max_attempts}


def test_throttling_uses_no_attempt():
    """Twenty 429s, then three 500s, then an answer: the row succeeds with four attempts."""
    script = [throttled()] * 20 + [server_error()] * 3 + [completion()]
    record = run(lambda sent: (0.1, script[sent.number - 1]), retry={"max_attempts": 4}).records[0]
    assert (record.error_type, record.attempts) == (None, 24)


def test_what_was_not_sent_uses_no_attempt():
    """Once the endpoint was reached, refused connections are waited out."""
    script = [server_error()] + [refused()] * 8 + [server_error()] * 2 + [completion()]
    record = run(lambda sent: (0.1, script[sent.number - 1]), retry={"max_attempts": 4}).records[0]
    assert (record.error_type, record.attempts) == (None, 12)


def test_no_attempt_comes_before_its_retry_after():
    """The wait that a 429 asks for is a floor."""
    engine = run(lambda sent: (0.0, throttled(7.0) if sent.number < 5 else completion()))
    tries = engine.endpoint.tries(0)
    assert all(after - before >= 7 for before, after in pairwise(tries))


def test_a_hundred_rows_hit_by_one_429_do_not_come_back_together():
    """No tenth of a second sees more than a third of them, and all have come back after a few seconds."""
    engine = run(
        lambda sent: (0.1, throttled(10.0) if sent.number == 1 else completion()),
        100,
        limits={"concurrency": 100, "adaptive": False},
    )
    again = sorted(sent.at for sent in engine.endpoint.sent if sent.number == 2)
    assert len(again) == 100
    assert again[0] >= 10.1
    assert again[-1] <= 14
    assert max(sum(start <= at < start + 0.1 for at in again) for start in again) < 34


def test_a_retry_after_holds_for_rows_that_have_not_been_sent_yet():
    """Nobody else goes out while the endpoint asks for patience."""
    engine = run(
        lambda sent: (
            1.0 if sent.index else 0.5,
            throttled(30.0) if sent.index == 0 and sent.number == 1 else completion(),
        ),
        20,
        limits={"concurrency": 2},
    )
    assert not [sent for sent in engine.endpoint.sent if 0.51 < sent.at < 30.5]
    assert all(record.error_type is None for record in engine.records.values())


def test_a_retry_after_beyond_max_wait_s_fails_the_row_as_rate_limited():
    """Nobody sleeps for hours: it is asked once more after `max_wait_s`."""
    engine = run(lambda _: (0.1, throttled(3600.0)), retry={"max_wait_s": 300})
    record = engine.records[0]
    assert (record.error_type, record.attempts) == ("rate_limited", 2)
    assert 300 <= engine.ended_at < 303


def test_an_overload_that_lasts_too_long_counts_as_a_rate_limit():
    """It is the wait that the row fails for, whatever its status."""
    overloaded = Throttled("HTTP 503", error_type="overloaded", status_code=503, retry_after_s=3600.0)
    assert run(lambda _: (0.1, overloaded), retry={"max_wait_s": 10}).records[0].error_type == "rate_limited"


def test_no_pause_is_longer_than_max_wait_s():
    """What one row was told binds the others, but not for hours."""
    engine = run(
        lambda sent: (0.1, throttled(3600.0) if sent.index == 0 else completion()),
        3,
        retry={"max_wait_s": 20},
        limits={"concurrency": 2},
    )
    assert 20 <= engine.endpoint.tries(2)[0] <= 23


def test_the_ceiling_falls_once_a_cooldown_and_recovers():
    """64 in flight; a minute of 429s brings it down to 1, and answers bring it back to 64."""
    ceilings: list[tuple[float, int]] = []

    async def main():
        def script(sent):
            ceilings.append((sent.at, engine.turnstile.ceiling.limit))
            return 0.25, throttled() if sent.at < 60 else completion()

        engine = Engine(script, 6000, limits={"concurrency": 64})
        return await engine.run()

    engine = virtual_time.run(main())
    assert min(limit for at, limit in ceilings if at < 60) == 1
    assert ceilings[-1][1] == 64
    assert all(record.error_type is None for record in engine.records.values())
    falls = [at for (_, before), (at, limit) in pairwise(ceilings) if limit < before]
    assert len(falls) == 6


def test_under_endless_429s_with_a_retry_after_the_ceiling_goes_on_falling():
    """The cooldown is ours, not the 89 s that the endpoint asks for."""

    async def main():
        engine = Engine(lambda _: (0.1, throttled(89.0)), 500, limits={"concurrency": 64})
        await engine.run()
        return engine

    engine = virtual_time.run(main())
    assert engine.turnstile.ceiling.limit == 1


def test_waiting_for_the_pace_is_never_a_failure():
    """At 1 request a minute, 20 rows at once with a row deadline of two minutes: all succeed, each with one attempt."""
    engine = run(
        lambda _: (1.0, completion()),
        20,
        limits={"concurrency": 20, "requests_per_minute": 1},
        timeouts={"row_s": 120},
    )
    assert [record.error_type for record in engine.records.values()] == [None] * 20
    assert {record.attempts for record in engine.records.values()} == {1}


def test_waiting_for_a_place_between_two_attempts_does_not_count_against_the_row():
    """A minute between attempts that only the pace asks for is not taken from a row's minute."""
    engine = run(
        lambda sent: (1.0, server_error() if sent.number == 1 else completion()),
        10,
        limits={"concurrency": 10, "requests_per_minute": 1},
        timeouts={"row_s": 60},
    )
    assert [record.error_type for record in engine.records.values()] == [None] * 10


def test_the_wait_before_the_first_sending_is_kept_apart():
    """`queued_s` is that wait, `latency_s` that of the last attempt."""
    engine = run(
        lambda sent: (2.0, server_error() if sent.number == 1 else completion(latency_s=1.5)),
        2,
        limits={"concurrency": 2, "requests_per_minute": 1, "adaptive": False},
    )
    queued = sorted(record.queued_s for record in engine.records.values())
    assert queued == [pytest.approx(0, abs=0.01), pytest.approx(60, abs=2)]
    assert {record.latency_s for record in engine.records.values()} == {1.5}


def test_a_row_ends_at_its_deadline_even_if_nobody_ever_answers():
    """The last attempt is cut short: the run ends with the deadline, and the failure says why."""
    engine = run(
        lambda _: (math.inf, completion()),
        4,
        timeouts={"row_s": 30, "attempt_s": 600, "stall_s": 900},
        limits={"concurrency": 4},
    )
    assert engine.ended_at == pytest.approx(30, abs=0.1)
    assert {record.error_type for record in engine.records.values()} == {"timed_out"}
    assert all(record.error_message for record in engine.records.values())


def test_no_attempt_is_begun_that_would_come_after_the_deadline():
    """A row of a minute does not wait 40 s after 25: it fails with what it met last."""
    engine = run(lambda _: (25.0, server_error(retry_after_s=40.0)), timeouts={"row_s": 60})
    assert (len(engine.endpoint.sent), engine.records[0].error_type) == (1, "server_error")
    assert engine.ended_at == pytest.approx(25)


def test_an_attempt_just_before_the_deadline_gets_a_second():
    """It was paid for."""
    engine = run(
        lambda sent: (29.5, server_error()) if sent.number == 1 else (0.9, completion()), timeouts={"row_s": 30}
    )
    assert engine.records[0].error_type is None
    assert engine.ended_at < 31


def test_ambiguous_retries_stop_at_a_share_of_the_rows():
    """5 % of the rows, at least `concurrency`: 1,000 rows that all break off are sent 1,050 times."""

    def script(sent):
        return 0.1, Ambiguous("broke off", error_type="response_truncated", error_code=f"{sent.index}")

    engine = run(script, 1000, limits={"concurrency": 10}, retry={"max_attempts": 4})
    assert len(engine.endpoint.sent) == 1050
    assert len(engine.records) == 1000


def test_a_small_run_may_retry_as_often_as_it_is_wide():
    """8 rows at 8 at a time have 8 retries between them."""
    engine = run(lambda _: (0.1, no_answer()), 8, limits={"concurrency": 8}, retry={"max_attempts": 4})
    assert len(engine.endpoint.sent) == 16


def test_what_was_rejected_is_kept_after_one_attempt():
    """With all that the endpoint said."""
    engine = run(lambda _: (0.1, rejected()))
    record = engine.records[0]
    assert (record.attempts, record.error_type, record.error_message, record.status_code) == (
        1,
        "request_rejected",
        "HTTP 400",
        400,
    )


def test_an_error_without_words_is_kept_with_its_name():
    """No failure has an empty reason."""
    error = server_error()
    error.message = ""
    assert run(lambda _: (0.1, error), retry={"max_attempts": 1}).records[0].error_message == "Ambiguous"


def test_a_record_holds_the_whole_completion():
    """Every field of the answer under its own name."""
    done = completion(
        model="served",
        reasoning_content="why",
        refusal="no",
        tool_calls="[{}]",
        choices="[1]",
        logprobs="{1}",
        embedding=[1.0],
        finish_reason="stop",
        latency_s=1.25,
        ttft_s=0.1,
        ttfvt_s=0.2,
        itl_mean_s=0.3,
        itl_p99_s=0.4,
        server_ttft_s=0.5,
        server_processing_s=0.6,
        perf_metrics="{}",
        request_id="r",
        response="raw",
    )
    record = run(lambda _: (0.1, done)).records[0]
    for name in done.__struct_fields__:
        if name not in {"usage", "usage_estimated", "service_tier", "mended", "hints"}:
            assert getattr(record, name) == getattr(done, name)
    assert (record.prompt_tokens, record.completion_tokens, record.total_tokens) == (100, 10, 110)
    assert (record.requested_model, record.custom_id, record.usage_source) == ("m", "row-0", "endpoint")
    assert record.cost_usd == engines.COST_USD
    assert record.started_at <= record.finished_at


def test_the_answer_is_left_out_if_it_is_not_to_be_kept():
    """`store.keep_response: false`."""
    record = run(lambda _: (0.1, completion(response="raw")), store={"keep_response": False}).records[0]
    assert (record.content, record.response) == ("yes", None)


def test_a_failure_keeps_the_beginning_of_the_answer_whatever_the_store_is_told():
    """The first 2 KiB of it."""
    record = run(lambda _: (0.1, server_error(response="x" * 5000)), retry={"max_attempts": 1}).records[0]
    assert record.response == "x" * 2048


def test_every_attempt_before_the_last_is_in_the_log():
    """With its number, its error and its times."""
    script = [throttled(3.0), server_error(request_id="r1"), completion()]
    record = run(lambda sent: (0.5, script[sent.number - 1])).records[0]
    log = json.loads(record.attempt_log)
    assert [(entry["number"], entry["error_type"], entry.get("retry_after_s")) for entry in log] == [
        (1, "rate_limited", 3.0),
        (2, "server_error", None),
    ]
    assert [entry["latency_s"] for entry in log] == [pytest.approx(0.5)] * 2
    assert log[1]["request_id"] == "r1"


def test_a_first_answer_has_no_log():
    """The column is null."""
    assert run(lambda _: (0.5, completion())).records[0].attempt_log is None


def test_a_very_long_log_keeps_its_beginning_and_its_end():
    """The count of attempts is exact all the same."""
    endless = {"row_s": 1e6, "stall_s": 1e6}
    engine = run(lambda sent: (0.0, throttled(0.0) if sent.number <= 60 else completion()), timeouts=endless)
    record = engine.records[0]
    numbers = [entry["number"] for entry in json.loads(record.attempt_log)]
    assert numbers == [*range(1, 26), *range(36, 61)]
    assert record.attempts == 61


def test_usage_counts_for_every_attempt_that_carries_it():
    """A 500 and an unusable answer that were charged are part of the row's cost."""
    script = [server_error(usage=engines.USAGE), server_error(usage=engines.USAGE), completion()]
    record = run(lambda sent: (0.5, script[sent.number - 1])).records[0]
    assert record.cost_usd == pytest.approx(3 * engines.COST_USD, abs=1e-12)
    assert [entry["cost_usd"] for entry in json.loads(record.attempt_log)] == [engines.COST_USD] * 2


def test_a_failure_that_was_charged_has_a_cost():
    """Its own usage, and that of the attempts before."""
    record = run(lambda _: (0.5, server_error(usage=engines.USAGE)), retry={"max_attempts": 2}).records[0]
    assert record.cost_usd == pytest.approx(2 * engines.COST_USD, abs=1e-12)
    assert (record.prompt_tokens, record.usage_source) == (100, "endpoint")


@pytest.mark.parametrize("usage", [None, engines.USAGE])
def test_what_is_not_known_costs_null_and_not_nothing(usage):
    """Neither usage without a price nor a price without usage is a cost."""
    engine = run(lambda _: (0.5, completion(usage=usage)), price_for=lambda _: None if usage else engines.PRICE)
    record = engine.records[0]
    assert record.cost_usd is None
    assert record.usage_source == ("endpoint" if usage else "missing")


@pytest.mark.parametrize(
    ("outcome", "source"), [(rejected(), None), (server_error(), "missing"), (no_answer(), "missing")]
)
def test_a_failure_is_missing_its_usage_only_where_it_may_have_been_charged(outcome, source):
    """A refused request costs nothing; one that may have been served makes the bill partial."""
    assert run(lambda _: (0.5, outcome), retry={"max_attempts": 1}).records[0].usage_source == source


def test_the_price_of_a_model_is_looked_up_once():
    """A table may hold patterns, and a run millions of rows."""
    asked = []

    def price_for(model):
        asked.append(model)
        return engines.PRICE

    models = ["a", "b", "a", "b", "a"]
    run(
        lambda sent: (0.5, server_error() if sent.number == 1 else completion()),
        (engines.request(index, model=model) for index, model in enumerate(models)),
        price_for=price_for,
    )
    assert sorted(asked) == ["a", "b"]


def test_the_requests_on_the_wire_are_counted():
    """Each try, and how many of them were told to wait."""
    script = [throttled(), server_error(), completion()]
    counts = run(lambda sent: (0.1, script[sent.number - 1]), 10, retry={"max_attempts": 2}).fulfiller.counts
    assert (counts.requests, counts.throttled, counts.ambiguous_retries, counts.succeeded) == (30, 10, 10, 10)


def test_a_row_that_could_not_be_sent_has_a_record_too():
    """`input_invalid`, with its place in the input."""
    record = records.invalid_record(PromptError("no messages", where="p.jsonl:3", index=2, custom_id="x"))
    assert (record.index, record.custom_id, record.error_type) == (2, "x", "input_invalid")
    assert record.error_message == "p.jsonl:3: no messages"
    assert records.invalid_record(PromptError("no id", index=7)).custom_id == "row-7"


def test_usage_that_was_estimated_says_so():
    """It has a price all the same."""
    record = run(lambda _: (0.1, completion(usage_estimated=True))).records[0]
    assert (record.usage_source, record.cost_usd) == ("estimated", engines.COST_USD)


# What a broken controller would get wrong


def test_the_deadline_of_a_row_does_not_run_while_it_waits_for_the_limit():
    """One request a minute: the second try comes a minute later, and still has the time that the row has left."""
    script = {1: (1.0, server_error()), 2: (5.0, completion())}
    limits, timeouts = {"requests_per_minute": 1}, {"row_s": 10}
    engine = run(lambda sent: script[sent.number], limits=limits, timeouts=timeouts)
    assert engine.records[0].error_type is None


def test_the_deadline_of_a_row_does_not_run_while_it_waits_for_the_purse():
    """Two hundred fail once, for 35 of them there is a retry: who waits three times as long still has his own time."""
    engine = run(
        lambda sent: (0.1, server_error()) if sent.number == 1 else (5.0, completion()),
        200,
        limits={"concurrency": 200, "adaptive": False},
        timeouts={"row_s": 10},
    )
    assert engine.ended_at > 30
    assert {record.error_type for record in engine.records.values()} == {None}


@pytest.mark.parametrize("adaptive", [False, True])
def test_a_retry_after_holds_for_all_whether_or_not_the_ceiling_is_adaptive(adaptive):
    """One row is told to wait for ten seconds; rows behind it are not sent before these are over."""

    def script(sent):
        return (0.1, throttled(10.0)) if (sent.index, sent.number) == (0, 1) else (1.0, completion())

    engine = run(script, 6, limits={"concurrency": 2, "adaptive": adaptive})
    assert not [sent.at for sent in engine.endpoint.sent if 0.1 < sent.at < 10.1]


def test_successes_pay_for_the_retries_of_others():
    """A hundred rows that each fail once, between many that do not: nobody waits for the purse to fill by itself."""

    def script(sent):
        return (0.1, server_error()) if sent.index % 20 == 0 and sent.number == 1 else (0.1, completion())

    engine = run(script, 2000, limits={"concurrency": 200, "adaptive": False})
    assert engine.ended_at < 10
    assert engine.lanes.of("m").quota._tokens > 400
