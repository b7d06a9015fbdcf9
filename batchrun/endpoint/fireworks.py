"""What only Fireworks has: performance metrics, in headers or in the body, under the same names.

Source: Fireworks' documentation, "querying text models", performance metrics; all durations are seconds. Values may
be numbers or text; what is missing or nonsense is None.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

_PREFIX = "fireworks-"
_TOO_LARGE = 2**63
"""The columns of a run folder hold whole numbers below this."""


def perf_metrics_of(headers: Mapping[str, str], body: Any) -> dict[str, Any]:
    """All performance metrics by their names without prefix; what the body says wins over the headers."""
    metrics: dict[str, Any] = {metric: headers[name] for metric, name in _named_in(tuple(headers))}
    if isinstance(body, dict):
        metrics.update(body)
    return metrics


@functools.lru_cache(64)
def _named_in(headers: tuple[str, ...]) -> list[tuple[str, str]]:
    """The metrics among some headers, and their headers: those of most answers of a run have the same names."""
    return [(name.removeprefix(_PREFIX), name) for name in headers if name.startswith(_PREFIX)]


def seconds(value: Any) -> float | None:
    """A duration, None if it is missing or nonsense."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) and number >= 0 else None


def whole(value: Any) -> int | None:
    """A count: a whole number from 0 that fits a column, also as text; None if it is missing or nonsense."""
    if type(value) is int:
        return value if 0 <= value < _TOO_LARGE else None
    number = value if isinstance(value, int) else seconds(value)
    if number is None or isinstance(number, bool) or not 0 <= number < _TOO_LARGE or number % 1:
        return None
    return int(number)


def as_text(metrics: Mapping[str, Any]) -> str | None:
    """The metrics as JSON text, None if there are none."""
    return msgspec.json.encode(metrics).decode() if metrics else None
