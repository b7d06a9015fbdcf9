"""A budget, as a user meets it: never passed, told on the way, and the same command with a larger one goes on."""

from __future__ import annotations

import json
import re

import pytest
from commands import at, begun, called, kept, prompts, wait_for
from servers import simulated

from batchrun.cli.progress import Progress
from batchrun.engine.watch import Plan
from batchrun.pricing import cost_nano_usd, load_prices
from batchrun.types import Usage

QUICK = {"latency": {"ttft_s": 0.01, "per_token_s": 0}}


def charged_usd(server) -> float:
    """What the endpoint's ledger adds up to."""
    price = load_prices(None).price_for("simulated/small")
    names = ("prompt_tokens", "cached_tokens", "completion_tokens")
    lines = (Usage(**{name: line[name] for name in names}) for line in server.ledger())
    return sum(cost_nano_usd(usage, price) for usage in lines) / 1e9


def test_a_budget_ends_the_run_before_it_is_passed_and_a_larger_one_goes_on(tmp_path):
    """Exit 4, a folder that can be gone on with, and marks on the way."""
    source = prompts(tmp_path / "in.jsonl", 60)
    with simulated(QUICK) as server:
        arguments = ["run", source, *at(server.base_url, tmp_path / "out")]
        done = called(*arguments, "--max-cost", 0.003)
        assert done.code == 4, done.err
        assert "exit 4: the budget of $0.003 is reached: $0.00" in done.last
        assert "--max-cost" in done.last.partition("Next: ")[2]
        assert "50% of the budget of $0.003, is spent" in done.err
        assert 0.002 < charged_usd(server) <= 0.003
        before = len(kept(tmp_path / "out"))
        assert 0 < before < 60
        again = called(*arguments, "--max-cost", 0.003)
        assert again.code == 4
        assert "Next: run it again with a larger --max-cost" in again.last
        assert charged_usd(server) <= 0.003
        assert called(*arguments, "--max-cost", 1, "-q").code == 0
        assert len(server.ledger()) == 60
    assert json.loads((tmp_path / "out/report/summary.json").read_text())["rows"]["succeeded"] == 60


def test_what_a_crash_exposed_counts_at_its_worst(tmp_path):
    """Of a budget that was enough for all rows, what may have been lost is taken off."""
    source = prompts(tmp_path / "in.jsonl", 40)
    with simulated({"latency": {"ttft_s": 0.1, "per_token_s": 0, "sigma": 0}}) as server:
        arguments = ["run", source, *at(server.base_url, tmp_path / "out"), "-c", 4, "--max-cost", 0.004]
        with begun(*arguments) as process:
            wait_for(lambda: len(server.ledger()) >= 8, process)
            process.kill()
            process.wait()
        done = called(*arguments)
        assert done.code == 4, done.err
        assert charged_usd(server) <= 0.004


def test_lost_answers_count_at_their_worst(tmp_path):
    """A stream that broke off was charged, and nobody knows how much."""
    source = prompts(tmp_path / "in.jsonl", 30)
    with simulated({**QUICK, "faults": [{"kind": "truncated", "every": 2, "tries": 1}]}) as server:
        done = called("run", source, *at(server.base_url, tmp_path / "out"), "-c", 2, "--max-cost", 0.003)
        assert done.code == 4, done.err
        assert charged_usd(server) <= 0.003


def test_a_budget_wants_prices_and_limits_of_tokens(tmp_path):
    """Refused before anything is sent, with the remedy."""
    source = prompts(tmp_path / "in.jsonl", 2)
    with simulated(QUICK) as server:
        arguments = ["run", source, *at(server.base_url, tmp_path / "out"), "--max-cost", 1]
        unpriced = called(*arguments, "-m", "nobody/knows")
        assert (unpriced.code, "--allow-unpriced" in unpriced.last) == (2, True)
        unlimited = called(*arguments, "--set", "request.params.max_tokens=null")
        assert unlimited.code == 2
        assert "c0: sets no max_tokens" in unlimited.err
        assert not server.totals()["requests"]
        assert not (tmp_path / "out").exists()
        allowed = called(*arguments, "--allow-unpriced", "-m", "simulated/small")
        assert allowed.code == 0


