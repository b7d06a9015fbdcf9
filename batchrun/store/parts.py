"""A journal segment becomes Parquet parts: written aside, hashed while written, flushed, and only then named.

The name of a part is made of epoch and segment and its content of the segment's records alone, so sealing the same
segment again after a crash writes the same files.
"""

from __future__ import annotations

import hashlib
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from batchrun.errors import FolderUnusable
from batchrun.store.folder import part_name, repair_command
from batchrun.store.fs import unreadable
from batchrun.store.manifest import Part
from batchrun.store.schema import FAILURES, RESULTS, to_batch
from batchrun.store.sink import Sink

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from batchrun.store.folder import RunFolder
    from batchrun.types import Record

RUN_ID = b"batchrun_run_id"
"""The key under which a part names its run, so that one that no manifest lists can be told from another run's."""
PIECE_BYTES = 512 * 1024
"""How much of a journal becomes columns at once: that work holds the interpreter, and the loop waits for it."""

ROW_GROUP_BYTES = 8 * 1024 * 1024
_ROW_GROUP_ROWS = 1024
_ROW_GROUP_MOST_BYTES = 64 * 1024 * 1024
_MOST_COUNTED = 1e12
"""More tokens, or nano-dollars, than a row can have taken: what is larger must not break a sum, and is left out."""

_REPEATING = {"model", "requested_model", "finish_reason", "usage_source", "error_type", "error_code"}
_READ_BYTES = 1024 * 1024


class PartWriter:
    """One Parquet file in the making; nothing is visible under its name before `finish`."""

    def __init__(self, folder: RunFolder, room: Path, name: str, schema: pa.Schema) -> None:
        self._folder = folder
        self._final = room / name
        self._aside = aside(self._final)
        self._sink = Sink(folder, self._aside)
        self._writer = pq.ParquetWriter(
            self._sink,
            schema.with_metadata({**(schema.metadata or {}), RUN_ID: folder.run_id}),
            compression="zstd",
            compression_level=1,
            use_dictionary=[name for name in schema.names if name in _REPEATING],
            write_statistics=[field.name for field in schema if not pa.types.is_large_string(field.type)],
            write_page_checksum=True,
            store_schema=True,
        )
        self._held: list[pa.RecordBatch] = []
        self._held_rows = self._held_bytes = 0
        self._rows = 0
        self._index: list[int] = []
        self._sums = [0.0, 0.0, 0.0]

    def add(self, batch: pa.RecordBatch | pa.Table) -> None:
        """Append rows; they are gathered until they make a row group of some size."""
        self._held += batch.to_batches() if isinstance(batch, pa.Table) else [batch]
        self._held_rows += batch.num_rows
        self._held_bytes += batch.get_total_buffer_size()  # `nbytes` takes 0.3 ms a batch
        enough = self._held_bytes >= ROW_GROUP_BYTES and self._held_rows >= _ROW_GROUP_ROWS
        if enough or self._held_bytes >= _ROW_GROUP_MOST_BYTES:
            self._write_group()

    def _write_group(self) -> None:
        if not self._held_rows:
            return
        import pyarrow.compute as pc  # takes 0.06 s: not for the first parts, which have no rows

        table = pa.Table.from_batches(self._held)
        self._held, self._held_rows, self._held_bytes = [], 0, 0
        self._writer.write_table(table, row_group_size=table.num_rows)
        self._sink.mark()
        self._rows += table.num_rows
        bounds = pc.min_max(table.column("index")).as_py()
        self._index += [bounds["min"], bounds["max"]]
        for number, (column, factor) in enumerate(
            (("prompt_tokens", 1), ("completion_tokens", 1), ("cost_usd", 1_000_000_000))
        ):
            values = pc.multiply(table.column(column).cast(pa.float64(), safe=False), factor)
            credible = pc.if_else(pc.less(pc.abs(values), _MOST_COUNTED), values, None)
            self._sums[number] += pc.sum(pc.round(credible)).as_py() or 0

    @property
    def bytes(self) -> int:
        """How large the file is so far."""
        return self._sink.bytes

    def finish(self) -> Part:
        """Flush the file and give it its name; the manifest commits it afterwards."""
        part = self._finish()
        self._folder.refuse_if_taken()  # whoever has taken over has swept the hidden file, or sees the named one
        self._folder.fs.rename(self._aside, self._final)
        self._folder.fs.flush_dir(self._final.parent)
        return part

    def finish_hidden(self) -> Part:
        """Flush the file, which gets its name when the manifest has committed it."""
        part = self._finish()
        self._folder.fs.flush_dir(self._final.parent)
        return part

    def _finish(self) -> Part:
        self._write_group()
        self._writer.close()
        self._sink.mark()
        sha256 = self._sink.finish()
        return Part(
            name=self._final.relative_to(self._folder.path).as_posix(),
            bytes=self._sink.bytes,
            sha256=sha256,
            checksums=self._sink.checksums,
            rows=self._rows,
            index_min=min(self._index, default=None),
            index_max=max(self._index, default=None),
            prompt_tokens=int(self._sums[0]),
            completion_tokens=int(self._sums[1]),
            cost_nano_usd=int(self._sums[2]),
        )

    def abandon(self) -> None:
        """Let go of the file; its temporary name is swept at the next start."""
        self._sink.close()


