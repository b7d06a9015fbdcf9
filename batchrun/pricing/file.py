"""Price files: the shipped table, a user's own over it, and what cannot be a price, told with its line."""

from __future__ import annotations

import difflib
from datetime import date
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from batchrun.address import is_us_only
from batchrun.errors import ConfigError
from batchrun.pricing.book import Deployment, Price, PriceBook, full_model_id
from batchrun.pricing.lined import Lined, parse_lined, read_lined
from batchrun.pricing.sizes import SizePrice
from batchrun.pricing.us_only import us_only

LEAST_USD_PER_MTOK = 0.0001
"""A price below this, and not zero, is one per token by mistake."""

MOST_USD_PER_MTOK = 1_000_000
"""A dollar a token: a price above this is none."""

EXAMPLE = "write e.g. models: [{model: my-model, input_usd_per_mtok: 0.2, output_usd_per_mtok: 0.6}]"
SHIPPED = "the shipped prices.yaml"
_SHIPPED_FILE = Path(__file__).parents[1] / "prices.yaml"

_LISTS: dict[str, type[Price | SizePrice | Deployment]] = {
    "models": Price,
    "sizes": SizePrice,
    "deployments": Deployment,
}
_MOST_SHOWN_CHARS = 20
_KEYS = ("date", "source", "currency", *_LISTS)
_Row = TypeVar("_Row", Price, SizePrice, Deployment)


def load_prices(path: str | None = None, *, base_url: str = "") -> PriceBook:
    """The shipped table as it holds at a base URL, with the rows of a YAML file over it by model.

    Raises:
        ConfigError: the file cannot be read, or a row of it is not a price.
    """
    shipped = _book(parse_lined(_SHIPPED_FILE.read_text(encoding="utf-8"), SHIPPED), SHIPPED)
    here = us_only(shipped) if is_us_only(base_url) else shipped
    if path is None:
        return here
    own = read_book(path, known=shipped.prices)
    dated = f" ({own.date})" if own.date else ""
    own_rows = len({price.model for price in own.prices.values()})
    count = f"{own_rows} price{'' if own_rows == 1 else 's'}"
    return PriceBook(
        date=shipped.date,
        source=f"{shipped.source}; {count} of {own.source or path}{dated} over it",
        prices={**own.prices, **{name: row for name, row in here.prices.items() if name not in own.prices}},
        sizes=own.sizes or here.sizes,
        deployments=own.deployments + here.deployments,
    )


def read_book(path: str, *, known: dict[str, Price] | None = None) -> PriceBook:
    """What one file says; a row for a `known` model under its short name stands for its id too. Raises ConfigError."""
    return _book(read_lined(path), path, known=known)


def _book(values: Any, origin: str, *, known: dict[str, Price] | None = None) -> PriceBook:
    if not isinstance(values, dict) or not any(isinstance(values.get(name), list) for name in _LISTS):
        raise _no_list(values, origin)
    _refuse_unknown(values, _KEYS, origin)
    _refuse_currency(values, origin)
    about = {name: str(values.get(name) or "") for name in ("date", "source")}
    prices: dict[str, Price] = {}
    for price in _rows(values, "models", Price, origin, about):
        full = full_model_id(price.model)
        names = {price.model, full} if full in (known or {}) else {price.model}
        if twice := names & prices.keys():
            before = prices[min(twice)].origin
            message = f"{price.origin}: {max(names, key=len)} is listed twice; the other row is {before}"
            raise ConfigError(message, remedy="remove one of its rows")
        prices.update(dict.fromkeys(names, price))
    return PriceBook(
        **about,
        prices=prices,
        sizes=_rows(values, "sizes", SizePrice, origin, about),
        deployments=_rows(values, "deployments", Deployment, origin, about),
    )


def _no_list(values: Any, origin: str) -> ConfigError:
    if isinstance(values, dict) and any(isinstance(row, dict) and "litellm_provider" in row for row in values.values()):
        remedy = f"it is a file of LiteLLM: batchrun prices --import {origin} -o prices.yaml"
        return ConfigError(f"{origin}: has no list `models`", remedy=remedy)
    kind = "" if isinstance(values, dict) or values is None else f" (it holds a {type(values).__name__}, not keys)"
    return ConfigError(f"{origin}: has no list `models`{kind}", remedy=EXAMPLE)


def _rows(values: dict[Any, Any], name: str, kind: type[_Row], origin: str, about: dict[str, str]) -> list[_Row]:
    """The rows of one list, each with its date, its source and where it stands."""
    rows = values.get(name)
    if rows is None:
        return []
    if not isinstance(rows, list):
        raise ConfigError(f"{_at(values, origin, name)}: `{name}` is not a list", remedy=EXAMPLE)
    return [_row(row, kind, f"{origin}: row {number} of `{name}`", origin, about) for number, row in enumerate(rows, 1)]


