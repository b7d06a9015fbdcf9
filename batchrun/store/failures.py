"""Failures that still stand, and those that a later start has settled: they leave `failures/`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from batchrun.store.merging import Merge
from batchrun.store.parts import read_columns
from batchrun.store.rows import SUCCEEDED, Rows
from batchrun.store.schema import FAILURES

if TYPE_CHECKING:
    from batchrun.store.folder import RunFolder
    from batchrun.store.manifest import Manifest
    from batchrun.store.recovery import Recovered


def latest_failures(folder: RunFolder, manifest: Manifest, rows: Rows) -> dict[str, np.ndarray]:
    """For each part of failures the rows in it that still stand: not succeeded since, not failed again since."""
    indexes = {
        part.name: np.concatenate([batch.column("index").to_numpy() for batch in read_columns(folder, part, ["index"])])
        for part in manifest.parts.values()
        if part.name.startswith("failures/") and part.rows
    }
    latest = np.full(len(rows.states), -1, dtype=np.int32)
    for number, index in enumerate(indexes.values()):
        latest[index] = number
    latest[np.frombuffer(rows.states, dtype=np.uint8) == SUCCEEDED] = -1
    return {name: latest[index] == number for number, (name, index) in enumerate(indexes.items())}


def merge_failures(recovered: Recovered, segment: int) -> None:
    """Put one part in place of the failure parts that hold rows which have succeeded, or failed again, since."""
    folder, manifest = recovered.folder, recovered.manifest
    standing = latest_failures(folder, manifest, recovered.rows)
    if all(mask.all() for mask in standing.values()):
        return
    merge = Merge(recovered, segment)
    for drop, mask in standing.items():
        start = 0
        for batch in read_columns(folder, manifest.parts[drop], FAILURES.names):
            kept = batch.filter(pa.array(mask[start : start + batch.num_rows]))
            merge.add("failures", kept.cast(FAILURES))
            start += batch.num_rows
    merge.commit("merge", list(standing))
