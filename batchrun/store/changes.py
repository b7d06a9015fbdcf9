"""The input has changed: which rows are the same, and what becomes of the answers to those that are not.

A row is the same if its request is: it may have moved, and may have another id. A row whose id is there with another
request has changed; one that is not there any more is gone. Answers to those were paid for and are kept, in
`_replaced/`: they come back if a later input asks for them again.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from batchrun.store.parts import read_columns
from batchrun.store.snapshot import Snapshot

if TYPE_CHECKING:
    import pyarrow as pa

    from batchrun.store.folder import RunFolder
    from batchrun.store.manifest import Part

Row = tuple[int, str, str | None]
"""A row's index, its id, and its request key (None: it cannot be sent)."""

InputRows = Callable[[], Iterable[Row]]
"""Reads the input as it is now; may be called more than once."""

_MIXERS = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9], np.uint64)
"""Odd numbers: multiplying by one of them, modulo 2^64, maps no two numbers to one."""

KEY_COLUMNS = ["index", "custom_id", "request_key"]


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """What a change of the input means for the rows: `unsettled` had no answer before, and may be among the `new`."""

    kept: int
    new: int
    changed: int
    gone: int
    unsettled: int

    def __str__(self) -> str:
        new = f"{self.new:,} new{' or not answered yet' if self.unsettled else ''}"
        return f"{self.kept:,} kept, {new}, {self.changed:,} changed, {self.gone:,} gone"


class Names:
    """Ids and keys of many rows, 24 bytes each: `ids` are hashes of this process, `keys` 128 bits in two columns."""

    def __init__(self) -> None:
        self._ids, self._keys = array("q"), array("Q")

    @classmethod
    def of_input(cls, rows: Iterable[Row]) -> Names:
        """Those of the input, in its order."""
        names = cls()
        for _, custom_id, request_key in rows:
            names.add(custom_id, request_key)
        return names

    def add(self, custom_id: str, request_key: str | None) -> None:
        """Append a row."""
        self._ids.append(hash(custom_id))
        self._keys.extend(divmod(int(request_key or "0", 16), 1 << 64))

    def add_batches(self, batches: Iterable[pa.RecordBatch]) -> int:
        """Append the rows of record batches; returns how many."""
        before = len(self)
        for batch in batches:
            for custom_id, request_key in zip(*(batch[name].to_pylist() for name in KEY_COLUMNS[1:]), strict=True):
                self.add(custom_id, request_key)
        return len(self) - before

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def ids(self) -> np.ndarray:
        """One number a row."""
        return np.array(self._ids, np.int64)

    def hashes(self, *, with_ids: bool) -> np.ndarray:
        """One number a row, made of its key, or of its key and its id."""
        high, low = self.keys.T
        mixed: np.ndarray = high * _MIXERS[0] + low * _MIXERS[1]
        return mixed + self.ids.view(np.uint64) * _MIXERS[2] if with_ids else mixed

    @property
    def keys(self) -> np.ndarray:
        """Two numbers a row; zeros where it has no key."""
        return np.array(self._keys, np.uint64).reshape(-1, 2)


def match(old: Names, new: Names, *, leave_out: np.ndarray | None = None) -> np.ndarray:
    """For each old row the index of the new row that asks the same, -1 if there is none; no new row is taken twice.

    Of several that ask the same, those with the same id belong together, then the first of the old to the first of the
    new. Old rows that are marked in `leave_out` get nothing.
    """
    asks = old.keys.any(axis=1) if leave_out is None else old.keys.any(axis=1) & ~leave_out
    target = np.full(len(old), -1, np.int64)
    taken = np.zeros(len(new), bool)
    for with_ids in (True, False):
        left, free = np.flatnonzero(asks & (target < 0)), np.flatnonzero(~taken)
        first, second = _pairs(old.hashes(with_ids=with_ids)[left], new.hashes(with_ids=with_ids)[free])
        first, second = left[first], free[second]
        same = (old.keys[first] == new.keys[second]).all(axis=1)  # a hash may be that of another
        target[first[same]] = second[same]
        taken[second[same]] = True
    return target


def compare(folder: RunFolder, new: Names) -> tuple[Change, np.ndarray]:
    """What the input as it is now means for what is kept in a folder, and which of its rows are kept; only reads."""
    snapshot, old = Snapshot(folder.path), Names()
    standing = old.add_batches(snapshot.batches("results", KEY_COLUMNS))
    standing += old.add_batches(snapshot.batches("failures", KEY_COLUMNS))
    for part in replaced(snapshot.manifest.parts.values()):
        old.add_batches(read_columns(folder, part, KEY_COLUMNS))
    target = match(old, new)
    left = np.flatnonzero(target[:standing] < 0)
    open_ids = np.delete(new.ids, target[target >= 0])
    changed = int(np.isin(old.ids[left], open_ids).sum())
    kept = int((target >= 0).sum())
    is_kept = np.zeros(len(new), bool)
    is_kept[target[target >= 0]] = True
    change = Change(
        kept=kept,
        new=len(new) - kept - changed,
        changed=changed,
        gone=len(left) - changed,
        unsettled=max(0, snapshot.run.rows - standing),
    )
    return change, is_kept


def replaced(parts: Iterable[Part]) -> list[Part]:
    """The parts with answers that earlier changes had no use for."""
    return [part for part in parts if part.name.startswith("_replaced/results/") and part.rows]


def _pairs(old: np.ndarray, new: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions of equal numbers, the n-th of the old with the n-th of the new that is equal to it."""
    old_order, new_order = np.argsort(old, kind="stable"), np.argsort(new, kind="stable")
    old, new = old[old_order], new[new_order]
    nth = np.arange(len(old)) - np.searchsorted(old, old)
    at = np.searchsorted(new, old) + nth
    found = at < len(new)
    found[found] = new[at[found]] == old[found]
    return old_order[found], new_order[at[found]]
