"""The open segment: records are appended in groups, and a record counts as committed once its group's flush returned 0.

Theory of operation. The loop's thread only puts encoded lines into a deque; one writer thread takes what is there, at
most once every `flush_s`, and makes a group of it: one write, one fdatasync. A segment is a file that is created once
and never reopened for writing. Its lines, each in a checksum frame, are
  segment     first line: how many bytes of the previous segment of this epoch count, and the dispatch mark so far
  group       first line of each group: how many bytes before it are known to be on disk
  dispatched  a mark: rows below this index may have been sent
  record      a result or a failure
  turn        what is finished of a conversation whose record comes later
What follows a broken line tells what it is: a later group line that claims those bytes were on disk proves damage;
anything else is the torn tail of a write that never returned, so nobody was told that it was committed.

After a failed write or flush the descriptor is given up; the same group goes once into a new segment (whose first
line says how much of the old one counts), with the reserve given back to the disk. If that fails too the journal has
failed: `keep` raises, and the run ends with what is committed.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec

from batchrun.errors import StoreError
from batchrun.store.folder import segment_name
from batchrun.store.framing import frame, frames, seed_of
from batchrun.types import Record

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from batchrun.store.folder import RunFolder

BACKLOG_BYTES = 16 * 1024 * 1024
RESERVE_BYTES = 4 * 1024 * 1024
_IDLE_S = 1.0


class SegmentLine(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind", tag="segment"):
    """Opens a segment."""

    previous_bytes: int | None = None
    dispatched_below: int = 0


class GroupLine(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="group"):
    """Opens a group: all bytes of the segment before `synced` are on disk."""

    synced: int


class DispatchedLine(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="dispatched"):
    """Rows with an index below `below` may have been sent."""

    below: int


class TurnLine(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="turn"):
    """What is finished of a conversation; of several lines of a row the last one counts, and none after its record."""

    record: Record


Line = SegmentLine | GroupLine | DispatchedLine | TurnLine | Record
_encode = msgspec.json.Encoder().encode
_decode_dispatched = msgspec.json.Decoder(DispatchedLine).decode


class Sealed(msgspec.Struct, frozen=True, kw_only=True):
    """A segment that is not written any more: its number, and how many of its bytes count."""

    segment: int
    bytes: int
    dispatched_below: int


class Journal:
    """Appends the records of one epoch; `seal` is called on the writer thread with every segment that is full."""

    def __init__(
        self,
        folder: RunFolder,
        run_id: str,
        epoch: int,
        *,
        flush_s: float,
        segment_bytes: int,
        segment_s: float,
        seal: Callable[[Sealed], None],
        on_failure: Callable[[StoreError], None],
    ) -> None:
        self._folder, self._fs, self._run_id, self.epoch = folder, folder.fs, run_id, epoch
        self._flush_s, self._segment_bytes, self._segment_s = flush_s, segment_bytes, segment_s
        self._seal, self._on_failure = seal, on_failure
        self._lines: deque[bytes] = deque()
        self._bytes_in = self._bytes_out = 0
        self._wake, self._hurry = threading.Event(), threading.Event()
        self._closing, self._seal_at_end = False, True
        self._failure: StoreError | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._segment, self._fd, self._size, self._opened_at = -1, -1, 0, 0.0
        self._records_in_segment = 0
        self.dispatched_below = 0
        self.next_segment = 1  # 0 is the name of the empty first parts
        self._thread = threading.Thread(target=self._write, name="batchrun-journal", daemon=True)

    def start(self) -> None:
        """Reserve space, open the first segment and start the writer; call it inside the running loop."""
        self._loop = asyncio.get_running_loop()
        self._make_reserve()
        self._open(previous_bytes=None)
        self._thread.start()

    # What the loop's thread calls

    def keep(self, line: Record | TurnLine) -> None:
        """Hand a record over; it is committed within about `flush_s`. Raises StoreError if the disk has failed."""
        self._append(_encode(line))

    def announce(self, below: int) -> None:
        """Say that rows below an index may be sent from now on; `settled` returns when that is on disk."""
        self._append(_encode(DispatchedLine(below=below)))

    @property
    def full(self) -> bool:
        """Whether more is waiting for the disk than may wait; the caller awaits `settled` then."""
        return self._bytes_in - self._bytes_out > BACKLOG_BYTES

    async def settled(self) -> None:
        """Return when all that was handed over before is on disk; raises StoreError if the disk has failed."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        self._hurry.set()
        self._wake.set()
        if not self._failure:  # a writer that fails after this line finds the waiter
            await waiter
        if self._failure:
            raise self._failure

    def close(self, *, seal: bool = True) -> None:
        """Flush and seal all that is there, and end the writer. Blocks; raises StoreError if the disk has failed."""
        self._seal_at_end = seal
        self._closing = True
        self._hurry.set()
        self._wake.set()
        self._thread.join()
        self._fs.unlink(self._folder.journal / ".reserve")
        if self._failure:
            raise self._failure

    def _append(self, line: bytes) -> None:
        if self._failure:
            raise self._failure
        self._lines.append(line)
        self._bytes_in += len(line)
        if not self._wake.is_set():
            self._wake.set()

    # What the writer thread does

    def _write(self) -> None:
        try:
            while True:
                self._wake.wait(_IDLE_S)
                self._wake.clear()
                closing = self._closing
                self._hurry.clear()
                asked = len(self._waiters)  # who asked before this group is answered by it
                self._write_group()
                self._tell(asked)
                if closing:
                    break
                if self._size >= self._segment_bytes or self._stale():
                    self._rotate()
                self._hurry.wait(self._flush_s)
            if self._seal_at_end:
                self._finish_segment()
        except StoreError as error:
            self.fail(error)
        except Exception as error:  # noqa: BLE001 (a dead writer must never look like a slow one)
            self.fail(StoreError(f"{self._folder}: writing failed: {type(error).__name__}: {error}"))

    def _write_group(self) -> None:
        lines = [self._lines.popleft() for _ in range(len(self._lines))]
        if not lines:
            return
        try:
            self._write_lines(lines)
        except StoreError:
            self._fs.unlink(self._folder.journal / ".reserve")
            self._finish_segment()
            self._open(previous_bytes=self._size)
            self._write_lines(lines)
        self._folder.refuse_if_taken()
        self._bytes_out += sum(map(len, lines))

    def _write_lines(self, lines: list[bytes]) -> None:
        seed = seed_of(self._run_id, self.epoch, self._segment)
        data = frames([_encode(GroupLine(synced=self._size)), *lines], seed)
        path = self._path(self._segment)
        self._fs.write(self._fd, data, path)
        self._fs.flush(self._fd, path)
        self._size += len(data)
        for line in lines:
            if line.startswith(b'{"kind":"dispatched"'):
                self.dispatched_below = max(self.dispatched_below, _decode_dispatched(line).below)
            else:
                self._records_in_segment += 1

    def _open(self, previous_bytes: int | None) -> None:
        self._segment = self.next_segment
        self.next_segment += 1
        path = self._path(self._segment)
        self._fd = self._fs.create(path)
        first = SegmentLine(previous_bytes=previous_bytes, dispatched_below=self.dispatched_below)
        line = frame(_encode(first), seed_of(self._run_id, self.epoch, self._segment))
        self._fs.write(self._fd, line, path)
        self._fs.flush(self._fd, path)
        self._fs.flush_dir(self._folder.journal)
        self._size, self._opened_at, self._records_in_segment = len(line), time.monotonic(), 0

    def _stale(self) -> bool:
        return self._records_in_segment > 0 and time.monotonic() - self._opened_at >= self._segment_s

    def _rotate(self) -> None:
        size = self._size
        finished = self._sealed()
        self._fs.close(self._fd)
        self._open(previous_bytes=size)
        self._seal(finished)

    def _finish_segment(self) -> None:
        self._fs.close(self._fd)
        self._seal(self._sealed())

    def _sealed(self) -> Sealed:
        return Sealed(segment=self._segment, bytes=self._size, dispatched_below=self.dispatched_below)

    def fail(self, error: StoreError) -> None:
        """Give up: nothing more is kept. Called by any thread that finds the disk failing."""
        if not self._failure:
            self._failure = error
            if self._loop and not self._loop.is_closed():
                self._loop.call_soon_threadsafe(self._on_failure, error)
        self._tell(len(self._waiters))

    def _tell(self, count: int) -> None:
        waiters: list[asyncio.Future[None]] = []
        with suppress(IndexError):  # the sealer, too, tells them when it fails: each is told by one of the two
            while len(waiters) < count:
                waiters.append(self._waiters.popleft())
        if waiters and self._loop and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(_release, waiters)

    def _make_reserve(self) -> None:
        path = self._folder.journal / ".reserve"
        self._fs.unlink(path)
        fd = self._fs.create(path)
        try:
            self._fs.reserve(fd, RESERVE_BYTES, path)
        finally:
            self._fs.close(fd)

    def _path(self, segment: int) -> Path:
        return self._folder.journal / segment_name(self.epoch, segment)


def _release(waiters: list[asyncio.Future[None]]) -> None:
    for waiter in waiters:
        if not waiter.done():
            waiter.set_result(None)
