"""Records in, Report out: every number against an independent computation, and what is unknown stays unknown."""

from __future__ import annotations

import json
import subprocess
import sys

import msgspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchrun.pricing import Price, PriceBook
from batchrun.report.measured import LATENCIES
from batchrun.report.metrics import FAILURE_COLUMNS, RESULT_COLUMNS, summarise
from batchrun.report.summary import Report, RunFacts, Session, to_json
from batchrun.report.sums import MAX_NAMES, OTHER, ExactSums
from batchrun.store.schema import FAILURES, RESULTS, to_batch
from batchrun.types import Record

FACTS = RunFacts(name="run")
SECOND = 1_000_000
MODELS = ["accounts/fireworks/models/glm-5p3-flash", "simulated/small", "local"]


def results(*records: Record) -> list[pa.RecordBatch]:
    """One batch of successes."""
    return [to_batch(records, RESULTS)]


def failures(*records: Record) -> list[pa.RecordBatch]:
    """One batch of failures."""
    return [to_batch(records, FAILURES)]


def record(index: int = 0, **values) -> Record:
    """A record of one attempt."""
    return Record(index=index, custom_id=f"row-{index}", **{"attempts": 1, **values})


def usage(prompt: int, completion: int, **values) -> dict:
    """The usual columns of an answer that stated its usage."""
    stated = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
    return {**stated, "usage_source": "endpoint", **values}


def frame(seed: int, rows: int = 2000) -> pd.DataFrame:
    """Rows with nulls in every column where nulls may be, as pandas' nullable types."""
    rng = np.random.default_rng(seed)

    def nullable(values, dtype: str, share: float = 0.1) -> pd.Series:
        return pd.Series(values).astype(dtype).mask(rng.random(rows) < share)

    started = rng.integers(1_790_000_000 * SECOND, 1_790_000_600 * SECOND, rows)
    columns = {
        "custom_id": pd.Series([f"row-{i}" for i in range(rows)]),
        "requested_model": nullable(rng.choice(MODELS, rows), "string"),
        "model": pd.Series(rng.choice(MODELS, rows), dtype="string"),
        "finish_reason": nullable(rng.choice(["stop", "length", "tool_calls"], rows), "string"),
        "usage_source": pd.Series(rng.choice(["endpoint", "estimated"], rows), dtype="string"),
        "cost_usd": nullable(rng.integers(0, 10**9, rows) / 1e9, "float64"),
        "attempts": pd.Series(rng.integers(1, 4, rows)).astype("int32"),
        "attempt_log": pd.Series([None] * rows, dtype="string"),
        "turn_log": pd.Series([None] * rows, dtype="string"),
        "started_at": pd.Series(started),
        "finished_at": pd.Series(started + rng.integers(0, 9 * SECOND, rows)),
        "error_type": pd.Series(rng.choice(["timed_out", "server_error", "rate_limited"], rows), dtype="string"),
        "error_message": pd.Series(["no answer"] * rows, dtype="string"),
        "status_code": pd.Series(rng.choice([429, 500, 503], rows)).astype("int32"),
        "perf_metrics": pd.Series([None] * rows, dtype="string"),
    }
    for name in ("prompt_tokens", "cached_tokens", "completion_tokens", "reasoning_tokens", "total_tokens"):
        columns[name] = nullable(rng.integers(0, 5000, rows), "Int64", 0.2)
    for name in LATENCIES:
        columns[name] = nullable(rng.lognormal(0, 1, rows), "float64")
    return pd.DataFrame(columns)


def batches(table: pd.DataFrame, schema: pa.Schema, names: tuple[str, ...], size: int) -> list[pa.RecordBatch]:
    """A frame as record batches of the run folder's own types."""
    fields = pa.schema([schema.field(name) for name in names])
    return pa.Table.from_pandas(table[list(names)], schema=fields, preserve_index=False).to_batches(max_chunksize=size)


@pytest.fixture(scope="module", params=[1, 2, 3])
def generated(request):
    """A generated run: its frames, and its report."""
    good, bad = frame(request.param), frame(request.param + 100, 300)
    report = summarise(
        batches(good, RESULTS, RESULT_COLUMNS, 170),
        batches(bad, FAILURES, FAILURE_COLUMNS, 70),
        RunFacts(name="run", rows=2500),
    )
    return good, bad, report


