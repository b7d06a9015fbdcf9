"""A journal segment read back: whole lines only, a torn tail passed over, a damaged middle named."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from batchrun.errors import FolderUnusable
from batchrun.store.folder import repair_command
from batchrun.store.framing import seed_of, unframe
from batchrun.store.fs import reading
from batchrun.store.journal import DispatchedLine, GroupLine, Line, TurnLine
from batchrun.types import Record

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FIRST_LINE_BYTES = 256
"""More than the first line of a segment takes: nothing is written behind it before it is on disk."""

_decode = msgspec.json.Decoder(Line).decode


class SegmentReader:
    """Reads one segment once; what it found besides the records is in the attributes afterwards."""

    def __init__(self, path: Path, run_id: str, epoch: int, segment: int, *, lenient: bool = False) -> None:
        """Prepare to read `path`; `lenient` passes over damage, too, and tells of it in `damaged`."""
        self.path, self._seed, self._lenient = path, seed_of(run_id, epoch, segment), lenient
        self.bytes = self.lines = self._synced = 0
        self.previous_bytes: int | None = None
        self.dispatched_below = 0
        self.broken: list[int] = []
        """Where the lines begin that are not whole."""
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
        self._synced = max(self._synced, limit or 0)
        self._refuse_damage()

    @property
    def damaged(self) -> list[int]:
        """Where the lines begin that are not whole although they were on disk."""
        headless = self.broken[:1] == [0] and self.bytes > FIRST_LINE_BYTES
        return [offset for offset in self.broken if headless or offset < self._synced]

    def _framed(self, limit: int | None) -> Iterator[bytes]:
        offset = 0
        with reading(self.path) as file:
            for framed in file:
                if limit is not None and offset >= limit:
                    return
                line = unframe(framed, self._seed) if framed.endswith(b"\n") else None
                if line is not None:
                    self.lines += 1
                    yield line
                else:
                    self.broken.append(offset)
                offset += len(framed)
                self.bytes = offset
        if limit is not None and offset < limit:
            self.broken.append(offset)

    def _take(self, line: bytes) -> Record | None:
        content = _decode(line)
        if isinstance(content, Record):
            self.turns.pop(content.index, None)
            return content
        if isinstance(content, TurnLine):
            self.turns[content.record.index] = content.record
        elif isinstance(content, GroupLine):
            self._synced = max(self._synced, content.synced)
            self._refuse_damage()
        elif isinstance(content, DispatchedLine):
            self.dispatched_below = max(self.dispatched_below, content.below)
        else:
            self.previous_bytes = content.previous_bytes
            self.dispatched_below = max(self.dispatched_below, content.dispatched_below)
        return None

    def _refuse_damage(self) -> None:
        if self._lenient or not self.broken or not self.damaged:
            return
        where = f"is damaged at byte {self.damaged[0]:,}, where committed records were"
        raise FolderUnusable(
            f"{self.path}: {where}; they would have to be bought again", remedy=repair_command(self.path.parent.parent)
        )
