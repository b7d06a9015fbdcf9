"""The successes with the longest latency, of all rows, with what they would be looked up by."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from batchrun.report.columns import floats, models, texts
from batchrun.report.measures import SlowRow

if TYPE_CHECKING:
    import pyarrow as pa

MOST_ROWS = 10
TEXT_CHARS = 200


class Slowest:
    """The slowest rows so far."""

    def __init__(self) -> None:
        self.rows: list[SlowRow] = []

    def add(self, batch: pa.RecordBatch) -> None:
        """Look through a batch of results; of rows as slow as each other the first stay."""
        latency_s = floats(batch, "latency_s")
        slower_than = self.rows[-1].latency_s if len(self.rows) == MOST_ROWS else -np.inf
        found = np.flatnonzero((latency_s > slower_than) & np.isfinite(latency_s))
        if not len(found):
            return
        found = found[np.argsort(-latency_s[found], kind="stable")[:MOST_ROWS]]
        rows = self.rows + [_row(batch.slice(at, 1)) for at in found.tolist()]
        self.rows = sorted(rows, key=lambda row: -row.latency_s)[:MOST_ROWS]


def _row(one: pa.RecordBatch) -> SlowRow:
    held = {name: value for name, value in one.to_pylist()[0].items() if value == value}  # noqa: PLR0124 (without NaN)
    return SlowRow(
        custom_id=(texts(one, "custom_id")[0].as_py() or "")[:TEXT_CHARS],
        model=models(one)[0].as_py()[:TEXT_CHARS],
        latency_s=held["latency_s"],
        ttft_s=held.get("ttft_s"),
        queued_s=held.get("queued_s"),
        prompt_tokens=held.get("prompt_tokens"),
        completion_tokens=held.get("completion_tokens"),
        attempts=held.get("attempts") or 0,
        finish_reason=(held.get("finish_reason") or "")[:TEXT_CHARS] or None,
    )
