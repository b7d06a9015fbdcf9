"""What has become of each row: one byte a row, read from the parts' index columns."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from batchrun.errors import FolderUnusable

if TYPE_CHECKING:
    from collections.abc import Iterable

MISSING, SUCCEEDED, RETRYABLE, REFUSED = range(4)

FINAL_ERRORS = ("input_invalid", "request_rejected", "context_length_exceeded", "content_filtered", "not_found")
"""Failures that the same request would meet again: `--retry-failed retryable` leaves them as they are."""


OPEN_STATES = {
    "retryable": frozenset({MISSING, RETRYABLE}),
    "all": frozenset({MISSING, RETRYABLE, REFUSED}),
    "none": frozenset({MISSING}),
}
"""By `--retry-failed`: the rows that are still to be sent."""


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

    def among(self, index: np.ndarray, states: Iterable[int]) -> np.ndarray:
        """Whether each of some rows is in one of the states."""
        found: np.ndarray = np.isin(self._view[index], list(states))
        return found

    @staticmethod
    def state_of(error_type: str | None) -> int:
        """The state of a row by what its record says."""
        return SUCCEEDED if error_type is None else REFUSED if error_type in FINAL_ERRORS else RETRYABLE

    def add_results(self, index: pa.Array, where: str) -> None:
        """Mark rows as succeeded; a success is never taken back."""
        self._view[self._checked(index, where)] = SUCCEEDED

    def add_failures(self, index: pa.Array, error_types: pa.Array, where: str) -> None:
        """Mark rows as failed, unless they succeeded."""
        import pyarrow.compute as pc  # late: see parts.py

        at = self._checked(index, where)
        final = pc.is_in(error_types, pa.array(FINAL_ERRORS, pa.string())).to_numpy(zero_copy_only=False)
        states = np.where(final, REFUSED, RETRYABLE).astype(np.uint8)
        open_rows = self._view[at] != SUCCEEDED
        self._view[at[open_rows]] = states[open_rows]

    def below(self, mark: int, *states: int, but: np.ndarray | None = None) -> list[int]:
        """The rows with an index below a mark that are in one of the states, without those in `but`."""
        found = np.isin(self._view[:mark], states)
        if but is not None:
            found[but[but < mark]] = False
        rows: list[int] = np.flatnonzero(found).tolist()
        return rows

    def _checked(self, index: pa.Array, where: str) -> np.ndarray:
        at: np.ndarray = index.to_numpy(zero_copy_only=False)
        if len(at) and (at.min() < 0 or at.max() >= len(self.states)):
            raise FolderUnusable(
                f"{where}: holds rows that the input does not have", remedy="start a new folder with -o for this input"
            )
        return at
