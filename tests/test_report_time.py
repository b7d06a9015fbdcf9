"""Where the time went, what happened when, and the slowest rows: against computations by other means."""

from __future__ import annotations

import json
from itertools import pairwise

import msgspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchrun.report.distributions import RELATIVE_ERROR, Values
from batchrun.report.logged import logged
from batchrun.report.markdown import to_markdown
from batchrun.report.metrics import summarise
from batchrun.report.phases import PHASES
from batchrun.report.slowest import Slowest
from batchrun.report.speed import time_note
from batchrun.report.summary import Report, RunFacts, Session
from batchrun.report.text import to_text
from batchrun.report.timeline import MOST_INTERVALS, RunningTimeline
from batchrun.store.schema import FAILURES, RESULTS, to_batch
from batchrun.types import Attempt, Record, Usage

SECOND = 1_000_000
START = 1_795_368_000 * SECOND


def row(index: int = 0, *, start: float = 0, took: float = 2, **values) -> Record:
    """A success that was sent `start` seconds into the run and whose answer came `took` seconds later."""
    sent = START + round(start * SECOND)
    usual = {"attempts": 1, "latency_s": took, "started_at": sent, "finished_at": sent + round(took * SECOND)}
    return Record(index=index, custom_id=f"row-{index}", **{**usual, **values})


def attempt(start: float, took: float, status: int | None = 503, **values) -> Attempt:
    """An attempt that another one followed."""
    usual = {"number": 1, "error_type": "overloaded", "error_message": "no", "status_code": status}
    return Attempt(started_at=START + round(start * SECOND), latency_s=took, **{**usual, **values})


def log(*attempts: Attempt) -> str:
    """Their column."""
    return msgspec.json.encode(attempts).decode()


def report_of(*good: Record, bad: tuple[Record, ...] = (), sessions: list[Session] | None = None) -> Report:
    """The report of some records."""
    facts = RunFacts(name="run", sessions=sessions or [])
    return summarise([to_batch(good, RESULTS)], [to_batch(bad, FAILURES)], facts)


def test_waiting_to_be_sent_is_a_phase():
    """`queued_s` is what limits and places took."""
    assert report_of(row(queued_s=6)).time_s == {"waiting": 6, "answering": 2}


def test_shares_are_of_all_phases():
    """They are the seconds over their sum."""
    assert report_of(row(queued_s=6)).time_shares == {"waiting": 0.75, "answering": 0.25}


def test_phases_come_in_the_order_of_a_rows_life():
    """Whichever row they are found in first."""
    rows = [row(0, ttft_s=1), row(1, server_processing_s=1, server_ttft_s=0.5), row(2, queued_s=1)]
    found = list(report_of(*rows).time_s)
    assert found == [phase for phase in PHASES if phase in found]
    assert len(found) == 7


def test_what_the_server_did_not_take_was_the_network():
    """Latency less processing; without a time to first token the server's part stays one."""
    assert report_of(row(server_processing_s=1.5)).time_s == {"network": 0.5, "server": 1.5}


def test_the_servers_first_token_parts_decode_from_the_rest():
    """Queue and prefill are one phase where the server does not tell them apart."""
    time_s = report_of(row(server_processing_s=1.5, server_ttft_s=0.5)).time_s
    assert time_s == {"network": 0.5, "server_ttft": 0.5, "decode": 1.0}


@pytest.mark.parametrize("form", [float, str], ids=["numbers", "texts"])
def test_a_dedicated_deployment_tells_queues_from_prefill(form):
    """Its metrics are numbers, or numbers in a text; of the tokenizer and of both queues too."""
    stated = {
        "tokenizer-queue-duration": 0.05,
        "tokenizer-duration": 0.05,
        "prefill-queue-duration": 0.25,
        "prefill-duration": 0.2,
        "generation-queue-duration": 0.1,
        "generation-duration": 0.85,
    }
    metrics = json.dumps({name: form(value) for name, value in stated.items()}, separators=(",", ":"))
    time_s = report_of(row(server_processing_s=1.5, server_ttft_s=0.5, perf_metrics=metrics)).time_s
    assert time_s == {"network": 0.5, "server_queue": 0.4, "prefill": 0.25, "decode": 0.85}