@pytest.mark.parametrize("budget", ["0", "-1", "5 dollars", "$5", "nan", "inf", "1e400"])
def test_a_budget_that_is_none_is_refused(tmp_path, budget):
    """As an option and as a key, with what would be one."""
    source = prompts(tmp_path / "in.jsonl", 1)
    refused = called("run", source, *at("simulated", tmp_path / "out"), f"--max-cost={budget}")
    assert refused.code == 2, refused.err
    assert f"error: --max-cost {budget!r} is no amount of dollars above zero\n" in refused.err
    assert refused.last == "exit 2: nothing was sent. Next: write e.g. --max-cost 5 or --max-cost 2.50"
    spelt = {"nan": ".nan", "inf": ".inf"}.get(budget, budget)
    refused = called("run", source, *at("simulated", tmp_path / "out"), "--set", f"limits.max_cost_usd={spelt}")
    assert refused.code == 2, refused.err
    assert "`limits.max_cost_usd`: " in refused.err
    assert "Next: write " in refused.last
    assert not (tmp_path / "out").exists()


def told_of(capsys, *spent, before=0, budget=1000, limit=None, quiet=0):
    """What is said of a budget of so many nano-dollars when that much of it is spent, one after the other."""
    shown = Progress(quiet=quiet)
    plan = {"folder": "out", "concurrency": 9, "flush_s": 0.05, "simulated": True, "exposed": [], "rows": 9}
    shown.plan(Plan(open_rows=9, budget_usd=budget / 1e9, spent_nano_usd=before, **plan))
    for nano_usd in spent:
        shown.spent(nano_usd, limit or budget)
    return re.findall(r"(\d+)% of the budget", capsys.readouterr().err)


def test_each_mark_of_the_budget_is_told_once(capsys):
    """A line for each, without a terminal too; of several that are passed at once the highest."""
    assert told_of(capsys, 499, 500, 501, 799, 800, 950, 990, 1000) == ["50", "80", "95"]
    assert told_of(capsys, 10, 960, 970) == ["95"]


def test_quiet_leaves_out_what_is_no_warning(capsys):
    """Half of the budget is a note, which `-q` leaves out; `-qq` tells no mark, as the run may still end well."""
    assert told_of(capsys, 500, 800, 950, quiet=1) == ["80", "95"]
    assert told_of(capsys, 500, 800, 950, quiet=2) == []


def test_a_later_start_tells_the_marks_that_are_left(capsys):
    """What was passed before is no news; a larger budget has other marks."""
    assert told_of(capsys, 600, 850, before=550) == ["80"]
    assert told_of(capsys, 600, 850, limit=1600) == ["50"]
    assert told_of(capsys, before=1000) == []


def test_twice_quiet_is_silent_within_the_budget(tmp_path):
    """However near it came to it: cron mails what is written, and nobody is to do anything."""
    command = ["run", prompts(tmp_path / "in.jsonl", 30), "-c", 1, "--set", "request.params.max_tokens=60"]
    with simulated(QUICK) as server:
        assert called(*command, *at(server.base_url, tmp_path / "first")).code == 0
        budget = ["--max-cost", f"{1.2 * charged_usd(server):.9f}"]
        told = called(*command, *at(server.base_url, tmp_path / "told"), *budget, "-q")
        assert (told.code, re.findall(r"(\w+): .* (\d+)% of", told.err)) == (0, [("warning", "80")])
        assert called(*command, *at(server.base_url, tmp_path / "silent"), *budget, "-qq") == (0, "", "")


def test_answers_of_unknown_cost_bring_the_marks_nearer(tmp_path):
    """What was lost counts at its worst there too: no budget is reached without a warning before it."""
    source = prompts(tmp_path / "in.jsonl", 30)
    with simulated({**QUICK, "faults": [{"kind": "truncated"}]}) as server:
        limits = ["-c", 1, "--max-cost", 0.003, "--set", "retry.max_attempts=1"]
        done = called("run", source, *at(server.base_url, tmp_path / "out"), *limits)
        assert done.code == 4, done.err
        assert re.findall(r"(\d+)% of the budget of \$0.003, is spent", done.err)[0] == "50"
        assert charged_usd(server) <= 0.003
