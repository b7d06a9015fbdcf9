"""Money in a report: exact to the nano-dollar, a range where something is unknown, one session apart, and what if."""

from __future__ import annotations

import msgspec
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stores import keep_all

from batchrun.endpoint.connections import _not_sent
from batchrun.pricing import Deployment, Price, PriceBook, cost_nano_usd
from batchrun.report.bills import OtherPrices, paid_prices
from batchrun.report.markdown import to_markdown
from batchrun.report.metrics import FAILURE_COLUMNS, RESULT_COLUMNS, summarise
from batchrun.report.summary import Report, RunFacts, Session
from batchrun.report.text import to_text
from batchrun.store.schema import FAILURES, RESULTS, to_batch
from batchrun.store.snapshot import Snapshot
from batchrun.types import Attempt, Record, Usage

SECOND = 1_000_000
DEAR, CHEAP = "dear", "cheap"


def book(**prices: tuple[float, float, float]) -> PriceBook:
    """A table of input, cached input and output prices by model, in dollars per million tokens."""
    names = ("input_usd_per_mtok", "cached_input_usd_per_mtok", "output_usd_per_mtok")
    rows = {name: Price(model=name, **dict(zip(names, usd, strict=True))) for name, usd in prices.items()}
    return PriceBook(date="2026-11-22", source="a contract", prices=rows)


PAID = book(dear=(3.0, 0.3, 15.0), cheap=(0.0101, 0.0033, 0.0707))


def nano_usd(usages: list[Usage], model: str, prices: PriceBook = PAID) -> int:
    """What some answers of a model cost, each rounded by itself."""
    return sum(cost_nano_usd(usage, prices.price_for(model)) or 0 for usage in usages)


def attempt(started_at: int = 0, usage: Usage | None = None, **values) -> Attempt:
    """An attempt before the last."""
    told = {"number": 1, "latency_s": 1.0, "error_type": "empty_response", "error_message": "it is empty"}
    return Attempt(started_at=started_at, usage=usage, **{**told, **values})


def row(index: int, last: Usage | None, *, model: str = DEAR, log: tuple = (), turns: tuple = (), **values) -> Record:
    """A row as the engine keeps it: the sums of its turns, all attempts before the last, and what all of it cost."""
    charged = [*turns, *([last] if last else []), *(one.usage for one in log if one.usage)]
    answered = [*turns, *([last] if last else [])]
    sums = {name: [getattr(usage, name) for usage in answered] for name in Usage.__struct_fields__}
    known = {name: [count for count in counts if count is not None] for name, counts in sums.items()}
    turn_log = [{"turn": n, "started_at": 0, **msgspec.to_builtins(one)} for n, one in enumerate(turns, 1)]
    priced = any(cost_nano_usd(usage, PAID.price_for(model)) is not None for usage in charged)
    usual = {
        "requested_model": model,
        "usage_source": "endpoint" if last or turns else "missing",
        "cost_usd": nano_usd(charged, model) / 1e9 if priced else None,
        "attempts": len(answered) + len(log),
        "attempt_log": msgspec.json.encode(log).decode() if log else None,
        "turn_log": msgspec.json.encode(turn_log).decode() if turn_log else None,
        "started_at": SECOND,
        "finished_at": 2 * SECOND,
    }
    usual |= {name: sum(counts) if counts else None for name, counts in known.items()}
    return Record(index=index, custom_id=f"row-{index}", **{**usual, **values})


def report_of(*records: Record, sessions=(), what_if: OtherPrices | None = None, prices: PriceBook = PAID) -> Report:
    """The report of some records, of which those with an error are failures."""
    sides = [
        to_batch([one for one in records if (one.error_type is None) == good], schema)
        for good, schema in ((True, RESULTS), (False, FAILURES))
    ]
    facts = RunFacts(name="run", rows=len(records), sessions=[Session(started_at=at) for at in sessions])
    return summarise([sides[0]], [sides[1]], facts, prices=prices, what_if=what_if)


def used(prompt: int, completion: int, cached: int | None = None) -> Usage:
    """What an answer used."""
    return Usage(
        prompt_tokens=prompt, completion_tokens=completion, cached_tokens=cached, total_tokens=prompt + completion
    )


counts = st.none() | st.integers(0, 5000)
usages = st.builds(Usage, prompt_tokens=counts, completion_tokens=counts, cached_tokens=counts)
models = st.sampled_from([DEAR, CHEAP, "unpriced"])
logs = st.lists(st.builds(attempt, st.integers(0, 99), st.none() | usages), max_size=3).map(tuple)


