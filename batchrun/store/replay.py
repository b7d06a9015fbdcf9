"""A journal segment read back: whole lines only, a torn tail passed over, a damaged middle named."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from batchrun.errors import FolderUnusable
from batchrun.store.framing import seed_of, unframe
from batchrun.store.journal import DispatchedLine, GroupLine, Line, TurnLine
from batchrun.types import Record

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_decode = msgspec.json.Decoder(Line).decode


class SegmentReader:
    """Reads one segment once; what it found besides the records is in the attributes afterwards."""

    def __init__(self, path: Path, run_id: str, epoch: int, segment: int) -> None:
        self.path, self._seed = path, seed_of(run_id, epoch, segment)
        self.previous_bytes: int | None = None
        self.dispatched_below = 0
        self.broken_at: int | None = None
        self.turns: dict[int, Record] = {}
        """By row, what is finished of the conversations that have no record behind it."""

    def blocks(self, block_bytes: int, *, limit: int | None = None) -> Iterator[list[Record]]:
        """The records, in lists of about `block_bytes` of journal each.

        Args:
            block_bytes: how much of the journal makes a list.
            limit: how many bytes are known to have been on disk; None where only the segment itself can tell.

        Raises:
            FolderUnusable: bytes that were on disk are broken or gone.
        """
        block: list[Record] = []
        size = 0
        for framed in self._framed(limit):
            record = self._take(framed)
            if record is not None:
                block.append(record)
                size += len(framed)
                if size >= block_bytes:
                    yield block
                    block, size = [], 0
        if block:
            yield block
        if limit is not None and self.broken_at is not None:
            raise self._damage(self.broken_at)

    def _framed(self, limit: int | None) -> Iterator[bytes]:
        offset = 0
        with self.path.open("rb", buffering=1024 * 1024) as file:
            for framed in file:
                if limit is not None and offset >= limit:
                    return
                line = unframe(framed, self._seed) if framed.endswith(b"\n") else None
                if line is not None:
                    yield line
                elif self.broken_at is None:
                    self.broken_at = offset
                offset += len(framed)
        if limit is not None and offset < limit and self.broken_at is None:
            self.broken_at = offset

    def _take(self, line: bytes) -> Record | None:
        content = _decode(line)
        if isinstance(content, Record):
            self.turns.pop(content.index, None)
            return content
        if isinstance(content, TurnLine):
            self.turns[content.record.index] = content.record
        elif isinstance(content, GroupLine):
            if self.broken_at is not None and content.synced > self.broken_at:
                raise self._damage(self.broken_at)
        elif isinstance(content, DispatchedLine):
            self.dispatched_below = max(self.dispatched_below, content.below)
        else:
            self.previous_bytes = content.previous_bytes
            self.dispatched_below = max(self.dispatched_below, content.dispatched_below)
        return None

    def _damage(self, offset: int) -> FolderUnusable:
        return FolderUnusable(
            f"{self.path}: is damaged at byte {offset:,}, where committed records were; nothing was changed",
            remedy="restore the file from a copy, or start a new folder with -o",
        )
