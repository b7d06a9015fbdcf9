"""The service tier that each row was charged in: no column has it, but what the row cost tells it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from batchrun.report.bills import nano_usd_of_rows, paid_prices
from batchrun.report.charges import charges_of
from batchrun.report.columns import UNKNOWN, models, nano_usd

if TYPE_CHECKING:
    from batchrun.pricing import PriceBook, Tier

_TIERS: tuple[Tier, ...] = ("standard", "priority")
_FREE = (0, 0, 0)


class Tiers:
    """Tells tiers by the prices of a run; where two tiers cost the same, it is the one that the run asks for."""

    def __init__(self, prices: PriceBook, asked: Tier) -> None:
        self._tiers = sorted(_TIERS, key=lambda tier: tier != asked)
        self._prices_for = [paid_prices(prices, tier) for tier in self._tiers]

    def of(self, batch: pa.RecordBatch) -> tuple[pa.RecordBatch, pa.Array]:
        """The rows of a batch whose cost is known, and the tier of each; UNKNOWN where no tier comes to that cost."""
        paid, priced = nano_usd(batch)
        if not priced.all():
            batch, paid = batch.filter(pa.array(priced)), paid[priced]
        encoded = models(batch).dictionary_encode()
        model = encoded.indices.to_numpy(zero_copy_only=False)
        prices = [[prices_for(name) for name in encoded.dictionary.to_pylist()] for prices_for in self._prices_for]
        if not any(map(any, prices[1:])):  # there is one tier only
            return batch, pa.DictionaryArray.from_arrays(np.zeros(len(paid), np.int32), self._tiers[:1])
        tier, charges = np.full(len(paid), len(self._tiers)), charges_of(batch)
        for number, listed in enumerate(prices):
            if not (tier == len(self._tiers)).any():
                break
            nano = nano_usd_of_rows(charges, [price or _FREE for price in listed], model)
            has_price = np.array([price is not None for price in listed], np.bool_)[model]
            tier[(tier == len(self._tiers)) & has_price & (nano == paid)] = number
        return batch, pa.DictionaryArray.from_arrays(tier, [*self._tiers, UNKNOWN])