def test_columns_are_those_of_the_folder():
    """Everything that a report reads is a declared column."""
    assert set(RESULT_COLUMNS) <= set(RESULTS.names)
    assert set(FAILURE_COLUMNS) <= set(FAILURES.names)


def test_rows(generated):
    """Rows that have neither a result nor a failure are missing."""
    rows = generated[2].rows
    assert (rows.total, rows.succeeded, rows.failed, rows.missing) == (2500, 2000, 300, 200)


@pytest.mark.parametrize("name", ["prompt_tokens", "cached_tokens", "completion_tokens", "reasoning_tokens"])
def test_token_sums(generated, name):
    """Tokens are those of results and failures together, as pandas adds them."""
    good, bad, report = generated
    assert getattr(report.tokens, name) == good[name].sum() + bad[name].sum()


def test_total_tokens(generated):
    """Where the endpoint did not state a total, it is prompt and completion."""
    good, bad, report = generated
    both = pd.concat([good, bad])
    parts = both.prompt_tokens.fillna(0) + both.completion_tokens.fillna(0)
    assert report.tokens.total_tokens == both.total_tokens.fillna(parts).sum()


def test_rows_without_and_with_estimated_usage(generated):
    """A success without prompt and completion tokens has no usage; estimates are counted apart."""
    good, bad, report = generated
    silent = good.prompt_tokens.isna() & good.completion_tokens.isna()
    assert report.tokens.rows_without_usage == silent.sum()
    assert report.tokens.rows_with_estimated_usage == (pd.concat([good, bad]).usage_source == "estimated").sum()


def test_cost_is_the_sum_of_the_rows(generated):
    """The total is the rows' nano-dollars, each a whole number."""
    good, bad, report = generated
    nano = [[round(usd * 1e9) for usd in side.cost_usd.dropna()] for side in (good, bad)]
    assert round(report.cost.cost_usd * 1e9) == sum(nano[0]) + sum(nano[1])
    assert round(report.cost.failures_cost_usd * 1e9) == sum(nano[1])
    assert report.cost.mean_usd_per_row == pytest.approx((sum(nano[0]) + sum(nano[1])) / 1e9 / len(nano[0]))
    assert report.cost.usd_per_1000_rows == pytest.approx(report.cost.mean_usd_per_row * 1000)


def test_cost_by_model(generated):
    """Rows, tokens and cost go to the requested model, or to the served one where none was requested."""
    good, bad, report = generated
    both = pd.concat([good, bad.assign(model=pd.NA)])
    both["name"] = both.requested_model.fillna(both.model).fillna("(unknown)")
    unpriced = both.cost_usd.isna() & ~(both.prompt_tokens.isna() & both.completion_tokens.isna())
    assert report.cost.unpriced_rows == unpriced.sum()
    assert {row.model for row in report.cost.by_model} == set(both.name)
    for row in report.cost.by_model:
        mine = both[both.name == row.model]
        assert row.rows == len(mine)
        assert row.unpriced_rows == unpriced[both.name == row.model].sum()
        assert row.prompt_tokens == mine.prompt_tokens.sum()
        assert row.completion_tokens == mine.completion_tokens.sum()
        assert round(row.cost_usd * 1e9) == sum(round(usd * 1e9) for usd in mine.cost_usd.dropna())


@pytest.mark.parametrize("name", LATENCIES)
def test_distributions(generated, name):
    """Percentiles are pandas' quantiles, over the successes alone."""
    good, _, report = generated
    measured, seconds = getattr(report.latency, name), good[name].dropna()
    assert measured.count == len(seconds)
    expected = [seconds.mean(), seconds.min(), *seconds.quantile([0.5, 0.9, 0.95, 0.99]), seconds.max()]
    assert list(msgspec.structs.astuple(measured)[1:8]) == pytest.approx(expected)
    assert measured.quantiles_s == pytest.approx(seconds.quantile(np.arange(101) / 100).tolist())


