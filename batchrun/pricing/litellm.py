"""LiteLLM's price file as rows of ours: `model_prices_and_context_window.json`, US dollars per token."""

from __future__ import annotations

from collections import Counter
from datetime import date
from typing import Any

import msgspec

from batchrun.pricing.book import Price
from batchrun.pricing.listed import NEEDED, Listed, is_model, usd_of, whole

_PER_TOKEN = {
    "input_cost_per_token": "input_usd_per_mtok",
    "cache_read_input_token_cost": "cached_input_usd_per_mtok",
    "output_cost_per_token": "output_usd_per_mtok",
    "input_cost_per_token_priority": "priority_input_usd_per_mtok",
    "cache_read_input_token_cost_priority": "priority_cached_input_usd_per_mtok",
    "output_cost_per_token_priority": "priority_output_usd_per_mtok",
}
_NOTHING_GENERATED = {"embedding", "rerank"}
_SIZES = "fireworks-ai-"
"""Rows such as `fireworks-ai-4.1b-to-16b` are rules, not models."""


def prices_of_litellm(values: Any, *, provider: str, source: str, today: str) -> Listed:
    """Read the models of one provider, without its name before theirs; keys that are not known here are passed over."""
    rows: dict[str, Price] = {}
    left_out: Counter[str] = Counter()
    for name, entry in values.items() if isinstance(values, dict) else ():
        if not isinstance(entry, dict) or entry.get("litellm_provider") != provider:
            continue
        model, prices = name.removeprefix(f"{provider}/"), _prices(entry)
        if name.startswith(_SIZES):
            left_out["for a size instead of a model"] += 1
        elif not is_model(model):
            left_out["without a usable name"] += 1
        elif None in prices.values() or not prices.keys() >= NEEDED:
            left_out["without prices of input and output per token"] += 1
        elif model in rows and _usd(rows[model]) != prices:
            left_out["with a second, other price"] += 1
        else:
            more = {"context_tokens": whole(entry.get("max_input_tokens")), "retired_on": _day(entry)}
            row = {"model": model, **prices, **more, "source": source, "date": today}
            rows[model] = msgspec.convert(row, Price)
    return Listed(prices=list(rows.values()), left_out=dict(left_out))


def _prices(entry: dict[str, Any]) -> dict[str, float | None]:
    prices = {ours: usd_of(entry[key], 1_000_000) for key, ours in _PER_TOKEN.items() if entry.get(key) is not None}
    return ({"output_usd_per_mtok": 0.0} if entry.get("mode") in _NOTHING_GENERATED else {}) | prices


def _usd(price: Price) -> dict[str, float | None]:
    return {key: usd for key in _PER_TOKEN.values() if (usd := getattr(price, key)) is not None}


def _day(entry: dict[str, Any]) -> str | None:
    try:
        return date.fromisoformat(entry["deprecation_date"]).isoformat()
    except (KeyError, TypeError, ValueError):
        return None
