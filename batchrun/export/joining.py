"""The input's columns beside what was answered: two streams in the same order, walked side by side.

A column of the input keeps its type where all of its values have one type; any other is JSON text. Where we have a
column of the same name the input's is called `input_…`; only its `custom_id` is not there twice, as it is the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pyarrow as pa

from batchrun.errors import ConfigError
from batchrun.export.text import JSON_MARK
from batchrun.types import Prompt

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from batchrun.errors import PromptError

    Rows = Iterable[Prompt | PromptError]

MOST_COLUMNS = 1000
_TYPES = {str: pa.large_string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}
_LARGEST_INT = 2**63 - 1


class InputColumns(msgspec.Struct, frozen=True, kw_only=True):
    """How many rows the input has, and the columns they bring: by their name there, the field they are here."""

    rows: int
    fields: dict[str, pa.Field]


def input_columns(prompts: Rows, taken: list[str]) -> InputColumns:
    """Look at every row of an input; an unusable row has no columns.

    Args:
        prompts: all rows of the input.
        taken: the names of our own columns.

    Raises:
        ConfigError: each row seems to have columns of its own.
    """
    count = 0
    kinds: dict[str, set[type]] = {}
    for prompt in prompts:
        count += 1
        for name, value in prompt.row.items() if isinstance(prompt, Prompt) else ():
            kinds.setdefault(name, set())
            if value is not None:
                kinds[name].add(_kind(value))
        if len(kinds) > MOST_COLUMNS:
            problem = f"--join: more than {MOST_COLUMNS:,} columns by {prompt.where}"
            raise ConfigError(problem, remedy="keep a few columns with `keep_columns` in the configuration instead")
    kinds.pop("custom_id", None)
    names = set(taken)
    fields: dict[str, pa.Field] = {}
    for name, found in kinds.items():
        free = name
        while free in names or (free != name and free in kinds):
            free = f"input_{free}"
        names.add(free)
        fields[name] = _field(free, found)
    return InputColumns(rows=count, fields=fields)


def joined(
    batches: Iterable[pa.RecordBatch], prompts: Rows, columns: InputColumns, schema: pa.Schema
) -> Iterator[pa.RecordBatch]:
    """Put the input's columns before ours.

    Args:
        batches: our rows, in the order of the input.
        prompts: the rows of the input that `batches` have, in the same order.
        columns: those of the input.
        schema: the input's fields, then ours.

    Raises:
        ConfigError: a row of the input has another custom_id than ours.
    """
    walk = iter(prompts)
    for batch in batches:
        ids = batch.column("custom_id").to_pylist()
        rows = [_row(next(walk, None), custom_id) for custom_id in ids]
        theirs = [_array(field, [row.get(name) for row in rows]) for name, field in columns.fields.items()]
        yield pa.record_batch([*theirs, *batch.columns], schema=schema)


def _row(prompt: Prompt | PromptError | None, custom_id: str) -> dict[str, Any]:
    if not isinstance(prompt, Prompt):
        return {}
    if prompt.custom_id != custom_id:
        raise ConfigError(
            f"--join: {prompt.where} is {prompt.custom_id!r}, and that row of the run is {custom_id!r}",
            remedy="name the input that was run, with its rows in the same order",
        )
    return prompt.row


def _kind(value: object) -> type:
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > _LARGEST_INT:
        return object
    return type(value)


def _field(name: str, kinds: set[type]) -> pa.Field:
    if kinds == {int, float}:
        return pa.field(name, pa.float64())
    if len(kinds) == 1 and (kind := next(iter(kinds))) in _TYPES:
        return pa.field(name, _TYPES[kind])
    return pa.field(name, pa.large_string(), metadata=JSON_MARK if kinds else None)


def _array(field: pa.Field, values: list[Any]) -> pa.Array:
    if field.metadata == JSON_MARK:
        values = [None if value is None else msgspec.json.encode(value).decode() for value in values]
    return pa.array(values, field.type)
