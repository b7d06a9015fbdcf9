"""Totals of tokens and money: exact sums of rows, what is unknown in them, and how much that may be."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from batchrun.pricing import cost_nano_usd
from batchrun.report.bills import paid_prices
from batchrun.report.spending import Cost, HourlyCost, ModelCost, Tokens
from batchrun.types import Usage

if TYPE_CHECKING:
    from batchrun.pricing import Deployment, PriceBook, Tier
    from batchrun.report.bills import PricesFor
    from batchrun.report.tally import Tally


def tokens_of(good: Tally, bad: Tally) -> Tokens:
    """The tokens of the results and of the failures."""

    def both(name: str) -> int:
        return good.total(name) + bad.total(name)

    asked = both("prompt_tokens_of_known_caching")
    return Tokens(
        prompt_tokens=both("prompt_tokens"),
        cached_tokens=both("cached_tokens"),
        cached_share=min(both("cached_tokens") / asked, 1.0) if asked else None,
        completion_tokens=both("completion_tokens"),
        reasoning_tokens=both("reasoning_tokens"),
        total_tokens=both("total_tokens"),
        retried_tokens=both("retried_tokens"),
        rows_without_usage=both("without_usage"),
        rows_with_estimated_usage=both("estimated"),
    )


def cost_of(
    good: Tally,
    bad: Tally,
    prices: PriceBook | None,
    *,
    tier: Tier = "standard",
    active_s: float = 0.0,
    short_names: bool = False,
) -> Cost:
    """What the results and the failures cost; with the run's `prices` also what no row's cost says.

    Args:
        good: the results.
        bad: the failures.
        prices: the table that the run was charged by.
        tier: what its requests asked for, unless a row asked for another.
        active_s: how long the sessions took, which is what deployments are paid for.
        short_names: whether Fireworks answered: a bare name is its model of that name, a size has its rates.
    """
    by_hour = prices.deployments_of(_sums(good, bad, "rows")) if prices else {}
    hourly = {model for model in _sums(good, bad, "rows") if prices and prices.is_hourly(model)}
    by_model = _by_model(good, bad, hourly)
    unpriced = sum(row.unpriced_rows for row in by_model)
    guessed = _guesses(good, bad, by_model, prices, short_names=short_names) if prices else {}
    without_usage = good.total("without_usage") + bad.total("without_usage")
    unsettled = good.total("unsettled") + bad.total("unsettled")
    nano_usd = good.total("nano_usd") + bad.total("nano_usd")
    successes = good.total("priced")
    nothing_known = not successes and not bad.total("priced") and bool(unpriced or without_usage or hourly)
    return Cost(
        cost_usd=None if nothing_known else nano_usd / 1e9,
        cost_high_usd=None if unpriced else _high_usd(good, bad, nano_usd),
        cost_partial=bool(unpriced or without_usage or unsettled),
        unsettled_attempts=unsettled,
        failures_cost_usd=None if bad.total("unpriced") and not bad.total("priced") else bad.total("nano_usd") / 1e9,
        mean_usd_per_row=nano_usd / successes / 1e9 if successes else None,
        usd_per_1000_rows=nano_usd / successes / 1e6 if successes else None,
        saved_by_caching_usd=_saved_by_caching_usd(good, bad, paid_prices(prices, tier)) if prices else None,
        unpriced_rows=unpriced,
        unpriced_models=[row.model for row in by_model if row.unpriced_rows],
        by_model=by_model,
        hourly_rows=sum(row.rows for row in by_model if row.model in hourly),
        by_hour=[_hourly(name, row, active_s) for name, row in by_hour.items()],
        guessed_usd=sum(guessed.values()) / 1e9 if guessed else None,
        guessed_models=list(guessed),
    )


def _hourly(name: str, row: Deployment, wall_s: float) -> HourlyCost:
    cost_usd = row.cost_nano_usd(wall_s) / 1e9
    return HourlyCost(deployment=name, usd_per_hour=row.usd_per_hour, wall_s=wall_s, cost_usd=cost_usd)


def _sums(good: Tally, bad: Tally, name: str) -> Counter[str]:
    sums: Counter[str] = Counter()
    for tally in (good, bad):
        for model, slot in tally.models.slots.items():
            sums[model] += tally.sums[name][slot]
    return sums


def _high_usd(good: Tally, bad: Tally, nano_usd: int) -> float | None:
    """The total, and for all that is unknown in it the dearest row of its model; None where a model has none."""
    unknown = _sums(good, bad, "without_usage") + _sums(good, bad, "unsettled")
    priced = _sums(good, bad, "priced")
    for model, count in unknown.items():
        if not priced[model]:
            return None
        slots = [(tally, tally.models.slots[model]) for tally in (good, bad) if model in tally.models.slots]
        nano_usd += count * max(int(tally.dearest[slot]) for tally, slot in slots)
    return nano_usd / 1e9


def _guesses(
    good: Tally, bad: Tally, by_model: list[ModelCost], prices: PriceBook, *, short_names: bool
) -> dict[str, int]:
    """What the models without a price would cost, in nano-dollars, by the size in the name of those that have one."""
    cached = _sums(good, bad, "cached_prompt_tokens")
    found: dict[str, int] = {}
    for row in by_model:
        price = prices.price_for(row.model, short_names=short_names, guesses=short_names) if row.unpriced_rows else None
        if price is None or not price.guess:
            continue
        usage = Usage(
            prompt_tokens=row.prompt_tokens,
            cached_tokens=cached[row.model],
            completion_tokens=row.completion_tokens,
        )
        found[row.model] = cost_nano_usd(usage, price) or 0
    return found


def _by_model(good: Tally, bad: Tally, hourly: set[str]) -> list[ModelCost]:
    names = ("rows", "unpriced", "priced", "prompt_tokens", "completion_tokens", "nano_usd")
    sums = {name: _sums(good, bad, name) for name in names}
    return [
        ModelCost(
            model=model,
            rows=rows,
            unpriced_rows=0 if model in hourly else sums["unpriced"][model],
            prompt_tokens=sums["prompt_tokens"][model],
            completion_tokens=sums["completion_tokens"][model],
            cost_usd=sums["nano_usd"][model] / 1e9 if sums["priced"][model] else None,
        )
        for model, rows in sorted(sums["rows"].items(), key=lambda item: (-sums["nano_usd"][item[0]], item[0]))
    ]


def _saved_by_caching_usd(good: Tally, bad: Tally, prices_for: PricesFor) -> float:
    pico_usd = 0
    for model, cached in _sums(good, bad, "cached_prompt_tokens").items():
        if pico := prices_for(model):
            pico_usd += cached * (pico[0] - pico[1])
    return pico_usd / 1e12
