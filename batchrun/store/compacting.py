"""Small parts of a closed run become large ones, so that a reader opens few files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pyarrow as pa

from batchrun.store.failures import latest_failures
from batchrun.store.identity import held_by
from batchrun.store.manifest import Entry, now_us
from batchrun.store.merging import Merge
from batchrun.store.parts import read_columns, schema_of
from batchrun.store.recovery import claim, recover

if TYPE_CHECKING:
    import numpy as np

    from batchrun.store.folder import RunFolder
    from batchrun.store.manifest import Manifest, Part

SMALL_BYTES = 16 * 1024 * 1024


class Compacted(msgspec.Struct, frozen=True, kw_only=True):
    """Parts of results and failures, and what they take on disk, before and after."""

    parts_before: int
    parts_after: int
    bytes_before: int
    bytes_after: int


def compact(folder: RunFolder) -> Compacted:
    """Merge the parts below 16 MB of a folder that is locked into parts of about 128 MB, by one entry of the manifest.

    Raises:
        FolderUnusable: there is no run, or it is damaged.
    """
    run = held_by(folder)
    recovered = recover(folder, run.run_id, run.rows)
    before = _parts(recovered.manifest)
    small = [part for part in before if part.rows and part.bytes < SMALL_BYTES]  # the first, without rows, stays
    rooms = [[part for part in small if part.name.startswith(room)] for room in ("results/", "failures/")]
    drops = [part for parts in rooms if len(parts) > 1 for part in parts]
    if drops:
        recovered = recovered if recovered.epoch is not None else claim(recovered)
        standing = latest_failures(folder, recovered.manifest, recovered.rows)
        merge = Merge(recovered, segment=1)
        for part in drops:
            _copy(folder, part, standing.get(part.name), merge)
        merge.commit("merge", [part.name for part in drops])
        close = Entry(kind="close", at=now_us(), epoch=recovered.epoch or 0, exposed=recovered.exposed)
        recovered.manifest.put(close)
    after = _parts(recovered.manifest)
    return Compacted(
        parts_before=len(before),
        parts_after=len(after),
        bytes_before=sum(part.bytes for part in before),
        bytes_after=sum(part.bytes for part in after),
    )


def _parts(manifest: Manifest) -> list[Part]:
    return [part for part in manifest.parts.values() if part.name.startswith(("results/", "failures/"))]


def _copy(folder: RunFolder, part: Part, standing: np.ndarray | None, merge: Merge) -> None:
    """Put the rows of a part, but those that do not count any more, into the merge."""
    schema, start = schema_of(part.name), 0
    room = part.name.partition("/")[0]
    for batch in read_columns(folder, part, schema.names):
        whole, rows = batch.cast(schema), slice(start, start := start + batch.num_rows)
        merge.add(room, whole if standing is None else whole.filter(pa.array(standing[rows])))
