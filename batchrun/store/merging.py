"""New parts in place of old ones: settled failures leave, small parts become large ones, moved rows are renumbered.

Theory of operation. Rows are copied into parts that keep their hidden names until one entry of the manifest says that
they take the place of others. Only then are those unlinked, and after that the new ones get their names: a row is never
in two parts that can be seen. The first part of a room, which has no rows, stays: a reader finds the columns in it. A
crash in between leaves the last of these steps to `complete`, which every start calls
before it looks at any part.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from batchrun.store.folder import part_name
from batchrun.store.fs import looking
from batchrun.store.manifest import Entry, now_us
from batchrun.store.parts import PartWriter, aside, schema_of

if TYPE_CHECKING:
    import pyarrow as pa

    from batchrun.store.folder import RunFolder
    from batchrun.store.manifest import Manifest, Part
    from batchrun.store.recovery import Recovered

PART_BYTES = 128 * 1024 * 1024


class Merge:
    """Parts in the making, numbered from a segment that the epoch has not used; nothing counts before `commit`."""

    def __init__(self, recovered: Recovered, segment: int) -> None:
        self._recovered, self._segment = recovered, segment
        self._writers: dict[str, PartWriter] = {}
        self._parts: list[Part] = []

    def add(self, room: str, batch: pa.RecordBatch) -> None:
        """Put rows into a room, such as `results`."""
        if not batch.num_rows:
            return
        folder = self._recovered.folder
        if room not in self._writers:
            folder.make_room(room)
            name = part_name(self._recovered.epoch or 0, self._segment)
            self._segment += 1
            self._writers[room] = PartWriter(folder, folder.path / room, name, schema_of(f"{room}/"))
        self._writers[room].add(batch)
        if self._writers[room].bytes >= PART_BYTES:
            self._parts.append(self._writers.pop(room).finish_hidden())

    def commit(self, kind: Literal["merge", "input"], drops: list[str], **facts: Any) -> None:
        """Let the new parts take the place of those in `drops`; raises FolderBusy if another run writes here."""
        recovered = self._recovered
        self._parts += [writer.finish_hidden() for writer in self._writers.values()]
        entry = Entry(
            kind=kind,
            at=now_us(),
            epoch=recovered.epoch or 0,
            segment=self._segment,
            parts=self._parts,
            drops=drops,
            **facts,
        )
        recovered.manifest.put(entry)
        complete(recovered.folder, recovered.manifest)


def complete(folder: RunFolder, manifest: Manifest) -> None:
    """Do what a crash may have left undone of the last merge."""
    last = next((entry for entry in reversed(manifest.entries) if entry.kind in {"merge", "input"}), None)
    if last is None:
        return
    with looking(folder.path):
        dropped = [path for path in (folder.path / name for name in last.drops) if path.exists()]
        hidden = [path for path in (folder.path / part.name for part in last.parts) if aside(path).exists()]
    for path in dropped:
        folder.fs.unlink(path)
    for room in {path.parent for path in dropped}:
        folder.fs.flush_dir(room)
    for path in hidden:
        folder.fs.rename(aside(path), path)
    for room in {path.parent for path in hidden}:
        folder.fs.flush_dir(room)
