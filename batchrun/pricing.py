"""What tokens cost: a dated table of prices, and usage times price in whole nano-dollars."""

from __future__ import annotations

import difflib
import math
from fnmatch import fnmatchcase
from functools import cached_property
from importlib import resources
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import Meta

from batchrun.errors import ConfigError

if TYPE_CHECKING:
    from batchrun.types import Usage

LEAST_USD_PER_MTOK = 0.0001
"""A price below this, and not zero, is one per token by mistake."""

EXAMPLE = "write e.g. models: [{model: my-model, input_usd_per_mtok: 0.2, output_usd_per_mtok: 0.6}]"

Usd = Annotated[float, Meta(ge=0)]


class Price(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, dict=True):
    """What a million tokens of one model cost; `model` may be a pattern (`simulated/*`).

    Only the first three prices are charged; the priority tier, the context and the retirement date are for information.
    """

    model: Annotated[str, Meta(min_length=1)]
    input_usd_per_mtok: Usd
    output_usd_per_mtok: Usd
    cached_input_usd_per_mtok: Usd | None = None
    priority_input_usd_per_mtok: Usd | None = None
    priority_cached_input_usd_per_mtok: Usd | None = None
    priority_output_usd_per_mtok: Usd | None = None
    context_tokens: Annotated[int, Meta(ge=1)] | None = None
    retired_on: str | None = None
    note: str = ""

    @cached_property
    def pico_usd_per_token(self) -> tuple[int, int, int]:
        """Input, cached input (by default half of input) and output, in whole pico-dollars."""
        pico_input = round(self.input_usd_per_mtok * 1e6)
        cached = self.cached_input_usd_per_mtok
        pico_cached = (pico_input + 1) // 2 if cached is None else round(cached * 1e6)
        return pico_input, pico_cached, round(self.output_usd_per_mtok * 1e6)


class PriceBook(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """The prices in force, by model; what run.json keeps of them is this Struct as it is."""

    date: str
    source: str
    prices: dict[str, Price]

    def price_for(self, model: str, *, short_names: bool = True) -> Price | None:
        """The price of a model by its id, its short Fireworks name, or a pattern; None if it is not in the table.

        Without `short_names` a bare name is not taken for Fireworks' model of that name: other hosts have other prices.
        """
        price = self.prices.get(model) or (self.prices.get(full_model_id(model)) if short_names else None)
        return price or next((row for row in self._patterns if fnmatchcase(model, row.model)), None)

    @cached_property
    def _patterns(self) -> list[Price]:
        return [price for name, price in self.prices.items() if "*" in name or "?" in name]


def full_model_id(model: str) -> str:
    """The id that Fireworks would take a short name for.

    >>> full_model_id("glm-5p3-fast"), full_model_id("models/glm-5p3")
    ('accounts/fireworks/routers/glm-5p3-fast', 'accounts/fireworks/models/glm-5p3')
    """
    if "accounts/" in model or "#" in model:
        return model
    if model.startswith(("models/", "routers/")):
        return f"accounts/fireworks/{model}"
    return f"accounts/fireworks/{'routers' if model.endswith('-fast') else 'models'}/{model}"


def cost_nano_usd(usage: Usage, price: Price | None) -> int | None:
    """What a usage costs, in whole nano-dollars (half up); None where the price or the usage is unknown.

    Cached tokens are part of the prompt's; where the endpoint did not say how many, they count as none.
    """
    prompt, completion = usage.prompt_tokens, usage.completion_tokens
    if price is None or (prompt is None and completion is None):
        return None
    prompt = max(prompt or 0, 0)
    cached = min(max(usage.cached_tokens or 0, 0), prompt)
    pico_input, pico_cached, pico_output = price.pico_usd_per_token
    pico = (prompt - cached) * pico_input + cached * pico_cached + max(completion or 0, 0) * pico_output
    return (pico + 500) // 1000


def load_prices(path: str | None = None) -> PriceBook:
    """The shipped table, with the rows of a YAML file over it by model.

    Raises:
        ConfigError: the file cannot be read, or a row of it is not a price.
    """
    from batchrun._yaml import read_keys

    shipped = _book(_shipped_values(), "prices.yaml")
    if path is None:
        return shipped
    own = _book(read_keys(path), path, known=shipped.prices)
    dated = f" ({own.date})" if own.date else ""
    own_rows = len({price.model for price in own.prices.values()})
    count = f"{own_rows} price{'' if own_rows == 1 else 's'}"
    return PriceBook(
        date=shipped.date,
        source=f"{shipped.source}; {count} of {own.source or path}{dated} over it",
        prices={**own.prices, **{name: row for name, row in shipped.prices.items() if name not in own.prices}},
    )


def _shipped_values() -> Any:
    import yaml

    text = resources.files("batchrun").joinpath("prices.yaml").read_text(encoding="utf-8")
    return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 (both are safe loaders)


def _book(values: Any, origin: str, *, known: dict[str, Price] | None = None) -> PriceBook:
    """Check a price file; a row for a `known` model under its short name stands for its id too."""
    if not isinstance(values, dict) or not isinstance(values.get("models"), list):
        raise ConfigError(f"{origin}: has no list `models`", remedy=EXAMPLE)
    _refuse_unknown(values, ("date", "source", "models"), origin)
    prices: dict[str, Price] = {}
    for number, row in enumerate(values["models"], start=1):
        price = _price(row, origin, number)
        full = full_model_id(price.model)
        names = {price.model, full} if full in (known or {}) else {price.model}
        if names & prices.keys():
            raise ConfigError(f"{origin}: {max(names, key=len)} is listed twice", remedy="remove one of its rows")
        prices.update(dict.fromkeys(names, price))
    return PriceBook(date=str(values.get("date") or ""), source=str(values.get("source") or ""), prices=prices)


def _price(row: Any, origin: str, number: int) -> Price:
    if not isinstance(row, dict) or not isinstance(row.get("model"), str) or not row["model"]:
        raise ConfigError(f"{origin}: row {number} of `models` names no model", remedy=EXAMPLE)
    where = f"{origin}: {row['model']}"
    _refuse_unknown(row, Price.__struct_fields__, where)
    values = {**row, "retired_on": str(row["retired_on"])} if row.get("retired_on") else row  # YAML makes it a date
    try:
        price = msgspec.convert(values, Price)
    except msgspec.ValidationError as error:
        problem, _, key = str(error).replace("`", "").partition(" - at $.")
        raise ConfigError(
            f"{where}: {key + ': ' if key else ''}{problem[:1].lower()}{problem[1:]}",
            remedy="prices are US dollars per million tokens; input and output are needed, and 0 is a price",
        ) from error
    for key in (name for name in Price.__struct_fields__ if name.endswith("_usd_per_mtok")):
        usd = getattr(price, key)
        if usd is not None and (not math.isfinite(usd) or 0 < usd < LEAST_USD_PER_MTOK):
            raise ConfigError(f"{where}: {key}: {usd} cannot be", remedy="prices are US dollars per million tokens")
    return price


def _refuse_unknown(values: dict[Any, Any], known: tuple[str, ...], where: str) -> None:
    for key in values:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            remedy = f"did you mean `{near[0]}`?" if near else "known here: " + ", ".join(known)
            raise ConfigError(f"{where}: unknown key `{key}`", remedy=remedy)
