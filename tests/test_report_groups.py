"""Cost by tier and by a column of the input: groups add up, and names from outside are bounded."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchrun.pricing import Deployment, PriceBook, cost_nano_usd, load_prices
from batchrun.report.format import dollars
from batchrun.report.markdown import to_markdown
from batchrun.report.metrics import summarise
from batchrun.report.outline import MOST_GROUPS
from batchrun.report.summary import GroupCost, Report, RunFacts
from batchrun.report.sums import MAX_NAMES, OTHER
from batchrun.report.text import to_text
from batchrun.store.schema import FAILURES, RESULTS, to_batch
from batchrun.types import Record, Usage

BOOK: PriceBook = load_prices(None)
MODEL = "accounts/fireworks/models/kimi-k3"


def row(index: int, tier: str | None = "standard", model: str = MODEL, **values) -> Record:
    """A success of 100 + 50 tokens that was charged in a tier."""
    usage = Usage(prompt_tokens=100, cached_tokens=20, completion_tokens=50)
    price = BOOK.price_for(model)
    nano_usd = cost_nano_usd(usage, price, tier=tier) if tier and price else None
    usual = {
        "prompt_tokens": 100,
        "cached_tokens": 20,
        "completion_tokens": 50,
        "usage_source": "endpoint",
        "cost_usd": None if nano_usd is None else nano_usd / 1e9,
    }
    return Record(index=index, custom_id=f"row-{index}", requested_model=model, **{**usual, **values})


def report_of(
    *good: Record, bad: tuple[Record, ...] = (), by: str | None = None, prices: PriceBook = BOOK, **facts
) -> Report:
    """The report of some records."""
    batches = [to_batch(good, RESULTS)], [to_batch(bad, FAILURES)]
    return summarise(*batches, RunFacts(name="run", **facts), prices=prices, by=by)


def labelled(*labels: object) -> list[Record]:
    """Rows that each kept a label."""
    return [row(index, input=json.dumps({"label": label, "other": 1})) for index, label in enumerate(labels)]


def names(groups: list[GroupCost]) -> dict[str, int]:
    """How many rows each group has."""
    return {group.name: group.rows for group in groups}


def cells(page: str) -> set[str]:
    """The lines of a page of text or Markdown, a space between their cells."""
    plain = page.replace("By column", "").replace("|", " ").replace("&#36;", "$")
    return {" ".join(line.split()) for line in plain.splitlines()}


def test_tiers_are_told_by_what_rows_cost():
    """The price of no other tier gives that number of nano-dollars."""
    rows = [row(0), row(1, "priority"), row(2, "priority"), row(3)]
    assert names(report_of(*rows).by_tier) == {"priority": 2, "standard": 2}


@pytest.mark.parametrize("tier", ["standard", "priority"])
def test_where_tiers_cost_the_same_it_is_the_one_asked_for(tier):
    """A row of no tokens costs nothing in either."""
    free = row(0, prompt_tokens=0, cached_tokens=0, completion_tokens=0, cost_usd=0.0)
    assert names(report_of(free, row(1), tier=tier).by_tier)[tier] == (2 if tier == "standard" else 1)


def test_a_cost_that_no_tier_gives_is_of_an_unknown_one():
    """As after a change of the prices."""
    assert names(report_of(row(0), row(1, cost_usd=0.5)).by_tier) == {"(unknown)": 1, "standard": 1}


def test_rows_that_cost_nothing_known_are_in_no_tier():
    """Nor are failures that were not charged."""
    refused = row(1, None, error_type="timed_out", prompt_tokens=None, completion_tokens=None)
    assert names(report_of(row(0), row(2, None), bad=(refused,)).by_tier) == {"standard": 1}


def test_attempts_that_were_charged_before_count():
    """A row's cost is that of all its answers, so its tier is too."""
    again = {"started_at": 1, "latency_s": 1, "error_type": "empty_response", "error_message": ""}
    log = json.dumps([{**again, "usage": {"prompt_tokens": 100, "cached_tokens": 20, "completion_tokens": 50}}])
    twice = row(0, "priority", attempts=2, attempt_log=log)
    both = row(1, "priority", cost_usd=round(twice.cost_usd * 2e9) / 1e9, attempts=2, attempt_log=log)
    assert names(report_of(both).by_tier) == {"priority": 1}


