"""Usage times price, in whole nano-dollars, and the tier that a request is charged in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from batchrun.pricing.book import Price, Tier
    from batchrun.types import Usage


class _Asked(msgspec.Struct):
    service_tier: Any = None


_decode = msgspec.json.Decoder(_Asked).decode


def cost_nano_usd(usage: Usage, price: Price | None, *, tier: Tier = "standard") -> int | None:
    """What a usage costs, in whole nano-dollars (half up); None where the usage, or the price in that tier, is unknown.

    Cached tokens are part of the prompt's; where the endpoint did not say how many, they count as none.
    """
    prompt, completion = usage.prompt_tokens, usage.completion_tokens
    if price is None or (prompt is None and completion is None):
        return None
    pico_usd = price.pico_usd_per_token if tier == "standard" else price.pico_at(tier)
    if pico_usd is None:
        return None
    pico = 500
    if prompt is not None and prompt > 0:
        cached = usage.cached_tokens
        if cached is None or cached < 0:
            cached = 0
        elif cached > prompt:
            cached = prompt
        pico += (prompt - cached) * pico_usd[0] + cached * pico_usd[1]
    if completion is not None and completion > 0:
        pico += completion * pico_usd[2]
    return pico // 1000


def tier_of(body: bytes, answered: str | None = None) -> Tier:
    """The tier that a request is charged in: the one that its answer names, else the one that its body asks for.

    Fireworks acts on `service_tier: priority` and takes every other word for the default; its answers do not name the
    tier, OpenAI's do. (Source: Fireworks' reference of chat completions.)

    >>> tier_of(b'{"service_tier": "priority"}'), tier_of(b'{"service_tier": "priority"}', "default")
    ('priority', 'standard')
    """
    asked: Any = answered
    if asked is None and b'"service_tier"' in body:
        try:
            asked = _decode(body).service_tier
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return "standard"
    return "priority" if asked == "priority" else "standard"
