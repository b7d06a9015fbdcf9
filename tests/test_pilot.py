"""What a pilot is made of: the sample, what it says of the rest, and whether the rest turns out so."""

from __future__ import annotations

import asyncio

import numpy as np
import pyarrow as pa
import pytest
from engines import request

from batchrun._student import t_975
from batchrun.cli.progress import Progress
from batchrun.config import LimitsConfig
from batchrun.pilot.drift import Drift
from batchrun.pilot.estimate import Estimate
from batchrun.pilot.outlook import Interval, Outlook
from batchrun.pilot.sample import NO_STRATUM, Lengths, Sample
from batchrun.pilot.settled import COLUMNS, Settled, _busy_s
from batchrun.piloting import Pilot, PilotWatch, _rounded_up
from batchrun.prompts.check import Checked
from batchrun.report.format import dollars
from batchrun.types import Record


def lengths_of(rows, *, unusable=()):
    """The lengths of so many rows, skewed as those of prompts are."""
    chance, lengths = np.random.default_rng(7), Lengths()
    for row, length in enumerate(np.exp(chance.normal(6, 1.2, rows)).astype(int).tolist()):
        lengths.add(None if row in unusable else f"m{row % 2}", length)
    return lengths


def sample_of(rows=400, wanted=40, *, seed=1, unusable=(), of=None):
    return Sample(lengths_of(rows, unusable=unusable), rows=of or rows, wanted=wanted, seed=seed)


def test_a_sample_is_the_same_for_a_seed():
    """So a pilot that was cut short goes on with the same rows; another input has another one."""
    assert sample_of().rows.tolist() == sample_of().rows.tolist()
    assert sample_of().rows.tolist() != sample_of(seed=2).rows.tolist()


def test_a_sample_has_as_many_rows_as_were_asked_for():
    """Each once; rows that cannot be sent, or are beyond the limit, are not among them."""
    rows = sample_of(wanted=41, unusable={3, 5}, of=200).rows
    assert len(set(rows.tolist())) == 41
    assert not {3, 5} & set(rows.tolist())
    assert rows.max() < 200
    assert sample_of(20, 20, unusable={0}).rows.tolist() == list(range(1, 20))


def test_every_stratum_is_drawn_from_alike():
    """Rows next to each other by model and length are one; so the longest are in every sample."""
    sample = sample_of(400, 60)
    assert np.bincount(sample.strata[sample.rows]).tolist() == [6] * 10
    assert np.bincount(sample.strata).tolist() == [40] * 10
    models = np.arange(400) % 2
    for stratum in range(10):
        assert len(set(models[sample.strata == stratum])) == 1


def estimate_of(values, sample):
    rest = np.setdiff1d(np.flatnonzero(sample.strata != NO_STRATUM), sample.rows)
    return Estimate(sample, sample.rows, values[sample.rows], rest), float(values[rest].sum())


def test_what_depends_on_length_alone_is_known_exactly():
    """Within the one percent that no interval is narrower than."""
    sample = sample_of()
    found, truth = estimate_of(3.0 + 0.5 * sample.lengths, sample)
    assert found.total.likely == pytest.approx(truth)
    assert found.total.high == pytest.approx(1.01 * truth)
    assert found.of(17) == pytest.approx((3.0 + 0.5 * sample.lengths[17], 0.0))


def test_a_few_rows_that_vary_say_little():
    """Two rows give an interval that is wide, and never negative; one gives none."""
    sample = sample_of(400, 2)
    found, _ = estimate_of(np.random.default_rng(1).exponential(size=400), sample)
    assert found.total.low == 0
    assert found.total.high > 3 * found.total.likely
    with pytest.raises(ValueError, match="two rows"):
        Estimate(sample, sample.rows[:1], np.ones(1), np.arange(5))


def test_a_stratum_of_which_nothing_is_known_is_taken_for_its_neighbour():
    """Where the cost of its rows was not told."""
    sample = sample_of(400, 60)
    known = sample.rows[~np.isin(sample.strata[sample.rows], [0, 4, 9])]
    values = 1.0 + 0.01 * sample.lengths
    rest = np.setdiff1d(np.arange(400), known)
    assert Estimate(sample, known, values[known], rest).total.likely == pytest.approx(values[rest].sum())


