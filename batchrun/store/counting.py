"""How many rows a folder has kept, from the manifest's sums and the open journal: no part is read if none need be."""

from __future__ import annotations

from functools import partial
from itertools import chain
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pyarrow as pa

from batchrun.store.failures import latest_failures
from batchrun.store.folder import segment_name, segment_numbers
from batchrun.store.framing import seed_of, unframe
from batchrun.store.fs import reading
from batchrun.store.parts import read_columns
from batchrun.store.recovery import load_rows
from batchrun.store.rows import REFUSED, RETRYABLE, SUCCEEDED
from batchrun.store.unsealed import read_unsealed

if TYPE_CHECKING:
    from batchrun.store.folder import RunFile, RunFolder
    from batchrun.store.manifest import Manifest, Part

_SUMS = ("cost_usd", "prompt_tokens", "completion_tokens")


class Kept(msgspec.Struct, kw_only=True):
    """Rows that have succeeded and that stand as failed, and what both took; `since` are those of the last start."""

    succeeded: int = 0
    failed: int = 0
    since: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_nano_usd: int = 0


class _Line(msgspec.Struct):
    """What counts of a journal line; a line of any other kind has no such index."""

    kind: str
    index: int = -1
    error_type: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cost_usd: float | None = None


_decode = msgspec.json.Decoder(_Line).decode


def count_kept(folder: RunFolder, run: RunFile) -> tuple[Kept, Manifest]:
    """Count what a folder has kept, at any time, without its lock; and its history.

    Where the last start may have tried earlier failures again, the index columns of the parts tell which of them stand.

    Raises:
        FolderUnusable: its history is damaged.
    """
    segments, manifest = read_unsealed(folder, run.run_id, partial(_rows_of, folder, run.run_id))
    last = max((entry.epoch for entry in manifest.entries if entry.kind == "start"), default=-1)
    kept = Kept(since=sum(len(rows) for (epoch, _), rows in segments.items() if epoch == last))
    for entry in manifest.entries:
        if entry.kind == "part" and entry.epoch == last:
            kept.since += sum(part.rows for part in entry.parts)
    open_rows: dict[int, _Line] = {}
    for row in chain(*segments.values()):
        if row.index not in open_rows or open_rows[row.index].error_type is not None:
            open_rows[row.index] = row
    results = [part for part in manifest.parts.values() if part.name.startswith("results/")]
    failures = [part for part in manifest.parts.values() if part.name.startswith("failures/") and part.rows]
    if any(_epoch_of(part) < last for part in failures) and (segments or manifest.entries[-1].kind != "close"):
        _count_standing(kept, folder, manifest, manifest.with_input(run).rows, open_rows)
        _add_parts(kept, results)
    else:
        kept.succeeded = sum(part.rows for part in results)
        kept.failed = sum(part.rows for part in failures)
        for row in open_rows.values():
            kept.succeeded += row.error_type is None
            kept.failed += row.error_type is not None
        _add_parts(kept, [*results, *failures])
    for row in open_rows.values():
        _add(kept, row.cost_usd, row.prompt_tokens, row.completion_tokens)
    return kept, manifest


def _epoch_of(part: Part) -> int:
    number = segment_numbers(part.name.partition("/")[2])
    return number[0] if number else -1


def _add_parts(kept: Kept, parts: list[Part]) -> None:
    for part in parts:
        kept.prompt_tokens += part.prompt_tokens
        kept.completion_tokens += part.completion_tokens
        kept.cost_nano_usd += part.cost_nano_usd


def _count_standing(
    kept: Kept, folder: RunFolder, manifest: Manifest, row_count: int, open_rows: dict[int, _Line]
) -> None:
    """Count by the index of each row, and take in what the failures took that still stand."""
    rows = load_rows(folder, manifest, row_count)
    journal = {index: row for index, row in open_rows.items() if rows[index] != SUCCEEDED}
    for row in journal.values():  # neither does a row of the journal stand as a failure in a part
        rows.states[row.index] = SUCCEEDED
    for name, mask in latest_failures(folder, manifest, rows).items():
        batches = list(read_columns(folder, manifest.parts[name], list(_SUMS)))
        standing = pa.Table.from_batches(batches).filter(pa.array(mask))
        for values in zip(*(standing.column(column).to_pylist() for column in _SUMS), strict=True):
            _add(kept, *values)
    for row in journal.values():
        rows.states[row.index] = rows.state_of(row.error_type)
    states = np.frombuffer(rows.states, dtype=np.uint8)
    kept.succeeded = int(np.count_nonzero(states == SUCCEEDED))
    kept.failed = int(np.count_nonzero((states == RETRYABLE) | (states == REFUSED)))


def _add(kept: Kept, cost_usd: float | None, prompt_tokens: int | None, completion_tokens: int | None) -> None:
    kept.cost_nano_usd += round((cost_usd or 0) * 1e9)
    kept.prompt_tokens += prompt_tokens or 0
    kept.completion_tokens += completion_tokens or 0


def _rows_of(folder: RunFolder, run_id: str, number: tuple[int, int]) -> list[_Line]:
    """The records of a journal segment, as far as its lines are whole."""
    seed, rows = seed_of(run_id, *number), []
    with reading(folder.journal / segment_name(*number)) as file:
        for framed in file:
            line = unframe(framed, seed) if framed.endswith(b"\n") else None
            if line is not None and line.startswith(b'{"kind":"record"'):
                rows.append(_decode(line))
    return rows
