"""What has become of a pilot's rows, read from the columns of a run folder."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from batchrun.pilot.estimate import LEAST_ROWS, Estimate

if TYPE_CHECKING:
    from batchrun.pilot.outlook import Interval
    from batchrun.pilot.sample import Ints, Sample

COLUMNS = (
    "index",
    "cost_usd",
    "usage_source",
    "latency_s",
    "attempt_log",
    "turn_log",
    "prompt_tokens",
    "completion_tokens",
)


class _Timed(msgspec.Struct, frozen=True):
    latency_s: float | None = None


_logged = msgspec.json.Decoder(list[_Timed]).decode


class Settled:
    """Counts `rows` of a sample, `failed` ones among them, and keeps what each cost, took and used.

    `folder_usd` is the known cost of all rows that the folder holds, `untold` counts answers of the sample's rows that
    may have been charged and did not say what.
    """

    def __init__(self, sample: Ints) -> None:
        self._sample = pa.array(sample)
        self._values: dict[str, list[float]] = {"index": [], "usd": [], "busy_s": [], "prompt": [], "generated": []}
        self.rows = self.failed = self.untold = 0
        self.folder_usd = 0.0

    def add(self, batch: pa.RecordBatch, unsettled: Ints, *, failed: bool) -> None:
        """Take in a batch of results, or of failures; `unsettled` counts each row's attempts of unknown cost."""
        self.folder_usd += pc.sum(batch.column("cost_usd")).as_py() or 0.0
        ours = pc.is_in(batch.column("index"), self._sample)
        self.untold += int(unsettled[ours.to_numpy(zero_copy_only=False)].sum())
        for row in batch.filter(ours).to_pylist():
            self._add(row, failed=failed)

    @property
    def usd(self) -> float:
        """What is known of the cost of the sample."""
        return float(np.nansum(self._values["usd"]))

    def with_untold(self, total: Interval, rest: int) -> Interval:
        """With the answers of unknown cost that as many rows will bring, each as dear as the dearest row at most."""
        dearest = float(np.nanmax(self._values["usd"]))
        return msgspec.structs.replace(total, high=total.high + self.untold * dearest * rest / self.rows)

    def estimate(self, name: str, sample: Sample, rest: Ints) -> Estimate | None:
        """What `usd`, `busy_s`, `prompt` or `generated` tokens say of the rest; None where too little is known."""
        values, index = np.array(self._values[name], float), np.array(self._values["index"], np.int64)
        known = np.isfinite(values)
        if known.sum() < LEAST_ROWS + self.failed:  # failures alone say nothing
            return None
        found = Estimate(sample, index[known], values[known], rest)
        return found if math.isfinite(found.total.high) else None

    def _add(self, row: dict[str, Any], *, failed: bool) -> None:
        """A failure of which no cost is known was not charged, or is counted as untold."""
        self.rows += 1
        self.failed += failed
        self.untold += failed and row["usage_source"] == "missing"
        values = {
            "index": row["index"],
            "usd": (0.0 if failed else np.nan) if row["cost_usd"] is None else row["cost_usd"],
            "busy_s": _busy_s(row, failed=failed),
            "prompt": row["prompt_tokens"] or 0,
            "generated": row["completion_tokens"] or 0,
        }
        for name, value in values.items():
            self._values[name].append(value)


def _busy_s(row: dict[str, Any], *, failed: bool) -> float:
    """How long a row has held a place: all of its attempts, all of its turns."""
    turns = [turn.latency_s or 0.0 for turn in _logged(row["turn_log"] or "[]")]
    last = [row["latency_s"] or 0.0] if failed or not turns else []  # of a success the last turn is the last attempt
    return sum((*turns, *last, *(attempt.latency_s or 0.0 for attempt in _logged(row["attempt_log"] or "[]"))))
