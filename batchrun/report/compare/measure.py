"""The arithmetic of a comparison: what two sides have in common, measured over the pairs that have a value in both."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np

from batchrun.report.columns import NANO
from batchrun.report.compare.intervals import Interval, of_means, of_percentiles, of_shares
from batchrun.report.compare.shape import MEANS, METRICS, PERCENTILES, SUMS, Accuracy, Metric
from batchrun.report.compare.side import ANSWERED, FAILED

if TYPE_CHECKING:
    from collections.abc import Callable

    from batchrun.report.columns import Flags, Floats, Ints
    from batchrun.report.compare.pairs import Pairs
    from batchrun.report.compare.side import Side

EXAMPLES = 3
DIFFERENT_ANSWERS = 5


class Moved(msgspec.Struct, frozen=True, kw_only=True):
    """Pairs by the slots of their error types (-1: an answer), how many they are, and the first of them."""

    a: int
    b: int
    rows: int
    first: list[int]


class AnswerCounts(msgspec.Struct, frozen=True, kw_only=True):
    """Pairs by who answered, and the first that have two answers."""

    both: int
    identical: int
    only_in_a: int
    only_in_b: int
    first: list[int]


def metrics_of(a: Side, b: Side, pairs: Pairs, accuracy: Accuracy | None) -> dict[str, Metric | None]:
    """Every metric by its name, in the order of METRICS."""
    found: dict[str, Metric | None] = dict.fromkeys(METRICS)
    for name in SUMS:
        found[name] = _of_sums(*_both(a, b, pairs, name), total=_dollars if name == "cost_usd" else np.sum)
    for name in MEANS:
        values = _both(a, b, pairs, name)
        found[name] = _of_means(*values)
        found |= {
            percentile: _of_percentiles(*values, share)
            for percentile, (measured, share) in PERCENTILES.items()
            if measured == name
        }
    failed_a, failed_b = a.states[pairs.a] == FAILED, b.states[pairs.b] == FAILED
    found["failures"] = _of_counts(failed_a, failed_b)
    found["accuracy"] = None if accuracy is None else _of_accuracy(accuracy)
    return found


def moves_of(a: Side, b: Side, pairs: Pairs) -> list[Moved]:
    """Pairs of which at least one failed, by how both ended: the most frequent first."""
    ended_a, ended_b = _endings(a, pairs.a), _endings(b, pairs.b)
    failed = np.flatnonzero((ended_a >= 0) | (ended_b >= 0))
    kinds, kind_of, counts = np.unique(
        np.stack([ended_a[failed], ended_b[failed]], axis=1), axis=0, return_inverse=True, return_counts=True
    )
    found = [
        Moved(a=kind[0], b=kind[1], rows=count, first=failed[kind_of.ravel() == at][:EXAMPLES].tolist())
        for at, (kind, count) in enumerate(zip(kinds.tolist(), counts.tolist(), strict=True))
    ]
    return sorted(found, key=lambda move: -move.rows)


def answers_of(a: Side, b: Side, pairs: Pairs) -> AnswerCounts:
    """Who answered, and whether the same."""
    answered_a, answered_b = a.states[pairs.a] == ANSWERED, b.states[pairs.b] == ANSWERED
    both = answered_a & answered_b
    different = both & (a.answers[pairs.a] != b.answers[pairs.b])
    return AnswerCounts(
        both=int(both.sum()),
        identical=int(both.sum() - different.sum()),
        only_in_a=int((answered_a & ~answered_b).sum()),
        only_in_b=int((answered_b & ~answered_a).sum()),
        first=np.flatnonzero(different)[:DIFFERENT_ANSWERS].tolist(),
    )


def accuracy_of(a: Side, b: Side, pairs: Pairs, column: str) -> Accuracy:
    """Who is right, where both answered and both inputs expect the same."""
    both = (a.states[pairs.a] == ANSWERED) & (b.states[pairs.b] == ANSWERED)
    expected_a, expected_b = a.expected[pairs.a], b.expected[pairs.b]
    known = both & (expected_a != 0) & (expected_b != 0)
    judged = known & (expected_a == expected_b)
    right_a, right_b = a.right[pairs.a[judged]], b.right[pairs.b[judged]]
    return Accuracy(
        column=column,
        pairs=int(judged.sum()),
        both_right=int((right_a & right_b).sum()),
        only_a_right=int((right_a & ~right_b).sum()),
        only_b_right=int((right_b & ~right_a).sum()),
        neither_right=int((~right_a & ~right_b).sum()),
        pairs_expecting_otherwise=int((known & ~judged).sum()),
    )


def cost_usd(side: Side) -> float | None:
    """What a run cost, as far as that is known, exactly."""
    values = side.values["cost_usd"]
    known = values[np.isfinite(values)]
    return _dollars(known) if len(known) else None


def _both(a: Side, b: Side, pairs: Pairs, name: str) -> tuple[Floats, Floats]:
    """The values of the pairs that have one in both runs."""
    of_a, of_b = a.values[name][pairs.a], b.values[name][pairs.b]
    known = np.isfinite(of_a) & np.isfinite(of_b)
    return of_a[known], of_b[known]


def _endings(side: Side, rows: Ints) -> Ints:
    return np.where(side.states[rows] == FAILED, side.error_types[rows].astype(np.int64), -1)


def _of_sums(a: Floats, b: Floats, total: Callable[[Floats], float]) -> Metric | None:
    return _metric(len(a), float(total(a)), float(total(b)), of_means(a, b), scale=len(a)) if len(a) else None


def _of_means(a: Floats, b: Floats) -> Metric | None:
    return _metric(len(a), float(a.mean()), float(b.mean()), of_means(a, b)) if len(a) else None


def _of_percentiles(a: Floats, b: Floats, share: float) -> Metric | None:
    if not len(a):
        return None
    found_a, found_b = float(np.quantile(a, share)), float(np.quantile(b, share))
    return _metric(len(a), found_a, found_b, of_percentiles(a, b, share))


def _of_counts(a: Flags, b: Flags) -> Metric | None:
    if not len(a):
        return None
    interval = of_shares(int((a & ~b).sum()), int((b & ~a).sum()), len(a))
    return _metric(len(a), float(a.sum()), float(b.sum()), interval, scale=len(a))


def _of_accuracy(found: Accuracy) -> Metric | None:
    if not found.pairs:
        return None
    interval = of_shares(found.only_a_right, found.only_b_right, found.pairs)
    a, b = (found.both_right + only for only in (found.only_a_right, found.only_b_right))
    return _metric(found.pairs, a / found.pairs, b / found.pairs, interval)


def _metric(pairs: int, a: float, b: float, interval: Interval | None, *, scale: int = 1) -> Metric:
    """Put two numbers beside each other; `scale` makes the bounds of a sum out of those of a mean."""
    difference, ratio = round(b - a, 12), b / a if a > 0 else None
    if interval is None:
        return Metric(pairs=pairs, a=a, b=b, difference=difference, ratio=ratio)
    return Metric(
        pairs=pairs,
        a=a,
        b=b,
        difference=difference,
        difference_low=interval.low * scale,
        difference_high=interval.high * scale,
        ratio=ratio,
        ratio_low=interval.ratio_low,
        ratio_high=interval.ratio_high,
        significant=interval.low > 0 or interval.high < 0,
        interval=interval.method,
    )


def _dollars(values: Floats) -> float:
    """The sum of whole nano-dollars, which a float holds exactly up to nine million dollars."""
    return float(np.rint(values * NANO).sum()) / NANO
