"""A record as a span: when it was, and what is said of it; never a prompt, an answer or a message of the endpoint.

The names are those of OpenTelemetry's conventions for generative AI, version 0.1.0 (the repository
open-telemetry/semantic-conventions-genai), and of the general ones; what has no name there begins with `batchrun.`.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

import msgspec

from batchrun.types import Attempt, Record

if TYPE_CHECKING:
    from batchrun.config import EndpointConfig
    from batchrun.types import Api

Attributes = dict[str, str | int | float | list[str]]

_OPERATIONS: dict[Api, str] = {"chat": "chat", "completions": "text_completion", "embeddings": "embeddings"}
_PORTS = {"http": 80, "https": 443}
_NAMES = {
    "gen_ai.request.model": "requested_model",
    "gen_ai.response.model": "model",
    "gen_ai.usage.input_tokens": "prompt_tokens",
    "gen_ai.usage.cache_read.input_tokens": "cached_tokens",
    "gen_ai.usage.output_tokens": "completion_tokens",
    "gen_ai.usage.reasoning.output_tokens": "reasoning_tokens",
    "http.response.status_code": "status_code",
    "error.type": "error_type",
    **{
        f"batchrun.{name}": name
        for name in ("index", "custom_id", "request_id", "attempts", "cost_usd", "queued_s", "latency_s", "ttft_s")
    },
}
_MOST_CHARS = 500
_LARGEST = 2**63 - 1
"""The largest number that the protocol holds: a larger one, from whatever endpoint, would be an error in the log."""


class Choice(msgspec.Struct):
    """As much of a choice as is told: not its text."""

    finish_reason: Any = None


class Times(NamedTuple):
    """Microseconds since 1970-01-01 UTC."""

    began_at: int
    ended_at: int


_choices_of = msgspec.json.Decoder(list[Choice]).decode
_attempts_of = msgspec.json.Decoder(list[Attempt]).decode


def endpoint_attributes(endpoint: EndpointConfig) -> Attributes:
    """What is the same in every span of a run; the embedded endpoint has no address worth telling."""
    operation = {"gen_ai.operation.name": _OPERATIONS[endpoint.api]}
    if endpoint.simulated:
        return {**operation, "gen_ai.provider.name": "simulated"}
    url = urlsplit(endpoint.base_url)
    return {
        **operation,
        "gen_ai.provider.name": "fireworks" if endpoint.is_fireworks else "openai",  # whose dialect is spoken
        "server.address": url.hostname or "",
        "server.port": url.port or _PORTS[url.scheme],
    }


def record_attributes(record: Record) -> Attributes:
    """What a record says of itself; what is not known is left out."""
    told = told_of({name: getattr(record, field) for name, field in _NAMES.items()})
    if reasons := _finish_reasons(record):
        told["gen_ai.response.finish_reasons"] = reasons
    return told


def failed_attempts(record: Record, since: int) -> list[Attempt]:
    """The attempts before the last; of a conversation those that were not made by an earlier start."""
    if not record.attempt_log:
        return []
    return [attempt for attempt in _attempts_of(record.attempt_log) if attempt.started_at >= since]


def attempt_attributes(attempt: Attempt) -> Attributes:
    """What is said of an attempt that another one followed."""
    return told_of(
        {
            "error.type": attempt.error_type,
            "http.response.status_code": attempt.status_code,
            "batchrun.attempt": attempt.number,
            "batchrun.turn": attempt.turn,
            "batchrun.latency_s": attempt.latency_s,
            "batchrun.retry_after_s": attempt.retry_after_s,
        }
    )


def times_of(record: Record, attempts: list[Attempt], since: int) -> Times:
    """From the first sending to the record, as the conventions want it of what is retried; never before `since`."""
    starts = [record.started_at or since, *(attempt.started_at for attempt in attempts)]
    began_at = max(since, min(starts))
    return Times(began_at=began_at, ended_at=max(began_at, record.finished_at or 0))


def told_of(values: dict[str, Any]) -> Attributes:
    """Those of some values that are known, and that the protocol can hold."""
    return {name: fit for name, value in values.items() if (fit := _fitting(value)) is not None}


def _finish_reasons(record: Record) -> list[str]:
    """One for each choice; `error` is the conventions' word for one that has none."""
    reasons: list[Any] = [record.finish_reason] if record.finish_reason else []
    with suppress(msgspec.DecodeError, UnicodeError):  # whatever the endpoint sends, it is no reason to end a run
        reasons = [one.finish_reason for one in _choices_of(record.choices)] if record.choices else reasons
    return [str(_fitting(reason)) if isinstance(reason, str) else "error" for reason in reasons]


def _fitting(value: Any) -> str | int | float | None:
    """A value as the protocol takes it; texts are shaped by the endpoint, so they are cut, and made whole."""
    if isinstance(value, str):
        return value[:_MOST_CHARS].encode("utf-8", "replace").decode()
    if isinstance(value, int):
        return value if abs(value) <= _LARGEST else None
    return value if isinstance(value, float) else None
