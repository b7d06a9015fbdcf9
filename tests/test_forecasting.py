"""The plan: it sends nothing, changes nothing, and what it says comes true."""

from __future__ import annotations

import json

import pytest
from commands import at, called, kept, prompts
from servers import simulated

from batchrun.cli.plan_text import to_text
from batchrun.config import check_config
from batchrun.forecast.ranges import Range
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


def test_no_prompt_has_less_than_a_token(tmp_path):
    """However few its bytes are."""
    source = prompts(tmp_path / "in.jsonl", 5)
    found = planned(tmp_path, source)
    assert (found.prompt_tokens.low, found.prompt_tokens.likely) == (5, 5)


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
    assert "as the 30 answers in the folder" in to_text(after)


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


def test_answers_in_the_folder_tell_how_long_it_takes(tmp_path):
    """At least the seconds of all requests, so many at once."""
    source = prompts(tmp_path / "in.jsonl", 60)
    with simulated({"latency": {"ttft_s": 0.02, "per_token_s": 0}}) as server:
        assert called("run", source, *at(server.base_url, tmp_path / "out"), "-n", 30, "-q").code == 0
        plan = planned(tmp_path, source, server.base_url, limits={"concurrency": 2})
    assert plan.bound_by == "limits.concurrency"
    assert plan.least_s == pytest.approx(30 * plan.models[0].latency_s / 2)
    assert plan.models[0].latency_s >= 0.02


def test_every_turn_is_a_request_that_has_all_before_it(tmp_path):
    """Three turns take three answers, and their prompts the earlier questions and answers too."""
    source = tmp_path / "in.jsonl"
    question = "q" * 400
    source.write_text(json.dumps({"turns": [question] * 3}) + "\n")
    plan = planned(tmp_path, source, limits={"requests_per_minute": 1}, request={"params": {"max_tokens": 100}})
    assert (plan.to_send, plan.requests, plan.least_s) == (1, 3, 180)
    assert plan.completion_tokens == Range(low=3, likely=150, high=300)
    assert plan.prompt_tokens.low >= (3 + 2 + 1) * 400 / 6 + 3
    assert plan.prompt_tokens.likely == pytest.approx((3 + 2 + 1) * 400 / 4 + 150, rel=0.05)
    assert "1 row, 3 requests" in to_text(plan)


def test_a_tier_has_its_own_price(tmp_path):
    """Rows that ask for priority are planned at it, apart from the others."""
    source = tmp_path / "in.jsonl"
    source.write_text('{"prompt": "a"}\n{"prompt": "a", "params": {"service_tier": "priority"}}\n')
    plan = planned(tmp_path, source)
    assert [(one.tier, one.rows) for one in plan.models] == [("standard", 1), ("priority", 1)]
    assert plan.models[1].cost_usd.high > 1.2 * plan.models[0].cost_usd.high
    assert "simulated/small in the priority tier: 1 row" in to_text(plan)


def test_a_guessed_price_is_marked_and_does_not_count_as_one(tmp_path):
    """The plan names it a guess; a run shows the model as unpriced, and a budget refuses it."""
    source, model = prompts(tmp_path / "in.jsonl", 3), "accounts/fireworks/models/some-70b"
    plan = planned(tmp_path, source, request={"model": model}, limits={"max_cost_usd": 5})
    assert (plan.guessed_models, plan.unpriced_models) == ([model], [])
    text = to_text(plan)
    assert "a GUESS of prices" in text
    assert "$5.00: models without a price of their own are refused" in text
    arguments = at("simulated", tmp_path / "out", "-m", model)
    assert "no price is known" in called("run", source, *arguments, "--max-cost", 5).err
    assert called("run", source, *arguments, "-q").code == 0
    cost = report_on(RunFolder(tmp_path / "out")).cost
    assert (cost.cost_usd, cost.cost_partial, cost.unpriced_models) == (None, True, [model])
    assert cost.guessed_models == [model]
    assert cost.guessed_usd > 0
    assert "a guess, which is in no figure" in called("report", tmp_path / "out").out


@pytest.mark.parametrize("model", ["some-70b", "accounts/fireworks/models/some-70b"])
def test_no_price_is_guessed_for_another_host(tmp_path, model):
    """Whatever the size in the name."""
    plan = planned(tmp_path, prompts(tmp_path / "in.jsonl", 1), "http://127.0.0.1:1/v1", request={"model": model})
    assert (plan.guessed_models, plan.unpriced_models) == ([], [model])


