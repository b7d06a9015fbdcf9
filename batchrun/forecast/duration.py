"""How long a run takes at least, and what makes it: a limit a minute, or how many requests may be in flight."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from batchrun.config import LimitsConfig
    from batchrun.forecast.models import ModelForecast


def bound_of(limits: LimitsConfig, models: list[ModelForecast]) -> tuple[str | None, float | None]:
    """Which limit makes the run take longest, and how long at least; `concurrency` by what answers took so far."""
    prompt_tokens = sum(one.prompt_tokens.likely for one in models)
    uncached = sum(one.prompt_tokens.likely * (1 - one.cached_share) for one in models)
    generated = sum(one.completion_tokens.likely for one in models)
    seconds = {
        name: 60 * amount / limit
        for name, amount, limit in (
            ("requests_per_minute", sum(one.requests for one in models), limits.requests_per_minute),
            ("prompt_tokens_per_minute", prompt_tokens, limits.prompt_tokens_per_minute),
            ("uncached_prompt_tokens_per_minute", uncached, limits.uncached_prompt_tokens_per_minute),
            ("generated_tokens_per_minute", generated, limits.generated_tokens_per_minute),
        )
        if limit
    }
    known = [one.requests * one.latency_s for one in models if one.latency_s is not None]
    if known and len(known) == len(models):
        seconds["concurrency"] = sum(known) / limits.concurrency
    if not seconds:
        return None, None
    name = max(seconds, key=lambda one: seconds[one])
    return f"limits.{name}", seconds[name]
