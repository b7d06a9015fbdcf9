"""One of two runs in columns, by the index of its rows: about a hundred bytes a row, however long its answers are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from batchrun.report.columns import UNKNOWN, floats, ints, texts
from batchrun.report.compare.shape import MEANS, SUMS

if TYPE_CHECKING:
    from batchrun.report.columns import Floats, Ints
    from batchrun.report.sums import Names

NONE, ANSWERED, FAILED = range(3)

_KEYS = ["index", "custom_id", "request_key", *SUMS]
RESULT_COLUMNS = [*_KEYS, *MEANS, "content", "refusal", "tool_calls", "embedding"]
FAILURE_COLUMNS = [*_KEYS, "error_type"]


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: str | None = None


class _Call(msgspec.Struct):
    function: _Function | None = None


_CALLS = msgspec.json.Decoder(list[_Call])


class Side:
    """What a comparison needs of a run; ids, request keys and answers are 64-bit hashes of this process."""

    def __init__(self, rows: int, error_types: Names, column: str | None = None) -> None:
        """Make room for the rows of an input; `column` is where the expected answer is."""
        self.states = np.zeros(rows, np.int8)
        self.ids, self.keys, self.answers = (np.zeros(rows, np.int64) for _ in range(3))
        self.values: dict[str, Floats] = {name: np.full(rows, np.nan) for name in (*SUMS, *MEANS)}
        self.error_types = np.zeros(rows, np.int16)
        self.made_up_ids = True
        self._names = error_types
        self._expected_of = None if column is None else _decoder_of(column)
        self.expected = np.zeros(rows if column else 0, np.int64)
        self.right = np.zeros(rows if column else 0, np.bool_)

    def add_results(self, batch: pa.RecordBatch) -> None:
        """Take in answers."""
        at = self._add(batch, ANSWERED)
        for name in MEANS:
            self.values[name][at] = floats(batch, name)
        self.answers[at] = _answers(batch)
        if self._expected_of is not None:
            expected = [_expected(self._expected_of, text) for text in texts(batch, "input").to_pylist()]
            content = texts(batch, "content").to_pylist()
            self.expected[at] = [0 if text is None else hash(text) or 1 for text in expected]
            self.right[at] = [
                said is not None and wanted is not None and said.strip() == wanted
                for said, wanted in zip(content, expected, strict=True)
            ]

    def add_failures(self, batch: pa.RecordBatch) -> None:
        """Take in failures."""
        at = self._add(batch, FAILED)
        self.error_types[at] = self._names.slots_of(texts(batch, "error_type").fill_null(UNKNOWN))

    def _add(self, batch: pa.RecordBatch, state: int) -> Ints:
        """What answers and failures have in common; returns the rows."""
        at, _ = ints(batch, "index")
        self.states[at] = state
        self.ids[at] = _hashes(texts(batch, "custom_id").fill_null("").to_pylist())
        self.keys[at] = _hashes(texts(batch, "request_key").fill_null("").to_pylist())
        for name in SUMS:
            self.values[name][at] = floats(batch, name)
        parts = self.values["prompt_tokens"][at] + self.values["completion_tokens"][at]
        total = self.values["total_tokens"]
        total[at] = np.where(np.isnan(total[at]), parts, total[at])
        if self.made_up_ids and batch.num_rows:
            self.made_up_ids = batch.column("custom_id")[0].as_py() == f"row-{at[0]}"
        return at


def _hashes(values: list[Any]) -> Ints:
    """One number a value; 0 for an empty text, and for no other but by a chance of 1 in 2^64."""
    return np.fromiter(map(hash, values), np.int64, len(values))


def _answers(batch: pa.RecordBatch) -> Ints:
    """One number an answer: that of its words, unless it consists of more."""
    answers: list[Any] = texts(batch, "content").to_pylist()
    for name, values_of in (("refusal", pa.Array.to_pylist), ("tool_calls", _calls), ("embedding", _vectors)):
        column = batch.column(name)
        if column.null_count < batch.num_rows:
            for row, value in enumerate(values_of(column)):
                if value is not None:
                    answers[row] = (answers[row], name, value)
    return _hashes(answers)


def _calls(column: pa.Array) -> list[Any]:
    """What is called with which arguments: the ids of calls are made up anew each time."""
    calls: list[Any] = column.to_pylist()
    for row in np.flatnonzero(pc.is_valid(column).to_numpy(zero_copy_only=False)).tolist():
        try:
            functions = [call.function for call in _CALLS.decode(calls[row])]
            calls[row] = tuple((one.name, one.arguments) if one else None for one in functions)
        except msgspec.DecodeError:
            continue
    return calls


def _vectors(column: pa.Array) -> list[bytes | None]:
    offsets, values = column.offsets.to_pylist(), column.values.to_numpy(zero_copy_only=False)
    known = column.is_valid().to_pylist()
    bounds = zip(known, offsets[:-1], offsets[1:], strict=True)
    return [values[start:end].tobytes() if there else None for there, start, end in bounds]


def _decoder_of(column: str) -> msgspec.json.Decoder[Any]:
    """Reads one of the kept columns and passes over the others."""
    return msgspec.json.Decoder(msgspec.defstruct("Kept", [("value", Any, None)], rename={"value": column}))


def _expected(decoder: msgspec.json.Decoder[Any], text: str | None) -> str | None:
    """The expected answer of a row: a text as it is, any other value as JSON; None if it is not known."""
    value = None if text is None else decoder.decode(text).value
    if value is None or isinstance(value, str):
        return None if value is None else value.strip()
    return msgspec.json.encode(value).decode()
