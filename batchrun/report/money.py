"""What a report says of tokens and money: figures and notes; what is unknown is said to be, with a range."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batchrun.report.format import Figure, dollars, duration, number, percent, rows

if TYPE_CHECKING:
    from batchrun.report.summary import Bill, Cost, GroupCost, ModelCost, Report

MOST_LISTED = 5
MOST_TIMES = 2
"""From twice as much on, a number of times is easier to read than a percentage."""


def tokens(report: Report) -> list[Figure]:
    """Prompt and completion tokens, and what became of them."""
    counted = report.tokens
    if not counted.total_tokens:
        return []
    share = counted.cached_share
    cached = f", {percent(share, 1)} of them cached" if share is not None and counted.prompt_tokens else ""
    reasoning = percent(counted.reasoning_tokens, counted.completion_tokens)
    thought = f", {reasoning} of them reasoning" if counted.reasoning_tokens else ""
    lines = [
        Figure(number(counted.prompt_tokens), f"prompt{cached}"),
        Figure(number(counted.completion_tokens), f"completion{thought}"),
        Figure(number(counted.total_tokens), "in all"),
    ]
    if counted.retried_tokens:
        lines.append(Figure(number(counted.retried_tokens), "more, charged for answers that were tried again"))
    return lines


def span(cost: Cost) -> str:
    """From what is known to the most that it may be."""
    low = dollars(cost.cost_usd)
    if not cost.cost_partial:
        return low
    high = dollars(cost.cost_high_usd)
    return f"at least {low}" if cost.cost_high_usd is None else low if low == high else f"{low} to {high}"


def cost(report: Report) -> list[Figure]:
    """The total with its range, and what it is made of."""
    paid = report.cost
    if not report.rows.succeeded and not report.rows.failed:
        return []
    if paid.cost_usd is None and paid.by_hour and not paid.cost_partial:
        return _by_hour(paid)
    if paid.cost_usd is None:
        unknown = Figure("unpriced" if paid.unpriced_rows else "unknown", "no row has a known cost")
        return [unknown, *_by_hour(paid)]
    if not report.tokens.total_tokens and not paid.cost_usd:
        return [Figure("-", "no charge is known of")]
    if not paid.cost_partial:
        return [Figure(dollars(paid.cost_usd), "in all"), *_details(paid)]
    gaps = _gaps(paid.unpriced_rows, report.tokens.rows_without_usage, paid.unsettled_attempts)
    lines = [Figure(dollars(paid.cost_usd), f"partial: {gaps}")]
    if paid.cost_high_usd is None:
        why = "a price is missing" if paid.unpriced_rows else "a model has no row of known cost"
        lines.append(Figure("unknown", f"at most: {why}"))
    else:
        lines.append(Figure(dollars(paid.cost_high_usd), "at most, if none costs more than its model's dearest row"))
    return [*lines, *_details(paid)]


def last_session(report: Report) -> list[Figure]:
    """The part of tokens and cost that is the last session's, where there were several."""
    bill = report.last_session
    if not bill:
        return []
    cached = f", {percent(bill.cached_tokens, bill.prompt_tokens)} of them cached" if bill.cached_tokens else ""
    lines = [Figure(number(bill.rows), f"settled in the last of {number(len(report.run.sessions))} sessions")]
    if bill.prompt_tokens or bill.completion_tokens:
        lines.append(Figure(number(bill.prompt_tokens), f"prompt tokens in it{cached}"))
        lines.append(Figure(number(bill.completion_tokens), "completion tokens in it"))
    if bill.cost_partial or bill.cost_usd:
        gaps = _gaps(bill.unpriced_rows, bill.rows_without_usage)
        lines.append(Figure(_billed(bill), f"of the cost{gaps and f', partial: {gaps}'}"))
    return lines


def what_if(report: Report) -> list[Figure]:
    """What the same tokens come to under other prices, beside what they cost."""
    asked = report.what_if
    if not asked:
        return []
    lines = [Figure(_billed(asked.bill), asked.prices)]
    if asked.bill.cost_usd is not None and asked.bill.cost_partial:
        lines.append(Figure("partial", _gaps(asked.bill.unpriced_rows, asked.bill.rows_without_usage)))
    more, than = asked.difference_usd, asked.compared_usd
    if not than:
        return lines
    both = " of rows priced in both" if asked.bill.cost_partial or report.cost.cost_partial else ""
    if not more:
        return [*lines, Figure("$0", f"against the cost{both}")]
    return [*lines, Figure(f"{'+' * (more > 0)}{dollars(more)}", f"against the cost{both}: {_change(more, than)}")]


