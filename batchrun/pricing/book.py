"""The prices in force: rows by model, patterns, the rule for sizes, and deployments that are paid by the hour."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
from msgspec import Meta

from batchrun.pricing.sizes import SizePrice, size_of

if TYPE_CHECKING:
    from collections.abc import Iterable

Tier = Literal["standard", "priority", "batch"]
Why = Literal["name", "short name", "pattern", "size"]
Pico = tuple[int, int, int]
"""Whole pico-dollars for a token of input, of cached input and of output."""

Usd = Annotated[float, Meta(ge=0)]


class Price(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, dict=True):
    """What a million tokens of one model cost, in US dollars; `model` may be a pattern (`simulated/*`).

    A `guess` follows from the size in a model's name and from nothing else. `origin` is the file and line of the row.
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
    guess: bool = False
    note: str = ""
    date: str = ""
    source: str = ""
    origin: str = ""

    @cached_property
    def pico_usd_per_token(self) -> Pico:
        """What a token costs in the standard tier; a cached one half of an uncached one where nothing is listed."""
        return _pico(self.input_usd_per_mtok, self.cached_input_usd_per_mtok, self.output_usd_per_mtok)

    def pico_at(self, tier: Tier) -> Pico | None:
        """What a token costs in a tier; None where the table does not know. A batch job costs half (rounded up)."""
        if tier == "priority":
            return self._pico_priority
        pico = self.pico_usd_per_token
        return pico if tier == "standard" else ((pico[0] + 1) // 2, (pico[1] + 1) // 2, (pico[2] + 1) // 2)

    @cached_property
    def _pico_priority(self) -> Pico | None:
        fresh, generated = self.priority_input_usd_per_mtok, self.priority_output_usd_per_mtok
        if fresh is None or generated is None:
            return None
        return _pico(fresh, self.priority_cached_input_usd_per_mtok, generated)


class Deployment(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Models on GPUs of one's own (`*#accounts/me/deployments/*`): their time is paid, not their tokens."""

    model: Annotated[str, Meta(min_length=1)]
    usd_per_gpu_hour: Usd
    gpus: Annotated[int, Meta(ge=1)] = 1
    note: str = ""
    date: str = ""
    source: str = ""
    origin: str = ""

    @property
    def usd_per_hour(self) -> float:
        """What an hour of all its GPUs costs."""
        return self.usd_per_gpu_hour * self.gpus

    def cost_nano_usd(self, wall_s: float) -> int:
        """What so many seconds cost, in whole nano-dollars (half up), if the deployment was up for these and no more.

        It belongs to a run, not to a row: requests of other runs may have shared the time.
        """
        nano_usd_per_hour = round(self.usd_per_gpu_hour * 1e9) * self.gpus
        return (nano_usd_per_hour * round(wall_s * 1e6) + 1_800_000_000) // 3_600_000_000


class PriceBook(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """The prices in force, by model; what run.json keeps of them is this Struct as it is."""

    date: str
    source: str
    prices: dict[str, Price]
    sizes: list[SizePrice] = []
    deployments: list[Deployment] = []

    def price_for(self, model: str, *, short_names: bool = True, guesses: bool = False) -> Price | None:
        """The price of a model by its id, its short Fireworks name, or a pattern; None if it is not in the table.

        Args:
            model: as requests name it.
            short_names: whether a bare name is Fireworks' model of that name: other hosts have other prices.
            guesses: whether a model of Fireworks that is not in the table has the price of its size, as a `guess`.
        """
        price = self.prices.get(model)
        if price is None:
            found = self.find(model, short_names=short_names, guesses=guesses)
            price = found and found[1]
        return price

    def find(self, model: str, *, short_names: bool = True, guesses: bool = True) -> tuple[Why, Price] | None:
        """The price of a model as `price_for` gives it, and why it is that one."""
        full = full_model_id(model) if short_names else model
        if price := self.prices.get(model):
            return "short name" if full == price.model != model else "name", price
        if price := self.prices.get(full):
            return "short name", price
        if price := next((row for row in self._patterns if fnmatchcase(model, row.model)), None):
            return "pattern", price
        price = self._guess(full) if guesses else None
        return ("size", price) if price else None

    def deployment_for(self, model: str) -> Deployment | None:
        """What the deployment costs that a model runs on; None if nothing is known of it."""
        return next((row for row in self.deployments if fnmatchcase(model, row.model)), None)

    def is_hourly(self, model: str) -> bool:
        """Whether a model's time is paid, not its tokens."""
        return self.price_for(model) is None and self.deployment_for(model) is not None

    def deployments_of(self, models: Iterable[str]) -> dict[str, Deployment]:
        """The known deployments that models run on, by their ids: several models on one deployment cost once."""
        found = {_deployment_id(model): self.deployment_for(model) for model in models if not self.price_for(model)}
        return {name: row for name, row in found.items() if row}

    @cached_property
    def _patterns(self) -> list[Price]:
        return [price for name, price in self.prices.items() if "*" in name or "?" in name]

    def _guess(self, model: str) -> Price | None:
        size = size_of(model)
        row = next((row for row in self.sizes if size and row.fits(size)), None)
        if size is None or row is None:
            return None
        usd = row.usd_per_mtok
        return Price(
            model=model,
            input_usd_per_mtok=usd,
            output_usd_per_mtok=0 if row.kind == "embedding" else usd,
            guess=True,
            note=f"a guess from the size in its name ({size.billion:g}B, {size.kind}); it is in no table",
            date=row.date,
            source=row.source,
            origin=row.origin,
        )


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


def _deployment_id(model: str) -> str:
    """The deployment in a model's name, else the name.

    >>> _deployment_id("accounts/fireworks/models/glm-5p3#accounts/me/deployments/d1")
    'accounts/me/deployments/d1'
    """
    named = re.search(r"accounts/[^/#@]+/deployments/[^/#@]+", model)
    return named[0] if named else model


def _pico(fresh: float, cached: float | None, generated: float) -> Pico:
    pico_fresh = round(fresh * 1e6)
    pico_cached = (pico_fresh + 1) // 2 if cached is None else round(cached * 1e6)
    return pico_fresh, pico_cached, round(generated * 1e6)
