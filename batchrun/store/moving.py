"""What is kept moves to where the rows of a changed input are: one entry of the manifest, and no answer is lost."""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pyarrow as pa

from batchrun.store.changes import KEY_COLUMNS, InputRows, Names, match, replaced
from batchrun.store.failures import latest_failures
from batchrun.store.folder import REPLACED
from batchrun.store.manifest import Entry, Part, now_us
from batchrun.store.merging import Merge
from batchrun.store.parts import read_columns, schema_of
from batchrun.store.recovery import Recovered, claim, recover

if TYPE_CHECKING:
    from batchrun.store.folder import RunFile, RunFolder
    from batchrun.types import Record


class _Moves(msgspec.Struct, frozen=True, kw_only=True):
    """Where the rows of one part go.

    `target` is the new index, -1 for none; `renamed` marks rows that get another id, `settled` failures that no longer
    count.
    """

    part: Part
    target: np.ndarray
    renamed: np.ndarray
    settled: np.ndarray


def move(folder: RunFolder, there: RunFile, run: RunFile, input_rows: InputRows, new: Names) -> list[int]:
    """Make a locked folder that holds `there` one of `run`; returns the rows of `there` that a crash exposed.

    Rows that ask the same get their new index and id; the answers to all others go to `_replaced/`.

    Raises:
        FolderUnusable: the folder is damaged.
    """
    recovered = recover(folder, there.run_id, there.rows)
    if recovered.epoch is None:
        recovered = claim(recovered)
    moves = [one for one in _moves(recovered, new) if not _stays(recovered, one)]
    wanted = {int(index) for one in moves for index in one.target[one.renamed]}
    custom_ids = {index: custom_id for index, custom_id, _ in (input_rows() if wanted else ()) if index in wanted}
    merge = Merge(recovered, segment=1)
    for one in moves:
        _rewrite(recovered, one, custom_ids, merge)
    merge.commit(
        "input",
        [one.part.name for one in moves],
        rows=run.rows,
        fingerprint=run.fingerprint,
        turns=list(_moved_turns(recovered, input_rows)),
    )
    recovered.manifest.put(Entry(kind="close", at=now_us(), epoch=recovered.epoch or 0))
    return recovered.exposed


def _moves(recovered: Recovered, new: Names) -> list[_Moves]:
    folder, manifest, old = recovered.folder, recovered.manifest, Names()
    kept = [part for part in manifest.parts.values() if part.rows and not part.name.startswith(REPLACED)]
    parts = [*kept, *replaced(manifest.parts.values())]
    counts = [old.add_batches(read_columns(folder, part, KEY_COLUMNS)) for part in parts]
    rows = [slice(end - count, end) for count, end in zip(counts, accumulate(counts), strict=True)]
    standing = latest_failures(folder, manifest, recovered.rows)
    settled = np.zeros(len(old), bool)
    for part, some in zip(parts, rows, strict=True):
        if part.name in standing:
            settled[some] = ~standing[part.name]
    target = match(old, new, leave_out=settled)
    renamed = (target >= 0) & (old.ids != new.ids[target])
    return [
        _Moves(part=part, target=target[some], renamed=renamed[some], settled=settled[some])
        for part, some in zip(parts, rows, strict=True)
    ]


def _stays(recovered: Recovered, one: _Moves) -> bool:
    """Whether a part can be left as it is."""
    if one.part.name.startswith(REPLACED):
        return bool((one.target < 0).all())
    batches = read_columns(recovered.folder, one.part, ["index"])
    index = np.concatenate([batch.column("index").to_numpy() for batch in batches])
    return bool((index == one.target).all() and not one.renamed.any())


def _rewrite(recovered: Recovered, one: _Moves, custom_ids: dict[int, str], merge: Merge) -> None:
    """Put the rows of a part into others."""
    schema, start = schema_of(one.part.name), 0
    room = one.part.name.removeprefix(f"{REPLACED}/").partition("/")[0]
    for batch in read_columns(recovered.folder, one.part, schema.names):
        rows = slice(start, start := start + batch.num_rows)
        whole, moves = batch.cast(schema), one.target[rows] >= 0
        merge.add(room, _moved(whole.filter(pa.array(moves)), one.target[rows][moves], custom_ids))
        merge.add(f"{REPLACED}/{room}", whole.filter(pa.array(~moves & ~one.settled[rows])))


def _moved(batch: pa.RecordBatch, target: np.ndarray, custom_ids: dict[int, str]) -> pa.RecordBatch:
    """The same rows with the index and the id that they have now."""
    names = [
        custom_ids.get(index, name) for index, name in zip(target.tolist(), batch["custom_id"].to_pylist(), strict=True)
    ]
    columns = {"index": pa.array(target, pa.int64()), "custom_id": pa.array(names, pa.large_string())}
    return pa.record_batch([columns.get(name, batch[name]) for name in batch.schema.names], schema=batch.schema)


def _moved_turns(recovered: Recovered, input_rows: InputRows) -> list[Record]:
    """The finished turns of conversations, as those of the row that asks the same conversation now."""
    turns = {record.index: record for record in recovered.manifest.turns()}  # of several of a row the last counts
    wanted: dict[str | None, list[Record]] = {}
    for record in turns.values():
        wanted.setdefault(record.request_key, []).append(record)
    moved = []
    for index, custom_id, request_key in input_rows() if wanted else ():
        if waiting := wanted.get(request_key):
            moved.append(msgspec.structs.replace(waiting.pop(), index=index, custom_id=custom_id))
    return moved