def test_a_deployment_is_paid_by_the_hour_in_plan_and_report(tmp_path):
    """Once for two models on it, by wall time, and in no row's cost."""
    mine = tmp_path / "mine.yaml"
    mine.write_text("deployments: [{model: '*#accounts/me/deployments/*', usd_per_gpu_hour: 3600, gpus: 2}]\n")
    source, name = tmp_path / "in.jsonl", "accounts/me/deployments/d1"
    source.write_text(f'{{"prompt": "a", "model": "a#{name}"}}\n{{"prompt": "b", "model": "b#{name}"}}\n')
    plan = planned(tmp_path, source, prices=str(mine), limits={"requests_per_minute": 1})
    assert (plan.usd_per_hour, plan.cost_usd, plan.unpriced_models) == (7200, None, [])
    assert "$7,200.00 an hour, apart from the cost above, for as long as they are up: at least $240.00" in one_line(
        plan
    )
    arguments = at("simulated", tmp_path / "out", "--set", f"prices={mine}")
    assert called("run", source, *arguments, "-q").code == 0
    report = report_on(RunFolder(tmp_path / "out"))
    (hourly,) = report.cost.by_hour
    assert (hourly.deployment, hourly.usd_per_hour, hourly.wall_s) == (name, 7200, report.throughput.active_s)
    assert hourly.cost_usd == pytest.approx(2 * hourly.wall_s)
    assert (report.cost.cost_usd, report.cost.cost_partial, report.cost.unpriced_rows) == (None, False, 0)
    assert report.cost.hourly_rows == 2
    text = " ".join(called("report", tmp_path / "out").out.split())
    assert "of a deployment, in no other figure" in text
    assert f"Paid by the hour: {name}, $7,200.00, if it was up for this run alone." in text
    assert "npriced" not in text


def one_line(plan) -> str:
    """The page without its line ends."""
    return " ".join(to_text(plan).split())


def test_images_are_named_as_unknown(tmp_path):
    """Their tokens are in no figure."""
    source = tmp_path / "in.jsonl"
    parts = [{"type": "text", "text": "what?"}, {"type": "image_url", "image_url": {"url": "https://x.example/a.png"}}]
    source.write_text(json.dumps({"messages": [{"role": "user", "content": parts}]}) + "\n")
    plan = planned(tmp_path, source)
    assert plan.models[0].image_rows == 1
    assert "1 rows have images" in one_line(plan)


@pytest.mark.parametrize(
    ("budget", "says"), [(1, "$1.00 is enough for all of it"), (1e-6, "likely to end the run after about")]
)
def test_the_budget_is_compared_with_the_cost(tmp_path, budget, says):
    """Enough, or how far it goes."""
    plan = planned(tmp_path, prompts(tmp_path / "in.jsonl", 20), limits={"max_cost_usd": budget})
    assert says in one_line(plan)


def documents(path, order) -> object:
    """An input of 40 questions on 20 documents of 2,000 letters, in this order."""
    rows = [(document, question) for document in range(20) for question in ("what?", "why?")]
    texts = [f"{document:04d}" * 500 + question for document, question in sorted(rows, key=order)]
    path.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in texts))
    return path


def test_an_order_that_wastes_the_cache_is_told(tmp_path):
    """First questions before second ones: half could be cached if rows that begin alike stood together."""
    apart = planned(tmp_path, documents(tmp_path / "a.jsonl", lambda row: (row[1], row[0])))
    together = planned(tmp_path, documents(tmp_path / "b.jsonl", lambda row: row))
    assert apart.caching.as_ordered_share < 0.01
    assert 0.24 < apart.caching.at_best_share <= 0.5
    assert together.caching.as_ordered_share == pytest.approx(0.5, abs=0.02)
    assert (apart.caching.reordering_pays, together.caching.reordering_pays) == (True, False)
    price = (0.15 - 0.03) / 1e6
    saved = together.caching.as_ordered_share * together.prompt_tokens.likely * price
    assert together.caching.as_ordered_saves_usd == pytest.approx(saved)
    assert "put rows that begin alike next to each other" in one_line(apart)
    assert "no other order would do better" in one_line(together)


def test_prompts_that_share_nothing_have_no_use_for_a_cache(tmp_path):
    """It is said so, and no dollars are made up."""
    plan = planned(tmp_path, prompts(tmp_path / "in.jsonl", 1))
    assert plan.caching.at_best_share == 0
    assert "a prefix cache has nothing to serve" in one_line(plan)


def test_no_line_is_wider_than_a_terminal(tmp_path):
    """Also with a long first request and long names."""
    source = prompts(tmp_path / "in.jsonl", 3, words="word " * 300)
    plan = planned(tmp_path, source, request={"model": "simulated/" + "long-" * 8}, limits={"max_cost_usd": 3})
    assert max(map(len, to_text(plan).splitlines()[2:])) <= 100


def test_what_stands_in_a_prompt_does_not_steer_the_terminal(tmp_path):
    """Control characters of the first request are shown, not obeyed."""
    source = tmp_path / "in.jsonl"
    source.write_text(json.dumps({"prompt": "a\x9b31m\x1b[2Jb"}) + "\n")
    out = called("plan", source, *at("simulated", tmp_path / "out")).out
    assert all(c.isprintable() or c == "\n" for c in out)


def test_more_models_than_rows_of_a_page_are_planned(tmp_path):
    """A model a row: each is counted, ten are shown."""
    source = tmp_path / "in.jsonl"
    source.write_text("".join(f'{{"prompt": "a", "model": "simulated/{n}"}}\n' for n in range(1_000)))
    plan = planned(tmp_path, source)
    assert (len(plan.models), plan.to_send) == (1_000, 1_000)
    assert "and 990 more models" in to_text(plan)


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
