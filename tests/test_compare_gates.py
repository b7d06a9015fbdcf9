"""`--fail-if`: what a gate says, what it is held against, and what cannot be meant."""

from __future__ import annotations

import pytest
from comparisons import answer, compared, failure, make

from batchrun.errors import ConfigError
from batchrun.report.compare.gates import NAMES, judge, parse_gate
from batchrun.report.compare.outline import judged


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Ten rows: B costs a quarter more and takes half as long; a row failed, two answers differ, one has no partner."""
    place = tmp_path_factory.mktemp("gates")
    a = make(place / "a", [answer(row, latency_s=2.0 + row) for row in range(10)])
    right = ["yes", "no", "no", *["yes"] * 6]
    good = [answer(row, right[row], cost_usd=1.25, latency_s=1 + row / 2, ttft_s=0.5) for row in range(9)]
    return compared(a, make(place / "b", [*good, failure(9), answer(10)]), column="label")


def judge_all(found, *gates: str):
    """What becomes of some gates."""
    return [judge(parse_gate(gate, accuracy=True), found) for gate in gates]


@pytest.mark.parametrize(
    ("gate", "value", "failed"),
    [
        ("cost_usd > +10%", 25, True),
        ("cost_usd > +25%", 25, False),
        ("cost_usd >= +25%", 25, True),
        ("cost_usd>+2", 2.25, True),
        ("cost_usd < -10%", 25, False),
        ("cost_usd > 11.25", 11.25, False),
        ("cost_usd > 11", 11.25, True),
        ("total_tokens > +0", 0, False),
        ("total_tokens <= +0%", 0, True),
        ("latency_s < -50%", -50, False),
        ("latency_p50_s <= -50%", -50, True),
        ("latency_p95_s < -1.5", -4.8, True),
        ("ttft_s > +0%", 0, False),
        ("ttft_p50_s > 0.4", 0.5, True),
        ("ttft_p95_s>=.5", 0.5, True),
        ("failures > +0", 1, True),
        ("failures > 10%", 10, False),
        ("failures > +5%", None, True),
        ("accuracy < -0.02", -2 / 9, True),
        ("accuracy < -30%", -100 * 2 / 9, False),
        ("accuracy < 0.5", 7 / 9, False),
        ("accuracy < 80%", 100 * 7 / 9, True),
        ("different > 1", 2, True),
        ("different > 25%", 100 * 2 / 9, False),
        ("unpaired > 0", 1, True),
        ("unpaired >= 10%", 100 / 11, False),
        ("prompt_tokens > +1", 0, False),
        ("completion_tokens > +1", 0, False),
    ],
)
def test_a_gate(pair, gate, value, failed):
    """A sign makes it a change from A to B, in its unit or in percent of A; without one it is a number of B."""
    (result,) = judge_all(pair, gate)
    assert result.failed is failed
    assert result.value == (None if value is None else pytest.approx(value))


def test_every_metric_can_be_a_gate(pair):
    """By the name that it has in JSON."""
    assert all(gate.failed for gate in judge_all(pair, *(f"{name} >= 0" for name in NAMES)))


def test_what_is_not_known_fails(tmp_path):
    """No row of either run has a price: nobody can say that it costs no more."""
    a, b = (make(tmp_path / name, [answer(row, cost_usd=None) for row in range(3)]) for name in "ab")
    (result,) = compared(a, b, "cost_usd > +10%").gates
    assert (result.failed, result.value) == (True, None)
    assert judged(result) == "cost_usd > +10%: not known"


def test_the_words_of_a_gate(pair):
    """The gate, what was held against it, and the numbers of both runs."""
    results = judge_all(pair, "cost_usd  >+10%", "failures > +0", "accuracy < 80%", "different > 1")
    assert list(map(judged, results)) == [
        "cost_usd > +10%: +25% (9 -> 11.25)",
        "failures > +0: +1 (0 -> 1)",
        "accuracy < 80%: 77.7778% (1 -> 0.777778)",
        "different > 1: 2",
    ]


@pytest.mark.parametrize(
    ("gate", "says", "remedy"),
    [
        ("cost > +10%", "there is no metric cost", "did you mean cost_usd?"),
        ("latency_p59_s > 1", "there is no metric latency_p59_s", "did you mean latency_p95_s?"),
        ("beauty > 1", "there is no metric beauty", "known are cost_usd, "),
        ("cost_usd", "nobody can tell what is meant", "write it as METRIC > +10%"),
        ("cost_usd = 1", "nobody can tell what is meant", "write it as"),
        ("cost_usd > $1", "nobody can tell what is meant", "write it as"),
        ("cost_usd > +1e9", "nobody can tell what is meant", "write it as"),
        ("", "nobody can tell what is meant", "write it as"),
        ("cost_usd > 10%", "percent of what?", "write +10% or -10%"),
        ("different > +5%", "is one number for both runs", "take the sign away: different > 5%"),
        ("accuracy < -2%", "nobody knows what is right", "add --column NAME"),
    ],
)
def test_what_cannot_be_meant(gate, says, remedy):
    """It is refused before anything is read."""
    with pytest.raises(ConfigError) as caught:
        parse_gate(gate, accuracy=False)
    assert caught.value.exit_code == 2
    assert says in caught.value.message
    assert remedy in caught.value.remedy