@st.composite
def rows(draw) -> list[Record]:
    """Any results and failures, of single answers and of conversations, with charged attempts before the last."""
    made = []
    for index in range(draw(st.integers(0, 6))):
        turns = draw(st.lists(usages, max_size=3).map(tuple))
        failed = draw(st.sampled_from([None, "empty_response"]))
        last = draw(st.none() | usages) if failed or not turns else None
        made.append(row(index, last, model=draw(models), log=draw(logs), turns=turns, error_type=failed))
    return made


class TestWhatIf:
    """The same tokens under other prices."""

    @given(rows())
    @settings(max_examples=20, deadline=None)
    def test_the_prices_that_were_paid_give_the_cost_to_the_nano_dollar(self, made):
        """Of any rows: retried answers, turns and cached tokens count as they did when they were paid."""
        report = report_of(*made, what_if=OtherPrices("again", paid_prices(PAID)))
        asked = report.what_if
        assert asked.difference_usd == 0
        assert (asked.bill.cost_usd or 0) == (report.cost.cost_usd or 0)
        assert asked.compared_usd == sum(round((one.cost_usd or 0) * 1e9) for one in made) / 1e9

    @given(rows())
    @settings(max_examples=20, deadline=None)
    def test_other_prices_are_applied_to_each_answer(self, made):
        """As one model, the bill is what each answer would have cost of it, rounded by itself."""
        other = book(new=(1.2345, 0.4567, 8.9))
        report = report_of(*made, what_if=OtherPrices("as new", lambda _: other.prices["new"].pico_usd_per_token))
        bill, new = report.what_if.bill, other.prices["new"]
        expected = 0
        for one in made:
            log = msgspec.json.decode(one.attempt_log or "[]", type=list[Attempt])
            turns = msgspec.json.decode(one.turn_log or "[]", type=list[Usage])
            last = Usage(**{name: getattr(one, name) for name in Usage.__struct_fields__})
            for name in Usage.__struct_fields__:
                rest = (getattr(last, name) or 0) - sum(getattr(turn, name) or 0 for turn in turns)
                last = msgspec.structs.replace(last, **{name: rest})
            answers = [*(entry.usage for entry in log if entry.usage), *turns, last]
            expected += sum(cost_nano_usd(usage, new) or 0 for usage in answers)
        assert round((bill.cost_usd or 0) * 1e9) == expected
        assert bill.unpriced_rows == 0

    def test_how_rows_are_cut_into_batches_does_not_matter(self):
        """Positions count within a batch."""
        made = [row(i, used(1000 + i, 50, i), log=(attempt(0, used(10, i)),)) for i in range(10)]
        table = pa.Table.from_batches([to_batch(made, RESULTS)])
        other = OtherPrices("again", paid_prices(PAID))
        reports = [
            summarise(table.to_batches(max_chunksize=size), [], RunFacts(name="run"), what_if=other) for size in (3, 10)
        ]
        assert reports[0].what_if == reports[1].what_if

    def test_a_model_without_a_price_is_unpriced(self):
        """It is named and not counted as free; the difference is of the rows that have a price in both."""
        made = row(0, used(1000, 100)), row(1, used(1000, 100), model=CHEAP)
        report = report_of(*made, what_if=OtherPrices("at those", paid_prices(book(dear=(6.0, 0.6, 30.0)))))
        asked = report.what_if
        assert (asked.bill.unpriced_rows, asked.bill.unpriced_models, asked.bill.cost_partial) == (1, [CHEAP], True)
        assert asked.bill.cost_usd == 0.009
        assert (asked.compared_usd, asked.difference_usd) == (0.0045, 0.0045)

    def test_what_had_no_price_is_in_the_bill_and_not_in_the_difference(self):
        """A model that was unpriced when it was asked has no cost to be compared with."""
        made = row(0, used(1000, 100)), row(1, used(1000, 100), model="unpriced")
        asked = report_of(*made, what_if=OtherPrices("as cheap", lambda _: (1000, 1000, 1000))).what_if
        assert (asked.bill.cost_usd, asked.bill.cost_partial) == (0.0000022, False)
        assert (asked.compared_usd, round(asked.difference_usd * 1e9)) == (0.0045, 1_100 - 4_500_000)

    def test_nothing_priced_is_unknown(self):
        """Never $0."""
        report = report_of(row(0, used(9, 9)), what_if=OtherPrices("at those", lambda _: None))
        assert report.what_if.bill.cost_usd is None
        assert "unpriced  at those" in to_text(report)

    def test_rows_without_usage_are_counted_apart(self):
        """They are neither free nor unpriced."""
        report = report_of(row(0, used(9, 9)), row(1, None), what_if=OtherPrices("again", paid_prices(PAID)))
        bill = report.what_if.bill
        assert (bill.rows_without_usage, bill.unpriced_rows, bill.cost_partial) == (1, 0, True)

    @pytest.mark.parametrize("tokens", [0, 2**40, 2**62])
    def test_absurd_tokens_and_prices_are_exact(self, tokens):
        """Sums beyond 64 bits are Python's."""
        price = Price(model="m", input_usd_per_mtok=1e15, output_usd_per_mtok=1e15)
        made = row(0, used(tokens, tokens)), row(1, used(tokens, 1))
        report = report_of(*made, what_if=OtherPrices("dearer", lambda _: price.pico_usd_per_token))
        expected = sum(cost_nano_usd(usage, price) for usage in (used(tokens, tokens), used(tokens, 1)))
        assert report.what_if.bill.cost_usd == expected / 1e9

    def test_without_a_question_there_is_no_answer(self):
        """The usual report has no second bill."""
        report = report_of(row(0, used(9, 9)))
        assert report.what_if is None
        assert "What if" not in to_text(report)

    @pytest.mark.parametrize(
        ("factor", "says"),
        [
            (0.5, "-$0.00225  against the cost: 50.0 % less"),
            (1.2, "+$0.0009  against the cost: 20.0 % more"),
            (4.0, "+$0.0135  against the cost: 4.0 times as much"),
            (1.0, "$0  against the cost"),
        ],
    )
    def test_the_page_says_how_much_that_is(self, factor, says):
        """The bill, and what it is against what was paid."""
        other = book(dear=(3.0 * factor, 0.3 * factor, 15.0 * factor))
        report = report_of(row(0, used(1000, 100)), what_if=OtherPrices("at mine.yaml", paid_prices(other)))
        page = to_text(report)
        assert says in page
        assert f"${0.0045 * factor:.3g}" in page
        assert "## What if" in to_markdown(report)