def test_latency_of_failures_is_apart(generated):
    """A failure's latency is no latency of an answer."""
    _, bad, report = generated
    assert report.latency.failures_latency_s.p95_s == pytest.approx(bad.latency_s.quantile(0.95))


def test_failures_by_type(generated):
    """The most frequent reason comes first, with its share of the failures and three examples."""
    _, bad, report = generated
    counts = bad.error_type.value_counts().to_dict()
    assert {group.error_type: group.rows for group in report.failures} == counts
    assert [group.rows for group in report.failures] == sorted(counts.values(), reverse=True)
    assert [group.share for group in report.failures] == [group.rows / 300 for group in report.failures]
    for group in report.failures:
        first = bad[bad.error_type == group.error_type].custom_id.head(3).tolist()
        assert [example.custom_id for example in group.examples] == first


def test_retries(generated):
    """Every attempt that brought no result was wasted."""
    good, bad, report = generated
    attempts = good.attempts.sum() + bad.attempts.sum()
    assert report.retries.attempts == attempts
    assert report.retries.attempts_wasted == attempts - len(good)
    assert report.retries.rows_retried == (good.attempts > 1).sum() + (bad.attempts > 1).sum()


def test_finish_reasons(generated):
    """Answers are counted by how they ended, and those cut off are named."""
    good, _, report = generated
    assert report.answers.finish_reasons == good.finish_reason.value_counts().to_dict()
    assert report.answers.truncated == (good.finish_reason == "length").sum()


def test_throughput_without_sessions(generated):
    """Where no session says how long it took, it is first start to last finish."""
    good, bad, report = generated
    both = pd.concat([good, bad])
    assert (report.first_started_at, report.last_finished_at) == (both.started_at.min(), both.finished_at.max())
    active_s = (both.finished_at.max() - both.started_at.min()) / SECOND
    assert report.throughput.active_s == active_s
    assert report.throughput.rows_per_s == pytest.approx(2300 / active_s)
    assert report.throughput.prompt_tokens_per_s == pytest.approx(both.prompt_tokens.sum() / active_s)
    assert report.throughput.completion_tokens_per_s == pytest.approx(both.completion_tokens.sum() / active_s)


@pytest.mark.parametrize("size", [1, 7, 100_000])
def test_a_stream_gives_what_one_batch_gives(size):
    """How the rows are cut into batches does not matter."""
    good, bad = frame(5, 80), frame(6, 40)

    def report(rows: int) -> bytes:
        sides = batches(good, RESULTS, RESULT_COLUMNS, rows), batches(bad, FAILURES, FAILURE_COLUMNS, rows)
        return to_json(summarise(*map(iter, sides), FACTS))

    assert report(size) == report(50)


GOOD = st.lists(st.integers(0, 2**50), min_size=1, max_size=40)
BAD = st.lists(st.integers(0, 2**50), max_size=10)


@settings(max_examples=30, deadline=None)
@given(GOOD, BAD)
def test_money_adds_up_exactly(good, bad):
    """For any rows, the report's total is the sum of their nano-dollars."""
    report = summarise(
        results(*(record(i, cost_usd=nano / 1e9) for i, nano in enumerate(good))),
        failures(*(record(i, cost_usd=nano / 1e9, error_type="timed_out") for i, nano in enumerate(bad))),
        FACTS,
    )
    assert report.cost.cost_usd == (sum(good) + sum(bad)) / 1e9


@pytest.mark.rig
@settings(max_examples=200, deadline=None)
@given(GOOD, BAD)
def test_any_money_adds_up_exactly(good, bad):
    """The same for many more."""
    test_money_adds_up_exactly.hypothesis.inner_test(good, bad)


@given(st.lists(st.tuples(st.integers(0, MAX_NAMES), st.integers(-(2**63), 2**63 - 1)), max_size=50))
def test_sums_do_not_overflow(pairs):
    """Sums of 64-bit integers are right beyond 64 bits."""
    sums = ExactSums()
    sums.add(*(np.array(column, np.int64) for column in (zip(*pairs, strict=True) if pairs else ([], []))))
    assert sums.total() == sum(value for _, value in pairs)
    assert all(sums[slot] == sum(value for at, value in pairs if at == slot) for slot, _ in pairs)