@pytest.mark.parametrize("value", ['"soon"', "null", "-1", "1e999", "[1]", '"\\"prefill-duration\\":9"'])
def test_metrics_that_are_no_numbers_are_not_known(value):
    """Queue and prefill are then told as far as the time to the first token does."""
    metrics = f'{{"prefill-duration":{value}}}'
    time_s = report_of(row(server_processing_s=1.5, server_ttft_s=0.5, perf_metrics=metrics)).time_s
    assert time_s == {"network": 0.5, "server_ttft": 0.5, "decode": 1.0}


def test_an_endless_queue_is_no_queue():
    """A number that no float holds says nothing; the others count."""
    metrics = '{"prefill-queue-duration":1e999,"prefill-duration":0.5}'
    time_s = report_of(row(server_processing_s=1.5, perf_metrics=metrics)).time_s
    assert time_s == {"network": 0.5, "prefill": 0.5, "decode": 1.0}


def test_a_server_that_claims_more_than_there_was_takes_all_there_was():
    """No phase is longer than the answer, none is negative."""
    metrics = '{"prefill-queue-duration":7,"prefill-duration":9}'
    assert report_of(row(server_processing_s=99, perf_metrics=metrics)).time_s == {"server_queue": 2}
    assert report_of(row(server_processing_s=1, server_ttft_s=5)).time_s == {"network": 1, "server_ttft": 1}


def test_of_a_stream_we_saw_the_first_token_ourselves():
    """Where the server says nothing, that is all that is known."""
    assert report_of(row(ttft_s=0.5)).time_s == {"ttft": 0.5, "after_ttft": 1.5}


def test_connecting_is_what_lies_around_the_latency():
    """The clock of the latency starts when a connection is there."""
    late = row(finished_at=START + 3 * SECOND)
    assert report_of(late).time_s == {"connecting": 1, "answering": 2}


def test_attempts_before_the_last_and_the_waits_between_them():
    """An attempt of 1 s, 2 s of waiting, another of 1 s, 5 s of waiting, then the answer."""
    retried = row(start=9, attempts=3, attempt_log=log(attempt(0, 1), attempt(3, 1)))
    assert report_of(retried).time_s == {"failed_attempts": 2, "between_attempts": 7, "answering": 2}


def test_what_lay_between_two_sessions_is_no_waiting():
    """A failure that a later start tried again waited for nobody."""
    sessions = [Session(started_at=START), Session(started_at=START + 3600 * SECOND)]
    retried = row(start=3601, attempts=3, attempt_log=log(attempt(0, 1), attempt(3, 1)))
    time_s = report_of(retried, sessions=sessions).time_s
    assert time_s == {"failed_attempts": 2, "between_attempts": 2, "answering": 2}


def test_the_last_attempt_of_a_failure_brought_nothing_either():
    """It counts with those before it."""
    failed = row(start=4, attempts=2, attempt_log=log(attempt(0, 1)), error_type="timed_out")
    assert report_of(bad=(failed,)).time_s == {"failed_attempts": 3, "between_attempts": 3}


def test_conversations_are_their_turns_and_what_lies_between():
    """Each turn's latency stands in its log."""
    turns = json.dumps([{"turn": 1, "latency_s": 1.5}, {"turn": 2, "latency_s": 1}])
    talk = row(turn_log=turns, latency_s=1, finished_at=START + 4 * SECOND, attempts=2)
    assert report_of(talk).time_s == {"answering": 2.5, "between_turns": 1.5}