class TestRange:
    """What is unknown has a range, where there is one."""

    def test_all_known(self):
        """Then both ends are the cost."""
        paid = report_of(row(0, used(1000, 100))).cost
        assert (paid.cost_usd, paid.cost_high_usd, paid.cost_partial) == (0.0045, 0.0045, False)

    def test_a_row_without_usage_costs_at_most_what_the_dearest_of_its_model_does(self):
        """The dearest of another model does not count."""
        made = (
            row(0, used(1000, 100)),
            row(1, used(2000, 100)),
            row(2, None, model=CHEAP),
            row(3, used(9, 9), model=CHEAP),
        )
        paid = report_of(*made).cost
        dearest = nano_usd([used(9, 9)], CHEAP)
        assert (paid.cost_usd, paid.cost_high_usd) == ((12_000_000 + dearest) / 1e9, (12_000_000 + 2 * dearest) / 1e9)

    def test_the_page_names_both_ends(self):
        """In the first sentence, and with what they rest on."""
        page = to_text(report_of(row(0, used(1000, 100)), row(1, None)))
        assert "It cost $0.0045 to $0.009 and" in page
        assert "at most, if none costs more than its model's dearest row" in page

    def test_a_failure_may_be_the_dearest(self):
        """What was charged for it counts."""
        failed = row(1, used(2000, 100), error_type="empty_response")
        assert report_of(row(0, used(1000, 100)), failed, row(2, None)).cost.cost_high_usd == 0.0045 + 2 * 0.0075

    @pytest.mark.parametrize("other", [row(1, None, model=CHEAP), row(1, used(1, 1), model="unpriced")])
    def test_no_bound_is_made_up(self, other):
        """Without a row of that model, or without its price, nothing is known of the most."""
        report = report_of(row(0, used(1000, 100)), other)
        assert (report.cost.cost_usd, report.cost.cost_high_usd, report.cost.cost_partial) == (0.0045, None, True)
        assert "It cost at least $0.0045" in to_text(report)
        assert "unknown  at most" in to_text(report)

    @pytest.mark.parametrize("error_type", ["timed_out", "response_truncated", "connection_failed"])
    def test_an_attempt_that_broke_off_may_be_charged(self, error_type):
        """The row's answer is paid; what an earlier attempt took is not known, and the total is partial."""
        broken = attempt(0, None, error_type=error_type, error_message="no more")
        report = report_of(row(0, used(1000, 100), log=(broken, attempt(0, None, error_type="rate_limited"))))
        assert (report.cost.unsettled_attempts, report.cost.cost_partial) == (1, True)
        assert report.cost.cost_high_usd == 0.009
        assert "1 attempt timed out or broke off" in " ".join(to_text(report).split())

    def test_what_is_known_not_to_be_charged_is_not_unknown(self):
        """An attempt that stated its usage, one that was refused, and one that never had a connection."""
        stated = attempt(0, used(1, 1), error_type="response_truncated")
        error = _not_sent("host", "refused")
        not_sent = attempt(0, None, error_type=error.error_type, error_message=error.message)
        report = report_of(row(0, used(1000, 100), log=(stated, not_sent, attempt(0, None, error_type="overloaded"))))
        assert (report.cost.unsettled_attempts, report.cost.cost_partial) == (0, False)