def covered(seeds, rows, wanted):
    """In how many of some worlds the truth is in the interval: skewed lengths, skewed answers."""
    hits = 0
    for seed in seeds:
        chance, lengths = np.random.default_rng(seed), Lengths()
        sizes = np.exp(chance.normal(6, 1.3, rows)).astype(int) + 40
        for size in sizes.tolist():
            lengths.add("m", size)
        answers = np.minimum(np.exp(chance.normal(4.5, 0.8, rows)), 512)
        sample = Sample(lengths, rows=rows, wanted=wanted, seed=seed)
        found, truth = estimate_of(sizes / 4 * 0.1 + answers * 0.4, sample)
        hits += found.total.low <= truth <= found.total.high
    return hits


@pytest.mark.parametrize("wanted", [10, 20, 60])
def test_the_interval_holds_the_truth_as_often_as_it_says(wanted):
    """About 95 of 100; the worlds are drawn by fixed seeds."""
    assert covered(range(100), 300, wanted) >= 90


@pytest.mark.rig
@pytest.mark.parametrize(("rows", "wanted"), [(200, 8), (300, 30), (1000, 50), (1000, 200), (5000, 100)])
def test_the_interval_holds_the_truth_in_many_worlds(rows, wanted):
    """The long form."""
    assert covered(range(1000), rows, wanted) >= 910


def test_students_points():
    """From tables; none without a degree of freedom."""
    table = {1: 12.706, 5: 2.571, 6: 2.447, 10: 2.228, 30: 2.042, 120: 1.980}
    assert {degrees: t_975(degrees) for degrees in table} == pytest.approx(table, abs=2e-3)
    assert t_975(0) == float("inf")


def drifted(factor, *, noise=0.3, seed=3):
    """After how many rows a rest that costs so many times the pilot is told of, what is projected, and the estimate."""
    sample, chance = sample_of(2000, 100), np.random.default_rng(seed)
    values = (1.0 + 0.01 * sample.lengths) * np.exp(chance.normal(0, noise, 2000))
    found, _ = estimate_of(values, sample)
    drift = Drift(found)
    rest = np.setdiff1d(np.arange(2000), sample.rows).tolist()
    told = [(drift.rows, usd) for row in rest if (usd := drift.add(row, factor * values[row])) is not None]
    return told, found


@pytest.mark.parametrize("factor", [0.5, 1.6])
def test_a_drift_is_told_once_and_soon(factor):
    """Long before the end, with what the rest is on its way to."""
    (told, *more), found = drifted(factor)
    assert not more
    assert told[0] < 400
    assert told[1] == pytest.approx(factor * found.total.likely, rel=0.3)
    assert not found.total.low <= told[1] <= found.total.high


def test_noise_is_no_drift():
    """Rows that scatter as the pilot's did leave nothing to tell."""
    assert [drifted(1.0, seed=seed)[0] for seed in range(10)] == [[]] * 10


def test_rows_that_are_no_part_of_it_do_not_count():
    """One that could not be sent costs nothing, and was not expected to."""
    sample = sample_of(unusable={0})
    drift = Drift(estimate_of(1.0 + sample.lengths, sample)[0])
    assert drift.add(0, 1e9) is None
    assert drift.rows == 0


def settled_of(*rows, sample=(0, 1, 2, 3)):
    """What became of some rows: index, cost, and how they ended."""
    found = Settled(np.array(sample))
    for failed in (False, True):
        some = [row for row in rows if (row[2] != "ok") is failed]
        values = {name: [None] * len(some) for name in COLUMNS}
        values |= {"index": [row[0] for row in some], "cost_usd": [row[1] for row in some]}
        values |= {"latency_s": [1.5] * len(some), "usage_source": [row[2] for row in some]}
        texts = dict.fromkeys(("usage_source", "attempt_log", "turn_log"), pa.string())
        schema = pa.schema([(name, texts.get(name, pa.float64())) for name in COLUMNS])
        schema = schema.set(0, pa.field("index", pa.int64()))
        found.add(pa.record_batch(values, schema), np.zeros(len(some), np.int64), failed=failed)
    return found


def test_failures_count_as_the_report_counts_them():
    """One that was charged for costs that, one that was not costs nothing; other rows are not the pilot's."""
    found = settled_of((0, 0.25, "ok"), (1, 0.5, "endpoint"), (2, None, None), (9, 1.0, "ok"))
    assert (found.rows, found.failed, found.untold, found.usd, found.folder_usd) == (3, 2, 0, 0.75, 1.75)


def test_an_answer_of_unknown_cost_makes_the_upper_end_higher():
    """By as much as the dearest row cost, for as large a share of the rest."""
    found = settled_of((0, 0.25, "ok"), (1, 0.5, "ok"), (2, None, "missing"), (3, None, None))
    total = found.with_untold(Interval(low=1.0, likely=2.0, high=3.0), 40)
    assert (found.untold, total.low, total.likely, total.high) == (1, 1.0, 2.0, 8.0)