def aside(path: Path) -> Path:
    """The hidden name of a part that is not to be seen yet."""
    return path.with_name(f".{path.name}.tmp")


def schema_of(name: str) -> pa.Schema:
    """The columns of a part, by its name in the run folder."""
    return FAILURES if "failures/" in name else RESULTS


def write_parts(folder: RunFolder, epoch: int, segment: int, blocks: Iterable[list[Record]]) -> list[Part]:
    """Write the records of a segment, block by block, as a part of results and a part of failures (none if empty)."""
    name = part_name(epoch, segment)
    writers: dict[str, PartWriter] = {}
    rooms = {"results": (folder.results, RESULTS), "failures": (folder.failures, FAILURES)}
    try:
        for block in blocks:
            kinds = {
                "results": [record for record in block if record.error_type is None],
                "failures": [record for record in block if record.error_type is not None],
            }
            for kind, records in kinds.items():
                if records:
                    room, schema = rooms[kind]
                    writer = writers.get(kind) or writers.setdefault(kind, PartWriter(folder, room, name, schema))
                    writer.add(to_batch(records, schema))
        return [writer.finish() for writer in writers.values()]
    finally:
        for writer in writers.values():
            writer.abandon()


def write_empty_parts(folder: RunFolder) -> list[Part]:
    """The first parts of a folder: no rows, all columns, so that every reader finds the schema from the start."""
    name = part_name(0, 0)
    return [
        PartWriter(folder, room, name, schema).finish()
        for room, schema in ((folder.results, RESULTS), (folder.failures, FAILURES))
    ]


def check_part(folder: RunFolder, part: Part) -> None:
    """Compare a part with what the manifest says of it; raises FolderUnusable."""
    path = folder.path / part.name
    if problem := problem_of(path, part):
        raise FolderUnusable(
            f"{path}: {problem}: {part.rows:,} committed rows are in it, which cost ${part.cost_nano_usd / 1e9:.4f} "
            "and would have to be bought again; nothing was changed",
            remedy=repair_command(folder.path),
        )


def problem_of(path: Path, part: Part) -> str | None:
    """In which way a file is not what the manifest says of it."""
    try:
        size = path.lstat().st_size
        if path.is_symlink():
            return "is a symbolic link"
        if size != part.bytes:
            return f"has {size:,} bytes instead of {part.bytes:,}"
        if sha256_of(path) != part.sha256:
            return "does not match its SHA-256"
    except OSError as error:
        return "is missing" if isinstance(error, FileNotFoundError) else f"cannot be read: {error.strerror}"
    return None


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, as hex."""
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        while block := file.read(_READ_BYTES):
            digest.update(block)
    return digest.hexdigest()


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        remedy = "type it again if a run was just ending there, else " + repair_command(path.parent.parent)
        if isinstance(error, OSError):
            raise unreadable(path, error, remedy=remedy) from error
        raise FolderUnusable(f"{path}: cannot be read: {error}", remedy=remedy) from error


def group_bytes(folder: RunFolder, part: Part) -> list[int]:
    """The size of each row group of a part in bytes, before compression."""
    path = folder.path / part.name
    with _readable(path), pq.ParquetFile(path) as file:
        return [file.metadata.row_group(group).total_byte_size for group in range(file.num_row_groups)]


def read_columns(
    folder: RunFolder, part: Part, columns: list[str], groups: Sequence[int] | None = None
) -> Iterator[pa.RecordBatch]:
    """The named columns of a part, in batches no larger than its row groups; null where an older part has no such.

    Args:
        folder: where the part is.
        part: what the manifest says of it.
        columns: their names.
        groups: the row groups to read, by number; None for all of them.
    """
    path, schema = folder.path / part.name, schema_of(part.name)
    with _readable(path):
        if not path.exists() and aside(path).exists():  # committed, and about to be named: see merging
            path = aside(path)
    with _readable(path), pq.ParquetFile(path, page_checksum_verification=True) as file:
        for group in range(file.num_row_groups) if groups is None else groups:
            for batch in file.iter_batches(columns=columns, row_groups=[group]):
                found, rows = batch.schema.names, batch.num_rows
                yield pa.record_batch(
                    [batch[name] if name in found else pa.nulls(rows, schema.field(name).type) for name in columns],
                    names=columns,
                )