class TestCaching:
    """How much of the prompts was served from a cache."""

    @pytest.mark.parametrize(
        ("cached", "share", "says"),
        [
            ([None, None], None, "prompt\n"),
            ([0, None], 0.0, "prompt, 0 % of them cached"),
            ([50, None], 0.5, "prompt, 50.0 % of them cached"),
            ([100, 100], 1.0, "prompt, 100 % of them cached"),
        ],
    )
    def test_the_share_is_of_rows_that_say_so(self, cached, share, says):
        """An endpoint that does not speak of caching has no hit rate, not one of 0."""
        report = report_of(*(row(i, used(100, 1, count)) for i, count in enumerate(cached)))
        assert report.tokens.cached_share == share
        assert says in to_text(report)

    @pytest.mark.parametrize(("tier", "saved_usd"), [("standard", 0.00027), ("priority", 0.00054)])
    def test_what_it_saved_is_at_the_prices_of_the_tier(self, tier, saved_usd):
        """Dearer tokens save more."""
        price = msgspec.structs.replace(
            PAID.prices[DEAR],
            priority_input_usd_per_mtok=6.0,
            priority_cached_input_usd_per_mtok=0.6,
            priority_output_usd_per_mtok=30.0,
        )
        prices = msgspec.structs.replace(PAID, prices={DEAR: price})
        batch = to_batch([row(0, used(1000, 10, 100))], RESULTS)
        cost = summarise([batch], [], RunFacts(name="run", tier=tier), prices=prices).cost
        assert cost.saved_by_caching_usd == saved_usd


class TestLastSession:
    """The last start of a run and the whole job apart."""

    def test_one_session_is_the_whole(self):
        """Then nothing stands apart."""
        assert report_of(row(0, used(9, 9)), sessions=[0]).last_session is None

    def test_rows_tokens_and_cost_of_the_last_session(self):
        """What was charged before it began is not in it, though the row was finished in it."""
        earlier = attempt(5 * SECOND, used(500, 50))
        later = attempt(11 * SECOND, used(700, 70))
        made = (
            row(0, used(1000, 100), started_at=SECOND, finished_at=2 * SECOND),
            row(1, used(2000, 200, 100), started_at=12 * SECOND, finished_at=13 * SECOND, log=(earlier, later)),
        )
        last = report_of(*made, sessions=[0, 10 * SECOND]).last_session
        assert (last.rows, last.prompt_tokens, last.cached_tokens, last.completion_tokens) == (1, 2700, 100, 270)
        assert round(last.cost_usd * 1e9) == nano_usd([used(2000, 200, 100), used(700, 70)], DEAR)

    def test_rows_in_a_tier_of_their_own_cost_what_they_cost(self):
        """Which tier it was stands nowhere but in the cost of the row; nor need its price be in the table."""
        late = {"started_at": 11 * SECOND, "finished_at": 12 * SECOND}
        made = row(0, used(9, 9)), row(1, used(9, 9), cost_usd=0.5, **late), row(2, used(9, 9), model="other", **late)
        last = report_of(*made[:2], sessions=[0, 10 * SECOND]).last_session
        assert (last.cost_usd, last.cost_partial) == (0.5, False)
        last = report_of(*made, sessions=[0, 10 * SECOND]).last_session
        assert (last.cost_usd, last.unpriced_models) == (0.5, ["other"])

    def test_what_is_unknown_of_an_earlier_session_is_not_in_the_last(self):
        """Its total is whole."""
        made = row(0, None, finished_at=2 * SECOND), row(1, used(9, 9), started_at=11 * SECOND, finished_at=12 * SECOND)
        last = report_of(*made, sessions=[0, 10 * SECOND]).last_session
        assert (last.rows, last.rows_without_usage, last.cost_partial) == (1, 0, False)

    def test_the_turns_of_an_earlier_session_are_its_own(self):
        """Of a conversation that went on, the last session has the turn it asked."""
        turns = [
            {"turn": n, "started_at": at, "prompt_tokens": 10, "completion_tokens": 1} for n, at in ((1, 1), (2, 20))
        ]
        going = row(0, used(20, 2), turn_log=msgspec.json.encode(turns).decode(), started_at=1, finished_at=21)
        last = report_of(going, sessions=[0, 10]).last_session
        assert (last.rows, last.prompt_tokens, last.completion_tokens) == (1, 10, 1)

    @given(rows(), st.integers(0, 100))
    @settings(max_examples=15, deadline=None)
    def test_what_came_before_and_the_last_session_are_the_whole(self, made, since):
        """Nothing is in both, nothing is in neither."""
        whole = report_of(*made, sessions=[0, 0]).last_session
        last = report_of(*made, sessions=[0, since]).last_session
        assert last.prompt_tokens <= whole.prompt_tokens
        assert (last.cost_usd or 0) <= (whole.cost_usd or 0)
        assert (whole.cost_usd or 0) == (report_of(*made).cost.cost_usd or 0)

    def test_the_pages_show_it(self):
        """In text and in Markdown."""
        made = row(0, used(1000, 100)), row(1, used(2000, 200), started_at=12 * SECOND, finished_at=13 * SECOND)
        report = report_of(*made, sessions=[0, 10 * SECOND])
        assert "1  settled in the last of 2 sessions" in to_text(report)
        assert "of the cost" in to_text(report)
        assert "## Session" in to_markdown(report)


