"""What a folder holds of each row of its input, in the order of the input, whether the row succeeded or failed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from batchrun.store.schema import FAILURES, RESULTS
from batchrun.store.snapshot import Snapshot
from batchrun.types import Record

if TYPE_CHECKING:
    from collections.abc import Iterator

    from batchrun.store.snapshot import Kind

COLUMNS = (
    *("custom_id", "content", "finish_reason", "error_type", "error_code", "error_message"),
    *("reasoning_content", "refusal", "tool_calls", "choices", "messages", "logprobs", "embedding", "model"),
    *("prompt_tokens", "cached_tokens", "completion_tokens", "reasoning_tokens", "total_tokens", "usage_source"),
    *("cost_usd", "attempts", "queued_s", "latency_s", "ttft_s", "status_code", "request_id"),
    *("started_at", "finished_at"),
)
"""What a program most often asks for; the folder has the rest, as the answer as it came."""

_KINDS: tuple[Kind, Kind] = ("results", "failures")
_SCHEMAS = dict(zip(_KINDS, (RESULTS, FAILURES), strict=True))
_SCHEMA = pa.unify_schemas([RESULTS, FAILURES]).remove_metadata()
SCHEMA = pa.schema([_SCHEMA.field(name) for name in COLUMNS])


def answers(folder: str) -> pa.Table:
    """One row for each row of the input, in its order, with `SCHEMA`; nulls where a row was not sent.

    Raises:
        FolderUnusable: there is no run, or it is damaged.
    """
    snapshot = Snapshot(folder)
    tables = [
        snapshot.table(kind, ["index", *(name for name in COLUMNS if name in _SCHEMAS[kind].names)]) for kind in _KINDS
    ]
    found = pa.concat_tables(tables, promote_options="default")
    place = np.full(snapshot.run.rows, -1)
    place[found.column("index").to_numpy()] = np.arange(found.num_rows)
    return found.select(COLUMNS).take(pa.array(place, mask=place < 0))


def records(folder: str, leave_out: bytearray) -> Iterator[Record]:
    """The record of each row that is kept and is not marked in `leave_out`, one byte a row; in no order."""
    snapshot = Snapshot(folder)
    for kind in _KINDS:
        for batch in snapshot.batches(kind):
            wanted = pa.array([not leave_out[index] for index in batch.column("index").to_pylist()], pa.bool_())
            yield from (_record(row) for row in _in_us(batch.filter(wanted)).to_pylist())


def _in_us(batch: pa.RecordBatch) -> pa.RecordBatch:
    columns = [column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column for column in batch.columns]
    return pa.record_batch(columns, names=batch.schema.names)


def _record(row: dict[str, Any]) -> Record:
    return Record(**{name: value for name, value in row.items() if value is not None})
