"""The endpoint's own list of prices as rows of ours.

Source: `GET https://api.fireworks.ai/v1/serverless/models`, an object for each model and serving mode, with its prices
by SKU. It is read as foreign: unknown keys are passed over, an entry that cannot be understood is counted and left out,
and no price is made up.
"""

from __future__ import annotations

import re
from collections import Counter
from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec

from batchrun.pricing.book import Price
from batchrun.pricing.file import LEAST_USD_PER_MTOK, MOST_USD_PER_MTOK

NEEDED = {"input_usd_per_mtok", "output_usd_per_mtok"}

_MODEL = re.compile(r"[\w./#@:+-]{1,200}", re.ASCII)
_MOST_DIGITS = 30
_SKUS = {
    "LLM input tokens (uncached)": "input_usd_per_mtok",
    "LLM input tokens (cached)": "cached_input_usd_per_mtok",
    "LLM output tokens": "output_usd_per_mtok",
}
_MODES = {"standard", "default", "fast", "priority"}


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """The prices of a list, and how many of its entries were left out, by the reason."""

    prices: list[Price]
    left_out: dict[str, int]


class _LeftOut(Exception):
    """An entry is not used; the text is the reason."""


def prices_of_endpoint(values: Any, *, source: str, today: str) -> Listed:
    """Read the endpoint's list. Entries of one model in several modes become one row, an alias a row of its own."""
    rows: dict[str, dict[str, Any]] = {}
    named: dict[str, set[str]] = {}
    left_out: Counter[str] = Counter()
    entries = values.get("data") if isinstance(values, dict) else values
    for entry in entries if isinstance(entries, list) else []:
        try:
            model, row = _row(entry)
            _refuse_other_price(rows.get(model, {}), row)
        except _LeftOut as why:
            left_out[str(why)] += 1
            continue
        rows[model] = {**rows.get(model, {}), **row}
        for alias in _aliases(entry):
            named.setdefault(alias, set()).add(model)
    for alias, models in named.items():
        if alias not in rows and len(models) == 1:
            (model,) = models
            rows[alias] = {**rows[model], "note": f"another name of {model}"}
    priority_alone = [name for name, row in rows.items() if not row.keys() >= NEEDED]
    for name in priority_alone:
        left_out["of the priority tier alone"] += 1
        del rows[name]
    about = {"source": source, "date": today}
    prices = [msgspec.convert({"model": name, **rows[name], **about}, Price) for name in sorted(rows)]
    return Listed(prices=prices, left_out=dict(left_out))


def _row(entry: Any) -> tuple[str, dict[str, Any]]:
    """The model that an entry prices, and what it says of it; raises _LeftOut."""
    if not isinstance(entry, dict):
        raise _LeftOut("without a usable name")
    mode = entry.get("serverless_mode", "standard")
    if not isinstance(mode, str) or mode not in _MODES:
        raise _LeftOut("in a mode that is not known here")
    # a mode may be billed as another model than it serves: the fast one is a router
    model = next((name for key in ("usage_identifier", "id") if is_model(name := entry.get(key))), None)
    if model is None or (mode == "fast" and "/routers/" not in model):
        raise _LeftOut("without a usable name")
    row: dict[str, Any] = _prices(entry.get("pricing"))
    if not row.keys() >= NEEDED:
        raise _LeftOut("without prices of input and output per million tokens")
    if mode == "priority":
        row = {f"priority_{key}": usd for key, usd in row.items()}
    context = whole(entry.get("context_length"))
    return model, row | ({"context_tokens": context} if context else {})


def _prices(listed: Any) -> dict[str, float]:
    """The prices by our names; none at all if one of them cannot be."""
    prices: dict[str, float] = {}
    for sku in listed if isinstance(listed, list) else []:
        name = sku.get("sku") if isinstance(sku, dict) else None
        if not isinstance(name, str) or name not in _SKUS:
            continue
        usd = usd_of(sku.get("amount"))
        if (
            usd is None
            or _SKUS[name] in prices
            or sku.get("unit") != "1M tokens"
            or sku.get("currency", "USD") != "USD"
        ):
            return {}
        prices[_SKUS[name]] = usd
    return prices


def _refuse_other_price(before: dict[str, Any], row: dict[str, Any]) -> None:
    if any(before.get(key, value) != value for key, value in row.items() if key != "context_tokens"):
        raise _LeftOut("with a second, other price")


def _aliases(entry: dict[str, Any]) -> list[str]:
    names = entry.get("aliases")
    if entry.get("serverless_mode") == "priority" or not isinstance(names, list):
        return []
    return [name for name in names if is_model(name)]


def is_model(name: Any) -> bool:
    """Whether a foreign text can be the id of a model."""
    return isinstance(name, str) and bool(_MODEL.fullmatch(name))


def usd_of(amount: Any, times: int = 1) -> float | None:
    """A foreign amount times a whole number, exact in decimals; None where it cannot be a price per million tokens."""
    if isinstance(amount, bool) or not isinstance(amount, int | float | str) or len(str(amount)) > _MOST_DIGITS:
        return None
    try:
        usd = Decimal(str(amount)) * times
    except InvalidOperation:
        return None
    fits = usd.is_finite() and (usd == 0 or Decimal(str(LEAST_USD_PER_MTOK)) <= usd <= MOST_USD_PER_MTOK)
    return float(usd) if fits else None


def whole(value: Any) -> int | None:
    """A foreign count from 1 that is one, else None."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**63 else None
