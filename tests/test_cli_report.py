"""`batchrun report` as a user types it: formats, what if, one session apart, and what cannot be asked."""

from __future__ import annotations

import json

import pytest
from commands import at, called, prompts
from servers import simulated

from batchrun.pricing import cost_nano_usd, load_prices
from batchrun.types import Usage

MODEL = "accounts/fireworks/models/glm-5p3-flash"
CHARGED_AND_EMPTY = {"faults": [{"kind": "empty", "match": "q1 ", "tries": 2}]}


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """A run of three starts: the second row was answered, and charged, three times until an answer could be kept."""
    place = tmp_path_factory.mktemp("report")
    with simulated(CHARGED_AND_EMPTY) as server:
        arguments = [*at(server.base_url, place / "out"), "-m", MODEL, "--set", "retry.max_attempts=1"]
        command = ["run", prompts(place / "in.jsonl", 4), *arguments]
        assert [called(*command).code for _ in range(3)] == [3, 3, 0]
    return place / "out"


def summary(out, *options: object) -> dict:
    """The report of a folder for programs."""
    return json.loads(called("report", out, "--format", "json", *options).out)


def nano_usd(usd: float) -> int:
    """Dollars as whole nano-dollars."""
    return round(usd * 1e9)


def test_as_the_model_that_was_asked_it_cost_what_it_cost(out):
    """Answers that were charged in an earlier start and not kept count as they did then."""
    report = summary(out, "--as-model", MODEL)
    assert report["tokens"]["retried_tokens"] > 0
    assert report["what_if"]["difference_usd"] == 0
    assert report["what_if"]["bill"]["cost_usd"] == report["cost"]["cost_usd"] > 0


def test_the_turns_of_a_conversation_are_charged_one_by_one(tmp_path):
    """Also one that was charged and not kept, and asked again by the next start."""
    (tmp_path / "in.jsonl").write_text('{"turns": ["q0 first", "q0 second"]}')
    with simulated({"faults": [{"kind": "empty", "match": "q0 second", "tries": 1}]}) as server:
        arguments = [*at(server.base_url, tmp_path / "out"), "-m", MODEL, "--set", "retry.max_attempts=1"]
        assert [called("run", tmp_path / "in.jsonl", *arguments).code for _ in range(2)] == [3, 0]
    report = summary(tmp_path / "out", "--as-tier", "standard")
    assert report["tokens"]["retried_tokens"] > 0
    assert report["what_if"]["difference_usd"] == 0
    assert report["what_if"]["compared_usd"] == report["cost"]["cost_usd"]


def test_as_another_model(out):
    """By its short name; both bills are there."""
    page = called("report", out, "--as-model", "kimi-k3").out
    assert "What if" in page
    assert "as kimi-k3" in page
    assert "times as much" in page


def test_prices_of_a_file(out, tmp_path):
    """They hold for the models that the file names, the shipped ones for all others."""
    mine = tmp_path / "mine.yaml"
    mine.write_text(f"models: [{{model: {MODEL}, input_usd_per_mtok: 1000, output_usd_per_mtok: 1000}}]")
    report = summary(out, "--prices", mine)
    bill = report["what_if"]["bill"]
    assert nano_usd(bill["cost_usd"]) == 1_000_000 * (bill["prompt_tokens"] + bill["completion_tokens"])
    assert report["what_if"]["prices"] == f"at the prices of {mine}"
    assert "## What if" in called("report", out, "--prices", mine, "--format", "markdown").out


@pytest.mark.parametrize(("tier", "share"), [("standard", 1), ("batch", 0.5)])
def test_as_another_tier(out, tier, share):
    """A batch job costs half; of the standard tier it is what was paid."""
    report = summary(out, "--as-tier", tier)
    bill, paid = report["what_if"]["bill"], report["cost"]["cost_usd"]
    assert bill["cost_usd"] == pytest.approx(paid * share, rel=1e-3)
    assert f"in the {tier} tier" in called("report", out, "--as-tier", tier).out


def test_a_tier_without_a_price_is_unpriced(out):
    """What nobody knows is not made up; the model is named."""
    report = summary(out, "--as-tier", "priority", "--as-model", "accounts/fireworks/routers/kimi-k3-fast")
    assert report["what_if"]["bill"]["cost_usd"] is None
    assert report["what_if"]["bill"]["unpriced_models"] == [MODEL]


def test_the_last_session_stands_apart(out):
    """One of four rows was settled in the last start, and its earlier answers are not in what that cost."""
    report = summary(out)
    last, paid = report["last_session"], report["cost"]["cost_usd"]
    assert (last["rows"], last["cost_partial"]) == (1, False)
    assert 0 < last["cost_usd"] < paid / 3
    assert "settled in the last of 3 sessions" in called("report", out).out


@pytest.mark.parametrize(
    ("options", "says", "remedy"),
    [
        (["--as-model", "kimi-k33"], "kimi-k33 has no price in", "did you mean"),
        (["--as-model", "nobody/has-it"], "nobody/has-it has no price in", "put its price into a file: --prices FILE"),
        (["--prices", "nowhere.yaml"], "nowhere.yaml: cannot be read", "give the path"),
    ],
)
def test_what_cannot_be_asked(out, options, says, remedy):
    """It is said, with what to type instead."""
    ended = called("report", out, *options)
    assert (ended.code, ended.out) == (2, "")
    assert says in ended.err
    assert remedy in ended.last


def test_without_a_question_nothing_is_different(out):
    """The usual report has one bill."""
    assert summary(out)["what_if"] is None
    assert "What if" not in called("report", out).out


def test_a_run_in_the_priority_tier_is_charged_and_reported_at_its_price(tmp_path):
    """The engine's cost is the ledger's tokens at the priority price, and the report's what-if starts from it."""
    source = prompts(tmp_path / "in.jsonl", 3)
    with simulated() as server:
        arguments = at(server.base_url, tmp_path / "out", "--set", "request.params.service_tier=priority")
        done = called("run", source, *arguments)
        assert done.code == 0, done.err
        price = load_prices(None).price_for("simulated/small")
        names = ("prompt_tokens", "cached_tokens", "completion_tokens")
        usages = [Usage(**{name: line[name] for name in names}) for line in server.ledger()]
    paid = sum(cost_nano_usd(usage, price, tier="priority") for usage in usages) / 1e9
    asked = called("report", tmp_path / "out", "--as-tier", "standard", "--format", "json")
    report = json.loads(asked.out)
    assert report["cost"]["cost_usd"] == pytest.approx(paid, abs=1e-12)
    standard = sum(cost_nano_usd(usage, price) for usage in usages) / 1e9
    assert report["what_if"]["bill"]["cost_usd"] == pytest.approx(standard, abs=1e-12)
    assert paid > standard
