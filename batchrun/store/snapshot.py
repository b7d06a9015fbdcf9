"""A consistent view of a run folder, also while a run is writing into it: the committed parts and the open segments."""

from __future__ import annotations

import difflib
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import pyarrow as pa

from batchrun.errors import ConfigError
from batchrun.store.failures import latest_failures
from batchrun.store.folder import RunFolder, segment_name
from batchrun.store.parts import PIECE_BYTES, read_columns
from batchrun.store.recovery import load_rows
from batchrun.store.replay import SegmentReader
from batchrun.store.rows import SUCCEEDED
from batchrun.store.schema import FAILURES, RESULTS, to_batch
from batchrun.store.unsealed import read_unsealed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import pandas as pd

    from batchrun.types import Record

Kind = Literal["results", "failures"]


def read(path: str | Path) -> Snapshot:
    """Open a run folder for reading, at any time, also while a run is writing into it.

    >>> frame = batchrun.read("runs/quickstart").to_pandas()                  # doctest: +SKIP
    >>> table = batchrun.read("runs/quickstart").table("failures")            # doctest: +SKIP

    Raises:
        FolderUnusable: there is no run, or what is needed of it is damaged.
    """
    return Snapshot(path)


class Snapshot:
    """What is kept in a folder now, without a lock or a change; raises FolderUnusable where there is no run."""

    def __init__(self, path: str | Path) -> None:
        self._folder = RunFolder(path)
        self.run = self._folder.read_run_file()
        self._folder.look()
        self._read_all()

    def batches(self, kind: Kind, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """The rows of `results` or `failures`, each once, in batches, with the named columns (all by default)."""
        schema = RESULTS if kind == "results" else FAILURES
        wanted = pa.schema([schema.field(name) for name in columns or schema.names])
        for part in self.manifest.parts.values():
            if part.name.startswith(f"{kind}/") and part.rows:
                start, mask = 0, self._standing.get(part.name)
                for batch in read_columns(self._folder, part, wanted.names):
                    whole = batch.select(wanted.names).cast(wanted)
                    yield whole if mask is None else whole.filter(pa.array(mask[start : start + batch.num_rows]))
                    start += batch.num_rows
        fitting = [record for record in self._open.values() if (record.error_type is None) == (kind == "results")]
        if fitting:
            yield to_batch(fitting, schema).select(wanted.names)

    def sessions(self) -> list[dict[str, Any]]:
        """Every start of the run, in order: when it began and ended, its exit code and what it measured of itself."""
        sessions: list[dict[str, Any]] = []
        for entry in self.manifest.entries:
            if entry.kind == "start":
                sessions.append({"started_at": entry.at})
            elif entry.kind == "close" and not entry.session and sessions:
                sessions.pop()  # it put the folder in order and sent nothing
            elif entry.kind == "close" and entry.session and sessions:
                sessions[-1] |= {"ended_at": entry.at, **msgspec.to_builtins(entry.session)}
        return sessions

    def refuse_unkept(self, column: str) -> None:
        """Raises ConfigError if an input column is not among the run's `keep_columns`."""
        kept: list[str] = self.run.config.get("keep_columns") or []
        if column in kept:
            return
        if not kept:
            what, remedy = "no column was", f"run it in a new folder with keep_columns: [{column}]"
        else:
            near = difflib.get_close_matches(column, kept, n=1)
            what, remedy = f"only {', '.join(kept)}", f"did you mean {near[0]}?" if near else "name one that was kept"
        raise ConfigError(f"{self._folder}: the column {column} was not kept, {what}", remedy=remedy)

    def table(self, kind: Kind, columns: Sequence[str] | None = None) -> pa.Table:
        """The same as one Arrow table, with its columns also where it has no rows."""
        schema = RESULTS if kind == "results" else FAILURES
        wanted = pa.schema([schema.field(name) for name in columns or schema.names], metadata=schema.metadata)
        return pa.Table.from_batches(self.batches(kind, columns), schema=wanted.remove_metadata())

    def to_pandas(self, kind: Kind = "results", columns: Sequence[str] | None = None) -> pd.DataFrame:
        """The same as a pandas frame, in the order of the input; counts keep their type where some are missing."""
        table = self.table(kind, list({*(columns or []), "index"}) if columns else None).sort_by("index")
        import pandas as pd

        frame: pd.DataFrame = table.to_pandas(types_mapper={pa.int64(): pd.Int64Dtype()}.get)
        return frame[list(columns)] if columns else frame

    def _read_all(self) -> None:
        segments, self.manifest = read_unsealed(self._folder, self.run.run_id, self._records)
        self.run = self.manifest.with_input(self.run)
        rows = load_rows(self._folder, self.manifest, self.run.rows)
        self._open: dict[int, Record] = {}
        for record in chain(*segments.values()):
            before = self._open.get(record.index)
            if rows[record.index] != SUCCEEDED and (before is None or before.error_type is not None):
                self._open[record.index] = record
        for record in self._open.values():  # a row of the journal no longer stands as a failure in a part
            rows.states[record.index] = SUCCEEDED
        self._standing = latest_failures(self._folder, self.manifest, rows)
        for record in self._open.values():
            rows.states[record.index] = rows.state_of(record.error_type)
        self.rows = rows

    def _records(self, number: tuple[int, int]) -> list[Record]:
        reader = SegmentReader(self._folder.journal / segment_name(*number), self.run.run_id, *number)
        return [record for block in reader.blocks(PIECE_BYTES) for record in block]
