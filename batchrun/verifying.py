"""A folder meets the input it was run on: is every row there, exactly once, with the answer to its own request?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np

from batchrun.config import Config
from batchrun.prompts.check import keys_of
from batchrun.prompts.render import Renderer
from batchrun.store.changes import KEY_COLUMNS, Names
from batchrun.store.snapshot import Snapshot

if TYPE_CHECKING:
    from collections.abc import Iterable

    from batchrun.prompts import Prompts
    from batchrun.store.folder import RunFolder

_NAMED = 5


class Compared(msgspec.Struct, frozen=True, kw_only=True):
    """The rows of an input and what a folder has of them, by the ids of the first few of each kind.

    `missing` have no answer, `foreign` are answers to another request or of another id, `twice` have several.
    """

    input: str
    rows: int
    missing: int
    foreign: int
    twice: int
    named: dict[str, list[str]]

    @property
    def whole(self) -> bool:
        """Whether every row of the input is there exactly once, and nothing else."""
        return not (self.missing or self.foreign or self.twice)


def compare_with(folder: RunFolder, prompts: Prompts) -> Compared:
    """Read an input, render it as the run did, and look for each of its rows in a folder.

    Args:
        folder: may be one that a run is writing into.
        prompts: the rows of the input.

    Raises:
        PromptError: the input cannot be read.
        FolderUnusable: the folder is damaged.
    """
    snapshot = Snapshot(folder.path)
    wanted = Names.of_input(keys_of(prompts, Renderer(msgspec.convert(snapshot.run.config, Config))))
    kept, indexes = Names(), [np.empty(0, np.int64)]
    for kind in ("results", "failures"):
        for batch in snapshot.batches(kind, KEY_COLUMNS):
            kept.add_batches([batch])
            indexes.append(batch.column("index").to_numpy())
    index, count = np.concatenate(indexes), len(wanted)
    at = np.minimum(index, max(count - 1, 0))
    right = (index < count) & (kept.ids == wanted.ids[at]) & (kept.keys == wanted.keys[at]).all(axis=1)
    times = np.bincount(index, minlength=count)
    found = {
        "missing": np.flatnonzero(times[:count] == 0),
        "foreign": index[~right],
        "twice": np.flatnonzero(times > 1),
    }
    firsts = {kind: rows[:_NAMED].tolist() for kind, rows in found.items()}
    names = ids_of(prompts, [row for rows in firsts.values() for row in rows]) if any(firsts.values()) else {}
    return Compared(
        input=", ".join(prompts.files),
        rows=count,
        missing=len(found["missing"]),
        foreign=len(found["foreign"]),
        twice=len(found["twice"]),
        named={kind: [names.get(row, f"row {row:,}") for row in rows] for kind, rows in firsts.items()},
    )


def ids_of(prompts: Prompts, rows: Iterable[int]) -> dict[int, str]:
    """The ids of some rows of an input, by their index; raises PromptError if it cannot be read."""
    wanted = set(rows)
    found = {}
    for prompt in prompts.read(lambda index: index not in wanted):
        if prompt.index is not None:
            found[prompt.index] = prompt.custom_id or f"row-{prompt.index}"
    return found
