"""What the journal holds that no part has absorbed, beside the history: also while a run seals and goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from batchrun.errors import FolderUnusable
from batchrun.store.manifest import Manifest
from batchrun.store.recovery import left_segments

if TYPE_CHECKING:
    from collections.abc import Callable

    from batchrun.store.folder import RunFolder

    Number = tuple[int, int]

_Row = TypeVar("_Row")


def read_unsealed(
    folder: RunFolder, run_id: str, read: Callable[[Number], list[_Row]]
) -> tuple[dict[Number, list[_Row]], Manifest]:
    """The rows of each open segment as `read` gives them, by epoch and segment in order, and the manifest.

    The journal is read first, then the manifest: what moves from one to the other in between is counted once.

    Raises:
        FolderUnusable: the history is damaged, or a segment is.
    """
    segments: dict[Number, list[_Row]] = {}
    for number in left_segments(folder, Manifest(folder, run_id)):
        try:
            segments[number] = read(number)
        except FolderUnusable as error:
            if not isinstance(error.__cause__, FileNotFoundError):  # else it was sealed since the folder was listed
                raise
    manifest = Manifest(folder, run_id)
    return {number: rows for number, rows in segments.items() if number not in manifest.absorbed}, manifest
