"""What happened when, in one pass over rows in any order and in bounded memory.

The intervals are counted from 1970, so that two neighbours always become one when their number passes MOST_INTERVALS.
How many requests were out follows from starts and ends: those that began before an interval count whole in it, those
that begin in it with what is left of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from batchrun.report.columns import ints, nano_usd
from batchrun.report.logged import THROTTLED
from batchrun.report.measures import Timeline

if TYPE_CHECKING:
    import pyarrow as pa

    from batchrun.report.columns import Floats, Ints
    from batchrun.report.logged import Logged

MOST_INTERVALS = 120
LEAST_INTERVAL_US = 15_625
"""A second, halved six times; every interval is this, doubled some times."""

_COUNTED = ("succeeded", "failed", "completion_tokens", "throttled", "nano_usd", "starts", "ends")
_LEFT = {"starts": "left_of_starts", "ends": "left_of_ends"}
"""Microseconds from each start, or end, to the end of its interval."""


class RunningTimeline:
    """The timeline so far."""

    def __init__(self) -> None:
        self._out_us = 0.0
        self._interval_us = LEAST_INTERVAL_US
        self._first = 0
        self._lists: dict[str, Floats] = {name: np.zeros(0) for name in (*_COUNTED, *_LEFT.values())}

    def add(self, batch: pa.RecordBatch, attempts: Logged, *, failures: bool = False) -> None:
        """Count a batch of results or failures, and the attempts that stand in its log."""
        started_at, has_start = ints(batch, "started_at")
        finished_at, has_end = ints(batch, "finished_at")
        known = has_start & has_end
        started_at, finished_at = started_at[known], np.maximum(finished_at, started_at)[known]
        ended_at = attempts.started_at + np.rint(attempts.latency_us).astype(np.int64)
        self._out_us += float((finished_at - started_at).sum() + np.rint(attempts.latency_us).sum())
        turned_away = [attempts.started_at[np.isin(attempts.status_code, THROTTLED)]]
        if failures:
            turned_away.append(started_at[np.isin(ints(batch, "status_code")[0][known], THROTTLED)])
        self._make_room(started_at, finished_at, attempts.started_at, ended_at)
        self._count("failed" if failures else "succeeded", finished_at)
        self._count("completion_tokens", finished_at, ints(batch, "completion_tokens")[0][known])
        self._count("nano_usd", finished_at, nano_usd(batch)[0][known])
        self._count("throttled", np.concatenate(turned_away))
        self._count("starts", np.concatenate([started_at, attempts.started_at]))
        self._count("ends", np.concatenate([finished_at, ended_at]))

    @property
    def out_s(self) -> float:
        """The seconds that all requests together were out."""
        return self._out_us / 1e6

    def timeline(self) -> Timeline | None:
        """What it came to; None of nothing."""
        counted = self._lists
        if not len(counted["starts"]):
            return None
        still_out = np.cumsum(counted["starts"] - counted["ends"]) - (counted["starts"] - counted["ends"])
        in_part = (counted["left_of_starts"] - counted["left_of_ends"]) / self._interval_us
        return Timeline(
            began_at=self._first * self._interval_us,
            interval_s=self._interval_us / 1e6,
            succeeded=_whole(counted["succeeded"]),
            failed=_whole(counted["failed"]),
            completion_tokens=_whole(counted["completion_tokens"]),
            in_flight=[round(float(value), 3) for value in np.maximum(still_out + in_part, 0)],
            throttled=_whole(counted["throttled"]),
            cost_usd=[float(value) / 1e9 for value in counted["nano_usd"]],
        )

    def _count(self, name: str, at: Ints, weights: Ints | None = None) -> None:
        """Add to the interval of each time 1, or its weight."""
        place, into = at // self._interval_us - self._first, self._lists[name]
        into += np.bincount(place, weights, minlength=len(into))
        if name in _LEFT:
            left = self._lists[_LEFT[name]]
            left += np.bincount(place, self._interval_us - at % self._interval_us, minlength=len(left))

    def _make_room(self, *times: Ints) -> None:
        """Have an interval for each of some times."""
        bounds = [int(bound) for at in times if len(at) for bound in (at.min(), at.max())]
        if not bounds:
            return
        first, last = min(bounds) // self._interval_us, max(bounds) // self._interval_us
        if held := len(self._lists["starts"]):
            first, last = min(first, self._first), max(last, self._first + held - 1)
        else:
            self._first = first
        while last - first >= MOST_INTERVALS:
            self._halve()
            first, last = first // 2, last // 2
        before = self._first - first
        after = last - first + 1 - before - len(self._lists["starts"])
        if not before and not after:
            return
        self._lists = {name: np.pad(values, (before, after)) for name, values in self._lists.items()}
        self._first = first

    def _halve(self) -> None:
        """Make one interval of two, everywhere."""
        for of, name in _LEFT.items():
            self._lists[name] = self._paired(self._lists[name], self._lists[of] * self._interval_us)
        for name in _COUNTED:
            self._lists[name] = self._paired(self._lists[name])
        self._first //= 2
        self._interval_us *= 2

    def _paired(self, values: Floats, more_of_the_first: Floats | None = None) -> Floats:
        """The sums of pairs of intervals; the first of a pair gets something on top."""
        odd = self._first % 2
        pad = (odd, (len(values) + odd) % 2)
        pairs = np.pad(values, pad).reshape(-1, 2)
        sums: Floats = pairs.sum(axis=1)
        return sums if more_of_the_first is None else sums + np.pad(more_of_the_first, pad).reshape(-1, 2)[:, 0]


def _whole(values: Floats) -> list[int]:
    return [round(float(value)) for value in values]
