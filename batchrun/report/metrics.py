"""Records in, Report out: pure, in one pass over record batches, without touching a row in Python."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from batchrun.report.bills import RunningBill, paid_prices
from batchrun.report.costs import cost_of, tokens_of
from batchrun.report.summary import (
    Answers,
    Client,
    Distribution,
    Latency,
    Report,
    Retries,
    Rows,
    RunFacts,
    Session,
    Throughput,
)
from batchrun.report.tally import AnswerCounts, ErrorCounts, Tally

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pyarrow as pa

    from batchrun.pricing import PriceBook
    from batchrun.report.bills import OtherPrices
    from batchrun.report.columns import Floats

__all__ = ["FAILURE_COLUMNS", "RESULT_COLUMNS", "Report", "RunFacts", "Session", "summarise"]

LATENCIES = ("latency_s", "ttft_s", "queued_s", "server_ttft_s", "server_processing_s", "itl_mean_s")
_SHARED = (
    "requested_model",
    "prompt_tokens",
    "cached_tokens",
    "completion_tokens",
    "reasoning_tokens",
    "total_tokens",
    "usage_source",
    "cost_usd",
    "attempts",
    "attempt_log",
    "turn_log",
    "started_at",
    "finished_at",
)
RESULT_COLUMNS = (*_SHARED, "model", "finish_reason", *LATENCIES)
"""The columns of results/ that a report is made of; the others need not be read."""
FAILURE_COLUMNS = (*_SHARED, "custom_id", "error_type", "error_message", "latency_s")
"""The columns of failures/ that a report is made of."""

CLIENT_BOUND_S = 0.1


def summarise(
    results: Iterable[pa.RecordBatch],
    failures: Iterable[pa.RecordBatch],
    facts: RunFacts,
    *,
    prices: PriceBook | None = None,
    what_if: OtherPrices | None = None,
) -> Report:
    """Add up a run.

    Args:
        results: batches with (some of) RESULT_COLUMNS, in any order.
        failures: batches with (some of) FAILURE_COLUMNS.
        facts: what the records do not say.
        prices: the run's price table, if the report is to say what caching saved, and what the last session cost.
        what_if: other prices, if the report is to say what the same tokens cost under them.
    """
    sessions = sorted(facts.sessions, key=lambda session: session.started_at)
    starts = [session.started_at for session in sessions]
    good = Tally(metrics=LATENCIES, session_starts=starts)
    bad = Tally(metrics=("latency_s",), session_starts=starts, failures=True)
    answers, errors = AnswerCounts(), ErrorCounts()
    last = RunningBill(paid_prices(prices, facts.tier), since=starts[-1]) if prices and len(starts) > 1 else None
    other = RunningBill(what_if.prices_for) if what_if else None
    bills = [bill for bill in (last, other) if bill]
    for batch in results:
        good.add(batch)
        answers.add(batch)
        for bill in bills:
            bill.add(batch)
    for batch in failures:
        bad.add(batch)
        errors.add(batch)
        for bill in bills:
            bill.add(batch, failures=True)
    tokens = tokens_of(good, bad)
    began = [at for at in (good.first_started_at, bad.first_started_at) if at is not None]
    ends = np.maximum(good.session_ends, bad.session_ends)
    last_end = int(ends.max())
    last_finished_at = last_end if last_end > np.iinfo(np.int64).min else None
    active_s = _active_s(sessions, ends, min(began, default=None), last_finished_at)
    return Report(
        run=msgspec.structs.replace(facts, sessions=sessions),
        first_started_at=min(began, default=None),
        last_finished_at=last_finished_at,
        rows=_rows(good.rows, bad.rows, facts.rows),
        failures=errors.groups(),
        tokens=tokens,
        cost=cost_of(good, bad, prices),
        last_session=last.bill() if last else None,
        what_if=other.what_if(what_if.name) if other and what_if else None,
        latency=Latency(
            **{name: _distribution(good.seconds(name)) for name in LATENCIES},
            failures_latency_s=_distribution(bad.seconds("latency_s")),
        ),
        throughput=Throughput(
            active_s=active_s,
            rows_per_s=(good.rows + bad.rows) / active_s if active_s else None,
            prompt_tokens_per_s=tokens.prompt_tokens / active_s if active_s else None,
            completion_tokens_per_s=tokens.completion_tokens / active_s if active_s else None,
        ),
        retries=_retries(good, bad, sessions),
        answers=Answers(
            finish_reasons=dict(answers.reasons.most_common()),
            truncated=answers.reasons["length"],
            reasoning_overflow=answers.overflow + errors.overflow,
            mended=_sum_of_known([session.mended for session in sessions]),
        ),
        limited=_limited(sessions),
        client=_client(sessions),
    )


def _rows(succeeded: int, failed: int, total: int | None) -> Rows:
    missing = None if total is None else max(total - succeeded - failed, 0)
    return Rows(total=total, succeeded=succeeded, failed=failed, missing=missing)


def _distribution(seconds: Floats) -> Distribution | None:
    if not len(seconds):
        return None
    mean, least = float(seconds.mean()), float(seconds.min())
    p50, p90, p95, p99, most = np.percentile(seconds, (50, 90, 95, 99, 100), overwrite_input=True).tolist()
    return Distribution(
        count=len(seconds), mean_s=mean, min_s=least, p50_s=p50, p90_s=p90, p95_s=p95, p99_s=p99, max_s=most
    )


def _active_s(sessions: list[Session], ends: Any, first: int | None, last: int | None) -> float:
    if not sessions:
        return max(last - first, 0) / 1e6 if first is not None and last is not None else 0.0
    return sum(
        session.wall_s if session.wall_s is not None else max(int(end) - session.started_at, 0) / 1e6
        for session, end in zip(sessions, ends[1:], strict=True)
    )


def _retries(good: Tally, bad: Tally, sessions: list[Session]) -> Retries:
    attempts = good.total("attempts") + bad.total("attempts")
    return Retries(
        rows_retried=good.total("retried") + bad.total("retried"),
        attempts=attempts,
        attempts_wasted=max(attempts - good.total("answered") - bad.total("answered"), 0),
        requests=_sum_of_known([session.requests for session in sessions]),
        free_retries=_sum_of_known([session.free_retries for session in sessions]),
        throttled=_sum_of_known([session.throttled for session in sessions]),
    )


def _sum_of_known(values: list[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _client(sessions: list[Session]) -> Client:
    p99_s = max((session.loop_lag_p99_s for session in sessions if session.loop_lag_p99_s is not None), default=None)
    max_s = max((session.loop_lag_max_s for session in sessions if session.loop_lag_max_s is not None), default=None)
    return Client(loop_lag_p99_s=p99_s, loop_lag_max_s=max_s, client_bound=(p99_s or 0) > CLIENT_BOUND_S)


def _limited(sessions: list[Session]) -> dict[str, float]:
    sums: defaultdict[str, float] = defaultdict(float)
    for session in sessions:
        for bound, seconds in session.limited_s.items():
            sums[bound] += max(seconds, 0.0)
    total_s = sum(sums.values())
    return {bound: s / total_s for bound, s in sorted(sums.items(), key=lambda item: (-item[1], item[0])) if s}
