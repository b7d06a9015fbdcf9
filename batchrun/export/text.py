"""JSON text that others shaped, put into a line of ours; and columns as the values and texts of a line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from collections.abc import Iterable

JSON_COLUMNS = {
    "tool_calls",
    "choices",
    "messages",
    "logprobs",
    "input",
    "attempt_log",
    "turn_log",
    "perf_metrics",
}
JSON_MARK = {b"json": b"1"}
"""The metadata of a column of the input that holds JSON text."""

_BREAKS = {"\u2028": b"\\u2028", "\u2029": b"\\u2029", "\u0085": b"\\u0085"}
_ZULU = (pa.scalar("Z", pa.large_string()), pa.scalar("", pa.large_string()))
_encoder = msgspec.json.Encoder()


def json_lines(objects: Iterable[object]) -> bytes:
    """Encode one object a line, on which `splitlines()` agrees: other breaks that Unicode knows are escaped."""
    block = _encoder.encode_lines(objects)
    for char, escaped in _BREAKS.items():
        raw = char.encode()
        if raw in block:
            block = block.replace(raw, escaped)
    return block


def spliced(text: str) -> msgspec.Raw | None:
    """JSON text as a value of a line, each number and text as it stands; None if it is no JSON."""
    try:
        msgspec.json.decode(text, type=msgspec.Raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return on_one_line(text)


def on_one_line(text: str) -> msgspec.Raw:
    """JSON text without the line breaks between its parts."""
    return msgspec.Raw(msgspec.json.format(text, indent=-1) if "\n" in text or "\r" in text else text)


def is_json(field: pa.Field) -> bool:
    """Whether a column holds JSON text."""
    return field.name in JSON_COLUMNS or field.metadata == JSON_MARK


def values_of(column: pa.Array, field: pa.Field) -> list[Any]:
    """A column as the values of a JSON object: times as ISO 8601, JSON text as what it says."""
    if pa.types.is_timestamp(field.type):
        values: list[Any] = iso_times(column).to_pylist()
        return values
    values = column.to_pylist()
    if is_json(field) and column.null_count < len(values):
        return [text if text is None else spliced(text) or text for text in values]
    return values


def iso_times(column: pa.Array) -> pa.Array:
    """UTC times as `2026-11-22T18:38:03.000000Z`; computed from the number alone, without a time zone database."""
    naive = column.cast(pa.timestamp("us")).cast(pa.large_string())
    return pc.binary_join_element_wise(pc.replace_substring(naive, " ", "T"), *_ZULU)


def json_texts(column: pa.Array) -> pa.Array:
    """A column of lists as JSON text."""
    texts = [None if value is None else _encoder.encode(value).decode() for value in column.to_pylist()]
    return pa.array(texts, pa.large_string())
