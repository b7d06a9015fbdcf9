"""What earlier starts leave of a row that is tried again: what it took and cost so far, and its finished turns.

Theory of operation. There may be as many failures as rows, so they are not all held. Rows are sent in the order of
their index; the failures that are tried again are cut, in the same order, into windows of some megabytes. A window is
read, in a thread of its own, while the one before it is being sent; a row's history stays until its record is kept. So
what is held is two windows and what is in flight. What remains for every failure is twelve bytes: its index, and which
row group has it.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pyarrow as pa

from batchrun.store.parts import group_bytes, read_columns
from batchrun.types import Attempt, Record, Usage

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from batchrun.store.manifest import Part
    from batchrun.store.recovery import Recovered

_WINDOW_BYTES, _LEAST_WINDOW_ROWS, _MOST_WINDOW_ROWS = 8 * 1024 * 1024, 32, 4096
_PIECE_ROWS = 64

_TURN_COLUMNS = ["index", "custom_id", "request_key", "queued_s", "messages", "turn_log"]
_KEPT_OF_A_TURN = [*_TURN_COLUMNS, "attempts", "attempt_log", "cost_usd"]
_OF_A_FAILURE = ["error_type", "error_code", "error_message", "status_code", "request_id", "latency_s", "started_at"]
_USAGE = Usage.__struct_fields__


class History(msgspec.Struct, frozen=True, kw_only=True):
    """The attempts that a row took in earlier starts, what they cost, and what they finished of a conversation."""

    attempts: int
    log: list[msgspec.Raw]
    cost_usd: float | None
    so_far: Record | None


class Histories:
    """The histories of the rows that are in one of the `open_states`, loaded in the order of their index.

    Each failure and each turn holds all that was before it, so of several the one with the most attempts is the last.
    """

    def __init__(self, recovered: Recovered, open_states: Iterable[int]) -> None:
        self._folder, rows, manifest = recovered.folder, recovered.rows, recovered.manifest
        self._held: dict[int, History] = {}
        self._turns: dict[int, History] = {}
        for record in manifest.turns():
            if rows[record.index] in open_states:
                _put(self._turns, record.index, _of_turns(record))
        self._groups: list[tuple[Part, int]] = []
        self._index, self._at, row_bytes = self._locate(recovered, list(open_states))
        most = int(_WINDOW_BYTES / row_bytes) if row_bytes else _MOST_WINDOW_ROWS
        self._window_rows = min(max(most, _LEAST_WINDOW_ROWS), _MOST_WINDOW_ROWS)
        self._taken = 0
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="batchrun-histories")
        self._next: Future[dict[int, History]] | None = None
        self._read_ahead()

    def get(self, index: int) -> History | None:
        """The history of a row, None if it has none. Rows are asked for the first time in the order of their index."""
        while self._next and index >= self._index[self._taken]:
            for loaded, history in self._next.result().items():
                _put(self._held, loaded, history)
            self._taken += self._window_rows
            self._read_ahead()
        return self._held.get(index) or self._turns.get(index)

    def pop(self, index: int) -> History | None:
        """The same for a row that is done: it will not be asked for again."""
        found = self.get(index)
        self._held.pop(index, None)
        self._turns.pop(index, None)
        return found

    def close(self) -> None:
        """Stop reading ahead."""
        self._reader.shutdown(cancel_futures=True)

    def _locate(self, recovered: Recovered, states: list[int]) -> tuple[np.ndarray, np.ndarray, float]:
        """The rows to be tried again in order, in which of `_groups` each is, and how large a row is on average."""
        found, at = [np.empty(0, np.int64)], [np.empty(0, np.int32)]
        size = rows = 0
        for part in recovered.manifest.parts.values():
            if not part.name.startswith("failures/") or not part.rows:
                continue
            rows += part.rows
            for group, bytes_in_it in enumerate(group_bytes(self._folder, part)):
                size += bytes_in_it
                for batch in read_columns(self._folder, part, ["index"], [group]):
                    index = batch.column("index").to_numpy()
                    found.append(index[recovered.rows.among(index, states)])
                    at.append(np.full(len(found[-1]), len(self._groups), np.int32))
                self._groups.append((part, group))
        index = np.concatenate(found)
        order = np.argsort(index, kind="stable")
        return index[order], np.concatenate(at)[order], size / rows if rows else 0

    def _read_ahead(self) -> None:
        self._next = None
        if self._taken < len(self._index):
            window = slice(self._taken, self._taken + self._window_rows)
            self._next = self._reader.submit(self._read, self._index[window], self._at[window])

    def _read(self, wanted: np.ndarray, groups: np.ndarray) -> dict[int, History]:
        histories: dict[int, History] = {}
        for number in np.unique(groups):
            part, group = self._groups[number]
            for row in self._rows_of(part, group, wanted[groups == number]):
                _put(histories, row["index"], _of_failure(row))
        for index in histories.keys() & self._turns.keys():
            _put(histories, index, self._turns[index])
        return histories

    def _rows_of(self, part: Part, group: int, wanted: np.ndarray) -> Iterator[dict[str, Any]]:
        """Some rows of a row group, taken in pieces: to make Python of them holds the interpreter."""
        for batch in read_columns(self._folder, part, [*_KEPT_OF_A_TURN, *_OF_A_FAILURE, *_USAGE], [group]):
            places = np.flatnonzero(np.isin(batch.column("index").to_numpy(), wanted))
            for start in range(0, len(places), _PIECE_ROWS):
                yield from batch.take(pa.array(places[start : start + _PIECE_ROWS])).to_pylist()


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


def _put(histories: dict[int, History], index: int, history: History) -> None:
    if index not in histories or history.attempts >= histories[index].attempts:
        histories[index] = history


def _of_turns(record: Record) -> History:
    return History(
        attempts=record.attempts,
        log=_log(record.attempt_log),
        cost_usd=record.cost_usd,
        so_far=Record(**{name: getattr(record, name) for name in _TURN_COLUMNS}),
    )


def _of_failure(row: dict[str, Any]) -> History:
    log, usage = _log(row["attempt_log"]), _last_usage(row)
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
            usage=usage,
            cost_usd=_last_cost_usd(row) if usage and not so_far else None,
        )
        log.append(msgspec.Raw(msgspec.json.encode(last)))
    return History(attempts=row["attempts"], log=log, cost_usd=row["cost_usd"], so_far=so_far)


def _last_usage(row: dict[str, Any]) -> Usage | None:
    """What the attempt that failed was charged for: of a conversation, what its finished turns do not have."""
    turns = msgspec.json.decode(row["turn_log"], type=list[Usage]) if row["turn_log"] else []
    before = {name: sum(getattr(turn, name) or 0 for turn in turns) for name in _USAGE}
    counts = {name: None if row[name] is None else row[name] - before[name] for name in _USAGE}
    return Usage(**counts) if any(counts.values()) else None


def _last_cost_usd(row: dict[str, Any]) -> float | None:
    """What the attempt that failed cost: what those before it did not."""
    if row["cost_usd"] is None:
        return None
    before = msgspec.json.decode(row["attempt_log"] or "[]", type=list[Attempt])
    nano_usd: int = round(row["cost_usd"] * 1e9) - sum(round((one.cost_usd or 0) * 1e9) for one in before)
    return nano_usd / 1e9


def _log(text: str | None) -> list[msgspec.Raw]:
    """A log, which is a JSON list, by its entries."""
    return msgspec.json.decode(text, type=list[msgspec.Raw]) if text else []
