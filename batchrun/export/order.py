"""Rows in the order of the input, in bounded memory, in whatever order they come.

Theory of operation. Rows are taken in blocks of about `BLOCK_BYTES`, each of which is sorted. If one block is all, that
is it. Else every row goes to one of up to `FILES` temporary files, each for a stretch of the input, and each file is
then put in order the same way, one after the other. So the data is written once more for every factor of `FILES` beyond
a block, and it does not matter how far a straggler, or a row that was tried again a week later, stands from its
neighbours. The files have no name (TMPDIR says where they lie): nothing is left behind, however the process ends.
"""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from itertools import chain
from typing import IO, TYPE_CHECKING

import numpy as np
import pyarrow as pa

from batchrun.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

BLOCK_BYTES = 16 * 1024 * 1024
FILES = 64
_OUT_ROWS = 1024


def in_order(batches: Iterable[pa.RecordBatch], rows: range) -> Iterator[pa.RecordBatch]:
    """Sort batches by their `index`, each value of which is there at most once.

    Args:
        batches: of one schema; they are read once.
        rows: where all indexes lie.

    Raises:
        StoreError: the temporary files cannot be written.
    """
    blocks = _blocks(batches)
    first = next(blocks, None)
    second = next(blocks, None)
    if first is not None and second is not None:
        yield from _in_stretches(chain((first, second), blocks), rows)
    elif first is not None:
        yield from first.to_batches(max_chunksize=_OUT_ROWS)


def _blocks(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    """The rows in sorted tables of about `BLOCK_BYTES`."""
    held: list[pa.RecordBatch] = []
    held_bytes = 0
    for batch in batches:
        held.append(batch)
        held_bytes += batch.nbytes
        if held_bytes >= BLOCK_BYTES:
            block = pa.Table.from_batches(held).sort_by("index")
            held, held_bytes = [], 0
            yield block
    if held:
        yield pa.Table.from_batches(held).sort_by("index")


def _in_stretches(blocks: Iterator[pa.Table], rows: range) -> Iterator[pa.RecordBatch]:
    """Put rows in order by way of the disk."""
    span = -(-len(rows) // FILES)
    stretches = [range(start, min(start + span, rows.stop)) for start in range(rows.start, rows.stop, span)]
    with ExitStack() as open_files:
        try:
            files: list[IO[bytes]] = [open_files.enter_context(tempfile.TemporaryFile()) for _ in stretches]
            _scatter(blocks, stretches, files)
        except OSError as error:
            remedy = "set TMPDIR to a folder with room for all that is exported"
            raise StoreError(f"sorting: {error.strerror or error}", remedy=remedy) from error
        for stretch, file in zip(stretches, files, strict=True):
            with file:
                yield from in_order(pa.ipc.open_stream(file), stretch)


def _scatter(blocks: Iterator[pa.Table], stretches: list[range], files: list[IO[bytes]]) -> None:
    """Write each row into the file of its stretch, and wind the files back."""
    first = next(blocks)
    options = pa.ipc.IpcWriteOptions(compression="lz4")
    writers = [pa.ipc.new_stream(file, first.schema, options=options) for file in files]
    for block in chain((first,), blocks):
        edges = np.searchsorted(block.column("index").to_numpy(), [stretch.stop for stretch in stretches])
        for writer, start, stop in zip(writers, [0, *edges[:-1]], edges, strict=True):
            if stop > start:
                writer.write_table(block.slice(start, stop - start))
    for writer, file in zip(writers, files, strict=True):
        writer.close()
        file.seek(0)
