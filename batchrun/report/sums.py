"""Exact sums of whole numbers by name: they cannot overflow, and names are counted up to a limit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    from batchrun.report.columns import Flags, Ints

MAX_NAMES = 100
TEXT_CHARS = 200
OTHER = "(other)"


class ExactSums:
    """Sums of 64-bit integers by slot that cannot overflow: high and low halves are summed apart."""

    def __init__(self) -> None:
        self._high = np.zeros(MAX_NAMES + 1, np.int64)
        self._low = np.zeros(MAX_NAMES + 1, np.int64)

    def add(self, slots: Ints, values: Ints | Flags) -> None:
        """Add each value to its slot; both have the same length."""
        values = values.astype(np.int64, copy=False)
        if len(slots) and (slots == slots[0]).all():  # as in most runs, and quicker
            self._high[slots[0]] += (values >> 32).sum()
            self._low[slots[0]] += (values & 0xFFFFFFFF).sum()
            return
        np.add.at(self._high, slots, values >> 32)
        np.add.at(self._low, slots, values & 0xFFFFFFFF)

    def __getitem__(self, slot: int) -> int:
        return (int(self._high[slot]) << 32) + int(self._low[slot])

    def total(self) -> int:
        """The sum of all slots."""
        return (sum(self._high.tolist()) << 32) + sum(self._low.tolist())


class Names:
    """The first names that were seen, each with a slot; what comes after the limit shares the last one, `(other)`."""

    def __init__(self) -> None:
        self.slots: dict[str, int] = {}

    def slots_of(self, column: pa.Array) -> Ints:
        """The slot of every row of a text column."""
        encoded = column if isinstance(column, pa.DictionaryArray) else column.dictionary_encode()
        table = np.array([self._slot(name) for name in encoded.dictionary.to_pylist()], np.int64)
        return table[encoded.indices.to_numpy(zero_copy_only=False)] if len(table) else np.zeros(0, np.int64)

    def _slot(self, name: str) -> int:
        if name not in self.slots:
            name = name if len(self.slots) < MAX_NAMES else OTHER
        return self.slots.setdefault(name, len(self.slots))
