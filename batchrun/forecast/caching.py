"""What a prefix cache can serve of the prompts, in dollars, in the order of the input and in the best one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable

    from batchrun.forecast.models import ModelForecast
    from batchrun.pricing import Price

_WORTH_SHARE = 0.02
"""Of the prompts that a better order has to bring within reach, to be worth a word."""


class Caching(msgspec.Struct, frozen=True, kw_only=True):
    """What a cache could serve, as shares (0 to 1) of all prompts, and about what that saves; None where unpriced.

    `as_ordered_share` needs a cache that remembers one request only, `at_best_share` one that remembers all, or an
    order in which rows that begin alike stand together.
    """

    as_ordered_share: float
    at_best_share: float
    as_ordered_saves_usd: float | None
    at_best_saves_usd: float | None

    @property
    def reordering_pays(self) -> bool:
        """Whether a better order brings enough more within reach of a cache that forgets."""
        return self.at_best_share - self.as_ordered_share >= _WORTH_SHARE


def caching_of(
    as_ordered_share: float, at_best_share: float, models: Iterable[tuple[ModelForecast, Price | None]]
) -> Caching:
    """What the shares come to: each cached token costs less by the difference of two prices."""
    usd: float | None = 0.0
    for one, price in models:
        pico = price.pico_at(one.tier) if price else None
        usd = None if usd is None or pico is None else usd + one.prompt_tokens.likely * (pico[0] - pico[1]) / 1e12
    return Caching(
        as_ordered_share=as_ordered_share,
        at_best_share=at_best_share,
        as_ordered_saves_usd=None if usd is None else usd * as_ordered_share,
        at_best_saves_usd=None if usd is None else usd * at_best_share,
    )
