"""What only Fireworks has: performance metrics, in headers or in the body, under the same names.

Source: Fireworks' documentation, "querying text models", performance metrics; all durations are seconds. Values may
be numbers or text; what is missing or nonsense is None.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

_PREFIX = "fireworks-"


def perf_metrics_of(headers: Mapping[str, str], body: Any) -> dict[str, Any]:
    """All performance metrics by their names without prefix; what the body says wins over the headers."""
    metrics: dict[str, Any] = {
        name.removeprefix(_PREFIX): value for name, value in headers.items() if name.startswith(_PREFIX)
    }
    if isinstance(body, dict):
        metrics.update(body)
    return metrics


def seconds(metrics: Mapping[str, Any], name: str) -> float | None:
    """A duration in seconds, None if it is missing or nonsense."""
    try:
        value = float(metrics[name])
    except (KeyError, TypeError, ValueError):
        return None
    return value if math.isfinite(value) and value >= 0 else None


def whole(metrics: Mapping[str, Any], name: str) -> int | None:
    """A count, None if it is missing or nonsense."""
    value = seconds(metrics, name)
    return None if value is None else int(value)


def as_text(metrics: Mapping[str, Any]) -> str | None:
    """The metrics as JSON text, None if there are none."""
    return msgspec.json.encode(metrics).decode() if metrics else None
