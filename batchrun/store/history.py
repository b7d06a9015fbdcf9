"""What earlier starts leave of a row that is tried again: what it took and cost so far, and its finished turns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from batchrun.store.parts import read_columns
from batchrun.types import Attempt, Record

if TYPE_CHECKING:
    from collections.abc import Callable

    from batchrun.store.folder import RunFolder
    from batchrun.store.manifest import Manifest

_TURN_COLUMNS = ["index", "custom_id", "request_key", "queued_s", "messages", "turn_log"]
_KEPT_OF_A_TURN = [*_TURN_COLUMNS, "attempts", "attempt_log", "cost_usd"]
_OF_A_FAILURE = ["error_type", "error_code", "error_message", "status_code", "request_id", "latency_s", "started_at"]


class History(msgspec.Struct, frozen=True, kw_only=True):
    """The attempts that a row took in earlier starts, what they cost, and what they finished of a conversation."""

    attempts: int
    log: list[msgspec.Raw]
    cost_usd: float | None
    so_far: Record | None


def read_histories(folder: RunFolder, manifest: Manifest, wanted: Callable[[int], bool]) -> dict[int, History]:
    """The histories of the rows that `wanted` says are tried again.

    Each failure and each turn holds all that was before it, so of several the one with the most attempts is the last.
    """
    histories: dict[int, History] = {}

    def add(index: int, history: History) -> None:
        if index not in histories or history.attempts >= histories[index].attempts:
            histories[index] = history

    for part in manifest.parts.values():
        if part.name.startswith("failures/") and part.rows:
            for batch in read_columns(folder, part, [*_KEPT_OF_A_TURN, *_OF_A_FAILURE]):
                for row in batch.to_pylist():
                    if wanted(row["index"]):
                        add(row["index"], _of_failure(row))
    for record in manifest.turns():
        if wanted(record.index):
            add(record.index, _of_turns(record))
    return histories


def with_history(record: Record, history: History) -> Record:
    """A record that remembers the attempts of the starts before it."""
    log = [*history.log, *_log(record.attempt_log)]
    costs = [round(cost * 1e9) for cost in (record.cost_usd, history.cost_usd) if cost is not None]
    return msgspec.structs.replace(
        record,
        attempts=record.attempts + history.attempts,
        attempt_log=msgspec.json.encode(log).decode() if log else None,
        cost_usd=sum(costs) / 1e9 if costs else None,
    )


def unfinished(record: Record) -> Record:
    """What has to be kept of finished turns, to go on with the next one later."""
    return Record(**{name: getattr(record, name) for name in _KEPT_OF_A_TURN})


def _of_turns(record: Record) -> History:
    return History(
        attempts=record.attempts,
        log=_log(record.attempt_log),
        cost_usd=record.cost_usd,
        so_far=Record(**{name: getattr(record, name) for name in _TURN_COLUMNS}),
    )


def _of_failure(row: dict[str, Any]) -> History:
    log = _log(row["attempt_log"])
    so_far = Record(**{name: row[name] for name in _TURN_COLUMNS}) if row["turn_log"] else None
    if row["attempts"]:
        last = Attempt(
            number=row["attempts"],
            turn=len(_log(row["turn_log"])) + 1 if so_far else None,
            started_at=int(row["started_at"].timestamp() * 1_000_000) if row["started_at"] else 0,
            latency_s=row["latency_s"] or 0.0,
            error_type=row["error_type"],
            error_code=row["error_code"],
            error_message=row["error_message"] or "",
            status_code=row["status_code"],
            request_id=row["request_id"],
        )
        log.append(msgspec.Raw(msgspec.json.encode(last)))
    return History(attempts=row["attempts"], log=log, cost_usd=row["cost_usd"], so_far=so_far)


def _log(text: str | None) -> list[msgspec.Raw]:
    """A log, which is a JSON list, by its entries."""
    return msgspec.json.decode(text, type=list[msgspec.Raw]) if text else []
