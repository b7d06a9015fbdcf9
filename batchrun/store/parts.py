"""A journal segment becomes Parquet parts: written aside, hashed while written, flushed, and only then named.

The name of a part is made of epoch and segment and its content of the segment's records alone, so sealing the same
segment again after a crash writes the same files.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from batchrun.errors import FolderUnusable
from batchrun.store.folder import part_name
from batchrun.store.manifest import Part
from batchrun.store.schema import FAILURES, RESULTS, to_batch

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from batchrun.store.folder import RunFolder
    from batchrun.types import Record

ROW_GROUP_BYTES = 8 * 1024 * 1024
_READ_BYTES = _WRITE_BYTES = 1024 * 1024


class _Sink:
    """The file that pyarrow writes to, in many small pieces: counts and hashes what passes, writes in large ones."""

    def __init__(self, folder: RunFolder, path: Path) -> None:
        self._fs, self._path = folder.fs, path
        self._fs.unlink(path)
        self._fd = self._fs.create(path)
        self._sha256 = hashlib.sha256()
        self._held = bytearray()
        self.bytes = 0
        self.closed = False

    def write(self, data: bytes) -> int:
        self._held += data
        self.bytes += len(data)
        if len(self._held) >= _WRITE_BYTES:
            self._write_held()
        return len(data)

    def _write_held(self) -> None:
        data, self._held = bytes(self._held), bytearray()
        self._sha256.update(data)
        self._fs.write(self._fd, data, self._path)

    def tell(self) -> int:
        return self.bytes

    def flush(self) -> None:
        """Nothing needs to be on disk before `finish`."""

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._fs.close(self._fd)

    def finish(self) -> str:
        """Flush to disk, close, and return the SHA-256 of all that was written."""
        self._write_held()
        self._fs.flush(self._fd, self._path)
        self.close()
        return self._sha256.hexdigest()


class PartWriter:
    """One Parquet file in the making; nothing is visible under its name before `finish`."""

    def __init__(self, folder: RunFolder, room: Path, name: str, schema: pa.Schema) -> None:
        self._folder = folder
        self._final = room / name
        self._aside = room / f".{name}.tmp"
        self._sink = _Sink(folder, self._aside)
        self._writer = pq.ParquetWriter(
            self._sink, schema, compression="zstd", compression_level=1, write_page_checksum=True, store_schema=True
        )
        self._rows = 0
        self._index: list[int] = []
        self._sums = [0, 0, 0]

    def add(self, table: pa.RecordBatch | pa.Table) -> None:
        """Append rows as one row group."""
        if not table.num_rows:
            return
        self._writer.write(table)
        self._rows += table.num_rows
        bounds = pc.min_max(table.column("index")).as_py()
        self._index += [bounds["min"], bounds["max"]]
        for number, (column, factor) in enumerate(
            (("prompt_tokens", 1), ("completion_tokens", 1), ("cost_usd", 1_000_000_000))
        ):
            values = pc.round(pc.multiply(table.column(column), factor)).cast(pa.int64())
            self._sums[number] += pc.sum(values).as_py() or 0

    def finish(self) -> Part:
        """Flush the file and give it its name; the manifest commits it afterwards."""
        self._writer.close()
        sha256 = self._sink.finish()
        self._folder.fs.rename(self._aside, self._final)
        self._folder.fs.flush_dir(self._final.parent)
        return Part(
            name=f"{self._final.parent.name}/{self._final.name}",
            bytes=self._sink.bytes,
            sha256=sha256,
            rows=self._rows,
            index_min=min(self._index, default=None),
            index_max=max(self._index, default=None),
            prompt_tokens=self._sums[0],
            completion_tokens=self._sums[1],
            cost_nano_usd=self._sums[2],
        )

    def abandon(self) -> None:
        """Let go of the file; its temporary name is swept at the next start."""
        self._sink.close()


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
    problem = None
    try:
        size = path.lstat().st_size
        if path.is_symlink():
            problem = "is a symbolic link"
        elif size != part.bytes:
            problem = f"has {size:,} bytes instead of {part.bytes:,}"
        elif sha256_of(path) != part.sha256:
            problem = "does not match its SHA-256"
    except OSError as error:
        problem = f"cannot be read: {error.strerror}"
    if problem:
        raise FolderUnusable(
            f"{path}: {problem}: {part.rows:,} committed rows are in it; nothing was changed",
            remedy="restore the file from a copy, or start a new folder with -o",
        )


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, as hex."""
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        while block := file.read(_READ_BYTES):
            digest.update(block)
    return digest.hexdigest()


def read_columns(folder: RunFolder, part: Part, columns: list[str]) -> Iterator[pa.RecordBatch]:
    """The named columns of a part, in batches no larger than its row groups; null where an older part has no such."""
    schema = RESULTS if part.name.startswith("results/") else FAILURES
    with pq.ParquetFile(folder.path / part.name, page_checksum_verification=True) as file:
        for group in range(file.num_row_groups):
            for batch in file.iter_batches(columns=columns, row_groups=[group]):
                found, rows = batch.schema.names, batch.num_rows
                yield pa.record_batch(
                    [batch[name] if name in found else pa.nulls(rows, schema.field(name).type) for name in columns],
                    names=columns,
                )
