"""Parquet, a few hundred rows at a time; nulls that Arrow put into nested values are taken out again.

A JSON lines file and its Parquet copy so give the same bodies. What JSON has no form for (times, decimals, bytes, NaN)
becomes text here, so that nothing further on meets it.
"""

from __future__ import annotations

import base64
import math
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from batchrun.errors import PromptError
from batchrun.prompts.row import to_prompt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import BinaryIO

    from batchrun.prompts.row import Rows, Skip

    Row = dict[str, Any]

_BATCH_ROWS = 512
_REMEDY = "fetch or write the file again; nothing of it can be trusted"


def read(file: BinaryIO, name: str, index: int, skip: Skip) -> Rows:
    """Read the rows of a file whose first row has this index; rows are counted from 1 in `file:row N`.

    Raises:
        PromptError: the file is not Parquet, or is damaged.
    """
    number = 0
    for batch in _batches(file, name):
        wanted = [i for i in range(batch.num_rows) if skip is None or not skip(index + i)]
        picked = batch if len(wanted) == batch.num_rows else batch.take(pa.array(wanted, pa.int64()))
        for i, row in zip(wanted, rows_of(picked), strict=True):
            where = f"{name}:row {number + i + 1}"
            if isinstance(row, str):
                yield PromptError(row, where=where, index=index + i, remedy="correct that row")
            else:
                yield to_prompt(index + i, where, row)
        number += batch.num_rows
        index += batch.num_rows
    return index


def _batches(file: BinaryIO, name: str) -> Iterator[Any]:
    try:
        with pq.ParquetFile(file) as parquet:
            columns = parquet.schema_arrow.names
            if len(set(columns)) < len(columns):
                raise PromptError("two columns have the same name", where=name, remedy="rename one of them")
            yield from parquet.iter_batches(batch_size=_BATCH_ROWS)
    except (pa.ArrowException, OSError) as error:
        raise PromptError(f"not Parquet, or damaged: {error}", where=name, remedy=_REMEDY) from error


def rows_of(batch: Any) -> Iterator[Row | str]:
    """Yield each row of a batch, or why it has no values in Python (text that is not UTF-8, a time out of range)."""
    convert = {field.name: _conversion(field.type) for field in batch.schema}
    try:
        rows = batch.to_pylist(maps_as_pydicts="strict")
    except (ValueError, KeyError, OverflowError, pa.ArrowException) as error:
        if batch.num_rows > 1:
            for i in range(batch.num_rows):
                yield from rows_of(batch.slice(i, 1))
        else:
            yield f"not usable: {error}"
        return
    for row in rows:
        for column, conversion in convert.items():
            if conversion is not None:
                row[column] = conversion(row[column])
        yield row


def _conversion(kind: Any) -> Callable[[Any], Any] | None:
    types = pa.types
    plain = (types.is_string, types.is_large_string, types.is_integer, types.is_boolean, types.is_null)
    return None if any(is_plain(kind) for is_plain in plain) else _as_json


def _as_json(value: Any) -> Any:
    """Take null keys out at every depth and turn what JSON cannot hold into text."""
    if isinstance(value, dict):
        return {key: _as_json(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list | tuple):
        return [_as_json(inner) for inner in value]
    if value is None or isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    return as_text(value)


def as_text(value: Any) -> str:
    """A value that JSON has no form for."""
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return base64.b64encode(value).decode()
    isoformat = getattr(value, "isoformat", None)
    return isoformat() if isoformat else str(value)
