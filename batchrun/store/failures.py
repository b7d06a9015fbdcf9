"""What earlier failures leave: their history goes with the row that is tried again, they go when it has settled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pyarrow as pa

from batchrun.store.folder import part_name
from batchrun.store.manifest import Entry
from batchrun.store.parts import PartWriter, read_columns
from batchrun.store.recovery import now_us
from batchrun.store.rows import SUCCEEDED, Rows
from batchrun.store.schema import FAILURES
from batchrun.types import Attempt

if TYPE_CHECKING:
    from collections.abc import Callable

    from batchrun.store.folder import RunFolder
    from batchrun.store.manifest import Manifest
    from batchrun.store.recovery import Recovered
    from batchrun.types import Record

_HISTORY_COLUMNS = [
    "index",
    "attempts",
    "attempt_log",
    "error_type",
    "error_code",
    "error_message",
    "status_code",
    "request_id",
    "latency_s",
    "started_at",
    "cost_usd",
]


class History(msgspec.Struct, frozen=True, kw_only=True):
    """The attempts that a row's earlier failures took, and what they cost."""

    attempts: int
    log: list[msgspec.Raw]
    cost_usd: float | None


def read_histories(folder: RunFolder, manifest: Manifest, wanted: Callable[[int], bool]) -> dict[int, History]:
    """The histories of the failed rows that `wanted` says are tried again; the last failure of a row counts."""
    histories: dict[int, History] = {}
    for part in manifest.parts.values():
        if part.name.startswith("failures/") and part.rows:
            for batch in read_columns(folder, part, _HISTORY_COLUMNS):
                for row in batch.to_pylist():
                    if wanted(row["index"]):
                        histories[row["index"]] = _history(row)
    return histories


def with_history(record: Record, history: History) -> Record:
    """A record that remembers the attempts of the failures before it."""
    log = [*history.log, *msgspec.json.decode(record.attempt_log or "[]", type=list[msgspec.Raw])]
    costs = [round(cost * 1e9) for cost in (record.cost_usd, history.cost_usd) if cost is not None]
    return msgspec.structs.replace(
        record,
        attempts=record.attempts + history.attempts,
        attempt_log=msgspec.json.encode(log).decode(),
        cost_usd=sum(costs) / 1e9 if costs else None,
    )


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
    folder, manifest, epoch = recovered.folder, recovered.manifest, recovered.epoch or 0
    standing = latest_failures(folder, manifest, recovered.rows)
    if all(mask.all() for mask in standing.values()):
        return
    name = part_name(epoch, segment)
    writer = PartWriter(folder, folder.failures, name, FAILURES)
    for drop, mask in standing.items():
        start = 0
        for batch in read_columns(folder, manifest.parts[drop], FAILURES.names):
            writer.add(batch.filter(pa.array(mask[start : start + batch.num_rows])).cast(FAILURES))
            start += batch.num_rows
    merged = writer.finish()
    drops = list(standing)
    manifest.put(Entry(kind="merge", at=now_us(), epoch=epoch, segment=segment, parts=[merged], drops=drops))
    for drop in drops:
        folder.fs.unlink(folder.path / drop)


def _history(row: dict[str, Any]) -> History:
    log = msgspec.json.decode(row["attempt_log"] or "[]", type=list[msgspec.Raw])
    if row["attempts"]:
        last = Attempt(
            number=row["attempts"],
            started_at=int(row["started_at"].timestamp() * 1_000_000) if row["started_at"] else 0,
            latency_s=row["latency_s"] or 0.0,
            error_type=row["error_type"],
            error_code=row["error_code"],
            error_message=row["error_message"] or "",
            status_code=row["status_code"],
            request_id=row["request_id"],
        )
        log.append(msgspec.Raw(msgspec.json.encode(last)))
    return History(attempts=row["attempts"], log=log, cost_usd=row["cost_usd"])
