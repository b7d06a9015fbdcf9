"""The plan: it sends nothing, changes nothing, and what it says comes true."""

from __future__ import annotations

import json

import pytest
from commands import at, called, kept, prompts
from servers import simulated

from batchrun.cli.plan import to_text
from batchrun.config import check_config
from batchrun.forecasting import forecast
from batchrun.reporting import report_on
from batchrun.store.folder import RunFolder

QUICK = {"latency": {"ttft_s": 0, "per_token_s": 0}}


def planned(tmp_path, source, base_url="simulated", **config):
    """The forecast of a run on the simulated endpoint's prices."""
    request = {"model": "simulated/small", **config.pop("request", {})}
    output, endpoint = str(tmp_path / "out"), {"base_url": base_url}
    values = {"input": str(source), "output": output, "endpoint": endpoint, "request": request, **config}
    return forecast(check_config(values), limit=None, retry_failed="retryable")


def test_a_plan_sends_nothing_and_writes_nothing(tmp_path):
    """Neither as a command of its own nor as an option of run; no key is needed."""
    source = prompts(tmp_path / "in.jsonl", 3)
    with simulated() as server:
        arguments = at(server.base_url, tmp_path / "out", "--set", "endpoint.api_key_env=NOT_SET")
        for command in (["plan"], ["run", "--dry-run"]):
            done = called(*command, source, *arguments)
            assert done.code == 0, done.err
            assert f"POST {server.base_url}" in done.out
            assert done.last.startswith("exit 0: 3 rows would be sent; nothing was sent. Next: batchrun run ")
        assert server.totals()["requests"] == 0
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


def test_the_next_command_is_the_run(tmp_path):
    """Typed as it stands, it runs what was planned."""
    source = prompts(tmp_path / "in.jsonl", 2)
    with simulated(QUICK) as server:
        done = called("run", source, "--dry-run", *at(server.base_url, tmp_path / "out"))
        following = done.last.partition("Next: ")[2].split()
        assert called(*following[1:], "-q").code == 0
    assert len(kept(tmp_path / "out")) == 2


def test_json_is_for_programs(tmp_path):
    """The same facts under the names of the Struct."""
    source = prompts(tmp_path / "in.jsonl", 4)
    plan = json.loads(called("plan", source, *at("simulated", tmp_path / "out"), "--format", "json").out)
    assert (plan["rows"], plan["to_send"], plan["forms"], plan["invalid"]) == (4, 4, {"prompt": 4}, 0)
    assert plan["cost_usd"]["low"] < plan["cost_usd"]["likely"] < plan["cost_usd"]["high"]
    assert plan["first_request"]["messages"] == [{"role": "user", "content": "q0 "}]


def test_all_problems_are_found_in_one_go(tmp_path):
    """Exit 2, as the run would; with --skip-invalid they are left out."""
    source = tmp_path / "in.jsonl"
    source.write_text('{"prompt": "a"}\n{"nothing": 1}\nno json\n')
    done = called("plan", source, *at("simulated", tmp_path / "out"))
    assert done.code == 2
    assert "in.jsonl:2" in done.out
    assert "in.jsonl:3" in done.out
    assert called("plan", source, *at("simulated", tmp_path / "out"), "--skip-invalid").code == 0


def test_a_plan_of_a_run_that_goes_on_counts_what_is_left_and_learns_from_what_is_there(tmp_path):
    """What the answers in the folder took makes the range narrow."""
    source = prompts(tmp_path / "in.jsonl", 60)
    with simulated(QUICK) as server:
        before = planned(tmp_path, source, server.base_url)
        assert called("run", source, *at(server.base_url, tmp_path / "out"), "-n", 30, "-q").code == 0
        after = planned(tmp_path, source, server.base_url)
    assert (before.to_send, after.to_send) == (60, 30)
    assert (before.models[0].learnt_from, after.models[0].learnt_from) == (0, 30)
    assert (
        after.prompt_tokens.high / after.prompt_tokens.low < 1.5 < before.prompt_tokens.high / before.prompt_tokens.low
    )
    assert "from 30 answers in the folder" in to_text(after)


def test_a_changed_input_is_planned_as_it_is_now(tmp_path):
    """What is kept is not counted; what it takes to go on is said."""
    source = prompts(tmp_path / "in.jsonl", 5)
    with simulated(QUICK) as server:
        assert called("run", source, *at(server.base_url, tmp_path / "out"), "-q").code == 0
        plan = planned(tmp_path, prompts(tmp_path / "in.jsonl", 8), server.base_url)
    assert (plan.to_send, plan.change) == (3, "5 kept, 3 new, 0 changed, 0 gone")
    assert "It takes --on-change" in to_text(plan)


def test_an_unknown_price_is_unpriced_and_not_zero(tmp_path):
    """Beside a model that has one, the sum is of that one alone and the other is named."""
    source = tmp_path / "in.jsonl"
    source.write_text('{"prompt": "a", "model": "nobody/knows"}\n{"prompt": "b"}\n')
    plan = planned(tmp_path, source)
    assert plan.unpriced_models == ["nobody/knows"]
    assert "unpriced: nobody/knows" in to_text(plan)
    alone = planned(tmp_path, source, request={"model": "nobody/either"})
    assert alone.cost_usd is None
    assert "$" not in to_text(alone)


def test_rows_without_a_token_limit_are_named(tmp_path):
    """Their cost has no upper end."""
    plan = planned(tmp_path, prompts(tmp_path / "in.jsonl", 2), request={"params": {"max_tokens": None}})
    assert plan.models[0].unlimited_rows == 2
    assert "2 rows set no max_tokens" in to_text(plan)


def test_the_limit_that_takes_longest_is_named(tmp_path):
    """Of those that are configured."""
    source = prompts(tmp_path / "in.jsonl", 30)
    assert planned(tmp_path, source).least_s is None
    limits = {"requests_per_minute": 60, "generated_tokens_per_minute": 100}
    plan = planned(tmp_path, source, limits=limits)
    assert plan.bound_by == "limits.generated_tokens_per_minute"
    assert plan.least_s == pytest.approx(30 * 256 / 100 * 60)
    assert planned(tmp_path, source, limits={"requests_per_minute": 60}).least_s == pytest.approx(30)


def comes_true(tmp_path, seeds) -> int:
    """How often the true cost of the rest of a run lay in the range that was planned after its first rows."""
    hits = 0
    for seed in seeds:
        words = "word " * (seed % 50)
        source = prompts(tmp_path / f"{seed}.jsonl", 60, words=words)
        out = tmp_path / str(seed) / "out"
        with simulated({"seed": seed, **QUICK}) as server:
            assert called("run", source, *at(server.base_url, out), "-n", 25, "-q").code == 0
            before = report_on(RunFolder(out)).cost.cost_usd
            done = called("plan", source, *at(server.base_url, out), "--format", "json")
            plan = json.loads(done.out)["cost_usd"]
            assert called("run", source, *at(server.base_url, out), "-q").code == 0
        spent = report_on(RunFolder(out)).cost.cost_usd - before
        hits += plan["low"] <= spent <= plan["high"]
    return hits


def test_the_cost_comes_out_within_the_range(tmp_path):
    """The short form: three seeds."""
    assert comes_true(tmp_path, range(3)) == 3


@pytest.mark.rig
def test_the_cost_comes_out_within_the_range_for_many_seeds(tmp_path):
    """At least 95 of 100 runs."""
    assert comes_true(tmp_path, range(100)) >= 95