def test_absurd_usage_is_added_up_all_the_same():
    """Tokens at the end of 64 bits, and a cost that no float holds to the cent, break nothing."""
    huge = usage(2**62, 2**62, cost_usd=1e30)
    report = summarise(results(*(record(i, **{**huge, "total_tokens": None}) for i in range(4))), [], FACTS)
    assert report.tokens.total_tokens == 2**65
    assert report.cost.cost_usd > 1e6


@pytest.mark.parametrize("empty", [[], results(), results() * 3])
def test_an_empty_run(empty):
    """Without rows nothing is measured, nothing is unknown, and nothing fails."""
    report = summarise(empty, [], RunFacts(name="run", rows=0))
    assert (report.rows.missing, report.failures, report.latency.latency_s, report.last_finished_at) == (
        0,
        [],
        None,
        None,
    )
    assert (report.throughput.active_s, report.throughput.rows_per_s, report.cost.cost_partial) == (0, None, False)


def test_batches_may_lack_columns():
    """A column that is not there is unknown in every row."""
    batch = pa.record_batch({"index": [1, 2]})
    report = summarise([batch], [batch], FACTS)
    assert (report.rows.succeeded, report.tokens.rows_without_usage) == (2, 2)
    assert [(group.error_type, group.rows) for group in report.failures] == [("(unknown)", 2)]


def test_columns_may_be_dictionaries():
    """Text that was read as a dictionary counts as text."""
    reason = pa.array(["stop", "length", "stop"]).dictionary_encode()
    report = summarise([pa.record_batch({"finish_reason": reason})], [], FACTS)
    assert report.answers.finish_reasons == {"stop": 2, "length": 1}


