"""The store as a run sees it: open a folder, keep records, close it.

Three threads at most: the caller's loop hands over, the journal's writer makes groups, and one sealer turns finished
segments into parts. The sealer is the only one that writes the manifest between opening and closing.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Literal

from batchrun.errors import StoreError
from batchrun.store.failures import merge_failures
from batchrun.store.history import Histories, unfinished, with_history
from batchrun.store.journal import Journal, Sealed, TurnLine
from batchrun.store.manifest import Entry, Session, now_us
from batchrun.store.recovery import Recovered, claim, recover, seal
from batchrun.store.rows import MISSING, OPEN_STATES, RETRYABLE
from batchrun.store.storable import storable

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

    from batchrun.config import StoreConfig
    from batchrun.store.folder import RunFile, RunFolder
    from batchrun.types import Record, Request

RetryFailed = Literal["retryable", "all", "none"]
_SEALS_WAITING = 2
_LEAST_AHEAD, _MOST_AHEAD = 32, 4096


class Store:
    """One epoch of a locked run folder. `recovered.rows` says what has become of each row.

    `mended` counts records that held what cannot be kept, and were kept with a replacement: see `storable`.
    """

    def __init__(self, folder: RunFolder, run: RunFile, *, retry_failed: RetryFailed = "retryable") -> None:
        """Bring the folder into order; raises FolderUnusable if it is damaged. Nothing is sent before this returns."""
        self._folder, self._run_id = folder, run.run_id
        self.recovered: Recovered = recover(folder, run.run_id, run.rows)
        self._open_states = OPEN_STATES[retry_failed]
        self._histories: Histories | None = None
        rows, manifest = self.recovered.rows, self.recovered.manifest
        if manifest.has_turns or any(rows.count(state) for state in self._open_states - {MISSING}):
            self._histories = Histories(self.recovered, self._open_states)
        self._journal: Journal | None = None
        self._early: frozenset[int] = frozenset()
        self._announced = 0
        self._ahead = _LEAST_AHEAD
        self.mended = 0

    def is_open(self, index: int) -> bool:
        """Whether a row is still to be sent."""
        states = self.recovered.rows.states
        return index < len(states) and states[index] in self._open_states

    def open_among(self, rows: np.ndarray) -> np.ndarray:
        """Those of some rows that are still to be sent, as far as parts say: not what this start has settled."""
        is_open: np.ndarray = self.recovered.rows.among(rows, self._open_states)
        found: np.ndarray = rows[is_open]
        return found

    def open_rows(self, limit: int | None = None) -> int:
        """How many of the first `limit` rows are still to be sent."""
        states = self.recovered.rows.states[:limit]
        return sum(states.count(state) for state in self._open_states)

    def start(
        self, config: StoreConfig, on_failure: Callable[[StoreError], None], *, early: frozenset[int] = frozenset()
    ) -> None:
        """Open the journal, inside the running loop. `on_failure` is called in the loop when the disk fails.

        Rows that are sent `early`, before others of a lower index, are named now: no mark could tell which they are.
        """
        if self.recovered.epoch is None:
            self.recovered = claim(self.recovered)
        self._early = early
        if named := [index for index in early if self.is_open(index)]:
            exposed = sorted({*named, *self.recovered.exposed})
            entry = Entry(kind="exposed", at=now_us(), epoch=self.recovered.epoch or 0, exposed=exposed)
            self.recovered.manifest.put(entry)
        self._sealer = ThreadPoolExecutor(1, thread_name_prefix="batchrun-sealer")
        self._seals: list[Future[None]] = []
        self._journal = Journal(
            self._folder,
            self._run_id,
            self.recovered.epoch or 0,
            flush_s=config.flush_ms / 1000,
            segment_bytes=int(config.part_mb * 1024 * 1024),
            segment_s=config.part_minutes * 60,
            seal=self._seal_later,
            on_failure=on_failure,
        )
        self._journal.start()

    def keep(self, record: Record) -> None:
        """Hand a record over to be committed; raises StoreError if the disk has failed."""
        history = self._histories.pop(record.index) if self._histories else None
        self._hand_over(with_history(record, history) if history else record)

    def keep_turn(self, record: Record) -> None:
        """Hand over what is finished of a conversation, so that a later start goes on from there; see `keep`."""
        history = self._histories.get(record.index) if self._histories else None
        self._hand_over(unfinished(with_history(record, history) if history else record), turn=True)

    def so_far(self, request: Request) -> Record | None:
        """What earlier starts finished of a row's conversation: its `messages` and its `turn_log`, None if nothing.

        What those starts took and cost is not in it: `keep` and `keep_turn` add that.
        """
        history = self._histories.get(request.index) if self._histories else None
        found = history.so_far if history else None
        return found if found and found.request_key == request.request_key else None

    def _hand_over(self, record: Record, *, turn: bool = False) -> None:
        try:
            self.journal.keep(TurnLine(record=record) if turn else record)
        except (UnicodeEncodeError, OverflowError):
            self.mended += 1
            self.journal.keep(TurnLine(record=storable(record)) if turn else storable(record))

    @property
    def journal(self) -> Journal:
        """The open journal."""
        if self._journal is None:
            raise StoreError(f"{self._folder}: nothing can be kept before the store is started")
        return self._journal

    async def may_send(self, index: int) -> None:
        """Return when it is on disk that this row may have been sent, so that a crash can name it.

        All but the early ones are sent in the order of their index, so one mark, set ahead of what is sent, covers many
        of them; it is set further ahead each time that a row had to wait for it.
        """
        if index in self._early:
            return
        must_wait = index >= self.journal.dispatched_below
        if index >= self._announced - self._ahead // 2:
            if must_wait:
                self._ahead = min(2 * self._ahead, _MOST_AHEAD)
            self._announced = index + self._ahead
            self.journal.announce(self._announced)
        if must_wait:
            await self.journal.settled()

    async def room(self) -> None:
        """Return when the disk has caught up; at once unless it is far behind."""
        if self.journal.full:
            await self.journal.settled()

    def abandon(self) -> None:
        """Commit what was handed over and leave at once; the next start seals it and names what was in flight."""
        try:
            self.journal.close(seal=False)
        finally:
            self._sealer.shutdown(wait=True)
            if self._histories:
                self._histories.close()

    def close(self, session: Session, in_flight: list[int]) -> None:
        """Commit and seal everything, and say how this start ended. Blocks; raises StoreError if the disk fails."""
        self._finish()
        rows, epoch = self.recovered.rows, self.recovered.epoch or 0
        exposed = {*in_flight, *self.recovered.exposed}
        exposed = {index for index in exposed if rows[index] in {MISSING, RETRYABLE}}
        entry = Entry(kind="close", at=now_us(), epoch=epoch, exposed=sorted(exposed), session=session)
        self.recovered.manifest.put(entry)

    def tidy(self) -> None:
        """End a start that has nothing to send, but whose opening has put something in order."""
        if self.recovered.epoch is None:
            return
        merge_failures(self.recovered, segment=1)
        entry = Entry(kind="close", at=now_us(), epoch=self.recovered.epoch, exposed=self.recovered.exposed)
        self.recovered.manifest.put(entry)

    def _finish(self) -> None:
        try:
            self.journal.close()
        finally:
            self._sealer.shutdown(wait=True)
            if self._histories:
                self._histories.close()
        for future in self._seals:
            future.result()
        merge_failures(self.recovered, self.journal.next_segment)

    def _seal_later(self, sealed: Sealed) -> None:
        while len(self._seals) >= _SEALS_WAITING:
            self._seals.pop(0).result()
        self._seals.append(self._sealer.submit(self._seal, sealed))

    def _seal(self, sealed: Sealed) -> None:
        try:
            seal(self.recovered, sealed)
        except StoreError as error:
            self.journal.fail(error)
            raise
