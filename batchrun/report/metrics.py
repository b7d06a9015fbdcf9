"""Records in, Report out: pure, in one pass over record batches, without touching a row in Python."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from batchrun.report.summary import (
    Answers,
    Client,
    Cost,
    Distribution,
    Latency,
    ModelCost,
    Report,
    Retries,
    Rows,
    RunFacts,
    Session,
    Throughput,
    Tokens,
)
from batchrun.report.tally import AnswerCounts, ErrorCounts, Tally

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pyarrow as pa

    from batchrun.pricing import PriceBook
    from batchrun.report.tally import Floats

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
) -> Report:
    """Add up a run.

    Args:
        results: batches with (some of) RESULT_COLUMNS, in any order.
        failures: batches with (some of) FAILURE_COLUMNS.
        facts: what the records do not say.
        prices: the run's price table, if the report is to say what caching saved.
    """
    sessions = sorted(facts.sessions, key=lambda session: session.started_at)
    starts = [session.started_at for session in sessions]
    good = Tally(metrics=LATENCIES, session_starts=starts)
    bad = Tally(metrics=("latency_s",), session_starts=starts, failures=True)
    answers, errors = AnswerCounts(), ErrorCounts()
    for batch in results:
        good.add(batch)
        answers.add(batch)
    for batch in failures:
        bad.add(batch)
        errors.add(batch)
    tokens = _tokens(good, bad)
    began = [at for at in (good.first_started_at, bad.first_started_at) if at is not None]
    ends = np.maximum(good.session_ends, bad.session_ends)
    last = int(ends.max())
    last_finished_at = last if last > np.iinfo(np.int64).min else None
    active_s = _active_s(sessions, ends, min(began, default=None), last_finished_at)
    return Report(
        run=msgspec.structs.replace(facts, sessions=sessions),
        first_started_at=min(began, default=None),
        last_finished_at=last_finished_at,
        rows=_rows(good.rows, bad.rows, facts.rows),
        failures=errors.groups(),
        tokens=tokens,
        cost=_cost(good, bad, prices),
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
        ),
        limited=_limited(sessions),
        client=_client(sessions),
    )


def _rows(succeeded: int, failed: int, total: int | None) -> Rows:
    missing = None if total is None else max(total - succeeded - failed, 0)
    return Rows(total=total, succeeded=succeeded, failed=failed, missing=missing)


def _tokens(good: Tally, bad: Tally) -> Tokens:
    def both(name: str) -> int:
        return good.total(name) + bad.total(name)

    return Tokens(
        prompt_tokens=both("prompt_tokens"),
        cached_tokens=both("cached_tokens"),
        completion_tokens=both("completion_tokens"),
        reasoning_tokens=both("reasoning_tokens"),
        total_tokens=both("total_tokens"),
        rows_without_usage=both("without_usage"),
        rows_with_estimated_usage=both("estimated"),
    )


def _cost(good: Tally, bad: Tally, prices: PriceBook | None) -> Cost:
    by_model = _cost_by_model(good, bad)
    known = good.total("priced") + bad.total("priced")
    unpriced = good.total("unpriced") + bad.total("unpriced")
    without_usage = good.total("without_usage") + bad.total("without_usage")
    nano_usd = good.total("nano_usd") + bad.total("nano_usd")
    successes = good.total("priced")
    nothing_known = not known and bool(unpriced or without_usage)
    return Cost(
        cost_usd=None if nothing_known else nano_usd / 1e9,
        cost_partial=bool(unpriced or without_usage),
        failures_cost_usd=None if bad.total("unpriced") and not bad.total("priced") else bad.total("nano_usd") / 1e9,
        mean_usd_per_row=nano_usd / successes / 1e9 if successes else None,
        usd_per_1000_rows=nano_usd / successes / 1e6 if successes else None,
        saved_by_caching_usd=_saved_by_caching_usd(good, bad, prices) if prices else None,
        unpriced_rows=unpriced,
        unpriced_models=[row.model for row in by_model if row.unpriced_rows],
        by_model=by_model,
    )


def _by_model(good: Tally, bad: Tally, name: str) -> Counter[str]:
    sums: Counter[str] = Counter()
    for tally in (good, bad):
        for model, slot in tally.models.slots.items():
            sums[model] += tally.sums[name][slot]
    return sums


def _cost_by_model(good: Tally, bad: Tally) -> list[ModelCost]:
    names = ("rows", "unpriced", "priced", "prompt_tokens", "completion_tokens", "nano_usd")
    sums = {name: _by_model(good, bad, name) for name in names}
    return [
        ModelCost(
            model=model,
            rows=rows,
            unpriced_rows=sums["unpriced"][model],
            prompt_tokens=sums["prompt_tokens"][model],
            completion_tokens=sums["completion_tokens"][model],
            cost_usd=sums["nano_usd"][model] / 1e9 if sums["priced"][model] else None,
        )
        for model, rows in sorted(sums["rows"].items(), key=lambda item: (-sums["nano_usd"][item[0]], item[0]))
    ]


def _saved_by_caching_usd(good: Tally, bad: Tally, prices: PriceBook) -> float:
    pico_usd = 0
    for model, cached in _by_model(good, bad, "cached_prompt_tokens").items():
        price = prices.price_for(model)
        if price is not None:
            pico_input, pico_cached, _ = price.pico_usd_per_token
            pico_usd += cached * (pico_input - pico_cached)
    return pico_usd / 1e12


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
