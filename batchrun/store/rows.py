"""What has become of each row: one byte a row, read from the parts' index columns."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from batchrun.errors import FolderUnusable

if TYPE_CHECKING:
    import pyarrow as pa

MISSING, SUCCEEDED, RETRYABLE, REFUSED = range(4)

FINAL_ERRORS = frozenset(
    {"input_invalid", "request_rejected", "context_length_exceeded", "content_filtered", "not_found"}
)
"""Failures that the same request would meet again: `--retry-failed retryable` leaves them as they are."""


class Rows:
    """The state of every row of the input, by index."""

    def __init__(self, count: int) -> None:
        self.states = bytearray(count)
        self._view = np.frombuffer(self.states, dtype=np.uint8)

    def __getitem__(self, index: int) -> int:
        return self.states[index]

    def count(self, state: int) -> int:
        """How many rows are in a state."""
        return self.states.count(state)

    def add_results(self, index: pa.Array, where: str) -> None:
        """Mark rows as succeeded; a success is never taken back."""
        self._view[self._checked(index, where)] = SUCCEEDED

    def add_failures(self, index: pa.Array, error_types: list[str], where: str) -> None:
        """Mark rows as failed, unless they succeeded."""
        at = self._checked(index, where)
        final = np.fromiter((kind in FINAL_ERRORS for kind in error_types), dtype=bool, count=len(error_types))
        states = np.where(final, REFUSED, RETRYABLE).astype(np.uint8)
        open_rows = self._view[at] != SUCCEEDED
        self._view[at[open_rows]] = states[open_rows]

    def below(self, mark: int, *states: int) -> list[int]:
        """The rows with an index below a mark that are in one of the states."""
        return [int(index) for index in np.flatnonzero(np.isin(self._view[:mark], states))]

    def _checked(self, index: pa.Array, where: str) -> np.ndarray:
        at: np.ndarray = index.to_numpy(zero_copy_only=False)
        if len(at) and (at.min() < 0 or at.max() >= len(self.states)):
            raise FolderUnusable(
                f"{where}: holds rows that the input does not have", remedy="start a new folder with -o for this input"
            )
        return at
