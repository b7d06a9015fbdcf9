"""The forms a folder is written in: each takes batches of rows and writes bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Protocol

import pyarrow as pa

from batchrun.export.envelopes import COLUMNS, fireworks_line, openai_line
from batchrun.export.text import iso_times, json_lines, json_texts, values_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from batchrun.export.target import Sink
    from batchrun.types import Api

Form = Literal["openai", "fireworks", "jsonl", "parquet", "csv"]
ENVELOPES = {"openai", "fireworks"}

_GROUP_BYTES = 32 * 1024 * 1024
_GROUP_ROWS = 65_536


class Writer(Protocol):
    """Writes rows of one schema; nothing is whole before `close`."""

    def write(self, batch: pa.RecordBatch) -> None:
        """Write some rows."""

    def close(self) -> None:
        """Write what ends the form."""


def columns_for(form: Form, names: list[str]) -> list[str]:
    """Which of the columns a form is made of."""
    return COLUMNS if form in ENVELOPES else names


def writer_for(form: Form, sink: Sink, schema: pa.Schema, *, api: Api, run_id: str) -> Writer:
    """The writer of a form; CSV writes its header at once."""
    if form == "parquet":
        return ParquetForm(sink, schema)
    if form == "csv":
        return CsvForm(sink, schema)
    if form == "jsonl":
        return LinesForm(sink, lambda row: row)
    if form == "openai":
        return LinesForm(sink, lambda row: openai_line(row, api, run_id), plain=False)
    return LinesForm(sink, lambda row: fireworks_line(row, api), plain=False)


class LinesForm:
    """One JSON object a line; `plain` rows have their JSON text and their times as values."""

    def __init__(self, sink: Sink, line: Callable[[dict[str, Any]], object], *, plain: bool = True) -> None:
        self._sink, self._line, self._plain = sink, line, plain

    def write(self, batch: pa.RecordBatch) -> None:
        """Write some rows."""
        fields = list(batch.schema)
        if self._plain:
            columns = [values_of(column, field) for column, field in zip(batch.columns, fields, strict=True)]
        else:
            columns = [_bare(column).to_pylist() for column in batch.columns]
        names = batch.schema.names
        rows = [self._line(dict(zip(names, values, strict=True))) for values in zip(*columns, strict=True)]
        self._sink.write(json_lines(rows))

    def close(self) -> None:
        """Nothing ends the lines."""


class CsvForm:
    """CSV with a header: text in quotes and as it is, also what a spreadsheet takes for a formula; null is empty."""

    def __init__(self, sink: Sink, schema: pa.Schema) -> None:
        import pyarrow.csv as pa_csv

        self._schema = pa.schema([pa.field(field.name, _text_type(field.type)) for field in schema])
        self._writer = pa_csv.CSVWriter(sink, self._schema)

    def write(self, batch: pa.RecordBatch) -> None:
        """Write some rows."""
        columns = [_as_text(column) for column in batch.columns]
        self._writer.write(pa.record_batch(columns, schema=self._schema))

    def close(self) -> None:
        """Write what is still held."""
        self._writer.close()


class ParquetForm:
    """One Parquet file, its row groups of some size however small the batches are."""

    def __init__(self, sink: Sink, schema: pa.Schema) -> None:
        import pyarrow.parquet as pq

        self._schema = schema
        self._writer = pq.ParquetWriter(sink, schema, compression="zstd", write_page_checksum=True)
        self._held: list[pa.RecordBatch] = []
        self._rows = self._bytes = 0

    def write(self, batch: pa.RecordBatch) -> None:
        """Write some rows."""
        self._held.append(batch)
        self._rows += batch.num_rows
        self._bytes += batch.nbytes
        if self._rows >= _GROUP_ROWS or self._bytes >= _GROUP_BYTES:
            self._write_group()

    def close(self) -> None:
        """Write the last rows and the footer."""
        self._write_group()
        self._writer.close()

    def _write_group(self) -> None:
        if self._held:
            self._writer.write_table(pa.Table.from_batches(self._held, self._schema), row_group_size=self._rows)
        self._held, self._rows, self._bytes = [], 0, 0


def _bare(column: pa.Array) -> pa.Array:
    """Times as microseconds: Python's own take long to make."""
    return column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column


def _text_type(kind: pa.DataType) -> pa.DataType:
    return pa.large_string() if pa.types.is_timestamp(kind) or pa.types.is_list(kind) else kind


def _as_text(column: pa.Array) -> pa.Array:
    if pa.types.is_timestamp(column.type):
        return iso_times(column)
    return json_texts(column) if pa.types.is_list(column.type) else column
