"""The numbers of a comparison against those that pandas finds in the same folders, for several pairs of runs."""

from __future__ import annotations

import json
import random

import pandas as pd
import pytest
from commands import at, called
from comparisons import compared
from servers import simulated

from batchrun.report.compare.shape import MEANS, METRICS, PERCENTILES, SUMS

LABELS = ["billing", "shipping", "account"]
ASK = "Answer with one of: billing, shipping, account.\n"
SEEDS = (1, *(pytest.param(seed, marks=pytest.mark.rig) for seed in (2, 3, 4)))
ROWS = 60


@pytest.fixture(scope="module", params=SEEDS)
def folders(request, tmp_path_factory):
    """Two runs over inputs that share most of their ids, some rows of which fail in one or both."""
    place, draw = tmp_path_factory.mktemp("pair"), random.Random(request.param)
    faults = [
        {"kind": kind, "match": f"{model}.* w{draw.randrange(7)}", "probability": probability}
        for kind, probability in (("server_error", 1), ("empty", 1), ("error_in_200", 0.5))
        for model in ("small", "large")
    ]
    with simulated({"seed": request.param, "faults": faults}) as server:
        for name, model in (("a", "simulated/small"), ("b", "simulated/large")):
            rows = [
                {"custom_id": f"t-{row}", "prompt": f"{ASK}Ticket {row}, w{row % 7}:", "label": LABELS[row % 3]}
                for row in draw.sample(range(ROWS + 20), ROWS)
            ]
            (place / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
            options = ["--set", "retry.max_attempts=1", "--set", "keep_columns=[label]", "-m", model]
            options += ["--set", 'request.params.stop=[" ("]', "--set", "request.stream=always"]
            done = called("run", place / f"{name}.jsonl", *at(server.base_url, place / name), *options)
            assert done.code == 3, done.err
    return place / "a", place / "b"


@pytest.fixture(scope="module")
def found(folders):
    """What batchrun says of them."""
    return compared(*folders, column="label")


@pytest.fixture(scope="module")
def frame(folders):
    """What pandas says: one row a pair, with the columns of both runs."""
    sides = []
    for folder in folders:
        good, bad = pd.read_parquet(folder / "results"), pd.read_parquet(folder / "failures")
        sides.append(pd.concat([good, bad.assign(latency_s=None)]).astype({"latency_s": float}))
    return sides[0].merge(sides[1], on="custom_id", suffixes=("_a", "_b"))


def both(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    """A column of both runs, where both have a value."""
    return pd.DataFrame({"a": frame[f"{name}_a"], "b": frame[f"{name}_b"]}).dropna().astype(float)


def test_the_runs_are_worth_comparing(found):
    """Some rows fail, some have no partner, some answers differ and some do not."""
    assert found.moves
    assert found.pairing.only_in_a
    assert 0 < found.answers.identical < found.answers.both


def test_pairs_are_those_of_a_join_by_id(found, frame):
    """And the rows of either run that it leaves over are counted."""
    pairing = found.pairing
    assert (pairing.rows, pairing.by_custom_id) == (len(frame), len(frame))
    assert pairing.only_in_a == pairing.only_in_b == ROWS - len(frame)


@pytest.mark.parametrize("name", SUMS)
def test_sums(found, frame, name):
    """Of the pairs that have a value in both, with their ratio."""
    values = both(frame, name)
    metric = found.metrics[name]
    assert metric.pairs == len(values)
    assert [metric.a, metric.b] == pytest.approx(values.sum().tolist(), abs=1e-12)
    assert metric.difference == pytest.approx(values.b.sum() - values.a.sum(), abs=1e-12)
    assert metric.ratio == pytest.approx(values.b.sum() / values.a.sum())


@pytest.mark.parametrize("name", [*MEANS, *PERCENTILES])
def test_seconds(found, frame, name):
    """Means and percentiles of the pairs that both answered."""
    measured, share = PERCENTILES.get(name, (name, None))
    values = both(frame, measured)
    a, b = values.mean() if share is None else values.quantile(share)
    metric = found.metrics[name]
    assert metric.pairs == len(values) == found.answers.both
    assert [metric.a, metric.b, metric.difference] == pytest.approx([a, b, b - a])


def test_failures_by_how_they_moved(found, frame):
    """Every ending of A with every ending of B, but for answers that stayed answers."""
    counts = frame.fillna({"error_type_a": "-", "error_type_b": "-"}).value_counts(["error_type_a", "error_type_b"])
    moved = {(move.a or "-", move.b or "-"): move.rows for move in found.moves}
    assert moved == {ends: count for ends, count in counts.items() if ends != ("-", "-")}
    failed = frame[["error_type_a", "error_type_b"]].notna().sum().tolist()
    assert [found.metrics["failures"].a, found.metrics["failures"].b] == failed


def test_answers(found, frame):
    """Identical and different where both answered, and who was alone."""
    answered_a, answered_b = frame.error_type_a.isna(), frame.error_type_b.isna()
    same = frame.content_a == frame.content_b
    counted = found.answers
    assert counted.identical == (answered_a & answered_b & same).sum()
    assert counted.different == (answered_a & answered_b & ~same).sum()
    assert counted.only_in_a == (answered_a & ~answered_b).sum()
    assert counted.only_in_b == (answered_b & ~answered_a).sum()


def test_accuracy(found, frame):
    """The share of equal texts, where both answered and both inputs expect the same."""
    answered = frame[frame.error_type_a.isna() & frame.error_type_b.isna()]
    labels = [answered[f"input_{side}"].map(json.loads).map(lambda row: row["label"]) for side in "ab"]
    judged = answered[labels[0] == labels[1]]
    right = [judged[f"content_{side}"].str.strip() == labels[0][judged.index] for side in "ab"]
    metric = found.metrics["accuracy"]
    assert [metric.a, metric.b] == pytest.approx([one.mean() for one in right])
    assert found.accuracy.only_a_right == (right[0] & ~right[1]).sum()
    assert found.accuracy.pairs == metric.pairs == len(judged) > 0


def test_the_runs_as_a_whole(found, folders):
    """Their rows and exact cost are those of the reports."""
    for run, folder in zip((found.a, found.b), folders, strict=True):
        report = json.loads(called("report", folder, "--format", "json").out)
        assert run.cost_usd == report["cost"]["cost_usd"]
        assert [run.succeeded, run.failed] == [report["rows"]["succeeded"], report["rows"]["failed"]]


def test_every_metric_is_named(found):
    """Those of a gate, in one order."""
    assert tuple(found.metrics) == METRICS


def test_the_same_runs_give_the_same_numbers(folders, found):
    """What is drawn has one seed."""
    assert compared(*folders, column="label") == found


def test_b_against_a_is_a_against_b_turned_round(folders, found):
    """Differences change their sign, and their bounds their sides."""
    turned = compared(*reversed(folders), column="label")
    for name in set(METRICS) - set(PERCENTILES):
        one, other = found.metrics[name], turned.metrics[name]
        assert (one.a, one.b, one.difference) == (other.b, other.a, -other.difference)
        width = one.difference_high - one.difference_low
        turned_bounds = [-other.difference_high, -other.difference_low]
        assert [one.difference_low, one.difference_high] == pytest.approx(turned_bounds, abs=width / 10)