def notes(report: Report) -> list[str]:
    """What is missing in the total, and what can be done about it."""
    paid, said = report.cost, []
    if paid.unpriced_models:
        said.append(f"Unpriced: {_listed(paid.unpriced_models)}. Put a price into a file and name it as `prices`.")
    if paid.guessed_usd is not None:
        several = len(paid.guessed_models) != 1
        said.append(
            f"By the size in {'their names' if several else 'its name'} {_listed(paid.guessed_models)} may cost about "
            f"{dollars(paid.guessed_usd)}: a guess, which is in no figure."
        )
    said += [
        f"Paid by the hour: {row.deployment}, {dollars(row.usd_per_hour)}, if it was up for this run alone."
        for row in paid.by_hour[:MOST_LISTED]
    ]
    if report.tokens.rows_without_usage:
        said.append(f"{rows(report.tokens.rows_without_usage)} came without usage: tokens and cost are partial.")
    if paid.unsettled_attempts:
        several = paid.unsettled_attempts != 1
        said.append(
            f"{_attempts(paid.unsettled_attempts)} timed out or broke off before the row was tried again: whether "
            f"{'they were' if several else 'it was'} charged is not known."
        )
    if report.what_if and report.what_if.bill.unpriced_models:
        bill = report.what_if.bill
        named = f"{rows(bill.unpriced_rows)} of {_listed(bill.unpriced_models)}"
        said.append(f"What if: there is no price for {named}; put one into a file and name it with --prices.")
    return said


def _details(paid: Cost) -> list[Figure]:
    lines, charged = [], [row for row in paid.by_model if row.cost_usd is not None or row.unpriced_rows]
    if len(charged) > 1:
        lines += [_of_model(row.cost_usd, row.rows, row.model) for row in charged[:MOST_LISTED]]
    if len(charged) > MOST_LISTED:
        lines.append(Figure("...", f"and {number(len(charged) - MOST_LISTED)} more models"))
    if paid.usd_per_1000_rows is not None:
        lines.append(Figure(dollars(paid.usd_per_1000_rows), "per 1,000 rows"))
    if paid.failures_cost_usd:
        lines.append(Figure(dollars(paid.failures_cost_usd), "of it for failures"))
    if paid.saved_by_caching_usd:
        lines.append(Figure(dollars(paid.saved_by_caching_usd), "saved by caching"))
    return [*lines, *_by_hour(paid)]


def _by_hour(paid: Cost) -> list[Figure]:
    """What deployments cost, apart from all tokens."""
    if not paid.by_hour:
        return []
    several = len(paid.by_hour) != 1
    wall = duration(max(row.wall_s for row in paid.by_hour))
    meaning = f"for {wall} of {'deployments' if several else 'a deployment'}, in no other figure"
    return [Figure(dollars(sum(row.cost_usd for row in paid.by_hour)), meaning)]


def of_group(group: ModelCost | GroupCost) -> str:
    """What the rows of a group cost, or what is known of it instead."""
    if group.cost_usd is None and group.unpriced_rows:
        return "unpriced"
    if group.cost_usd is None and group.prompt_tokens + group.completion_tokens:
        return "by the hour"
    return dollars(group.cost_usd)


def _of_model(usd: float | None, count: int, model: str) -> Figure:
    return Figure("unpriced" if usd is None else dollars(usd), f"{rows(count)} of {model}")


def _billed(bill: Bill) -> str:
    return "unpriced" if bill.cost_usd is None and bill.unpriced_rows else dollars(bill.cost_usd)


def _change(more: float, than: float) -> str:
    times = (than + more) / than
    if times > MOST_TIMES:
        return f"{times:,.1f} times as much"
    return f"{percent(abs(more), than)} {'more' if more > 0 else 'less'}"


def _gaps(unpriced: int, without_usage: int, unsettled: int = 0) -> str:
    gaps = [f"{rows(unpriced)} unpriced"] * (unpriced > 0)
    gaps += [f"{rows(without_usage)} without usage"] * (without_usage > 0)
    gaps += [f"{_attempts(unsettled)} broken off"] * (unsettled > 0)
    return ", ".join(gaps)


def _attempts(count: int) -> str:
    return f"{number(count)} attempt{'' if count == 1 else 's'}"


def _listed(models: list[str]) -> str:
    return ", ".join(models[:MOST_LISTED]) + (", ..." if len(models) > MOST_LISTED else "")
