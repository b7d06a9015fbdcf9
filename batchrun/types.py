"""The nouns, in the order a row meets them: Prompt, Request, Usage, Completion, Attempt, Record.

Field names are the columns of a run folder; every unit is in its name. All times of day are whole microseconds since
1970-01-01 UTC, all durations are seconds of a monotonic clock, all text that a provider shapes is kept as JSON text.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

Api = Literal["chat", "completions", "embeddings"]
UsageSource = Literal["endpoint", "estimated", "missing"]
ErrorType = Literal[
    "input_invalid",
    "request_rejected",
    "context_length_exceeded",
    "content_filtered",
    "authentication",
    "billing",
    "not_found",
    "rate_limited",
    "server_error",
    "overloaded",
    "connection_failed",
    "timed_out",
    "response_unreadable",
    "response_truncated",
    "response_too_large",
    "response_invalid",
    "empty_response",
]


class Prompt(msgspec.Struct, frozen=True, kw_only=True):
    """One input row: its position from 0, its id, where it stands (`prompts.jsonl:17`), and its values by column."""

    index: int
    custom_id: str
    where: str
    row: dict[str, Any]


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """The exact bytes that are sent for a prompt; `request_key` is a 128-bit hash of endpoint, API path and body.

    Of a conversation `body` asks one turn, `turns` are the user's words that follow it, and `so_far` is the record of
    the turns before it; its `request_key` stands for all turns.
    """

    index: int
    custom_id: str
    request_key: str
    api: Api
    model: str
    body: bytes
    input: str | None = None
    stream: bool = False
    turns: tuple[str, ...] = ()
    so_far: Record | None = None


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens as the endpoint stated them; None where it did not say.

    `prompt_tokens` includes `cached_tokens`, `completion_tokens` includes `reasoning_tokens` (OpenAI protocol).
    """

    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    completion_tokens: int | None = None
    reasoning_tokens: int | None = None
    total_tokens: int | None = None


class Hints(msgspec.Struct, frozen=True, kw_only=True):
    """What an answer's headers say of the endpoint's limits, per minute; None where they do not."""

    requests_per_minute: float | None = None
    prompt_tokens_per_minute: float | None = None
    uncached_prompt_tokens_per_minute: float | None = None
    generated_tokens_per_minute: float | None = None


class Completion(msgspec.Struct, frozen=True, kw_only=True):
    """One usable answer, with what it used and what the endpoint measured of it.

    It is `mended` if it held what no column can, which stands as it came in `response` alone. `service_tier` is the one
    that the answer names, which it is charged in; None where it names none, as Fireworks' do.
    """

    model: str | None = None
    content: str | None = None
    reasoning_content: str | None = None
    refusal: str | None = None
    tool_calls: str | None = None
    choices: str | None = None
    logprobs: str | None = None
    embedding: list[float | None] | None = None
    finish_reason: str | None = None
    usage: Usage | None = None
    usage_estimated: bool = False
    service_tier: str | None = None
    mended: bool = False
    latency_s: float
    ttft_s: float | None = None
    ttfvt_s: float | None = None
    itl_mean_s: float | None = None
    itl_p99_s: float | None = None
    server_ttft_s: float | None = None
    server_processing_s: float | None = None
    perf_metrics: str | None = None
    status_code: int
    request_id: str | None = None
    response: str | None = None
    hints: Hints | None = None


class Attempt(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One try of a request that did not bring a completion; of a conversation `number` counts within its `turn`."""

    number: int
    turn: int | None = None
    started_at: int
    latency_s: float
    error_type: ErrorType
    error_code: str | None = None
    error_message: str
    status_code: int | None = None
    request_id: str | None = None
    retry_after_s: float | None = None
    usage: Usage | None = None
    cost_usd: float | None = None


class Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind", tag="record"):
    """All that is kept of a prompt: one journal line, one Parquet row. A failure is a record with an `error_type`.

    Times (`_at`) are microseconds since 1970 in UTC, durations (`_s`) seconds, money (`_usd`) US dollars. Texts such as
    `tool_calls` hold JSON. docs/run-folder.md says what each column is.
    """

    index: int
    custom_id: str
    request_key: str | None = None
    requested_model: str | None = None
    model: str | None = None
    content: str | None = None
    reasoning_content: str | None = None
    refusal: str | None = None
    tool_calls: str | None = None
    choices: str | None = None
    messages: str | None = None
    logprobs: str | None = None
    embedding: list[float | None] | None = None
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    completion_tokens: int | None = None
    reasoning_tokens: int | None = None
    total_tokens: int | None = None
    usage_source: UsageSource | None = None
    cost_usd: float | None = None
    input: str | None = None
    attempts: int = 0
    attempt_log: str | None = None
    turn_log: str | None = None
    queued_s: float | None = None
    latency_s: float | None = None
    ttft_s: float | None = None
    ttfvt_s: float | None = None
    itl_mean_s: float | None = None
    itl_p99_s: float | None = None
    server_ttft_s: float | None = None
    server_processing_s: float | None = None
    perf_metrics: str | None = None
    status_code: int | None = None
    request_id: str | None = None
    started_at: int | None = None
    finished_at: int | None = None
    response: str | None = None
    error_type: ErrorType | None = None
    error_code: str | None = None
    error_message: str | None = None
