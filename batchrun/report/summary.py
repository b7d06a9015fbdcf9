"""The shape of a report, which is the shape of report/summary.json: counts, sums, dollars and seconds.

None means unknown, never zero. Times of day are whole microseconds since 1970-01-01 UTC.
"""

from __future__ import annotations

import json

import msgspec

from batchrun.pricing import Tier

SUMMARY_VERSION = 1


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """One go at a run. `ended_at` is None while it is going on, and after a crash.

    `limited_s` are seconds by what bound them, `ceilings` how many requests might be in flight, from which second on.
    """

    started_at: int
    ended_at: int | None = None
    exit_code: int | None = None
    cause: str = ""
    requests: int | None = None
    free_retries: int | None = None
    throttled: int | None = None
    mended: int | None = None
    limited_s: dict[str, float] = {}
    ceilings: list[tuple[float, int]] = []
    loop_lag_p99_s: float | None = None
    loop_lag_max_s: float | None = None
    wall_s: float | None = None


class RunFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What a report needs to know that is not in the records; `rows` counts the input's.

    `concurrency` is how many requests the user allowed to be in flight, in the last session. `replaced_rows` were
    answered for an earlier input and are in no other figure; they cost `replaced_cost_usd`. `tier` is what the
    configuration asks for.
    """

    name: str
    rows: int | None = None
    concurrency: int | None = None
    models: list[str] = []
    endpoint: str = ""
    simulated: bool = False
    tier: Tier = "standard"
    price_date: str | None = None
    price_source: str | None = None
    sessions: list[Session] = []
    replaced_rows: int = 0
    replaced_cost_usd: float = 0.0


class Rows(msgspec.Struct, frozen=True, kw_only=True):
    """Rows of the input; those `missing` have neither a result nor a failure yet."""

    total: int | None
    succeeded: int
    failed: int
    missing: int | None


class FailureExample(msgspec.Struct, frozen=True, kw_only=True):
    """One failed row; its texts are cut to 200 characters."""

    custom_id: str
    message: str


class FailureGroup(msgspec.Struct, frozen=True, kw_only=True):
    """The failures of one `error_type`, with its share of all failures (0 to 1)."""

    error_type: str
    rows: int
    share: float
    examples: list[FailureExample]


class Tokens(msgspec.Struct, frozen=True, kw_only=True):
    """Sums over results and failures. Prompt tokens include cached ones, completion tokens include reasoning.

    `cached_share` (0 to 1) is of the prompt tokens of rows that say how many were cached, None if none does.
    `retried_tokens`, prompt and completion, were charged for answers that were tried again; no other figure has them.
    """

    prompt_tokens: int
    cached_tokens: int
    cached_share: float | None
    completion_tokens: int
    reasoning_tokens: int
    total_tokens: int
    retried_tokens: int
    rows_without_usage: int
    rows_with_estimated_usage: int


class ModelCost(msgspec.Struct, frozen=True, kw_only=True):
    """What one requested model used; `cost_usd` is None if no row of it has a known cost."""

    model: str
    rows: int
    unpriced_rows: int
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float | None


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """Exact sums of the rows' costs, failures included.

    `cost_partial`: something is missing in it, because a model has no price or the endpoint stated no usage: of a row,
    or of `unsettled_attempts`, which timed out or broke off before another one and may be charged. `cost_high_usd` is
    what it came to if none of that cost more than the dearest row of its model; None where that is not known. The two
    means are over the successes whose cost is known, and carry the failures' cost too.
    """

    cost_usd: float | None
    cost_high_usd: float | None
    cost_partial: bool
    unsettled_attempts: int
    failures_cost_usd: float | None
    mean_usd_per_row: float | None
    usd_per_1000_rows: float | None
    saved_by_caching_usd: float | None
    unpriced_rows: int
    unpriced_models: list[str]
    by_model: list[ModelCost]


class Bill(msgspec.Struct, frozen=True, kw_only=True):
    """What some attempts were charged for, those that were tried again included; `rows` were settled by them.

    `cost_partial`: the answers of `rows_without_usage` are not in it, nor those of `unpriced_rows`.
    """

    rows: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    cost_usd: float | None
    cost_partial: bool
    rows_without_usage: int
    unpriced_rows: int
    unpriced_models: list[str]


class WhatIf(msgspec.Struct, frozen=True, kw_only=True):
    """The bill of the same tokens under other prices.

    `difference_usd` is how much more that is than `compared_usd`, which the rows cost that have a price in both.
    """

    prices: str
    bill: Bill
    compared_usd: float
    difference_usd: float


class Distribution(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds; percentiles are interpolated linearly, as pandas' and numpy's are by default."""

    count: int
    mean_s: float
    min_s: float
    p50_s: float
    p90_s: float
    p95_s: float
    p99_s: float
    max_s: float


class Latency(msgspec.Struct, frozen=True, kw_only=True):
    """How long the successes took, and apart from them the failures; None where nothing was measured."""

    latency_s: Distribution | None
    ttft_s: Distribution | None
    queued_s: Distribution | None
    server_ttft_s: Distribution | None
    server_processing_s: Distribution | None
    itl_mean_s: Distribution | None
    failures_latency_s: Distribution | None


class Throughput(msgspec.Struct, frozen=True, kw_only=True):
    """Settled rows and tokens per second of active time.

    `active_s` is the sessions' wall time. A session that left none (it is going on, or was killed) counts from its
    start to the last row that finished in it; without any session it is first start to last finish.
    """

    active_s: float
    rows_per_s: float | None
    prompt_tokens_per_s: float | None
    completion_tokens_per_s: float | None


class Retries(msgspec.Struct, frozen=True, kw_only=True):
    """Attempts that brought no result are wasted. The last three are what sessions counted, None if none did."""

    rows_retried: int
    attempts: int
    attempts_wasted: int
    requests: int | None
    free_retries: int | None
    throttled: int | None


class Answers(msgspec.Struct, frozen=True, kw_only=True):
    """How answers ended.

    `reasoning_overflow`: cut off with every completion token spent on reasoning. `mended`: held what no column can,
    and have U+FFFD or null there; None where no session counted them.
    """

    finish_reasons: dict[str, int]
    truncated: int
    reasoning_overflow: int
    mended: int | None = None


class Client(msgspec.Struct, frozen=True, kw_only=True):
    """The worst loop lag of all sessions; past 0.1 s (p99) this machine, not the endpoint, was the bottleneck."""

    loop_lag_p99_s: float | None
    loop_lag_max_s: float | None
    client_bound: bool


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What a run came to. `limited` has what bound it, the largest first, as shares (0 to 1) of the time measured.

    `last_session` is the part of the whole that was charged since the last of several sessions began.
    """

    summary_version: int = SUMMARY_VERSION
    run: RunFacts
    first_started_at: int | None
    last_finished_at: int | None
    rows: Rows
    failures: list[FailureGroup]
    tokens: Tokens
    cost: Cost
    last_session: Bill | None = None
    what_if: WhatIf | None = None
    latency: Latency
    throughput: Throughput
    retries: Retries
    answers: Answers
    limited: dict[str, float]
    client: Client


def to_json(report: Report) -> bytes:
    """Indented JSON in pure ASCII: no text from outside can steer the terminal that prints it, and none is changed."""
    text = json.dumps(msgspec.to_builtins(report), indent=2, ensure_ascii=True, allow_nan=False)
    return text.encode("ascii") + b"\n"
