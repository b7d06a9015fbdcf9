"""What is kept of a row: one record, of its completion or of the error that it ended with."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import msgspec

from batchrun.errors import Ambiguous, AnswerInvalid
from batchrun.types import Attempt, Completion, Record, Usage

if TYPE_CHECKING:
    from batchrun.engine.attempts import Row
    from batchrun.errors import EndpointError, PromptError
    from batchrun.types import UsageSource

MOST_LOGGED_ATTEMPTS = 50
MESSAGE_CHARS = 1000
RESPONSE_HEAD_CHARS = 2048
_NO_USAGE = Usage()


def record_of(row: Row, outcome: Completion | EndpointError, *, keep_response: bool) -> Record:
    """The record of a row whose last attempt had this outcome; its cost is that of all attempts."""
    request, usage = row.request, outcome.usage or _NO_USAGE
    record = Record(
        index=request.index,
        custom_id=request.custom_id,
        request_key=request.request_key,
        requested_model=request.model,
        prompt_tokens=usage.prompt_tokens,
        cached_tokens=usage.cached_tokens,
        completion_tokens=usage.completion_tokens,
        reasoning_tokens=usage.reasoning_tokens,
        total_tokens=usage.total_tokens,
        usage_source=_usage_source(row, outcome),
        cost_usd=sum_usd(row.cost_usd, *(attempt.cost_usd for attempt in row.log)) if row.log else row.cost_usd,
        input=request.input,
        attempts=len(row.log) + 1,
        attempt_log=_log_text(row.log),
        queued_s=row.queued_s,
        started_at=row.started_at,
        finished_at=time.time_ns() // 1000,
    )
    if isinstance(outcome, Completion):
        return _answered(record, outcome, outcome.response if keep_response else None)
    response = outcome.response[:RESPONSE_HEAD_CHARS] if outcome.response else None
    return msgspec.structs.replace(record, latency_s=row.latency_s, response=response, **_error_fields(outcome))


def _answered(record: Record, completion: Completion, response: str | None) -> Record:
    return msgspec.structs.replace(
        record,
        model=completion.model,
        content=completion.content,
        reasoning_content=completion.reasoning_content,
        refusal=completion.refusal,
        tool_calls=completion.tool_calls,
        choices=completion.choices,
        logprobs=completion.logprobs,
        embedding=completion.embedding,
        finish_reason=completion.finish_reason,
        latency_s=completion.latency_s,
        ttft_s=completion.ttft_s,
        ttfvt_s=completion.ttfvt_s,
        itl_mean_s=completion.itl_mean_s,
        itl_p99_s=completion.itl_p99_s,
        server_ttft_s=completion.server_ttft_s,
        server_processing_s=completion.server_processing_s,
        perf_metrics=completion.perf_metrics,
        status_code=completion.status_code,
        request_id=completion.request_id,
        response=response,
    )


def attempt_of(row: Row, error: EndpointError) -> Attempt:
    """What is kept of an attempt that another one follows."""
    return Attempt(
        number=len(row.log) + 1,
        turn=row.turn,
        started_at=row.started_at,
        latency_s=row.latency_s,
        retry_after_s=error.retry_after_s,
        usage=error.usage,
        cost_usd=row.cost_usd,
        **_error_fields(error),
    )


def invalid_record(error: PromptError) -> Record:
    """The record of a row that could not be sent."""
    now = time.time_ns() // 1000
    index = error.index or 0
    return Record(
        index=index,
        custom_id=error.custom_id or f"row-{index}",
        error_type="input_invalid",
        error_message=error.message[:MESSAGE_CHARS],
        started_at=now,
        finished_at=now,
    )


def _usage_source(row: Row, outcome: Completion | EndpointError) -> UsageSource | None:
    """Whether what was charged is known; None where nothing was: refused, turned away, not sent."""
    if outcome.usage:
        return "estimated" if row.usage_estimated else "endpoint"
    return "missing" if isinstance(outcome, Completion | Ambiguous | AnswerInvalid) else None


def _error_fields(error: EndpointError) -> dict[str, Any]:
    return {
        "error_type": error.error_type,
        "error_code": error.error_code,
        "error_message": error.message[:MESSAGE_CHARS] or type(error).__name__,
        "status_code": error.status_code,
        "request_id": error.request_id,
    }


def sum_usd(*costs_usd: float | None) -> float | None:
    """A sum in whole nano-dollars; None if nothing of it is known."""
    known = [round(usd * 1e9) for usd in costs_usd if usd is not None]
    return sum(known) / 1e9 if known else None


def _log_text(log: list[Attempt]) -> str | None:
    """The attempts before the last as JSON text; of a very long story the beginning and the end."""
    if len(log) > MOST_LOGGED_ATTEMPTS:
        half = MOST_LOGGED_ATTEMPTS // 2
        log = log[:half] + log[-half:]
    return msgspec.json.encode(log).decode() if log else None
