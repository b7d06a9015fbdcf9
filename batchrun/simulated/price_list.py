"""What the simulated endpoint asks for its models, in the form of Fireworks' list; the prices are invented."""

from __future__ import annotations

from typing import Any

_MODES = {
    "standard": ("simulated/small", "0.15", "0.03", "0.50"),
    "priority": ("simulated/small", "0.1875", "0.0375", "0.625"),
    "fast": ("simulated/routers/small-fast", "0.30", "0.06", "1.00"),
}


def price_list() -> dict[str, Any]:
    """One model in three serving modes, each an entry of its own."""
    return {"object": "list", "data": [_entry(mode, *prices) for mode, prices in _MODES.items()]}


def _entry(mode: str, billed_as: str, fresh: str, cached: str, generated: str) -> dict[str, Any]:
    amounts = {
        "LLM input tokens (uncached)": fresh,
        "LLM input tokens (cached)": cached,
        "LLM output tokens": generated,
    }
    return {
        "id": "simulated/small",
        "object": "model",
        "serverless_mode": mode,
        **({"service_tier": "priority"} if mode == "priority" else {}),
        **({"usage_identifier": billed_as} if mode == "fast" else {}),
        "display_name": "Simulated",
        "context_length": 131072,
        "input_modalities": ["text"],
        "output_modalities": ["text"],
        "created": 0,
        "pricing": [{"sku": sku, "amount": amount, "unit": "1M tokens"} for sku, amount in amounts.items()],
    }