def test_the_groups_of_a_column():
    """Text as it is, everything else as JSON; a row without the column is apart."""
    rows = [*labelled("a", "b", "a", 7, None, [True], {"x": [1]}), row(9, input='{"other": 1}'), row(10)]
    groups = report_of(*rows, by="label").by_column
    assert groups.column == "label"
    assert names(groups.groups) == {"a": 2, "b": 1, "7": 1, "(none)": 3, "[true]": 1, '{"x": [1]}': 1}


def test_a_column_may_have_any_name():
    """Also one that is no Python name."""
    rows = [row(0, input='{"my label \\u00e9":"x"}')]
    assert names(report_of(*rows, by="my label é").by_column.groups) == {"x": 1}


def test_without_a_question_there_are_no_groups():
    """The default report names no column."""
    assert report_of(*labelled("a")).by_column is None


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans(), st.integers(0, 10**12)), max_size=30))
def test_groups_add_up_to_the_whole(rows):
    """Rows, failures, tokens and nano-dollars, results and failures together."""
    records = [
        row(index, cost_usd=nano / 1e9, input=json.dumps({"label": label}), error_type="timed_out" if failed else None)
        for index, (label, failed, nano) in enumerate(rows)
    ]
    good = [record for record in records if record.error_type is None]
    bad = tuple(record for record in records if record.error_type)
    report = report_of(*good, bad=bad, by="label")
    groups = report.by_column.groups
    assert sum(group.rows for group in groups) == len(rows)
    assert sum(group.failed for group in groups) == len(bad)
    assert sum(group.prompt_tokens for group in groups) == report.tokens.prompt_tokens
    assert sum(round(group.cost_usd * 1e9) for group in groups) == sum(nano for _, _, nano in rows)


def test_values_do_not_grow_without_bound():
    """A column with a value a row fills no memory: past a hundred they are one group, and names are cut."""
    groups = report_of(*labelled(*(f"v{index}" + "x" * 1000 for index in range(300))), by="label").by_column.groups
    assert len(groups) == MAX_NAMES + 1
    assert names(groups)[OTHER] == 200
    assert max(len(group.name) for group in groups) == 200


@pytest.mark.parametrize("write", [to_text, to_markdown])
class TestBoth:
    """What either page says."""

    def test_the_dearest_come_first(self, write):
        """With rows, tokens and failures."""
        failed = row(9, input='{"label": "a"}', error_type="empty_response")
        page = write(report_of(*labelled("b", "a", "a"), bad=(failed,), by="label"))
        assert "By column" in page
        assert page.index("label = a: 3 rows, 300 + 150 tokens, 1 failed") < page.index("label = b: 1 row, 100 + 50")

    def test_only_some_are_listed(self, write):
        """The rest is counted."""
        page = write(report_of(*labelled(*range(MOST_GROUPS + 5)), by="label"))
        assert page.count("label &#61; ") + page.count("label = ") == MOST_GROUPS
        assert "and 5 more" in page

    def test_what_is_not_known_is_not_nothing(self, write):
        """Without usage the cost of a value is unknown, without a price it is unpriced; neither is $0."""
        untold = {"prompt_tokens": None, "completion_tokens": None, "usage_source": "missing"}
        rows = [
            row(0, None, input='{"label": "a"}', **untold),
            row(1, None, input='{"label": "b"}'),
            row(2, input='{"label": "c"}'),
            row(3, None, input='{"label": "c"}'),
        ]
        shown = cells(write(report_of(*rows, by="label")))
        assert {"unknown label = a: 1 row, 0 + 0 tokens", "unpriced label = b: 1 row, 100 + 50 tokens"} <= shown
        assert f"{dollars(rows[2].cost_usd)} label = c: 2 rows, 200 + 100 tokens, 1 unpriced" in shown

    def test_what_a_deployment_answered_is_not_unpriced(self, write):
        """Its time is paid."""
        hourly = Deployment(model="*#accounts/me/*", usd_per_gpu_hour=8)
        prices = msgspec.structs.replace(BOOK, deployments=[hourly])
        ours = row(0, model="m#accounts/me/deployments/d", input='{"label": "a"}')
        assert "by the hour label = a: 1 row, 100 + 50 tokens" in cells(
            write(report_of(ours, by="label", prices=prices))
        )

    def test_one_tier_is_not_worth_a_section(self, write):
        """Two are."""
        assert "By tier" not in write(report_of(row(0), row(1)))
        assert "By tier" in write(report_of(row(0), row(1, "priority")))
