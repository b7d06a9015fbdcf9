"""The whole engine under a budget and random faults, in virtual time: what is charged fits into the budget."""

from __future__ import annotations

import json
import random

import pytest
import virtual_time
from engines import PRICE, Engine, completion, no_answer, refused, rejected, server_error, throttled

from batchrun.engine.money import worst_nano_usd
from batchrun.errors import BudgetReached
from batchrun.pricing import cost_nano_usd
from batchrun.types import Request, Usage

FAULTS = {
    "none": (None, True),
    "lost": (no_answer, True),
    "error": (server_error, True),
    "error that was not charged": (server_error, False),
    "throttled": (throttled, False),
    "refused": (refused, False),
    "rejected": (rejected, False),
}
WEIGHTS = [60, 8, 8, 4, 8, 4, 8]


def asked(index: int, max_tokens: int) -> Request:
    """A row that may have so many tokens."""
    body = json.dumps({"messages": [{"role": "user", "content": f"q{index}"}], "max_tokens": max_tokens}).encode()
    return Request(index=index, custom_id=f"c{index}", request_key=f"{index:032x}", api="chat", model="m", body=body)


def schedule(seed: int):
    """Some rows, a budget, and a script that keeps its own ledger of what it charges."""
    dice = random.Random(seed)
    rows = [asked(index, dice.choice([1, 20, 400])) for index in range(dice.randint(1, 60))]
    whole = sum(worst_nano_usd(row, PRICE) or 0 for row in rows)
    budget = round(whole * dice.choice([0.02, 0.2, 0.5, 1.5]))
    by_index, ledger = {row.index: row for row in rows}, []

    def script(sent):
        error, charged = FAULTS[dice.choices(list(FAULTS), WEIGHTS)[0]]
        body = by_index[sent.index].body
        most = json.loads(body)["max_tokens"]
        usage = Usage(prompt_tokens=dice.randint(1, len(body)), completion_tokens=dice.randint(0, most))
        if charged:
            ledger.append((sent.index, cost_nano_usd(usage, PRICE) or 0))
        told = usage if dice.random() < 0.9 else None
        return dice.uniform(0.01, 5), (error() if error else completion(usage=told))

    return rows, budget, script, ledger, dice.choice([1, 4, 32])


def spend(seed: int, *, early: int = 0) -> None:
    """One schedule: the ledger fits into the budget, what is told adds up, and an early end has its reason.

    Of `early` rows one is a pilot's: they are sent first, and then the rest, by the same engine.
    """
    rows, budget, script, ledger, concurrency = schedule(seed)

    async def main():
        limits = {"max_cost_usd": max(budget, 1) / 1e9, "concurrency": concurrency}
        pilot = [row for row in rows if early and row.index % early == 0]
        engine = await Engine(script, iter_rows(pilot), count=len(rows), limits=limits).run()
        if not engine.pool.cause:
            await engine.pool.run(iter_rows([row for row in rows if row not in pilot]))
        return engine

    engine = virtual_time.run(main())
    charged = sum(cost for _, cost in ledger)
    money = engine.fulfiller.money
    assert charged <= money.spent <= max(budget, 1)
    assert money.reserved == 0
    told = sum(round((record.cost_usd or 0) * 1e9) for record in engine.records.values())
    assert told <= charged
    if isinstance(engine.pool.cause, BudgetReached):
        assert len(engine.records) < len(rows)
    else:
        assert engine.pool.cause is None or "failed the same way" in str(engine.pool.cause)


def iter_rows(rows):
    """A tap that can be closed."""
    yield from rows


@pytest.mark.parametrize("early", [0, 5])
@pytest.mark.parametrize("seed", range(15))
def test_no_schedule_of_faults_passes_the_budget(seed, early):
    """The short form, without and with a pilot in front."""
    spend(seed, early=early)


@pytest.mark.rig
def test_none_of_many_schedules_of_faults_passes_the_budget(reached):
    """The long form."""
    for seed in range(600):
        spend(seed)
    reached("T15", "fault schedules under a budget", 600, 500)


@pytest.mark.rig
def test_none_of_many_schedules_with_a_pilot_passes_the_budget(reached):
    """The same with one row of four in front."""
    for seed in range(500):
        spend(seed, early=4)
    reached("T15", "fault schedules under a budget, with a pilot", 500, 500)
