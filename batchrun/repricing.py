"""Prices from elsewhere become a price file: an endpoint's own list, or a file of LiteLLM's."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from batchrun.config import read_key
from batchrun.endpoint.price_list import price_list_url, read_price_list
from batchrun.errors import ConfigError
from batchrun.export.target import opened
from batchrun.pricing.listed import Listed, prices_of_endpoint
from batchrun.pricing.litellm import prices_of_litellm
from batchrun.pricing.renewed import WRITTEN, Change, renewed
from batchrun.simulated.embedded import embedded

if TYPE_CHECKING:
    from batchrun.config import Config

_MOST_FILE_BYTES = 64 * 1024 * 1024


class Repriced(msgspec.Struct, frozen=True, kw_only=True):
    """What was written: how many rows the list gave, which of its entries it did not, and what changes by them."""

    rows: int
    left_out: dict[str, int]
    changes: list[Change]


def refresh(config: Config, path: str) -> Repriced:
    """Ask the endpoint of a configuration for its prices, and write them into the price file at `path`.

    Raises:
        ConfigError: the key is missing, or `path` is a file of somebody else.
        EndpointError: there is no list, or it could not be had; nothing was written.
    """
    source = f"{WRITTEN}--refresh, {price_list_url(config.endpoint.base_url)}"
    renewed(path, Listed(prices=[], left_out={}), source=source)  # whether it may be written, before anything is sent
    values = asyncio.run(_asked(config))
    return _write(prices_of_endpoint(values, source=source, today=_today()), path, source)


def take_in(file: str, provider: str, path: str) -> Repriced:
    """Write the prices of LiteLLM's file for one provider into the price file at `path`; raises ConfigError."""
    source = f"{WRITTEN}--import, {Path(file).name}"
    try:
        size = Path(file).stat().st_size
        values = msgspec.json.decode(Path(file).read_bytes()) if size <= _MOST_FILE_BYTES else None
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}", remedy="give the path of a JSON file") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(
            f"{file}: not JSON: {error}", remedy="give LiteLLM's model_prices_and_context_window.json"
        ) from error
    listed = prices_of_litellm(values, provider=provider, source=source, today=_today())
    if not listed.prices:
        raise ConfigError(f"{file}: has no prices of {provider}", remedy=_providers(values))
    return _write(listed, path, source)


async def _asked(config: Config) -> Any:
    key = read_key(config.endpoint)
    async with AsyncExitStack() as open_things:
        base_url = config.endpoint.base_url
        if config.endpoint.simulated:
            base_url = await open_things.enter_async_context(embedded())
        return await read_price_list(config, base_url=base_url, key=key)


def _write(listed: Listed, path: str, source: str) -> Repriced:
    if not listed.prices:
        reasons = "; ".join(f"{count:,} {reason}" for reason, count in listed.left_out.items()) or "it is empty"
        raise ConfigError(
            f"the list has no price that can be read: {reasons}", remedy="nothing was written; see docs/prices.md"
        )
    text, changes = renewed(path, listed, source=source)
    with opened(path, binary=False) as file:
        file.write(text.encode())
    return Repriced(rows=len(listed.prices), left_out=listed.left_out, changes=changes)


def _providers(values: Any) -> str:
    rows = values.values() if isinstance(values, dict) else ()
    named = {str(row.get("litellm_provider")) for row in rows if isinstance(row, dict) and row.get("litellm_provider")}
    if not named:
        return "give LiteLLM's model_prices_and_context_window.json"
    return f"name one of its providers with --provider: {', '.join(sorted(named)[:10])}"


def _today() -> str:
    return datetime.now(UTC).date().isoformat()