@pytest.mark.parametrize(
    "rows",
    [
        [(0, None, "ok"), (1, None, "ok"), (2, None, "ok")],
        [(0, None, "ok"), (1, None, "ok"), (2, None, None), (3, None, None)],
        [(0, 0.5, "ok"), (1, None, None), (2, None, None), (3, None, None)],
        [(0, None, None), (1, None, None)],
    ],
)
def test_where_too_little_is_known_nothing_is_said(rows):
    """Without prices, or if all that is known is that rows failed."""
    assert settled_of(*rows).estimate("usd", sample_of(), np.arange(9, 20)) is None


def test_how_long_a_row_was_busy():
    """All attempts and all turns of it; the last attempt of a conversation that succeeded is its last turn."""
    row = {"latency_s": 2.0, "attempt_log": '[{"latency_s": 0.5}]', "turn_log": None}
    assert _busy_s(row, failed=False) == 2.5
    row["turn_log"] = '[{"latency_s": 1.0}, {"latency_s": 2.0}]'
    assert _busy_s(row, failed=False) == 3.5
    assert _busy_s(row, failed=True) == 5.5


def outlook(**changes):
    cost = Interval(low=1.0, likely=2.0, high=3.0)
    values = {"settled": 10, "failed": 0, "rest": 90, "pilot_usd": 0.5, "cost_usd": cost, "time_s": None, **changes}
    return Outlook(**values)


def test_the_upper_end_has_to_fit_with_what_is_spent():
    """Without a budget, or without a known cost, nothing fits."""
    assert outlook(spent_usd=0.5, budget_usd=3.5).fits
    assert not outlook(spent_usd=0.51, budget_usd=3.5).fits
    assert not outlook().fits
    assert not outlook(cost_usd=None, budget_usd=100.0).fits


def pilot_of(rows=100, asked=10):
    """A pilot that has seen its input."""
    pilot = Pilot(asked, limit=None)
    for index in range(rows):
        pilot.see(request(index))
    checked = {"rows": rows, "invalid": 0, "problems": [], "models": {}, "forms": {}, "first": None}
    pilot.draw(Checked(fingerprint="0123456789abcdef", **checked))
    return pilot


@pytest.mark.parametrize(
    ("limits", "places", "likely_s"),
    [({}, 5, 27.0), ({}, 1000, 1.5), ({"requests_per_minute": 60}, 5, 90.0), ({"requests_per_minute": 6000}, 5, 27.0)],
)
def test_the_time_is_that_of_the_limit_that_binds(limits, places, likely_s):
    """Ninety rows of 1.5 s each, as many at once as there may be."""
    pilot = pilot_of()
    sample = sorted(pilot.rows)
    settled = settled_of(*((row, 0.5, "ok") for row in sample), sample=sample)
    rest = np.setdiff1d(np.arange(100), sample)
    assert pilot._time(settled, rest, LimitsConfig(**limits), places).likely == pytest.approx(likely_s)


@pytest.mark.parametrize(("asked", "rows"), [(10, 10), ("10", 10), ("7%", 7), ("0.1%", 2), ("7.5%", 8), ("100%", 100)])
def test_a_size_is_a_number_or_a_share(asked, rows):
    """A share is rounded up, and to two rows at least."""
    assert len(pilot_of(asked=asked).rows) == rows


@pytest.mark.parametrize(
    ("usd", "text"), [(0.0, "0.00"), (0.0123401, "0.0124"), (1.001, "1.01"), (123.451, "123.46"), (2e-9, "0.000000002")]
)
def test_a_budget_to_type_is_rounded_up(usd, text):
    """To three digits, or to cents."""
    assert _rounded_up(usd) == text


def test_whoever_only_watches_agrees_to_nothing():
    """Nothing more is paid for after a pilot unless somebody has said so."""
    assert asyncio.run(PilotWatch().agrees()) is False


def test_a_drift_is_one_line_on_stderr(capsys):
    """At once, with `-q` too: what the pilot said, and what it comes to."""
    sample = sample_of(400, 60)
    found, _ = estimate_of(1.0 + 0.01 * sample.lengths, sample)
    shown = Progress(quiet=1)
    shown.piloted(outlook(), Drift(found))
    for row in range(100):
        shown.row(Record(index=row, custom_id=str(row), cost_usd=3.0 + 0.03 * float(sample.lengths[row])))
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    low, high = dollars(found.total.low), dollars(found.total.high)
    assert said.startswith(f"warning: the pilot said {low} to {high} for the rest, which is on its way to ")
