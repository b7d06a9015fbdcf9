"""Every start: from whatever is on disk to a clean folder, the state of every row, and a new epoch.

The order keeps the promises. The manifest is replayed, and a merge that was cut is completed; our own unfinished files
go; every committed part is checked; an epoch is claimed, so that nobody else can go on from here; what old segments
hold is sealed; the rows that a crash exposed are named; only then may the caller send anything. Each step can be
stopped at any point and done again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pyarrow as pa

from batchrun.errors import FolderUnusable
from batchrun.store.folder import RunFolder, repair_command, segment_name, segment_numbers
from batchrun.store.fs import looking
from batchrun.store.manifest import Entry, Manifest, now_us
from batchrun.store.merging import complete
from batchrun.store.parts import PIECE_BYTES, check_part, read_columns, write_empty_parts, write_parts
from batchrun.store.replay import SegmentReader
from batchrun.store.rows import MISSING, RETRYABLE, SUCCEEDED, Rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from batchrun.store.journal import Sealed
    from batchrun.types import Record


class Recovered(msgspec.Struct, frozen=True, kw_only=True):
    """A folder in order; `exposed` are rows that may have been paid for and were not kept.

    `epoch` is None as long as there was nothing to put in order and nothing has been claimed.
    """

    folder: RunFolder
    run_id: str
    manifest: Manifest
    epoch: int | None
    rows: Rows
    exposed: list[int]


def recover(folder: RunFolder, run_id: str, row_count: int) -> Recovered:
    """Bring a locked folder into order and claim the next epoch; raises FolderUnusable if it is damaged."""
    with looking(folder.path):
        return _recover(folder, run_id, row_count)


def _recover(folder: RunFolder, run_id: str, row_count: int) -> Recovered:
    manifest = Manifest(folder, run_id)
    complete(folder, manifest)
    _refuse_strays(folder, manifest)
    _refuse_gaps(folder, manifest)
    for part in manifest.parts.values():
        check_part(folder, part)
    _sweep(folder)
    rows = load_rows(folder, manifest, row_count)
    recovered = Recovered(folder=folder, run_id=run_id, manifest=manifest, epoch=None, rows=rows, exposed=[])
    open_epochs = manifest.open_epochs()
    if open_epochs or not manifest.entries or any(folder.journal.iterdir()):
        recovered = claim(recovered)
    _seal_left(recovered)
    exposed = {index for index in manifest.exposed() if rows[index] in {MISSING, RETRYABLE}}
    if open_epochs:
        answered = _failed_in(folder, manifest, open_epochs)
        mark = manifest.dispatched_below(open_epochs)
        exposed.update(rows.below(mark, MISSING, RETRYABLE, but=answered))
        manifest.put(Entry(kind="exposed", at=now_us(), epoch=recovered.epoch or 0, exposed=sorted(exposed)))
    return msgspec.structs.replace(recovered, exposed=sorted(exposed))


def claim(recovered: Recovered) -> Recovered:
    """Begin an epoch: its number is that of its entry, so no other start can have the same."""
    folder, manifest = recovered.folder, recovered.manifest
    epoch = manifest.next_number()
    first = write_empty_parts(folder) if not manifest.entries else []
    manifest.put(Entry(kind="start", at=now_us(), epoch=epoch, parts=first))
    return msgspec.structs.replace(recovered, epoch=epoch)


def seal(recovered: Recovered, sealed: Sealed) -> None:
    """Turn a finished segment into committed parts, then let it go. A row that has succeeded before is left out."""
    recovered.folder.refuse_if_taken()
    absorb(recovered, (recovered.epoch or 0, sealed.segment), limit=sealed.bytes)


def load_rows(folder: RunFolder, manifest: Manifest, row_count: int) -> Rows:
    """Read the state of every row from the index columns of the committed parts."""
    rows = Rows(row_count)
    for part in manifest.parts.values():
        if part.name.startswith("results/"):
            for batch in read_columns(folder, part, ["index"]):
                rows.add_results(batch.column("index"), part.name)
    for part in manifest.parts.values():
        if part.name.startswith("failures/"):
            for batch in read_columns(folder, part, ["index", "error_type"]):
                rows.add_failures(batch.column("index"), batch.column("error_type"), part.name)
    return rows


def left_segments(folder: RunFolder, manifest: Manifest) -> list[tuple[int, int]]:
    """Epoch and segment of every journal file that no part has absorbed, in order."""
    with looking(folder.journal):
        numbers = [segment_numbers(path.name) for path in folder.journal.iterdir() if path.suffix == ".jl"]
    return sorted(number for number in numbers if number and number not in manifest.absorbed)


def _seal_left(recovered: Recovered) -> None:
    """Seal what earlier epochs left in the journal."""
    folder, manifest = recovered.folder, recovered.manifest
    for path in folder.journal.iterdir():
        if segment_numbers(path.name) in manifest.absorbed:
            folder.fs.unlink(path)
    left = left_segments(folder, manifest)
    for number, following in zip(left, [*left[1:], None], strict=False):
        limit = None
        if following and following == (number[0], number[1] + 1):
            limit = _bytes_of_previous(_reader(recovered, following))
        absorb(recovered, number, limit=limit)


def absorb(recovered: Recovered, number: tuple[int, int], *, limit: int | None = None, lenient: bool = False) -> None:
    """Make parts of a segment's records, list them in the manifest with what else it says, unlink the segment.

    Raises:
        FolderUnusable: the segment is damaged; a `lenient` reading takes what is whole in it.
    """
    reader, rows = _reader(recovered, number, lenient=lenient), recovered.rows

    def fresh() -> Iterator[list[Record]]:
        for block in reader.blocks(PIECE_BYTES, limit=limit):
            kept = [record for record in block if rows[record.index] != SUCCEEDED]
            done = [record.index for record in kept if record.error_type is None]
            failed = [record for record in kept if record.error_type is not None]
            rows.add_results(pa.array(done, pa.int64()), reader.path.name)
            kinds = pa.array([record.error_type for record in failed], pa.string())
            rows.add_failures(pa.array([record.index for record in failed], pa.int64()), kinds, reader.path.name)
            yield kept

    parts = write_parts(recovered.folder, *number, fresh())
    entry = Entry(
        kind="part",
        at=now_us(),
        epoch=number[0],
        segment=number[1],
        parts=parts,
        dispatched_below=reader.dispatched_below,
        turns=[record for record in reader.turns.values() if rows[record.index] != SUCCEEDED],
    )
    recovered.manifest.put(entry)
    recovered.folder.fs.unlink(reader.path)


def _reader(recovered: Recovered, number: tuple[int, int], *, lenient: bool = False) -> SegmentReader:
    path = recovered.folder.journal / segment_name(*number)
    return SegmentReader(path, recovered.run_id, *number, lenient=lenient)


def _bytes_of_previous(reader: SegmentReader) -> int | None:
    for _ in reader.blocks(1):
        break
    return reader.previous_bytes


def _failed_in(folder: RunFolder, manifest: Manifest, epochs: set[int]) -> np.ndarray:
    """Rows whose failure was kept by one of the epochs: they were answered, not in flight."""
    failed: list[np.ndarray] = [np.empty(0, np.int64)]
    for part in manifest.parts.values():
        numbers = segment_numbers(part.name.partition("/")[2])
        if part.name.startswith("failures/") and numbers and numbers[0] in epochs:
            failed += [batch.column("index").to_numpy() for batch in read_columns(folder, part, ["index"])]
    return np.concatenate(failed)


def _sweep(folder: RunFolder) -> None:
    for room in (folder.path, *folder.rooms, *folder.replaced_rooms):
        for path in room.iterdir() if room.exists() else ():
            if path.name.startswith(".") and path.name.endswith(".tmp"):
                folder.fs.unlink(path)


def _refuse_strays(folder: RunFolder, manifest: Manifest) -> None:
    """A part that the manifest does not list must be one that a crash left between its renaming and its entry."""
    segments = set(left_segments(folder, manifest)) if manifest.entries else {(0, 0)}
    dropped = {name for entry in manifest.entries for name in entry.drops}
    for room in (folder.results, folder.failures):
        for path in room.glob("part-*"):
            name = f"{room.name}/{path.name}"
            if name in dropped:
                folder.fs.unlink(path)
            elif name not in manifest.parts and segment_numbers(path.name) not in segments:
                raise FolderUnusable(
                    f"{path}: the manifest does not list this part; nothing was changed",
                    remedy=repair_command(folder.path),
                )


def _refuse_gaps(folder: RunFolder, manifest: Manifest) -> None:
    """Every journal file has an entry that began its epoch, and all those before it are there or have been absorbed."""
    starts = {entry.epoch for entry in manifest.entries if entry.kind == "start"}
    left = left_segments(folder, manifest)
    there = manifest.absorbed.union(left)
    for epoch, segment in left:
        path = folder.journal / segment_name(epoch, segment)
        problem = None if epoch in starts else f"{path}: the manifest does not say that this was begun"
        if segment > 1 and (epoch, segment - 1) not in there:
            problem = f"{folder.journal / segment_name(epoch, segment - 1)}: is missing"
        if problem:
            remedy = repair_command(folder.path)
            raise FolderUnusable(f"{problem}, committed rows may be lost; nothing was changed", remedy=remedy)