def test_one_row():
    """All percentiles of one row are that row."""
    row = record(latency_s=0.5, started_at=0, finished_at=SECOND // 2, cost_usd=0.002, **usage(10, 20))
    report = summarise(results(row), [], FACTS)
    assert set(msgspec.structs.astuple(report.latency.latency_s)[1:8]) == {0.5}
    assert (report.throughput.rows_per_s, report.cost.usd_per_1000_rows, report.cost.cost_partial) == (2, 2, False)


def test_the_turns_of_a_conversation_are_no_retries():
    """Three turns take three attempts at least; a failure in the third has two answers before it."""
    log = json.dumps([{"turn": 1, "attempts": 1}, {"turn": 2, "attempts": 1}])
    three = json.dumps([{"turn": turn, "attempts": 1} for turn in (1, 2, 3)])
    good = [record(turn_log=three, attempts=3), record(1, turn_log=three, attempts=5)]
    bad = [record(2, turn_log=log, attempts=3, error_type="timed_out")]
    bad += [record(3, turn_log=log, attempts=6, error_type="timed_out")]
    retries = summarise(results(*good), failures(*bad), RunFacts(name="run", rows=4)).retries
    assert (retries.rows_retried, retries.attempts, retries.attempts_wasted) == (2, 17, 7)


def test_only_failures():
    """Failures that were not charged cost nothing, and leave no mean to speak of."""
    report = summarise([], failures(record(error_type="timed_out", attempts=4)), RunFacts(name="run", rows=1))
    assert (report.rows.failed, report.rows.missing, report.retries.attempts_wasted) == (1, 0, 4)
    assert (report.cost.cost_usd, report.cost.cost_partial, report.cost.mean_usd_per_row) == (0, False, None)


def test_all_unpriced():
    """Without any price the cost is unknown, never zero, and the model is named."""
    report = summarise(results(record(requested_model="local", **usage(1, 1))), [], FACTS)
    assert (report.cost.cost_usd, report.cost.cost_partial, report.cost.unpriced_models) == (None, True, ["local"])
    assert report.cost.by_model[0].cost_usd is None


def test_missing_usage_makes_the_total_partial():
    """One answer without usage: the rest is added up, and called partial."""
    report = summarise(results(record(0, cost_usd=1e-6, **usage(1, 1)), record(1)), [], FACTS)
    assert (report.cost.cost_usd, report.cost.cost_partial, report.cost.unpriced_rows) == (1e-6, True, 0)
    assert report.tokens.rows_without_usage == 1


def test_a_failure_that_was_answered_without_usage_makes_the_total_partial():
    """What was charged for it is unknown; a failure that was never answered was not charged."""
    rows = [record(i, error_type="empty_response", usage_source=source) for i, source in enumerate(["missing", None])]
    report = summarise(results(record(2, cost_usd=1e-6, **usage(1, 1))), failures(*rows), FACTS)
    assert (report.cost.cost_partial, report.tokens.rows_without_usage) == (True, 1)


def test_charged_failures_are_part_of_the_price_of_a_row():
    """What failures cost is spread over the answers that were got."""
    bad = record(0, error_type="empty_response", cost_usd=0.003, **usage(1, 1))
    report = summarise(results(record(1, cost_usd=0.001, **usage(1, 1))), failures(bad), FACTS)
    assert (report.cost.failures_cost_usd, report.cost.mean_usd_per_row) == (0.003, 0.004)


def test_what_caching_saved():
    """Each cached token saves the difference of the two prices; more cached tokens than prompt tokens cannot be."""
    price = Price(model="m", input_usd_per_mtok=1, cached_input_usd_per_mtok=0.25, output_usd_per_mtok=1)
    book = PriceBook(date="", source="", prices={"m": price})
    rows = [
        record(i, requested_model="m", **usage(1000, 1, cached_tokens=cached)) for i, cached in enumerate([400, 9999])
    ]
    unknown = record(2, requested_model="local", **usage(1000, 1, cached_tokens=1000))
    report = summarise(results(*rows, unknown), [], FACTS, prices=book)
    assert report.cost.saved_by_caching_usd == pytest.approx(1400 * 0.75e-6)


def test_sessions_are_added_up():
    """Wall times, throttled requests and free retries are sums, loop lag is the worst; nights between do not count."""
    night = 86_400 * SECOND
    sessions = [
        Session(
            started_at=night, exit_code=0, wall_s=3.0, requests=5, throttled=2, loop_lag_p99_s=0.2, loop_lag_max_s=0.3
        ),
        Session(started_at=0, exit_code=130, wall_s=1.0, requests=4, free_retries=1, loop_lag_p99_s=0.01),
    ]
    rows = [record(i, started_at=at, finished_at=at + SECOND) for i, at in enumerate([0, night])]
    report = summarise(results(*rows), [], RunFacts(name="run", sessions=sessions))
    assert (report.throughput.active_s, report.throughput.rows_per_s) == (4, 0.5)
    assert (report.retries.requests, report.retries.throttled, report.retries.free_retries) == (9, 2, 1)
    assert (report.client.loop_lag_p99_s, report.client.loop_lag_max_s, report.client.client_bound) == (0.2, 0.3, True)
    assert [session.exit_code for session in report.run.sessions] == [130, 0]


def test_a_killed_session_counts_up_to_its_last_row():
    """A crash leaves no wall time: the session lasted at least until its last answer, and not until the next one."""
    night = 86_400 * SECOND
    sessions = [Session(started_at=0), Session(started_at=night, wall_s=2.0), Session(started_at=2 * night)]
    rows = [record(0, started_at=0, finished_at=5 * SECOND), record(1, started_at=night, finished_at=night + SECOND)]
    report = summarise(results(*rows), [], RunFacts(name="run", sessions=sessions))
    assert report.throughput.active_s == 7


def test_a_row_that_finishes_as_a_session_starts_is_that_sessions():
    """The session before, which was killed, does not grow by the time between the two."""
    sessions = [Session(started_at=0), Session(started_at=100 * SECOND)]
    rows = [record(0, finished_at=5 * SECOND), record(1, finished_at=100 * SECOND)]
    assert summarise(results(*rows), [], RunFacts(name="run", sessions=sessions)).throughput.active_s == 5


@pytest.mark.parametrize(("lag_s", "bound"), [(None, False), (0.1, False), (0.11, True)])
def test_past_a_tenth_of_a_second_the_client_is_the_bottleneck(lag_s, bound):
    """The limit stands in the rules; unknown is not past it."""
    sessions = [Session(started_at=0, loop_lag_p99_s=lag_s)]
    assert summarise([], [], RunFacts(name="run", sessions=sessions)).client.client_bound is bound


def test_reasoning_overflow():
    """Cut off with every token spent on reasoning, or empty for that reason: both are named."""
    good = [
        record(0, finish_reason="length", **usage(1, 50, reasoning_tokens=50)),
        record(1, finish_reason="length", **usage(1, 50, reasoning_tokens=49)),
        record(2, finish_reason="stop", **usage(1, 50, reasoning_tokens=50)),
        record(3, finish_reason="length"),
    ]
    bad = record(4, error_type="empty_response", **usage(1, 50, reasoning_tokens=50))
    report = summarise(results(*good), failures(bad), FACTS)
    assert (report.answers.truncated, report.answers.reasoning_overflow) == (3, 2)


def test_examples_are_cut():
    """What an endpoint writes into an error is shown up to 200 characters."""
    report = summarise([], failures(record(error_type="server_error", error_message="x" * 5000)), FACTS)
    assert report.failures[0].examples[0].message == "x" * 200


def test_names_do_not_grow_without_bound():
    """An endpoint that invents a finish_reason a row, and an input with a model a row, fill no memory."""
    rows = [record(i, finish_reason=f"f{i}" * 1000, requested_model=f"m{i}", cost_usd=1e-9) for i in range(500)]
    report = summarise(results(*rows), [], FACTS)
    reasons = report.answers.finish_reasons
    assert (len(reasons), reasons[OTHER], max(map(len, reasons))) == (MAX_NAMES + 1, 400, 200)
    models = {row.model: row.rows for row in report.cost.by_model}
    assert (len(models), models[OTHER], report.cost.cost_usd) == (MAX_NAMES + 1, 400, 5e-7)


def test_measurements_that_are_no_numbers_are_left_out():
    """A server that reports NaN or infinity as its processing time is not averaged."""
    rows = [record(i, server_processing_s=value) for i, value in enumerate([1.0, float("nan"), float("inf"), None])]
    assert summarise(results(*rows), [], FACTS).latency.server_processing_s.count == 1


def test_summary_json_holds_the_report(generated):
    """What is written is what is read."""
    report = generated[2]
    assert msgspec.json.decode(to_json(report), type=Report) == report
    assert msgspec.json.decode(to_json(report))["summary_version"] == 1


def test_summary_json_is_ascii_and_changes_nothing():
    """Printed to a terminal it cannot steer it, and a script reads the text as it was."""
    hostile = "\x1b[2J\x9b31m\u202eé"
    text = to_json(summarise([], [], RunFacts(name=hostile)))
    assert text.isascii()
    assert b"\x1b" not in text
    assert msgspec.json.decode(text, type=Report).run.name == hostile


MILLION = """
import resource, sys
import numpy as np, pyarrow as pa
from batchrun.report.measured import LATENCIES
from batchrun.report.metrics import RunFacts, summarise
from batchrun.store.schema import RESULTS

def batches(rows, size=20_000):
    rng = np.random.default_rng(7)
    text = pa.array(["stop"] * size)
    for _ in range(rows // size):
        columns = {name: rng.random(size) for name in (*LATENCIES, "cost_usd")}
        columns |= {name: rng.integers(1, 5000, size) for name in ("prompt_tokens", "completion_tokens", "attempts")}
        columns |= {name: rng.integers(0, 10**15, size) for name in ("started_at", "finished_at")}
        yield pa.record_batch({**columns, "finish_reason": text, "model": text, "requested_model": text})

def peak_mb():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform == "linux" else 1024**2)

summarise(batches(20_000), [], RunFacts(name="run"))
before = peak_mb()
report = summarise(batches(1_000_000), [], RunFacts(name="run"))
print(report.rows.succeeded, report.latency.latency_s.count, peak_mb() - before)
"""


@pytest.mark.rig
def test_a_million_rows_take_bounded_memory():
    """A million rows take 8 bytes a row and metric, a copy of one metric, and little else."""
    done = subprocess.run([sys.executable, "-c", MILLION], capture_output=True, text=True, check=True)
    rows, measured, grown_mb = done.stdout.split()
    assert (rows, measured) == ("1000000", "1000000")
    assert float(grown_mb) < 150
