"""The Arrow columns of a Record, declared and versioned: never inferred from what happens to be in a batch.

Text is `large_string`, so that no column can pass Arrow's 2 GiB limit; what a provider shapes is JSON text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa
from msgspec.structs import astuple

from batchrun.store.storable import storable
from batchrun.types import Record

if TYPE_CHECKING:
    from collections.abc import Sequence

SCHEMA_VERSION = 1
RESPONSE_HEAD_CHARS = 2048
"""How much of a failure's answer is kept."""

_text = pa.large_string()
_utc = pa.timestamp("us", "UTC")

RESULTS = pa.schema(
    [
        ("index", pa.int64()),
        ("custom_id", _text),
        ("request_key", pa.string()),
        ("model", pa.string()),
        ("requested_model", pa.string()),
        ("content", _text),
        ("reasoning_content", _text),
        ("refusal", _text),
        ("tool_calls", _text),
        ("choices", _text),
        ("messages", _text),
        ("logprobs", _text),
        ("embedding", pa.list_(pa.float32())),
        ("finish_reason", pa.string()),
        ("prompt_tokens", pa.int64()),
        ("cached_tokens", pa.int64()),
        ("completion_tokens", pa.int64()),
        ("reasoning_tokens", pa.int64()),
        ("total_tokens", pa.int64()),
        ("usage_source", pa.string()),
        ("cost_usd", pa.float64()),
        ("input", _text),
        ("attempts", pa.int32()),
        ("attempt_log", _text),
        ("turn_log", _text),
        ("queued_s", pa.float64()),
        ("latency_s", pa.float64()),
        ("ttft_s", pa.float64()),
        ("ttfvt_s", pa.float64()),
        ("itl_mean_s", pa.float64()),
        ("itl_p99_s", pa.float64()),
        ("server_ttft_s", pa.float64()),
        ("server_processing_s", pa.float64()),
        ("perf_metrics", _text),
        ("status_code", pa.int32()),
        ("request_id", pa.string()),
        ("started_at", _utc),
        ("finished_at", _utc),
        ("response", _text),
    ],
    metadata={"batchrun_schema_version": str(SCHEMA_VERSION)},
)

FAILURES = pa.schema(
    [
        ("index", pa.int64()),
        ("custom_id", _text),
        ("request_key", pa.string()),
        ("requested_model", pa.string()),
        ("error_type", pa.string()),
        ("error_code", pa.string()),
        ("error_message", _text),
        ("status_code", pa.int32()),
        ("request_id", pa.string()),
        ("attempts", pa.int32()),
        ("attempt_log", _text),
        ("messages", _text),
        ("turn_log", _text),
        ("prompt_tokens", pa.int64()),
        ("cached_tokens", pa.int64()),
        ("completion_tokens", pa.int64()),
        ("reasoning_tokens", pa.int64()),
        ("total_tokens", pa.int64()),
        ("usage_source", pa.string()),
        ("cost_usd", pa.float64()),
        ("input", _text),
        ("queued_s", pa.float64()),
        ("latency_s", pa.float64()),
        ("started_at", _utc),
        ("finished_at", _utc),
        ("response", _text),
    ],
    metadata={"batchrun_schema_version": str(SCHEMA_VERSION)},
)


def to_batch(records: Sequence[Record], schema: pa.Schema) -> pa.RecordBatch:
    """Build the columns of some records; the rows keep their order, and no value can break them: see `storable`."""
    try:
        columns = _columns(records, schema)
    except (pa.ArrowInvalid, OverflowError, UnicodeEncodeError):
        columns = _columns([storable(record) for record in records], schema)
    return pa.record_batch(columns, schema=schema)


def _columns(records: Sequence[Record], schema: pa.Schema) -> list[pa.Array]:
    columns = zip(*map(astuple, records), strict=True)
    by_name = dict(zip(Record.__struct_fields__, columns, strict=False))  # without records there are no columns
    return [_column(by_name.get(field.name, ()), field.type) for field in schema]


def _column(values: tuple[Any, ...], of_type: pa.DataType) -> pa.Array:
    if values and values[0] is None and values.count(None) == len(values):  # as half of the columns of most runs are
        return pa.nulls(len(values), of_type)
    return pa.array(values, of_type)