def _row(row: Any, kind: type[_Row], unplaced: str, origin: str, about: dict[str, str]) -> _Row:
    place = _at(row, unplaced if not isinstance(row, Lined) else origin)
    named = kind is SizePrice or (isinstance(row, dict) and isinstance(row.get("model"), str) and row["model"])
    if not isinstance(row, dict) or not named:
        raise ConfigError(f"{place}: names no model", remedy=EXAMPLE)
    what = f": {row['model']}" if "model" in row else ""
    known = tuple(field for field in kind.__struct_fields__ if field != "origin")
    _refuse_unknown(row, known, origin, what)
    _refuse_currency(row, origin, what)
    for key, value in row.items():
        where = f"{_at(row, origin, key)}{what}: {key}"
        if "usd_per" in key and value is not None:
            _refuse_price(value, where, per_hour="hour" in key)
        elif key in {"date", "retired_on"} and value is not None:
            _refuse_date(value, where)
    texts = {key: str(row[key]) for key in ("date", "source", "retired_on") if row.get(key)}  # YAML makes it a date
    try:
        return msgspec.convert({**row, **about, **texts, "origin": place}, kind)
    except msgspec.ValidationError as error:
        problem, _, key = str(error).replace("`", "").partition(" - at $.")
        said = f"{key + ': ' if key else ''}{problem[:1].lower()}{problem[1:]}".replace(
            "object missing required field", "has no"
        )
        raise ConfigError(f"{_at(row, origin, key)}{what}: {said}", remedy=_NEEDED[kind]) from error


_NEEDED: dict[type, str] = {
    Price: "prices are US dollars per million tokens; input and output are needed, and 0 is a price",
    SizePrice: "write e.g. sizes: [{kind: dense, up_to_billion: 16, usd_per_mtok: 0.2}]",
    Deployment: "write e.g. deployments: [{model: '*#accounts/me/deployments/*', usd_per_gpu_hour: 8, gpus: 1}]",
}


def _refuse_price(value: Any, where: str, *, per_hour: bool) -> None:
    unit = "hour of one GPU" if per_hour else "million tokens"
    plain = f"prices are US dollars per {unit}"
    if isinstance(value, bool) or not isinstance(value, int | float):
        remedy = f"{plain}: write the number alone, without quotes or a currency, e.g. 0.15"
        raise ConfigError(f"{where}: {value!r} is not a number", remedy=remedy)
    if not abs(value) <= MOST_USD_PER_MTOK:  # nor is NaN
        said = str(value)[:_MOST_SHOWN_CHARS]
        raise ConfigError(f"{where}: {said} is not a number to go by", remedy=f"{plain}; leave it out if unknown")
    if value < 0:
        raise ConfigError(f"{where}: {value} is below 0", remedy=f"{plain}, and 0 is a price")
    if 0 < value < LEAST_USD_PER_MTOK and not per_hour:
        remedy = f"{plain}: if that is per token, write {value * 1e6:g}"
        raise ConfigError(f"{where}: {value} is too small for a price per million tokens", remedy=remedy)


def _refuse_date(value: Any, where: str) -> None:
    try:
        date.fromisoformat(str(value))
    except ValueError as error:
        raise ConfigError(f"{where}: {value!r} is not a date", remedy="write e.g. 2026-11-22") from error


def _refuse_currency(values: dict[Any, Any], origin: str, what: str = "") -> None:
    currency = values.get("currency", "USD")
    if currency != "USD":
        remedy = "convert them to US dollars, and remove `currency`"
        raise ConfigError(f"{_at(values, origin, 'currency')}{what}: prices in {currency} are not read", remedy=remedy)


def _refuse_unknown(values: dict[Any, Any], known: tuple[str, ...], origin: str, what: str = "") -> None:
    for key in values:
        if key in known or key == "currency":
            continue
        near = difflib.get_close_matches(str(key), known, n=1)
        remedy = f"did you mean `{near[0]}`?" if near else "known here: " + ", ".join(known)
        if "per_token" in str(key):
            remedy = "prices are per million tokens: input_usd_per_mtok, cached_input_usd_per_mtok, output_usd_per_mtok"
        raise ConfigError(f"{_at(values, origin, key)}{what}: unknown key `{key}`", remedy=remedy)


def _at(values: Any, origin: str, key: Any = None) -> str:
    """Where a key of a mapping stands, or the mapping itself: `mine.yaml:7`; without a line where none is known."""
    if not isinstance(values, Lined):
        return origin
    return f"{origin}:{values.lines.get(key, values.line)}"
