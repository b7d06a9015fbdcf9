"""The folder becomes a file of another form: the store's rows, in the order and with the columns that are asked for."""

from __future__ import annotations

import glob
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pyarrow as pa

from batchrun.errors import ConfigError
from batchrun.export.forms import ENVELOPES, Form, columns_for, writer_for
from batchrun.export.joining import input_columns, joined
from batchrun.export.order import in_order
from batchrun.store.parts import check_part
from batchrun.store.schema import FAILURES, RESULTS
from batchrun.store.snapshot import Snapshot

if TYPE_CHECKING:
    from collections.abc import Iterator

    from batchrun.export.target import Sink
    from batchrun.prompts import Prompts
    from batchrun.store.folder import RunFolder
    from batchrun.store.snapshot import Kind

COLUMNS = pa.unify_schemas([RESULTS, FAILURES])
"""Of a row, whether it succeeded or failed: a success has no `error_type`."""

_KINDS: tuple[Kind, Kind] = ("results", "failures")
_SLICE_ROWS = 1024


class Exported(msgspec.Struct, frozen=True, kw_only=True):
    """How many rows were written, how many of them are failures, and how many of the input have neither."""

    rows: int
    failures: int
    missing: int


def open_folder(folder: RunFolder) -> Snapshot:
    """A view of a folder, also while a run is going on, each of its parts compared with its checksum.

    Raises:
        FolderUnusable: there is no run, or it is damaged.
    """
    snapshot = Snapshot(folder.path)
    for part in snapshot.manifest.parts.values():
        check_part(folder, part)
    return snapshot


def refuse_target(snapshot: Snapshot, output: str, join: Prompts | None) -> None:
    """Keep a slip of the hand from replacing what a run needs; raises ConfigError."""
    if output == "-":
        return
    path = Path(output).resolve()
    if any((parent / "_manifest").is_dir() and (parent / "run.json").exists() for parent in path.parents):
        raise ConfigError(f"{output}: lies in a run folder, whose files are its own", remedy="name a file elsewhere")
    inputs = glob.glob(snapshot.run.config["input"], recursive=True)  # noqa: PTH207 (a pattern with its folder)
    for name in [*inputs, *(join.files if join else [])]:
        if path.is_file() and Path(name).is_file() and path.samefile(name):
            raise ConfigError(f"{output}: is the input", remedy="name another file with -o")


def export(snapshot: Snapshot, sink: Sink, form: Form, *, sort: bool = False, join: Prompts | None = None) -> Exported:
    """Write all rows of a folder, successes and failures, in batches.

    Args:
        snapshot: what the folder holds.
        sink: where to.
        form: how.
        sort: in the order of the input, in bounded memory; else as they were answered, the failures at the end.
        join: the rows of the input, whose columns come before ours; the rows are then sorted.

    Raises:
        ConfigError: the input to join has other rows than the run.
        FolderUnusable: the folder is damaged.
        StoreError: the disk failed or is full.
    """
    run = snapshot.run
    if join is not None and form in ENVELOPES:
        raise ConfigError(f"--join: a line of the form {form} has no room for columns", remedy="add --format jsonl")
    schema = pa.schema([COLUMNS.field(name) for name in columns_for(form, COLUMNS.names)], metadata=COLUMNS.metadata)
    batches = _rows(snapshot, schema)
    if sort or join is not None:
        batches = in_order(batches, range(run.rows))
    if join is not None:
        schema, batches = _joined(snapshot, batches, join, schema)
    writer = writer_for(form, sink, schema, api=run.config["endpoint"]["api"], run_id=run.run_id)
    rows = failures = 0
    for batch in batches:
        writer.write(batch)
        rows += batch.num_rows
        failures += batch.num_rows - batch.column("error_type").null_count
    writer.close()
    return Exported(rows=rows, failures=failures, missing=run.rows - rows)


def _rows(snapshot: Snapshot, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """All rows, in small batches of one schema; columns that a failure or a success does not have are null."""
    for kind, kept in zip(_KINDS, (RESULTS, FAILURES), strict=True):
        names = [name for name in schema.names if name in kept.names]
        for whole in snapshot.batches(kind, names):
            for start in range(0, whole.num_rows, _SLICE_ROWS):
                batch = whole.slice(start, _SLICE_ROWS)
                columns = [
                    batch.column(field.name) if field.name in names else pa.nulls(batch.num_rows, field.type)
                    for field in schema
                ]
                yield pa.record_batch(columns, schema=schema)


def _joined(
    snapshot: Snapshot, batches: Iterator[pa.RecordBatch], join: Prompts, schema: pa.Schema
) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    """The input is read twice: for its columns, and to be walked along with our rows."""
    columns, run = input_columns(join.read(), schema.names), snapshot.run
    if columns.rows != run.rows:
        problem = f"--join: {', '.join(join.files)} has {columns.rows:,} rows, and the run has {run.rows:,}"
        raise ConfigError(problem, remedy=f"name the input that was run: --join {run.config['input']}")
    schema = pa.schema([*columns.fields.values(), *schema], metadata=schema.metadata)
    there = _indexes(snapshot)
    return schema, joined(batches, join.read(lambda index: not there[index]), columns, schema)


def _indexes(snapshot: Snapshot) -> bytearray:
    """Which rows of the input are there, one byte a row."""
    there = bytearray(snapshot.run.rows)
    for kind in _KINDS:
        for batch in snapshot.batches(kind, ["index"]):
            for index in batch.column("index").to_pylist():
                there[index] = 1
    return there
