"""One sum, four times: the rows, the report, the manifest and the endpoint's own ledger."""

from __future__ import annotations

import engines
import msgspec
import pytest
import virtual_time
from commands import at, called, prompts
from servers import simulated

from batchrun.engine.money import Money
from batchrun.pricing import Price, cost_nano_usd, load_prices
from batchrun.reporting import report_on
from batchrun.store.folder import RunFolder
from batchrun.store.snapshot import Snapshot, read
from batchrun.types import Request, Usage

FAULTS = [
    {"kind": "empty", "match": "q[0-9]*1 "},
    {"kind": "no_choices", "match": "q[0-9]*2 ", "tries": 1},
    {"kind": "no_choices", "match": "q[0-9]*3 "},
    {"kind": "server_error", "match": "q[0-9]*4 ", "tries": 1},
    {"kind": "rate_limited", "every": 11},
]
"""Charged and kept as failures, charged and tried again, both, and not charged."""


def ledger_nano_usd(server, tier: str) -> int:
    """What the endpoint charged, each answer rounded by itself."""
    price = load_prices().price_for("simulated/small")
    names = ("prompt_tokens", "cached_tokens", "completion_tokens")
    usages = [Usage(**{name: line[name] for name in names}) for line in server.ledger()]
    return sum(cost_nano_usd(usage, price, tier=tier) for usage in usages)


@pytest.mark.parametrize(("asked", "tier"), [("default", "standard"), ("priority", "priority")])
def test_rows_report_manifest_and_ledger_are_the_same_to_the_nano_dollar(tmp_path, asked, tier):
    """Over two starts, with answers that were charged and rejected, or charged and asked for again."""
    source = prompts(tmp_path / "in.jsonl", 40)
    out = tmp_path / "out"
    system = "the same words for all of them, so that a cache can serve them: " * 40
    sets = (f"request.params.service_tier={asked}", f"request.system='{system}'", "retry.max_attempts=2")
    options = [*(word for one in sets for word in ("--set", one)), "-q"]
    with simulated({"latency": {"ttft_s": 0, "per_token_s": 0}, "faults": FAULTS}) as server:
        arguments = ["run", source, *at(server.base_url, out), *options]
        called(*arguments, "-n", 25)
        assert called(*arguments, "--retry-failed", "none").code == 3
        charged = ledger_nano_usd(server, tier)
        assert sum(line["cached_tokens"] for line in server.ledger()) > 0
    report = report_on(RunFolder(out))
    costs = [usd for kind in ("results", "failures") for usd in read(str(out)).to_pandas(kind)["cost_usd"]]
    manifest = Snapshot(out).manifest
    assert len(costs) == 40
    assert report.tokens.retried_tokens > 0
    assert report.cost.failures_cost_usd > 0
    assert round(report.cost.cost_usd * 1e9) == charged
    assert sum(round(usd * 1e9) for usd in costs) == charged
    assert sum(part.cost_nano_usd for part in manifest.parts.values()) == charged


@pytest.mark.parametrize(("named", "cost_usd"), [(None, None), ("priority", None), ("default", engines.COST_USD)])
def test_a_row_costs_what_the_tier_of_its_answer_does(named, cost_usd):
    """Where the price of the tier that was asked for is not known, nothing is, unless the answer names another."""
    request = msgspec.structs.replace(engines.request(0), body=b'{"service_tier":"priority"}')

    async def main():
        done = engines.completion(service_tier=named)
        return await engines.Engine(lambda _: (0.1, done), iter([request]), count=1).run()

    assert virtual_time.run(main()).records[0].cost_usd == cost_usd


DEAR = Price(
    model="m",
    input_usd_per_mtok=1.0,
    output_usd_per_mtok=2.0,
    priority_input_usd_per_mtok=10.0,
    priority_output_usd_per_mtok=20.0,
)
USED = Usage(prompt_tokens=100, completion_tokens=10, total_tokens=110)


@pytest.mark.parametrize(("named", "nano_usd"), [(None, 1_200_000), ("priority", 1_200_000), ("default", 120_000)])
def test_an_answer_is_settled_in_the_tier_that_it_names(named, nano_usd):
    """An endpoint that served a priority request as any other says so, and charges so."""
    body = b'{"service_tier":"priority","max_tokens":10,"prompt":"a"}'
    request = Request(index=0, custom_id="c", request_key="k", api="chat", model="m", body=body)

    async def main():
        money = Money(10**9, lambda model: DEAR)
        money.settle(await money.reserve(request), request, USED, charged=True, tier=named)
        return money.spent

    assert virtual_time.run(main()) == nano_usd
