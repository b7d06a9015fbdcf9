"""The attempts before the last, which stand in `attempt_log`, as columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec
import numpy as np

from batchrun.report.columns import NANO, flags, texts
from batchrun.types import Usage

if TYPE_CHECKING:
    import pyarrow as pa

    from batchrun.report.columns import Flags, Floats, Ints

THROTTLED = (429, 503)
"""The status codes of an endpoint that has no room now."""
_MOST = 2**53
_NUMBERS = 7


class Logged(NamedTuple):
    """Columns of the same length, a row's attempts in the order they were made; times are microseconds.

    `nano_usd` is NaN where what was charged is not known, or nothing was; `is_last` marks the last of its row.
    """

    row: Ints
    started_at: Ints
    latency_us: Floats
    status_code: Ints
    prompt_tokens: Ints
    completion_tokens: Ints
    nano_usd: Floats
    is_last: Flags


class _Attempt(msgspec.Struct, frozen=True):
    """Of an entry of `attempt_log` what matters here."""

    started_at: int
    latency_s: float
    status_code: int | None = None
    usage: Usage | None = None
    cost_usd: float | None = None


_attempts = msgspec.json.Decoder(list[_Attempt]).decode


def logged(batch: pa.RecordBatch) -> Logged:
    """All attempts of a batch of results or failures that another one followed."""
    log = texts(batch, "attempt_log")
    rows = np.flatnonzero(flags(log.is_valid()))
    found = [
        (row, one.started_at, one.latency_s * 1e6, one.status_code or 0, *_charged(one))
        for row, text in zip(rows.tolist(), log.drop_null().to_pylist(), strict=True)
        for one in _attempts(text)
    ]
    row, started_at, latency_us, status_code, prompt, completion, nano_usd = (
        np.array(found, np.float64).reshape(-1, _NUMBERS).T  # microseconds since 1970 are whole numbers in a float64
    )
    return Logged(
        row=row.astype(np.int64),
        started_at=started_at.astype(np.int64),
        latency_us=latency_us,
        status_code=status_code.astype(np.int64),
        prompt_tokens=prompt.astype(np.int64),
        completion_tokens=completion.astype(np.int64),
        nano_usd=nano_usd,
        is_last=np.diff(row, append=-1) != 0,
    )


def _charged(attempt: _Attempt) -> tuple[float, float, float]:
    usage = attempt.usage or Usage()
    cost = float("nan") if attempt.cost_usd is None else round(attempt.cost_usd * NANO)
    return min(usage.prompt_tokens or 0, _MOST), min(usage.completion_tokens or 0, _MOST), cost
