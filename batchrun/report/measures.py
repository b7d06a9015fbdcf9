"""The shape of time and speed in a report: seconds, tokens a second, and what happened when; None means unknown."""

from __future__ import annotations

import msgspec


class Distribution(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds; percentiles are interpolated linearly, as pandas' and numpy's are by default.

    `quantiles_s` are 101 values, the 0th to the 100th percentile. Past EXACT_VALUES values the percentiles between the
    least and the most are read from a histogram: they are wrong by at most the share `relative_error` of themselves.
    """

    count: int
    mean_s: float
    min_s: float
    p50_s: float
    p90_s: float
    p95_s: float
    p99_s: float
    max_s: float
    quantiles_s: list[float] = []
    relative_error: float = 0.0


class Spread(msgspec.Struct, frozen=True, kw_only=True):
    """Counts or rates, measured as a Distribution measures seconds."""

    count: int
    mean: float
    min: float
    p50: float
    p90: float
    p95: float
    p99: float
    max: float
    quantiles: list[float] = []
    relative_error: float = 0.0


class Latency(msgspec.Struct, frozen=True, kw_only=True):
    """How long the successes took, and apart from them the failures; None where nothing was measured.

    Of a row with several attempts it is the last one's. `tpot_s` is the time per output token after the first,
    (latency - ttft) / (completion_tokens - 1); `itl_mean_s` and `itl_p99_s` are of the gaps between a stream's pieces;
    `overhead_s` is latency - server_processing: the network, and this machine's part.
    """

    latency_s: Distribution | None
    ttft_s: Distribution | None
    ttfvt_s: Distribution | None = None
    tpot_s: Distribution | None = None
    itl_mean_s: Distribution | None
    itl_p99_s: Distribution | None = None
    queued_s: Distribution | None
    server_ttft_s: Distribution | None
    server_processing_s: Distribution | None
    overhead_s: Distribution | None = None
    failures_latency_s: Distribution | None


class PerRow(msgspec.Struct, frozen=True, kw_only=True):
    """How long the successes' prompts and answers are, and how fast each came: completion_tokens / latency."""

    prompt_tokens: Spread | None = None
    completion_tokens: Spread | None = None
    completion_tokens_per_s: Spread | None = None


class Throughput(msgspec.Struct, frozen=True, kw_only=True):
    """Settled rows and tokens per second of active time, and how many requests were in flight on the mean.

    `active_s` is the sessions' wall time. A session that left none (it is going on, or was killed) counts from its
    start to the last row that finished in it; without any session it is first start to last finish.
    """

    active_s: float
    rows_per_s: float | None
    prompt_tokens_per_s: float | None
    completion_tokens_per_s: float | None
    mean_in_flight: float | None = None


class Timeline(msgspec.Struct, frozen=True, kw_only=True):
    """What happened when: lists of equal length, one value for each of at most 120 intervals of `interval_s`.

    The first begins at `began_at` (microseconds). Rows, their tokens and their cost count where the row finished,
    `throttled` attempts (answered 429 or 503) where they began; `in_flight` is the mean number of requests that were
    out: rows between `started_at` and `finished_at`, and the attempts before.
    """

    began_at: int
    interval_s: float
    succeeded: list[int]
    failed: list[int]
    completion_tokens: list[int]
    in_flight: list[float]
    throttled: list[int]
    cost_usd: list[float]


class SlowRow(msgspec.Struct, frozen=True, kw_only=True):
    """One of the successes with the longest latency."""

    custom_id: str
    model: str
    latency_s: float
    ttft_s: float | None = None
    queued_s: float | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    attempts: int = 0
    finish_reason: str | None = None
