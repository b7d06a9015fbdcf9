"""The rows of damaged and of unlisted parts, as far as they can be proven, each once, in new parts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pyarrow as pa

from batchrun.store.folder import segment_numbers
from batchrun.store.manifest import Part
from batchrun.store.merging import Merge
from batchrun.store.parts import read_columns, schema_of
from batchrun.store.recovery import Recovered, load_rows
from batchrun.store.remains import ROOMS, plausible_rows, whole_rows
from batchrun.store.rows import SUCCEEDED

if TYPE_CHECKING:
    from collections.abc import Iterator

    from batchrun.store.folder import RunFile, RunFolder
    from batchrun.store.manifest import Manifest

_KEPT_ONCE = ("results", "failures")


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """A file that rows may be saved from, if they are `wanted`; `part` is what the manifest says of it, if anything."""

    room: str
    path: Path
    part: Part | None
    wanted: bool

    @property
    def order(self) -> tuple[int, int]:
        """Epoch and segment: where it stands among the parts of its room."""
        return segment_numbers(self.file_name) or (0, 0)

    @property
    def file_name(self) -> str:
        """The name of the file once it can be seen."""
        return self.path.name.removeprefix(".").removesuffix(".tmp")

    def batches(self, run_id: str) -> Iterator[pa.RecordBatch]:
        """The rows in it that can be proven."""
        schema = schema_of(f"{self.room}/")
        rows = whole_rows(self.path, self.part) if self.part else plausible_rows(self.path, f"{self.room}/", run_id)
        for batch in rows if self.wanted else ():
            yield batch.select(schema.names).cast(schema)


class Saved(msgspec.Struct, frozen=True, kw_only=True):
    """How many rows were saved, how many of them from listed parts, and what the latter cost."""

    rows: int = 0
    listed_rows: int = 0
    listed_usd: float = 0.0


def save_rows(folder: RunFolder, run: RunFile, manifest: Manifest, sources: list[Source], row_count: int) -> Saved:
    """Put the rows of `sources` that no other part holds in their place, by one entry of the manifest."""
    for source in sources:
        if source.part:
            manifest.parts.pop(source.part.name, None)
    rows = load_rows(folder, manifest, row_count)
    epoch = manifest.next_number()  # that of the entry to come: no start can ever have it
    recovered = Recovered(folder=folder, run_id=run.run_id, manifest=manifest, epoch=epoch, rows=rows, exposed=[])
    used = [source.order[1] for source in sources if source.order[0] == epoch]
    merge = Merge(recovered, 1 + max(used, default=0))
    rows_saved, listed_rows, listed_usd = 0, 0, 0.0
    for room in ROOMS:
        once = _Once(recovered, room, sources)
        for source in sorted((one for one in sources if one.room == room), key=lambda one: one.order, reverse=True):
            for batch in source.batches(run.run_id):
                new = once.new(batch, source)
                merge.add(room, new)
                rows_saved += new.num_rows
                if source.part:
                    listed_rows += new.num_rows
                    listed_usd += sum(cost or 0.0 for cost in new.column("cost_usd").to_pylist())
    merge.commit("merge", [source.part.name for source in sources if source.part])
    return Saved(rows=rows_saved, listed_rows=listed_rows, listed_usd=listed_usd)


class _Once:
    """Which rows of a room are not to be saved again: a success wins, and of failures the newest."""

    def __init__(self, recovered: Recovered, room: str, sources: list[Source]) -> None:
        self._rows, self._room = recovered.rows, room
        parts = [part for part in recovered.manifest.parts.values() if part.name.startswith("failures/")]
        named = {part.name: segment_numbers(part.name.partition("/")[2]) or (0, 0) for part in parts}
        self._ranks = {order: rank for rank, order in enumerate(sorted({*named.values(), *(s.order for s in sources)}))}
        self._newest = np.full(len(recovered.rows.states), -1, np.int64)
        for part in parts if room == "failures" else ():
            for batch in read_columns(recovered.folder, part, ["index"]):
                at = batch.column("index").to_numpy()
                self._newest[at] = np.maximum(self._newest[at], self._ranks[named[part.name]])

    def new(self, batch: pa.RecordBatch, source: Source) -> pa.RecordBatch:
        """The rows of a batch that make sense and are not there yet; sources come from the newest to the oldest."""
        index, count = batch.column("index").fill_null(-1).to_numpy(), len(self._newest)
        fit = np.zeros(len(index), bool)
        fit[np.unique(index, return_index=True)[1]] = True
        fit &= (index >= 0) & (index < count) & batch.column("custom_id").is_valid().to_numpy(zero_copy_only=False)
        if self._room in _KEPT_ONCE:
            at = np.where(fit, index, 0)
            rank = self._ranks[source.order]
            fit &= np.frombuffer(self._rows.states, np.uint8)[at] != SUCCEEDED if count else fit
            fit &= self._newest[at] < rank if count else fit
            self._newest[index[fit]] = rank
        kept = batch.filter(pa.array(fit))
        if self._room == "results":
            self._rows.add_results(kept.column("index"), source.path.name)
        return kept
