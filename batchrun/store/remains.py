"""What can still be read of a run folder, whole or damaged: its history, its journal, and the rows of its parts."""

from __future__ import annotations

import re
import zlib
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from batchrun.errors import FolderUnusable
from batchrun.store.folder import REPLACED, RunFile, segment_name, segment_numbers
from batchrun.store.fs import read
from batchrun.store.manifest import Entry, read_entry
from batchrun.store.parts import RUN_ID, schema_of
from batchrun.store.replay import SegmentReader
from batchrun.store.schema import SCHEMA_VERSION

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from batchrun.store.folder import RunFolder
    from batchrun.store.manifest import Part

_BLOCK_BYTES = 1024 * 1024
ROOMS = ("results", "failures", f"{REPLACED}/results", f"{REPLACED}/failures")
"""Where parts are."""


class Segment(msgspec.Struct, frozen=True, kw_only=True):
    """A journal file that no part has absorbed: its lines, and where those begin that were on disk and are not whole.

    `cost_usd` is what an average record in it cost. `ours` says whether any line in it is this run's.
    """

    number: tuple[int, int]
    bytes: int
    records: int
    cost_usd: float
    damaged: list[int]
    dispatched_below: int
    ours: bool


class Remains:
    """What is left of a history: the `entries` that can be read, the `lost` ones with the reason, and their sum."""

    def __init__(self, folder: RunFolder, run: RunFile) -> None:
        self.folder, self.run = folder, run
        self.entries: dict[int, Entry] = {}
        self.lost: dict[int, str] = {}
        self.parts: dict[str, Part] = {}
        self.dropped: set[str] = set()
        self.absorbed: set[tuple[int, int]] = set()
        self._read_entries()
        for entry in self.entries.values():
            self._add(entry)
        self.segments = self._read_segments()
        self._mark_lost_starts()

    @property
    def rows(self) -> int:
        """How many rows the input has, after its last change."""
        changes = [entry for entry in self.entries.values() if entry.kind == "input"]
        return changes[-1].rows if changes else self.run.rows

    @property
    def closed(self) -> bool:
        """Whether the last thing that happened was a clean end."""
        last = self.entries.get(max(self.entries, default=-1))
        return last is not None and last.kind == "close" and not self.lost and not self.segments

    def lost_segments(self) -> list[tuple[int, int]]:
        """Journal files that are neither there nor absorbed, although a later one of the same start was written."""
        there = {segment.number for segment in self.segments}
        known = self.absorbed | {segment.number for segment in self.segments if segment.ours}
        missing = {(epoch, number) for epoch, last in known for number in range(1, last)}
        return sorted(missing - self.absorbed - there)

    def is_stray(self, segment: Segment) -> bool:
        """Whether nothing in a journal file is this run's, and it cannot be what a crash has left of one."""
        epoch, number = segment.number
        begun = self.entries[epoch].kind == "start" if epoch in self.entries else epoch in self.lost
        there = self.absorbed | {one.number for one in self.segments}
        follows = number == 1 or (epoch, number - 1) in there
        return not segment.ours and bool(segment.damaged or not begun or not follows)

    def unlisted(self) -> list[Path]:
        """Files in the rooms for parts that no readable entry speaks of and no journal file will become."""
        coming = {segment.number for segment in self.segments}
        found = []
        for room in ROOMS:
            for path in sorted((self.folder.path / room).glob("*")):
                name = f"{room}/{path.name}"
                ours = name in self.parts or name in self.dropped or segment_numbers(path.name) in coming
                first = path.name == "part-000000-000000.parquet" and not self.entries and not self.lost
                if not (ours or first or path.name.startswith((".", "_"))):
                    found.append(path)
        return found

    def hidden(self) -> list[Path]:
        """Parts that a merge whose entry is lost may have been about to name."""
        listed = {name.rpartition("/")[2] for name in self.parts}
        paths = (path for room in ROOMS for path in (self.folder.path / room).glob(".part-*.parquet.tmp"))
        return [path for path in paths if path.name[1:-4] not in listed] if self.lost else []

    def _read_entries(self) -> None:
        paths = [path for path in sorted(self.folder.manifest.glob("*.json")) if not path.name.startswith(".")]
        numbered = {int(path.stem): path for path in paths if re.fullmatch(r"\d{20}", path.stem)}
        unreadable = set()
        for number, path in numbered.items():
            try:
                self.entries[number] = read_entry(path, self.run.run_id, number)
            except FolderUnusable as error:
                if isinstance(error.__cause__, msgspec.ValidationError):
                    raise
                unreadable.add(number)
        last = max(self.entries, default=-1)
        while last + 1 in unreadable:
            last += 1
        for number in set(range(last + 1)) - self.entries.keys():
            self.lost[number] = "does not match its checksum" if number in unreadable else "is missing"
        self.not_entries = [path for path in paths if path not in {numbered.get(one) for one in range(last + 1)}]

    def _add(self, entry: Entry) -> None:
        self.parts |= {part.name: part for part in entry.parts}
        for name in entry.drops:
            self.parts.pop(name, None)
        self.dropped.update(entry.drops)
        self.dropped -= self.parts.keys()
        if entry.kind == "part" and entry.segment is not None:
            self.absorbed.add((entry.epoch, entry.segment))

    def _read_segments(self) -> list[Segment]:
        """From the last to the first, as each knows how many bytes of the one before it were on disk."""
        numbers = {segment_numbers(path.name) for path in self.folder.journal.glob("*.jl")}
        segments: list[Segment] = []
        following, limit = (-1, -1), None
        for number in sorted((one for one in numbers if one and one not in self.absorbed), reverse=True):
            epoch, segment = number
            reader = self.reader(number)
            costs: list[float] = []
            with suppress(FolderUnusable):  # taken away since, or no file: told where it is missed
                for block in reader.blocks(_BLOCK_BYTES, limit=limit if following == (epoch, segment + 1) else None):
                    costs += [record.cost_usd or 0.0 for record in block]
                found = Segment(
                    number=number,
                    bytes=reader.bytes,
                    records=len(costs),
                    cost_usd=sum(costs) / len(costs) if costs else 0.0,
                    damaged=reader.damaged,
                    dispatched_below=reader.dispatched_below,
                    ours=reader.lines > 0,
                )
                segments.append(found)
            following, limit = number, reader.previous_bytes
        return segments[::-1]

    def reader(self, number: tuple[int, int]) -> SegmentReader:
        """Reads a journal file, passing over what is damaged."""
        return SegmentReader(self.folder.journal / segment_name(*number), self.run.run_id, *number, lenient=True)

    def _mark_lost_starts(self) -> None:
        """A journal file proves that there was an entry of its epoch's number, and all those before it."""
        last = max((segment.number[0] for segment in self.segments if segment.ours), default=-1)
        for number in range(max([*self.entries, *self.lost], default=-1) + 1, last + 1):
            self.lost[number] = "is missing"


