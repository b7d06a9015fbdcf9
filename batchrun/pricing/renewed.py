"""A price file that `batchrun prices` writes: rows of a list over those it wrote before, a user's own left alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import yaml

from batchrun.errors import ConfigError
from batchrun.pricing.book import Price, PriceBook, full_model_id
from batchrun.pricing.file import load_prices, read_book

if TYPE_CHECKING:
    from batchrun.pricing.listed import Listed

MARK = "# written by `batchrun prices`"
WRITTEN = "batchrun prices "
"""How the source of every row begins that was not put there by hand."""

_HEAD = f"""{MARK}; use it with `prices: FILE` in a configuration, or --set prices=FILE
# It may be written again. A row whose `source` you change or remove is yours, and is left as it is.
"""
PRICES = tuple(name for name in Price.__struct_fields__ if name.endswith("_usd_per_mtok"))


class Change(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a list changes for one model: the prices in force before and those of the list, by their names."""

    model: str
    what: Literal["new", "changed", "gone", "kept"]
    before: dict[str, float] = {}
    after: dict[str, float] = {}


def renewed(path: str, listed: Listed, *, source: str) -> tuple[str, list[Change]]:
    """The new text of a price file, and what changes by it. A user's own row of a listed model is `kept`.

    Raises:
        ConfigError: there is a file at `path` that is not one of those, or it cannot be read.
    """
    there = _read(path)
    before = load_prices(path if there else None).prices
    mine = {name: row for name, row in there.prices.items() if not row.source.startswith(WRITTEN)} if there else {}
    taken = mine.keys() | {full_model_id(name) for name in mine}
    rows = {price.model: price for price in listed.prices if price.model not in taken}
    old = {name: row for name, row in there.prices.items() if name not in taken and name not in rows} if there else {}
    gone = {name: row for name, row in old.items() if row.source == source}
    rest = {name: row for name, row in old.items() if name not in gone}
    changes = [_change(price, before, taken) for price in listed.prices]
    changes += [Change(model=name, what="gone", before=_usd(row)) for name, row in gone.items()]
    return _text([*rows.values(), *rest.values(), *mine.values()], there), [change for change in changes if change]


def _read(path: str) -> PriceBook | None:
    file = Path(path)
    if not file.exists():
        return None
    if file.is_file():
        with file.open("rb") as opened:
            if opened.read(len(MARK)).startswith(MARK.encode()):
                return read_book(path)
    raise ConfigError(
        f"{path}: is there, and was not written by `batchrun prices`", remedy="name another file: -o fireworks.yaml"
    )


def _change(price: Price, before: dict[str, Price], taken: set[str]) -> Change | None:
    row, after = before.get(price.model), _usd(price)
    if row is None:
        return Change(model=price.model, what="kept" if price.model in taken else "new", after=after)
    if _usd(row) == after:
        return None
    return Change(model=price.model, what="kept" if price.model in taken else "changed", before=_usd(row), after=after)


def _usd(price: Price) -> dict[str, float]:
    return {name: usd for name in PRICES if (usd := getattr(price, name)) is not None}


def _text(prices: list[Price], there: PriceBook | None) -> str:
    newest = max((price.date for price in prices), default="")
    values: dict[str, Any] = {"date": newest, "models": [_plain(price) for price in prices]}
    if there and there.sizes:
        values["sizes"] = [_plain(row) for row in there.sizes]
    if there and there.deployments:
        values["deployments"] = [_plain(row) for row in there.deployments]
    return _HEAD + yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=120)


def _plain(row: msgspec.Struct) -> dict[str, Any]:
    values = msgspec.to_builtins(row)
    return {name: value for name, value in values.items() if name != "origin" and value != ""}
