"""The same tokens under given prices: of the whole run under other ones, or of one session under its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from batchrun.report.charges import charges_of
from batchrun.report.columns import ints, lacks_usage, models, nano_usd
from batchrun.report.summary import Bill, WhatIf

if TYPE_CHECKING:
    from collections.abc import Callable

    import pyarrow as pa

    from batchrun.pricing import PriceBook, Tier
    from batchrun.pricing.book import Pico
    from batchrun.report.charges import Charges
    from batchrun.report.columns import Flags

PricesFor: TypeAlias = "Callable[[str], Pico | None]"
"""The prices of a model, None where it has none."""

MOST_NAMED = 100
_FREE = (0, 0, 0)
_MOST_EXACT = 2**52
"""Pico-dollars of a charge whose arithmetic, and that of a batch of such charges, stays within 64 bits."""


class OtherPrices(NamedTuple):
    """Prices to ask about, and how they are called."""

    name: str
    prices_for: PricesFor


def paid_prices(book: PriceBook, tier: Tier = "standard") -> PricesFor:
    """The prices that a run's requests were paid at, if all asked for one tier."""

    def prices_for(model: str) -> Pico | None:
        price = book.price_for(model)
        if price:
            return price.pico_at(tier)
        return _FREE if book.deployment_for(model) else None  # its time is paid, not its tokens

    return prices_for


class RunningBill:
    """The sum of what all attempts come to under some prices, or of what was paid `since` a time (microseconds).

    What was paid is what a row cost, if all of its attempts began since then; of others it follows from the prices.
    """

    def __init__(self, prices_for: PricesFor, since: int | None = None) -> None:
        self._prices_for, self._is_paid, self._since = prices_for, since is not None, since or 0
        self._rows = self._priced = self._unpriced = self._without_usage = 0
        self._nano_usd = self._compared_nano_usd = self._difference_nano_usd = 0
        self._tokens = {"prompt_tokens": 0, "cached_tokens": 0, "completion_tokens": 0}
        self._unpriced_models: dict[str, None] = {}

    def add(self, batch: pa.RecordBatch, *, failures: bool = False) -> None:
        """Count one batch; each charge is rounded by itself, as it is when it is paid."""
        if not batch.num_rows:
            return
        every = charges_of(batch)
        charges = every.since(self._since)
        charged, whole = np.zeros(batch.num_rows, np.bool_), np.full(batch.num_rows, self._is_paid)
        charged[charges.row] = True
        whole[every.row[every.started_at < self._since]] = False
        for name in self._tokens:
            self._tokens[name] += sum(getattr(charges, name).tolist())
        finished_at, _ = ints(batch, "finished_at")
        finished = finished_at >= self._since
        self._rows += int(finished.sum())
        self._without_usage += int((finished & lacks_usage(batch, failures=failures)).sum())
        self._add_cost(batch, charges, charged, whole)

    def bill(self) -> Bill:
        """What it comes to."""
        unknown = self._unpriced or self._without_usage
        return Bill(
            rows=self._rows,
            **self._tokens,
            cost_usd=None if unknown and not self._priced else self._nano_usd / 1e9,
            cost_partial=bool(unknown),
            rows_without_usage=self._without_usage,
            unpriced_rows=self._unpriced,
            unpriced_models=list(self._unpriced_models),
        )

    def what_if(self, prices: str) -> WhatIf:
        """The same beside what was paid; `prices` says which these are."""
        return WhatIf(
            prices=prices,
            bill=self.bill(),
            compared_usd=self._compared_nano_usd / 1e9,
            difference_usd=self._difference_nano_usd / 1e9,
        )

    def _add_cost(self, batch: pa.RecordBatch, charges: Charges, charged: Flags, whole: Flags) -> None:
        encoded = models(batch).dictionary_encode()
        names: list[str] = encoded.dictionary.to_pylist()
        prices = [self._prices_for(name) for name in names]
        model = encoded.indices.to_numpy(zero_copy_only=False)
        has_price = np.array([price is not None for price in prices])[model]
        nano = nano_usd_of_rows(charges, [price or _FREE for price in prices], model)
        paid, was_priced = nano_usd(batch)
        nano, has_price = np.where(whole & was_priced, paid, nano), has_price | (whole & was_priced)
        priced, unpriced = charged & has_price, charged & ~has_price
        self._priced += int(priced.sum())
        self._unpriced += int(unpriced.sum())
        self._nano_usd += sum(nano[priced].tolist())
        for at in np.unique(model[unpriced]).tolist():
            if len(self._unpriced_models) < MOST_NAMED:
                self._unpriced_models[names[at]] = None
        both = priced & was_priced
        self._compared_nano_usd += sum(paid[both].tolist())
        self._difference_nano_usd += sum(nano[both].tolist()) - sum(paid[both].tolist())


def nano_usd_of_rows(charges: Charges, prices: list[Pico], model: Any) -> Any:
    """What the charges of each row come to; beyond 64 bits in Python's integers, which is slow and as exact."""
    tokens = [np.maximum(column, 0) for column in charges[2:]]
    most = max((int(column.max()) for column in tokens if len(column)), default=0)
    exact: Any = np.int64 if max(most, 1) * max(map(max, prices)) < _MOST_EXACT else object
    prompt, cached, completion = (column.astype(exact) for column in tokens)
    cached = np.minimum(cached, prompt)
    pico_input, pico_cached, pico_output = np.array(prices, exact)[model[charges.row]].T
    pico_usd = (prompt - cached) * pico_input + cached * pico_cached + completion * pico_output
    nano_usd = np.zeros(len(model), exact)
    np.add.at(nano_usd, charges.row, (pico_usd + 500) // 1000)
    return nano_usd
