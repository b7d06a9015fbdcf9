"""What was measured of each row: its latencies, its lengths, and what follows from them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from batchrun.report.columns import flags, floats, ints, texts
from batchrun.report.distributions import Values
from batchrun.report.measures import Latency, PerRow

if TYPE_CHECKING:
    import pyarrow as pa

    from batchrun.report.columns import Floats

LATENCIES = (
    "latency_s",
    "ttft_s",
    "ttfvt_s",
    "itl_mean_s",
    "itl_p99_s",
    "queued_s",
    "server_ttft_s",
    "server_processing_s",
)
"""Columns of results/ that are distributions in a report."""


class Measured:
    """The values of every metric so far."""

    def __init__(self) -> None:
        self._columns = {name: Values() for name in LATENCIES}
        self._tpot_s, self._overhead_s, self._failures_latency_s = Values(), Values(), Values()
        self._prompt, self._completion, self._completion_per_s = Values(), Values(), Values()

    def add(self, batch: pa.RecordBatch) -> None:
        """Take a batch of results."""
        columns = {name: floats(batch, name) for name in LATENCIES}
        for name, values in columns.items():
            self._columns[name].add(values)
        latency_s, processing_s = columns["latency_s"], columns["server_processing_s"]
        self._overhead_s.add(np.maximum(latency_s - processing_s, 0))
        prompt, completion = _counts(batch, "prompt_tokens"), _counts(batch, "completion_tokens")
        self._prompt.add(prompt)
        self._completion.add(completion)
        conversation = flags(texts(batch, "turn_log").is_valid())  # its tokens are all turns', its latency the last's
        completion = np.where(conversation, np.nan, completion)
        self._tpot_s.add((latency_s - columns["ttft_s"]) / np.where(completion > 1, completion - 1, np.nan))
        self._completion_per_s.add(completion / np.where(latency_s > 0, latency_s, np.nan))

    def add_failures(self, batch: pa.RecordBatch) -> None:
        """Take a batch of failures."""
        self._failures_latency_s.add(floats(batch, "latency_s"))

    def latency(self) -> Latency:
        """The distributions of seconds."""
        return Latency(
            **{name: values.seconds() for name, values in self._columns.items()},
            tpot_s=self._tpot_s.seconds(),
            overhead_s=self._overhead_s.seconds(),
            failures_latency_s=self._failures_latency_s.seconds(),
        )

    def per_row(self) -> PerRow:
        """The lengths, and how fast answers came."""
        return PerRow(
            prompt_tokens=self._prompt.spread(),
            completion_tokens=self._completion.spread(),
            completion_tokens_per_s=self._completion_per_s.spread(),
        )


def _counts(batch: pa.RecordBatch, name: str) -> Floats:
    """A column of counts as float64, NaN for null."""
    values, known = ints(batch, name)
    return np.where(known, values, np.nan)