def read_run(folder: RunFolder) -> tuple[RunFile, str | None]:
    """What `run.json` says, and what is wrong with it or its copy, if anything.

    Raises:
        FolderUnusable: neither can be read, or they are of a newer batchrun.
    """
    copy = folder.read_run_copy()
    try:
        run = folder.read_run_file()
        own = msgspec.json.decode(read(folder.run_file), type=RunFile)
    except FolderUnusable as error:
        if copy is None or copy.schema_version > SCHEMA_VERSION:
            raise
        what = error.message.removeprefix(f"{folder.run_file}: ").partition(";")[0]
        return copy, what if folder.run_file.exists() else "is missing"
    if copy is None:
        return run, "has no copy that can be read"
    return run, None if own == copy else "is not as it was last written"


def whole_rows(path: Path, part: Part) -> Iterator[pa.RecordBatch]:
    """The rows of a damaged part whose row groups, like the footer that explains them, match their checksums."""
    with suppress(OSError, pa.ArrowException):
        data = pa.memory_map(str(path)).read_buffer(part.bytes)
        groups = _whole_groups(memoryview(data), part.checksums)
        if groups:
            yield from _rows_of(pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True), groups)


def _whole_groups(data: memoryview, checksums: list[tuple[int, int]]) -> list[int]:
    starts = [0, *(end for end, _ in checksums)]
    whole = [
        end <= len(data) and zlib.crc32(data[start:end]) == crc32
        for start, (end, crc32) in zip(starts, checksums, strict=False)
    ]
    return [number for number, right in enumerate(whole[:-1]) if right and whole[-1]]


def plausible_rows(path: Path, name: str, run_id: str) -> Iterator[pa.RecordBatch]:
    """The rows of a part of this run that no entry speaks of, as far as its pages match their checksums."""
    schema = schema_of(name)
    metadata = {**(schema.metadata or {}), RUN_ID: run_id.encode()}
    with suppress(OSError, pa.ArrowException):
        file = pq.ParquetFile(path, page_checksum_verification=True)
        if file.schema_arrow.equals(schema) and file.schema_arrow.metadata == metadata:
            yield from _rows_of(file, list(range(file.num_row_groups)))


def _rows_of(file: pq.ParquetFile, groups: list[int]) -> Iterator[pa.RecordBatch]:
    with file:
        for group in groups:
            with suppress(OSError, pa.ArrowException):
                yield from file.read_row_group(group).to_batches()