def test_rows_that_were_never_sent_have_no_line_in_the_cost():
    """They are not unpriced: nothing was asked of any model for them."""
    unsent = {"requested_model": None, "usage_source": None, "error_type": "input_invalid", "attempts": 0}
    text = to_text(report_of(row(0, Usage(prompt_tokens=10, completion_tokens=1)), row(1, None, **unsent)))
    assert "unpriced" not in text
    assert "(unknown)" not in text


@given(rows())
@settings(max_examples=20, deadline=None)
def test_tokens_that_were_paid_and_not_kept_are_told(made):
    """The tokens of retried answers are in no column, and are counted apart."""
    logs = [msgspec.json.decode(one.attempt_log or "[]", type=list[Attempt]) for one in made]
    charged = [entry.usage for log in logs for entry in log if entry.usage]
    expected = sum((usage.prompt_tokens or 0) + (usage.completion_tokens or 0) for usage in charged)
    assert report_of(*made).tokens.retried_tokens == expected


def test_rows_on_a_deployment_are_not_unpriced():
    """Neither in the whole nor in the last session: their time is paid. Rows of other models are as they were."""
    hourly = Deployment(model="*#accounts/me/*", usd_per_gpu_hour=8)
    prices = msgspec.structs.replace(PAID, deployments=[hourly])
    made = [row(0, used(10, 10), model="m#accounts/me/deployments/d", cost_usd=None), row(1, used(10, 10))]
    report = report_of(*made, sessions=(0, SECOND), prices=prices)
    assert (report.last_session.unpriced_rows, report.last_session.cost_partial) == (0, False)
    assert report.last_session.cost_usd == report.cost.cost_usd == made[1].cost_usd
    assert (report.cost.unpriced_rows, report.cost.cost_partial, report.cost.hourly_rows) == (0, False, 1)
    (paid,) = report.cost.by_hour
    assert (paid.deployment, paid.usd_per_hour) == ("accounts/me/deployments/d", 8)
    assert paid.cost_usd == hourly.cost_nano_usd(report.throughput.active_s) / 1e9


@given(made=rows())
@settings(max_examples=5, deadline=None)
def test_rows_report_and_manifest_add_up_to_the_same(tmp_path_factory, made):
    """The sum of the rows, the report of the folder and what the manifest says of its parts: to the nano-dollar."""
    out = tmp_path_factory.mktemp("sums") / "out"
    keep_all(out, made, 6)
    snapshot = Snapshot(out)
    sides = snapshot.batches("results", RESULT_COLUMNS), snapshot.batches("failures", FAILURE_COLUMNS)
    paid = summarise(*sides, RunFacts(name="run"), prices=PAID).cost
    listed = sum(part.cost_nano_usd for part in snapshot.manifest.parts.values())
    assert listed == sum(round((one.cost_usd or 0) * 1e9) for one in made)
    assert round((paid.cost_usd or 0) * 1e9) == listed
