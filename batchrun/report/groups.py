"""Cost by a name that each row has: its service tier, or its value in an input column that the run kept."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pyarrow as pa

from batchrun.report.columns import has_usage, ints, models, nano_usd, texts
from batchrun.report.spending import GroupCost
from batchrun.report.sums import TEXT_CHARS, ExactSums, Names

if TYPE_CHECKING:
    from collections.abc import Callable

    from batchrun.pricing import PriceBook
    from batchrun.report.columns import Flags

_NONE = "(none)"


class Groups:
    """The totals of rows by a name of theirs."""

    def __init__(self, prices: PriceBook | None = None) -> None:
        """With the `prices` of the run rows on deployments are told from rows that have no price."""
        self._prices = prices
        self._names = Names()
        self._sums = {name: ExactSums() for name in ("rows", "failed", "priced", "unpriced", "nano_usd")}
        self._tokens = {name: ExactSums() for name in ("prompt_tokens", "completion_tokens")}

    def add(self, batch: pa.RecordBatch, names: pa.Array, *, failures: bool = False) -> None:
        """Count a batch of results or failures, with the name of each row."""
        slots = self._names.slots_of(names)
        nano, priced = nano_usd(batch)
        every = np.ones(batch.num_rows, np.int64)
        for name, values in (
            ("rows", every),
            ("failed", every * failures),
            ("priced", priced),
            ("unpriced", ~priced & has_usage(batch) & ~self._is_hourly(batch)),
            ("nano_usd", nano),
        ):
            self._sums[name].add(slots, values)
        for name, sums in self._tokens.items():
            sums.add(slots, ints(batch, name)[0])

    def _is_hourly(self, batch: pa.RecordBatch) -> Flags:
        if self._prices is None or not self._prices.deployments:
            return np.zeros(batch.num_rows, np.bool_)
        encoded = models(batch).dictionary_encode()
        hourly = np.array([self._prices.is_hourly(name) for name in encoded.dictionary.to_pylist()], np.bool_)
        of_rows: Flags = hourly[encoded.indices.to_numpy(zero_copy_only=False)]
        return of_rows

    def costs(self) -> list[GroupCost]:
        """The groups, the dearest first."""
        slots = sorted(self._names.slots.items(), key=lambda item: (-self._sums["nano_usd"][item[1]], item[0]))
        return [
            GroupCost(
                name=name,
                rows=self._sums["rows"][slot],
                failed=self._sums["failed"][slot],
                unpriced_rows=self._sums["unpriced"][slot],
                prompt_tokens=self._tokens["prompt_tokens"][slot],
                completion_tokens=self._tokens["completion_tokens"][slot],
                cost_usd=self._sums["nano_usd"][slot] / 1e9 if self._sums["priced"][slot] else None,
            )
            for name, slot in slots
            if self._sums["rows"][slot]
        ]


class KeptColumn:
    """One of the columns that `keep_columns` named."""

    def __init__(self, name: str) -> None:
        kept = msgspec.defstruct("Kept", [("value", Any, msgspec.field(name=name, default=None))], frozen=True)
        self._kept: Callable[[str], Any] = msgspec.json.Decoder(kept).decode

    def of(self, batch: pa.RecordBatch) -> pa.Array:
        """The value of each row as text, other values than text as JSON; `(none)` where a row has none."""
        texts_of_rows = texts(batch, "input").to_pylist()
        values = [None if text is None else self._kept(text).value for text in texts_of_rows]
        return pa.array([_text_of(value) for value in values], pa.large_string())


def _text_of(value: Any) -> str:
    if value is None:
        return _NONE
    return (value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))[:TEXT_CHARS]