def test_phases_add_up_to_the_rows_lives():
    """From the first sending to the last byte, for any mixture of what is known."""
    rng = np.random.default_rng(3)
    rows = []
    for index in range(200):
        took = float(rng.integers(1, 5000)) / 1000
        known = {name: took * float(rng.random()) for name in ("server_processing_s", "server_ttft_s", "ttft_s")}
        chosen = {name: value for name, value in known.items() if rng.random() < 0.5}
        tried = {"attempt_log": log(attempt(index, 0.5)), "attempts": 2} if index % 3 == 0 else {}
        rows.append(row(index, start=index + 1, took=took, queued_s=0.25, **chosen, **tried))
    waited_s = len(rows) * 0.25 + sum(bool(one.attempt_log) for one in rows)
    assert sum(report_of(*rows).time_s.values()) == pytest.approx(
        sum(one.latency_s for one in rows) + waited_s, abs=1e-3
    )


@pytest.mark.parametrize(
    ("known", "says"),
    [
        ({}, "does not say how much of an answer's time was its own"),
        ({"ttft_s": 1}, "does not say how much of an answer's time was its own"),
        ({"server_processing_s": 1}, "does not tell its queue from its work"),
        ({"server_processing_s": 1, "perf_metrics": '{"prefill-duration":0.5}'}, "took 2.0 s."),
    ],
)
@pytest.mark.parametrize("write", [to_text, to_markdown])
def test_what_is_not_known_is_said(write, known, says):
    """A sentence below the shares."""
    report = report_of(row(**known))
    assert time_note(report).endswith((says, f"{says}."))
    assert says.split()[0] in write(report)
    assert "Where the time went" in write(report)


def brute_in_flight(spans: list[tuple[int, int]], began_at: int, width_us: int, count: int) -> list[float]:
    """How many spans cover each interval on the mean, one by one."""
    edges = [began_at + width_us * number for number in range(count + 1)]
    return [
        sum(max(min(end, right) - max(start, left), 0) for start, end in spans) / width_us
        for left, right in pairwise(edges)
    ]


SPANS = st.lists(
    st.tuples(st.integers(0, 300 * SECOND), st.integers(0, 200 * SECOND), st.booleans()), min_size=1, max_size=30
)


