"""Rows that a program holds (a frame, a table, any iterable) as the JSON lines that the other readers start from.

What is missing in a frame (NaN, NaT, NA) becomes null, and what JSON has no form for becomes text.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import pyarrow as pa

from batchrun.errors import ConfigError, PromptError
from batchrun.prompts.parquet import as_text, rows_of

_SLICE_ROWS = 512
_ARROW = "__arrow_c_stream__"
"""The method by which tables of any library are read (Arrow PyCapsule interface)."""


def lines_of(rows: Any) -> Iterator[bytes]:
    """Yield one JSON object a row, each with its line end: a mapping as it is, anything else as `{"prompt": …}`.

    Raises:
        ConfigError: these are no rows.
        PromptError: two columns have one name, or a row cannot be taken apart at all.
    """
    for number, row in enumerate(_each(rows), start=1):
        try:
            yield _encoded(_plain(row if isinstance(row, Mapping) else {"prompt": row})) + b"\n"
        except RecursionError as error:
            raise PromptError("is nested too deeply", where=f"row {number}", remedy="take it apart") from error


def _each(rows: Any) -> Iterable[Any]:
    if isinstance(rows, str | bytes | Mapping) or not (isinstance(rows, Iterable) or hasattr(rows, _ARROW)):
        problem = f"rows is one {type(rows).__name__}, not many rows"
        raise ConfigError(problem, remedy="give a frame, a table, or a list with one text or mapping a row")
    if isinstance(rows, pd.DataFrame):
        return _of_frame(rows)
    is_table = hasattr(rows, _ARROW) and not isinstance(rows, pd.Series)
    each: Iterable[Any] = _of_table(pa.table(rows)) if is_table else rows
    return each


def _of_frame(frame: pd.DataFrame) -> Iterator[dict[Any, Any]]:
    _refuse_doubles([str(name) for name in frame.columns])
    for start in range(0, len(frame), _SLICE_ROWS):
        yield from frame.iloc[start : start + _SLICE_ROWS].to_dict("records")


def _of_table(table: pa.Table) -> Iterator[dict[str, Any]]:
    _refuse_doubles(table.column_names)
    number = 0
    for batch in table.to_batches(max_chunksize=_SLICE_ROWS):
        for row in rows_of(batch):
            number += 1
            if isinstance(row, str):
                raise PromptError(row, where=f"row {number}", remedy="correct that row")
            yield row


def _refuse_doubles(names: list[str]) -> None:
    if len(set(names)) < len(names):
        raise PromptError("two columns have the same name", where="rows", remedy="rename one of them")


def _plain(value: Any) -> Any:
    """The same in the types that JSON has."""
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [_plain(inner) for inner in value]
    if isinstance(value, np.number | np.bool):
        value = value.item()
    if isinstance(value, int):
        return value if isinstance(value, bool) else int(value)
    if isinstance(value, float) and math.isfinite(value):
        return float(value)
    return None if _is_missing(value) else as_text(value)


def _is_missing(value: Any) -> bool:
    return pd.api.types.is_scalar(value) and bool(pd.isna(value))


def _encoded(row: Any) -> bytes:
    """A lone surrogate or a huge number stays as it is: whoever reads the line says what is wrong with it."""
    try:
        return msgspec.json.encode(row)
    except (UnicodeEncodeError, OverflowError):
        return json.dumps(row).encode()
