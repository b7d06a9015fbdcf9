"""A stratified sample by length: as many rows of each stratum, drawn by a seed, so that it is the same each time."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]

MOST_STRATA = 10
_ROWS_A_STRATUM = 6
NO_STRATUM = -1


class Lengths:
    """Six bytes a row: the number of its model, and its length."""

    def __init__(self) -> None:
        self._names: dict[str, int] = {}
        self._models, self._lengths = array("h"), array("I")

    def add(self, model: str | None, length: int) -> None:
        """Append a row; one without a model cannot be sent."""
        number = NO_STRATUM if model is None else min(self._names.setdefault(model, len(self._names)), 0x7FFF)
        self._models.append(number)
        self._lengths.append(min(length, 0xFFFFFFFF))

    @property
    def columns(self) -> tuple[Ints, Ints]:
        """Model numbers, negative for rows that cannot be sent, and lengths."""
        return np.array(self._models, np.int64), np.array(self._lengths, np.int64)


class Sample:
    """A pilot's rows. `strata` has the stratum of every row of the input, or NO_STRATUM, `lengths` its length.

    Strata are equally many rows that are next to each other when sorted by model and length.
    """

    def __init__(self, lengths: Lengths, *, rows: int, wanted: int, seed: int) -> None:
        """Draw up to `wanted` of the first `rows` rows, at random but always the same for a seed."""
        models, self.lengths = lengths.columns
        usable = np.flatnonzero(models[:rows] >= 0)
        order = usable[np.lexsort((self.lengths[usable], models[usable]))]
        wanted = min(wanted, len(order))
        count = max(1, min(MOST_STRATA, wanted // _ROWS_A_STRATUM))
        self.strata = np.full(len(models), NO_STRATUM, np.int64)
        chance = np.random.default_rng(seed).random(len(models))
        drawn = []
        for stratum, there in enumerate(np.array_split(order, count)):
            self.strata[there] = stratum
            take = wanted // count + (stratum < wanted % count)  # as array_split does
            drawn.append(there[np.argsort(chance[there])[:take]])
        self.rows = np.sort(np.concatenate(drawn))