@settings(max_examples=15, deadline=None)
@given(SPANS, st.integers(1, 9))
def test_the_timeline_is_that_of_a_slow_count(spans, size):
    """However the rows come, they are counted where they finished, and were in flight while they were."""
    records = [
        row(start=start / SECOND, took=took / SECOND, completion_tokens=took, cost_usd=took / 1e9, status_code=503)
        for start, took, _ in spans
    ]
    running = RunningTimeline()
    for failed, schema in ((False, RESULTS), (True, FAILURES)):
        mine = [record for record, (_, _, one) in zip(records, spans, strict=True) if one is failed]
        for first in range(0, len(mine), size):
            batch = to_batch(mine[first : first + size], schema)
            running.add(batch, logged(batch), failures=failed)
    found = running.timeline()
    count, width_us = len(found.succeeded), round(found.interval_s * SECOND)
    assert count <= MOST_INTERVALS
    frame = pd.DataFrame({"at": [(one.finished_at - found.began_at) // width_us for one in records]})
    frame["sent"] = [(one.started_at - found.began_at) // width_us for one in records]
    frame["failed"], frame["tokens"] = [failed for *_, failed in spans], [took for _, took, _ in spans]
    every = range(count)
    assert found.succeeded == frame[~frame.failed].groupby("at").size().reindex(every, fill_value=0).tolist()
    assert found.failed == frame[frame.failed].groupby("at").size().reindex(every, fill_value=0).tolist()
    assert found.completion_tokens == frame.groupby("at").tokens.sum().reindex(every, fill_value=0).tolist()
    assert found.throttled == frame[frame.failed].groupby("sent").size().reindex(every, fill_value=0).tolist()
    assert [round(usd * 1e9) for usd in found.cost_usd] == found.completion_tokens
    flights = [(one.started_at, one.finished_at) for one in records]
    assert found.in_flight == pytest.approx(brute_in_flight(flights, found.began_at, width_us, count), abs=0.001)


@pytest.mark.parametrize("first", [1, 2])
@pytest.mark.parametrize("step", [0.37, -0.37])
def test_a_timeline_that_grows_row_by_row(first, step):
    """Each time that two intervals become one, every row stays in its own; towards the past too."""
    records = [row(start=first / 64 + step * number, took=0) for number in range(200)]
    running = RunningTimeline()
    for record in records:
        batch = to_batch([record], RESULTS)
        running.add(batch, logged(batch))
    found = running.timeline()
    width_us = round(found.interval_s * SECOND)
    places = pd.Series([(one.finished_at - found.began_at) // width_us for one in records])
    assert found.succeeded == places.value_counts().reindex(range(len(found.succeeded)), fill_value=0).tolist()


def test_the_timeline_has_the_attempts_before():
    """They were in flight, and those that were turned away count where they began."""
    tried = log(attempt(1, 0.5, 429), attempt(2, 0.5, 503), attempt(3, 0.5, 500))
    timeline = report_of(row(start=4, took=1, attempts=4, attempt_log=tried)).timeline
    assert sum(timeline.throttled) == 2
    assert sum(timeline.in_flight) * timeline.interval_s == pytest.approx(2.5, abs=0.01)
    assert timeline.throttled[0] == 1
    assert timeline.began_at == START + SECOND


def test_the_mean_in_flight_is_of_the_active_time():
    """Two rows of 2 s in a session of 8 s."""
    sessions = [Session(started_at=START, wall_s=8)]
    assert report_of(row(0), row(1, start=3), sessions=sessions).throughput.mean_in_flight == 0.5


@pytest.mark.parametrize("far", [3600 * 24 * 365 * 50, 0.001])
def test_the_timeline_of_any_length_has_at_most_120_intervals(far):
    """Also where a clock was wrong by decades, or all was over in a moment."""
    timeline = report_of(row(0, took=0), row(1, start=far, took=0)).timeline
    assert len(timeline.succeeded) <= MOST_INTERVALS
    assert sum(timeline.succeeded) == 2


def test_without_rows_there_is_no_timeline():
    """And nobody asks for its bounds."""
    report = report_of()
    assert (report.timeline, report.time_s, report.time_shares, report.slowest) == (None, {}, {}, [])


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 50), max_size=60), st.integers(1, 20))
def test_the_slowest_are_those_of_a_sort(latencies, size):
    """The first of those that are as slow as each other, however the rows are cut."""
    records = [row(index, took=latency) for index, latency in enumerate(latencies)]
    slowest = Slowest()
    for first in range(0, len(records), size):
        slowest.add(to_batch(records[first : first + size], RESULTS))
    expected = sorted(records, key=lambda one: -one.latency_s)[:10]
    assert [one.custom_id for one in slowest.rows] == [one.custom_id for one in expected]


def test_the_slowest_say_what_they_were():
    """Enough to find them again, with texts that are cut."""
    values = {"model": "m" * 500, "ttft_s": 0.5, "queued_s": 0.1, "prompt_tokens": 7, "completion_tokens": 9}
    slow = report_of(row(3, attempts=2, finish_reason="stop", **values), row(4, latency_s=None)).slowest
    assert len(slow) == 1
    assert msgspec.structs.astuple(slow[0]) == ("row-3", "m" * 200, 2, 0.5, 0.1, 7, 9, 2, "stop")


@pytest.mark.parametrize("seed", [1, 2])
def test_past_a_size_percentiles_are_as_good_as_they_say(seed):
    """Any percentile is within the stated share of pandas'; mean, least and most are exact."""
    rng = np.random.default_rng(seed)
    values = np.concatenate([rng.lognormal(0, 2, 4000), np.zeros(50), rng.exponential(1e-4, 2000), [1e7]])
    rng.shuffle(values)
    many = Values(exact_values=1000)
    for part in np.array_split(values, 13):
        many.add(part)
    measured, expected = many.seconds(), pd.Series(values).quantile(np.arange(101) / 100).to_numpy()
    assert measured.relative_error == RELATIVE_ERROR < 0.005
    assert (np.abs(measured.quantiles_s - expected) <= expected * RELATIVE_ERROR * 1.0001 + 1e-6).all()
    assert (measured.count, measured.min_s, measured.max_s) == (6051, 0, 1e7)
    assert measured.mean_s == pytest.approx(values.mean())


def test_a_histogram_keeps_no_values():
    """Its memory does not grow with the rows."""
    many = Values(exact_values=1000)
    for _ in range(50):
        many.add(np.ones(1000))
    assert many._parts == []


def test_up_to_that_size_nothing_is_lost():
    """The percentiles are pandas' own, in any order of the parts."""
    values = np.random.default_rng(0).lognormal(0, 1, 999)
    exact = Values(exact_values=1000)
    for part in (values[500:], values[:500]):
        exact.add(part)
    measured = exact.seconds()
    assert measured.relative_error == 0
    assert measured.quantiles_s == pytest.approx(np.percentile(values, np.arange(101)).tolist(), rel=1e-12)


def test_derived_metrics():
    """Against pandas: time per output token, network and client, tokens a second of each answer."""
    rng = np.random.default_rng(4)
    frame = pd.DataFrame({"latency_s": rng.lognormal(0, 1, 300), "completion_tokens": rng.integers(0, 400, 300)})
    frame["ttft_s"] = frame.latency_s * rng.random(300)
    frame["server_processing_s"] = frame.latency_s * rng.random(300) * 1.1
    schema = pa.schema([RESULTS.field(name) for name in frame.columns])
    batch = pa.RecordBatch.from_pandas(frame, schema=schema, preserve_index=False)
    report = summarise([batch], [], RunFacts(name="run"))
    several = frame[frame.completion_tokens > 1]
    tpot = (several.latency_s - several.ttft_s) / (several.completion_tokens - 1)
    assert report.latency.tpot_s.count == len(several)
    assert report.latency.tpot_s.p90_s == pytest.approx(tpot.quantile(0.9))
    overhead = (frame.latency_s - frame.server_processing_s).clip(lower=0)
    assert report.latency.overhead_s.p99_s == pytest.approx(overhead.quantile(0.99))
    assert report.latency.overhead_s.min_s == 0
    a_second = frame.completion_tokens / frame.latency_s
    assert report.per_row.completion_tokens_per_s.p50 == pytest.approx(a_second.median())
    assert report.per_row.completion_tokens.mean == pytest.approx(frame.completion_tokens.mean())


def test_what_attempts_wasted():
    """Tokens and dollars of every answer that was charged and brought no result."""
    charged = attempt(0, 1, 200, usage=Usage(prompt_tokens=10, completion_tokens=5), cost_usd=7e-9)
    good = row(0, start=2, attempts=2, attempt_log=log(charged), cost_usd=20e-9, prompt_tokens=10)
    bad = row(1, start=2, attempts=2, attempt_log=log(charged), cost_usd=16e-9, prompt_tokens=10, completion_tokens=6)
    wasted = report_of(good, bad=(msgspec.structs.replace(bad, error_type="empty_response"),)).retries
    assert (wasted.wasted_prompt_tokens, wasted.wasted_completion_tokens) == (30, 16)
    assert wasted.wasted_cost_usd == 23e-9


def test_waste_without_a_price_is_not_known():
    """Tokens are, dollars are not."""
    charged = attempt(0, 1, 200, usage=Usage(prompt_tokens=10, completion_tokens=5))
    wasted = report_of(row(start=2, attempts=2, attempt_log=log(charged))).retries
    assert (wasted.wasted_prompt_tokens, wasted.wasted_cost_usd) == (10, None)
