"""Columns of a record batch as arrays; a column that is not there is unknown in every row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]
    Floats = NDArray[np.float64]
    Flags = NDArray[np.bool_]

UNKNOWN = "(unknown)"
NANO = 1e9
MOST = 1e30
"""Above any time, count or price; a billion such values still have a sum."""
MOST_NANO_USD = float(2**53)
"""Nine million dollars a row: the last whole nano-dollar that a float64 holds."""


def models(batch: pa.RecordBatch) -> pa.Array:
    """The model of every row: as requested, else as served, else UNKNOWN."""
    requested = _column(batch, "requested_model")
    if requested is not None and not requested.null_count:
        return requested
    unknown = pa.scalar(UNKNOWN, pa.large_string())
    return pc.coalesce(texts(batch, "requested_model"), texts(batch, "model"), unknown)


def nano_usd(batch: pa.RecordBatch) -> tuple[Ints, Flags]:
    """What each row cost in whole nano-dollars, 0 where that is not known, and where it is."""
    usd = floats(batch, "cost_usd")
    known = np.isfinite(usd)
    nano = np.rint(np.clip(np.where(known, usd, 0) * NANO, -MOST_NANO_USD, MOST_NANO_USD)).astype(np.int64)
    return nano, known


def has_usage(batch: pa.RecordBatch) -> Flags:
    """Which rows say how many tokens they took."""
    _, has_prompt = ints(batch, "prompt_tokens")
    _, has_completion = ints(batch, "completion_tokens")
    return has_prompt | has_completion


def lacks_usage(batch: pa.RecordBatch, *, failures: bool) -> Flags:
    """Which rows were answered without saying how many tokens they took.

    A failure without usage was not answered, unless the store says that an answer kept it from us.
    """
    lacking = ~has_usage(batch)
    return lacking & equals(texts(batch, "usage_source"), "missing") if failures else lacking


def ints(batch: pa.RecordBatch, name: str) -> tuple[Ints, Flags]:
    """A column as int64 (times in microseconds) with 0 for null, and which rows are not null."""
    column = _column(batch, name)
    if column is None:
        return np.zeros(batch.num_rows, np.int64), np.zeros(batch.num_rows, np.bool_)
    column = column if column.type == pa.int64() else column.cast(pa.int64())
    if not column.null_count:
        return column.to_numpy(), np.ones(batch.num_rows, np.bool_)
    known: Flags = column.is_valid().to_numpy(zero_copy_only=False)
    values: Ints = pc.fill_null(column, 0).to_numpy()
    return values, known


def floats(batch: pa.RecordBatch, name: str) -> Floats:
    """A column as float64, NaN for null."""
    column = _column(batch, name)
    if column is None:
        return np.full(batch.num_rows, np.nan)
    doubles = column if column.type == pa.float64() else column.cast(pa.float64(), safe=False)
    return credible(doubles.to_numpy(zero_copy_only=False))


def credible(values: Floats) -> Floats:
    """With NaN for what no endpoint can mean, and what would make every sum infinite."""
    possible = np.abs(values) <= MOST
    return values if possible.all() else np.where(possible, values, np.nan)


def texts(batch: pa.RecordBatch, name: str) -> pa.Array:
    """A text column as large_string, all null if the batch does not have it."""
    column = _column(batch, name)
    if column is None:
        return pa.nulls(batch.num_rows, pa.large_string())
    return column if column.type == pa.large_string() else column.cast(pa.large_string())


def flags(column: pa.Array) -> Flags:
    """A column of truths; null is false."""
    known = pc.fill_null(column, False) if column.null_count else column  # noqa: FBT003
    values: Flags = known.to_numpy(zero_copy_only=False)
    return values


def equals(column: pa.Array, value: str) -> Flags:
    """Which rows hold a text; null is no text."""
    return flags(pc.equal(column, value))


def mentions(column: pa.Array, word: str) -> bool:
    """Whether a text column may hold a word: a quick look at its bytes, for what most columns hold nowhere."""
    held = column.buffers()[-1]
    return held is not None and word.encode() in held.to_pybytes()


def _column(batch: pa.RecordBatch, name: str) -> Any:
    position = batch.schema.get_field_index(name)
    return None if position < 0 else batch.column(position)
