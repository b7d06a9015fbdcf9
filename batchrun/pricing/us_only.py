"""What Fireworks' models cost at its host that serves from the United States alone: 1.5 times the base price.

Source: docs.fireworks.ai/serverless/pricing, from 2026-09-01 on. The US routers' own rows say so already; of what the
fast routers cost there nothing is known.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from batchrun.pricing.book import Price, PriceBook

TIMES = 1.5
_MODELS, _ROUTERS = "accounts/fireworks/models/", "accounts/fireworks/routers/"
_DIGITS = 9


def us_only(book: PriceBook) -> PriceBook:
    """The book with dearer models and sizes, and without the routers whose price there is not known."""
    prices = {name: _dearer(price) if name.startswith(_MODELS) else price for name, price in book.prices.items()}
    known = {name: price for name, price in prices.items() if not name.startswith(_ROUTERS) or name.endswith("-us")}
    sizes = [msgspec.structs.replace(size, usd_per_mtok=_times(size.usd_per_mtok)) for size in book.sizes]
    return msgspec.structs.replace(book, prices=known, sizes=sizes)


def _dearer(price: Price) -> Price:
    usd = {name: getattr(price, name) for name in price.__struct_fields__ if name.endswith("_usd_per_mtok")}
    dearer = {name: _times(value) for name, value in usd.items() if value is not None}
    note = "; ".join(
        filter(None, [price.note, f"{TIMES:g} times the base price, as the host serves from the US alone"])
    )
    return msgspec.structs.replace(price, **dearer, note=note)


def _times(usd: float) -> float:
    return round(usd * TIMES, _DIGITS)
