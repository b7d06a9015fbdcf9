"""95 % intervals hold what they should in 95 of 100 drawn runs, and say so only where they can."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from batchrun.report.compare import intervals
from batchrun.report.compare.intervals import LEAST_PAIRS, MOST_RESAMPLED, of_means, of_percentiles, of_shares

SHIFT = 1.1
RATIO = 1.2
PLAIN, LONG = 60, 1000


def latencies(draw: np.random.Generator, pairs: int) -> tuple[np.ndarray, np.ndarray]:
    """Two runs: what a row takes is partly its own, partly chance, skewed as latencies are; B takes 1.2 as long."""
    row = draw.lognormal(0, 0.5, pairs)
    return row * draw.lognormal(0, 0.4, pairs), RATIO * row * draw.lognormal(0, 0.4, pairs)


MEAN = np.exp(0.5**2 / 2 + 0.4**2 / 2)
SPREAD = np.hypot(0.5, 0.4)


def percentile(share: float) -> float:
    """Of the values of A."""
    return float(np.exp(SPREAD * {0.5: 0.0, 0.95: 1.6448536269514722}[share]))


def covered_means(pairs: int, trials: int) -> tuple[float, float]:
    """How often the difference and the ratio that were put in lie in their intervals."""
    hits = np.zeros(2)
    for trial in range(trials):
        found = of_means(*latencies(np.random.default_rng([pairs, trial]), pairs))
        hits += found.low <= (RATIO - 1) * MEAN <= found.high, found.ratio_low <= RATIO <= found.ratio_high
    return tuple(hits / trials)


def covered_percentiles(pairs: int, share: float, trials: int) -> float:
    """The same for the difference of two percentiles."""
    truth = (RATIO - 1) * percentile(share)
    found = [of_percentiles(*latencies(np.random.default_rng([pairs, trial]), pairs), share) for trial in range(trials)]
    return np.mean([one.low <= truth <= one.high for one in found])


def covered_shares(pairs: int, trials: int, only_a: float, only_b: float) -> float:
    """The same for the difference of two shares."""
    counts = np.random.default_rng(pairs).multinomial(pairs, [only_a, only_b, 1 - only_a - only_b], trials)
    found = [of_shares(int(a), int(b), pairs) for a, b, _ in counts]
    return np.mean([one.low <= only_b - only_a <= one.high for one in found])


def test_means_are_covered():
    """In about 95 of 100 runs; chance moves this by four or five."""
    assert min(covered_means(40, PLAIN)) > 0.88


@pytest.mark.rig
@pytest.mark.parametrize("pairs", [20, 60, 200, MOST_RESAMPLED + 1000])
def test_means_are_covered_in_many_runs(pairs):
    """By the bootstrap and past its size, differences and ratios alike."""
    assert all(0.93 < share < 0.97 for share in covered_means(pairs, LONG))


@pytest.mark.parametrize(("pairs", "share"), [(300, 0.5), (300, 0.95)])
def test_percentiles_are_covered(pairs, share):
    """Also those in the tail."""
    assert covered_percentiles(pairs, share, PLAIN) > 0.88


@pytest.mark.rig
@pytest.mark.parametrize(
    ("pairs", "share", "most"), [(30, 0.5, 1), (400, 0.5, 0.99), (150, 0.95, 1), (1000, 0.95, 0.99), (9000, 0.95, 0.98)]
)
def test_percentiles_are_covered_in_many_runs(pairs, share, most):
    """With few pairs the interval is rather too wide than too narrow."""
    assert 0.92 < covered_percentiles(pairs, share, LONG // 2) <= most


@pytest.mark.parametrize(
    ("pairs", "only_a", "only_b"),
    [(20, 0.1, 0.1), (50, 0.02, 0.1), (200, 0.0, 0.01), (500, 0.05, 0.08), (100, 0.0, 0.0)],
)
def test_shares_are_covered(pairs, only_a, only_b):
    """Also where hardly a pair differs."""
    assert covered_shares(pairs, 300, only_a, only_b) > 0.92


def test_two_runs_of_one_model_are_rarely_significant():
    """Once in twenty, by chance."""
    draws = (np.random.default_rng(trial) for trial in range(PLAIN))
    found = [of_means(a, b / RATIO) for a, b in (latencies(draw, 40) for draw in draws)]
    assert np.mean([one.low > 0 or one.high < 0 for one in found]) < 0.12


def test_the_bootstrap_is_that_of_pandas():
    """Resampled with other draws, the bounds are the same but for chance."""
    a, b = latencies(np.random.default_rng(1), 300)
    frame = pd.DataFrame({"a": a, "d": b - a})
    means = pd.DataFrame([frame.sample(300, replace=True, random_state=seed).mean() for seed in range(250)])
    found = of_means(a, b)
    assert found.method == "bootstrap"
    assert [found.low, found.high] == pytest.approx(means.d.quantile([0.025, 0.975]).tolist(), rel=0.2)
    ratios = (1 + means.d / means.a).quantile([0.025, 0.975]).tolist()
    assert [found.ratio_low, found.ratio_high] == pytest.approx(ratios, rel=0.02)


def test_past_its_size_the_bootstrap_is_not_missed(monkeypatch):
    """The normal approximation gives the same bounds."""
    a, b = latencies(np.random.default_rng(2), MOST_RESAMPLED + 1)
    normal = of_means(a, b)
    monkeypatch.setattr(intervals, "MOST_RESAMPLED", len(a))
    drawn = of_means(a, b)
    assert (normal.method, drawn.method) == ("normal", "bootstrap")
    assert [drawn.low, drawn.high] == pytest.approx([normal.low, normal.high], rel=0.05)
    assert [drawn.ratio_low, drawn.ratio_high] == pytest.approx([normal.ratio_low, normal.ratio_high], rel=0.01)


@pytest.mark.parametrize("pairs", [200, MOST_RESAMPLED + 1])
def test_the_ratio_holds_one_where_the_difference_holds_zero(pairs):
    """Whichever of them is shown, it is significant or it is not."""
    for trial in range(12):
        a, b = latencies(np.random.default_rng(trial), pairs)
        found = of_means(a, b * (1 + trial / 200) / RATIO)
        assert (found.low > 0, found.high < 0) == (found.ratio_low > 1, found.ratio_high < 1)


def test_pairs_are_kept_together():
    """What rows have in common does not blur what differs: alone, the two means would be far less certain."""
    draw = np.random.default_rng(3)
    row = draw.lognormal(0, 1.5, 500)
    a, b = row + draw.normal(0, 0.01, 500), row + 0.01 + draw.normal(0, 0.01, 500)
    assert of_means(a, b).low > 0
    apart = of_means(a, draw.permutation(b))
    assert apart.low < 0 < apart.high
    twice = of_means(a, 2 * row)
    assert twice.ratio_high - twice.ratio_low < 0.01
    near, far = of_percentiles(a, b, 0.5), of_percentiles(a, draw.permutation(b), 0.5)
    assert near.high - near.low < (far.high - far.low) / 3


@pytest.mark.parametrize("pairs", [LEAST_PAIRS, 300, MOST_RESAMPLED + 1])
def test_equal_runs_have_no_interval_to_speak_of(pairs):
    """The difference is zero, and so are its bounds."""
    a, _ = latencies(np.random.default_rng(4), pairs)
    found = of_means(a, a.copy())
    assert (found.low, found.high, found.ratio_low, found.ratio_high) == (0, 0, 1, 1)
    assert (of_percentiles(a, a.copy(), 0.5).low, of_percentiles(a, a.copy(), 0.5).high) == (0, 0)


def test_too_few_pairs_have_no_interval():
    """Nobody can tell; a p95 needs more pairs than a mean."""
    a, b = latencies(np.random.default_rng(5), LEAST_PAIRS)
    assert of_means(a, b) is not None
    assert of_percentiles(a, b, 0.5) is not None
    assert of_percentiles(a, b, 0.95) is None
    assert of_means(a[1:], b[1:]) is of_percentiles(a[1:], b[1:], 0.5) is of_shares(0, 9, LEAST_PAIRS - 1) is None


@pytest.mark.parametrize("pairs", [20, MOST_RESAMPLED + 1])
def test_a_ratio_to_nothing_has_no_interval(pairs):
    """A sum that may be zero divides nothing."""
    a = np.zeros(pairs)
    a[0] = 1e-9
    found = of_means(a, np.ones(pairs))
    assert (found.ratio_low, found.ratio_high) == (None, None)
    assert found.low > 0


def test_few_values_spread_the_interval():
    """The bootstrap of ten pairs is widened, as t is wider than z."""
    assert intervals._widened_tail(10) < 0.6 * intervals.TAIL
    assert intervals._widened_tail(5000) == pytest.approx(intervals.TAIL, rel=0.01)
