"""Is everything in a run folder as it was written? Reads all of it, changes nothing, and names what is wrong.

It takes no lock. While a run is going on the folder changes under its eyes: what seems wrong then is looked at again
for as long as the history grows, so that only what stays wrong is told.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from batchrun.errors import FolderUnusable
from batchrun.store.folder import segment_name, segment_numbers
from batchrun.store.fs import looking
from batchrun.store.live import is_held
from batchrun.store.parts import aside, problem_of
from batchrun.store.remains import ROOMS, Remains, read_run, whole_rows
from batchrun.store.schema import SCHEMA_VERSION

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from batchrun.store.folder import RunFolder
    from batchrun.store.manifest import Part

_LOOKS = 5
_NAMED = 3


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """Something that is not as it was written.

    `file` is relative to the run folder. `rows` is how many committed rows are in it (None: nobody can tell),
    `whole_rows` how many of them can be proven all the same, `cost_usd` what all of them cost. A file that is `proven`
    is what was written, and only does not fit the others.
    """

    file: str
    what: str
    rows: int | None = 0
    whole_rows: int = 0
    cost_usd: float | None = 0.0
    proven: bool = False


class Verified(msgspec.Struct, frozen=True, kw_only=True):
    """What was looked at, and what is wrong with it; `running` says whether a run is going on."""

    folder: str
    running: bool
    parts: int
    rows: int
    failures: int
    bytes: int
    entries: int
    segments: int
    segment_records: int
    problems: list[Problem]
    notes: list[str]


def verify(folder: RunFolder) -> Verified:
    """Check a whole folder; raises FolderUnusable where there is no run, or one of a newer batchrun."""
    for _ in range(_LOOKS):
        with looking(folder.path):
            before, verified = _history(folder), _look(folder)
            if not verified.problems or _history(folder) == before:
                break
    return verified


def _look(folder: RunFolder) -> Verified:
    run, wrong = read_run(folder)
    remains = Remains(folder, run)
    problems = [Problem(file="run.json", what=wrong)] if wrong else []
    rooms = [room for room in folder.rooms if room != folder.report and not room.is_dir()]
    problems += [Problem(file=room.name, what="is missing") for room in rooms]
    problems += _in_manifest(remains)
    problems += _in_segments(remains)
    problems += [Problem(file=name, what=_unlisted(remains, name)) for name in _strays(remains)]
    check = _Parts(remains)
    problems += check.problems()
    return Verified(
        folder=str(folder),
        running=not remains.closed and is_held(folder),
        parts=len(remains.parts),
        rows=check.rows["results"],
        failures=check.rows["failures"],
        bytes=sum(part.bytes for part in remains.parts.values()),
        entries=len(remains.entries),
        segments=len(remains.segments),
        segment_records=sum(segment.records for segment in remains.segments),
        problems=problems,
        notes=list(_notes(remains)),
    )


class _Parts:
    """The parts, one after the other; `rows` counts what is in them."""

    def __init__(self, remains: Remains) -> None:
        self._remains, self._folder = remains, remains.folder
        self.rows = dict.fromkeys(ROOMS, 0)
        self._held = {room: np.zeros(remains.rows, np.int32) for room in ROOMS[:2]}
        self._names = [""]

    def problems(self) -> Iterator[Problem]:
        for part in sorted(self._remains.parts.values(), key=lambda part: "failures/" in part.name):
            path = self._folder.path / part.name
            path = path if path.exists() or not aside(path).exists() else aside(path)  # a merge that a crash has cut
            what = problem_of(path, part)
            if what:
                yield self._damaged(part, what)
            else:
                yield from self._fitting(part, path)

    def _damaged(self, part: Part, what: str) -> Problem:
        whole = sum(batch.num_rows for batch in whole_rows(self._folder.path / part.name, part))
        where = "" if part.index_min is None else f" (rows {part.index_min:,} to {part.index_max:,} of the input)"
        cost_usd = part.cost_nano_usd / 1e9
        return Problem(file=part.name, what=what + where, rows=part.rows, whole_rows=whole, cost_usd=cost_usd)

    def _fitting(self, part: Part, path: os.PathLike[str]) -> Iterator[Problem]:
        """A part is what was written; is it what should have been?"""
        room = part.name.rpartition("/")[0]
        try:
            index, version = _read_through(path)
        except (OSError, pa.ArrowException, ValueError) as error:
            problem = self._damaged(part, f"cannot be read: {error}".splitlines()[0])
            yield msgspec.structs.replace(problem, proven=True)
            return
        if version > SCHEMA_VERSION:
            raise FolderUnusable(
                f"{path}: was written by a newer batchrun (schema {version}, this one knows {SCHEMA_VERSION})",
                remedy="pip install --upgrade batchrun-llm",
            )
        self.rows[room] += len(index)
        whats = []
        bounds = (index.min(), index.max()) if len(index) else (None, None)
        if (len(index), *bounds) != (part.rows, part.index_min, part.index_max):
            whats.append(f"has {len(index):,} rows from {bounds[0]} to {bounds[1]}, and the manifest says otherwise")
        whats += self._twice(part, index) if room in self._held else []
        for what in whats:
            yield Problem(file=part.name, what=what, proven=True)

    def _twice(self, part: Part, index: np.ndarray) -> Iterator[str]:
        room = part.name.partition("/")[0]
        foreign = index[(index < 0) | (index >= self._remains.rows)]
        if len(foreign):
            yield f"holds {len(foreign):,} rows that the input does not have: {_some(foreign)}"
        index = index[(index >= 0) & (index < self._remains.rows)]
        rooms = ["results"] if room == "results" else ["results", "failures"] if self._remains.closed else []
        for held in (self._held[other] for other in rooms):
            again = index[held[index] > 0]
            if len(again):
                yield f"holds {len(again):,} rows that {self._names[held[again[0]]]} holds too: {_some(again)}"
        if len(np.unique(index)) < len(index):
            yield "holds a row twice"
        self._names.append(part.name)
        self._held[room][index] = len(self._names) - 1


def _read_through(path: os.PathLike[str]) -> tuple[np.ndarray, int]:
    """Read every page of a part against its checksum; returns the index column and the version of its schema."""
    with pq.ParquetFile(path, page_checksum_verification=True) as file:
        version = int((file.schema_arrow.metadata or {}).get(b"batchrun_schema_version", b"0"))
        indexes = [
            batch.column("index").to_numpy()
            for group in range(file.num_row_groups)
            for batch in file.iter_batches(row_groups=[group])
        ]
    return np.concatenate([np.empty(0, np.int64), *indexes]), version


def _in_manifest(remains: Remains) -> Iterator[Problem]:
    for number, what in sorted(remains.lost.items()):
        yield Problem(file=f"_manifest/{number:020d}.json", what=what, rows=None, cost_usd=None)
    for path in remains.not_entries:
        yield Problem(file=f"_manifest/{path.name}", what="is not an entry of this run")


def _in_segments(remains: Remains) -> Iterator[Problem]:
    for segment in remains.segments:
        name, count = f"_journal/{segment_name(*segment.number)}", len(segment.damaged)
        if segment.damaged:
            yield Problem(
                file=name,
                what=f"is damaged at byte {segment.damaged[0]:,}",
                rows=segment.records + count,
                whole_rows=segment.records,
                cost_usd=(segment.records + count) * segment.cost_usd,
            )
        elif remains.is_stray(segment):
            yield Problem(file=name, what="is not this run's")
    for number in remains.lost_segments() if not remains.lost else ():
        yield Problem(file=f"_journal/{segment_name(*number)}", what="is missing", rows=None, cost_usd=None)


def _strays(remains: Remains) -> list[str]:
    paths = [*remains.unlisted(), *remains.hidden()]
    return [path.relative_to(remains.folder.path).as_posix() for path in paths]


def _unlisted(remains: Remains, name: str) -> str:
    if segment_numbers(name.rpartition("/")[2]) is None and not remains.lost:
        return "is not a run's file, and readers take it for rows"
    return "is a part that the manifest does not list"


def _notes(remains: Remains) -> Iterator[str]:
    ours = {"run.json", "_lock", "_quarantine", "_replaced", *(room.name for room in remains.folder.rooms)}
    names = [path.name for path in remains.folder.path.iterdir() if not path.name.startswith(".")]
    journal = [path for path in remains.folder.journal.glob("[!.]*") if segment_numbers(path.name) is None]
    if others := [*sorted(set(names) - ours), *(f"_journal/{path.name}" for path in sorted(journal))]:
        yield f"not a run's: {', '.join(others[:_NAMED])}{' …' if len(others) > _NAMED else ''}"


def _history(folder: RunFolder) -> int:
    return sum(1 for _ in folder.manifest.glob("*.json"))


def _some(index: np.ndarray) -> str:
    shown = ", ".join(f"{row:,}" for row in index[:_NAMED].tolist())
    return f"{shown} …" if len(index) > _NAMED else shown
