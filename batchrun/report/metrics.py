"""Records in, Report out: pure, in one pass over record batches, without touching a row in Python."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from batchrun.address import is_fireworks
from batchrun.report.bills import RunningBill, paid_prices
from batchrun.report.costs import cost_of, tokens_of
from batchrun.report.groups import Groups, KeptColumn
from batchrun.report.logged import logged
from batchrun.report.measured import LATENCIES, Measured
from batchrun.report.phases import RunningPhases
from batchrun.report.slowest import Slowest
from batchrun.report.summary import (
    Answers,
    Breakdown,
    Client,
    Report,
    Retries,
    Rows,
    RunFacts,
    Session,
    Throughput,
    Tokens,
)
from batchrun.report.tally import AnswerCounts, ErrorCounts, Tally
from batchrun.report.tiers import Tiers
from batchrun.report.timeline import RunningTimeline

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pyarrow as pa

    from batchrun.pricing import PriceBook
    from batchrun.report.bills import OtherPrices

__all__ = ["FAILURE_COLUMNS", "INPUT", "RESULT_COLUMNS", "Report", "RunFacts", "Session", "summarise"]

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
    "custom_id",
)
RESULT_COLUMNS = (*_SHARED, "model", "finish_reason", *LATENCIES, "perf_metrics")
"""The columns of results/ that a report is made of; the others need not be read."""
FAILURE_COLUMNS = (*_SHARED, "error_type", "error_message", "status_code", "queued_s", "latency_s")
"""The columns of failures/ that a report is made of."""
INPUT = "input"
"""The column of both that the cost by an input column needs too."""

CLIENT_BOUND_S = 0.1


def summarise(
    results: Iterable[pa.RecordBatch],
    failures: Iterable[pa.RecordBatch],
    facts: RunFacts,
    *,
    prices: PriceBook | None = None,
    what_if: OtherPrices | None = None,
    by: str | None = None,
) -> Report:
    """Add up a run.

    Args:
        results: batches with (some of) RESULT_COLUMNS, in any order.
        failures: batches with (some of) FAILURE_COLUMNS.
        facts: what the records do not say.
        prices: the run's price table, if the report is to say what caching saved, what the last session cost, and what
            each service tier did.
        what_if: other prices, if the report is to say what the same tokens cost under them.
        by: an input column that the run kept, if the report is to say what each of its values cost; INPUT is then read.
    """
    sessions = sorted(facts.sessions, key=lambda session: session.started_at)
    starts = [session.started_at for session in sessions]
    good, bad = Tally(starts), Tally(starts, failures=True)
    answers, errors = AnswerCounts(), ErrorCounts()
    measured, slowest = Measured(), Slowest()
    phases, timeline = RunningPhases(starts), RunningTimeline()
    last = RunningBill(paid_prices(prices, facts.tier), since=starts[-1]) if prices and len(starts) > 1 else None
    other = RunningBill(what_if.prices_for) if what_if else None
    tiers, by_tier = Tiers(prices, facts.tier) if prices else None, Groups()
    column, by_column = KeptColumn(by) if by else None, Groups(prices)

    def add(batch: pa.RecordBatch, *, failed: bool) -> None:
        attempts = logged(batch)
        (bad if failed else good).add(batch, attempts)
        phases.add(batch, attempts, failures=failed)
        timeline.add(batch, attempts, failures=failed)
        for bill in filter(None, (last, other)):
            bill.add(batch, failures=failed)
        if tiers:
            by_tier.add(*tiers.of(batch), failures=failed)
        if column:
            by_column.add(batch, column.of(batch), failures=failed)

    for batch in results:
        add(batch, failed=False)
        answers.add(batch)
        measured.add(batch)
        slowest.add(batch)
    for batch in failures:
        add(batch, failed=True)
        errors.add(batch)
        measured.add_failures(batch)
    tokens, time_s = tokens_of(good, bad), phases.seconds()
    began = min((at for at in (good.first_started_at, bad.first_started_at) if at is not None), default=None)
    ends = np.maximum(good.session_ends, bad.session_ends)
    ended = int(ends.max()) if ends.max() > np.iinfo(np.int64).min else None
    active_s = _active_s(sessions, ends, began, ended)
    return Report(
        run=msgspec.structs.replace(facts, sessions=sessions),
        first_started_at=began,
        last_finished_at=ended,
        rows=_rows(good.rows, bad.rows, facts.rows),
        failures=errors.groups(),
        tokens=tokens,
        cost=cost_of(
            good,
            bad,
            prices,
            tier=facts.tier,
            active_s=active_s,
            short_names=facts.simulated or is_fireworks(facts.endpoint),
        ),
        by_tier=by_tier.costs(),
        by_column=Breakdown(column=by, groups=by_column.costs()) if by else None,
        last_session=last.bill() if last else None,
        what_if=other.what_if(what_if.name) if other and what_if else None,
        latency=measured.latency(),
        per_row=measured.per_row(),
        throughput=_throughput(good.rows + bad.rows, tokens, timeline.out_s, active_s),
        time_s=time_s,
        time_shares={phase: seconds / sum(time_s.values()) for phase, seconds in time_s.items()},
        slowest=slowest.rows,
        timeline=timeline.timeline(),
        retries=_retries(good, bad, sessions),
        answers=Answers(
            finish_reasons=dict(answers.reasons.most_common()),
            truncated=answers.reasons["length"],
            reasoning_overflow=answers.overflow + errors.overflow,
            empty=errors.types["empty_response"],
            mended=_sum_of_known([session.mended for session in sessions]),
        ),
        limited=_limited(sessions),
        client=_client(sessions),
    )


def _throughput(settled: int, tokens: Tokens, out_s: float, active_s: float) -> Throughput:
    return Throughput(
        active_s=active_s,
        rows_per_s=settled / active_s if active_s else None,
        prompt_tokens_per_s=tokens.prompt_tokens / active_s if active_s else None,
        completion_tokens_per_s=tokens.completion_tokens / active_s if active_s else None,
        mean_in_flight=out_s / active_s if active_s else None,
    )


def _rows(succeeded: int, failed: int, total: int | None) -> Rows:
    missing = None if total is None else max(total - succeeded - failed, 0)
    return Rows(total=total, succeeded=succeeded, failed=failed, missing=missing)


def _active_s(sessions: list[Session], ends: Any, first: int | None, last: int | None) -> float:
    if not sessions:
        return max(last - first, 0) / 1e6 if first is not None and last is not None else 0.0
    return sum(
        session.wall_s if session.wall_s is not None else max(int(end) - session.started_at, 0) / 1e6
        for session, end in zip(sessions, ends[1:], strict=True)
    )


def _retries(good: Tally, bad: Tally, sessions: list[Session]) -> Retries:
    attempts = good.total("attempts") + bad.total("attempts")
    known = not (good.total("retried_unpriced") or bad.total("unpriced") or bad.total("retried_unpriced"))
    return Retries(
        rows_retried=good.total("retried") + bad.total("retried"),
        attempts=attempts,
        attempts_wasted=max(attempts - good.total("answered") - bad.total("answered"), 0),
        requests=_sum_of_known([session.requests for session in sessions]),
        free_retries=_sum_of_known([session.free_retries for session in sessions]),
        throttled=_sum_of_known([session.throttled for session in sessions]),
        wasted_prompt_tokens=_wasted(good, bad, "prompt_tokens"),
        wasted_completion_tokens=_wasted(good, bad, "completion_tokens"),
        wasted_cost_usd=(good.total("retried_nano_usd") + bad.total("nano_usd")) / 1e9 if known else None,
    )


def _wasted(good: Tally, bad: Tally, name: str) -> int:
    return good.total(f"retried_{name}") + bad.total(f"retried_{name}") + bad.total(name)


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
