"""A report as one HTML page, to look at, to mail and to print: no script, nothing from elsewhere, nothing unescaped."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from batchrun.report import money
from batchrun.report.charts import charts
from batchrun.report.format import dollars, duration, number, percent, rate
from batchrun.report.limited import LEAST_SHARE, TITLE, advice, limits
from batchrun.report.outline import about, ending, examples, figures, headline, latencies, notes, price_and_time
from batchrun.report.page import Card, page
from batchrun.report.plots import draw
from batchrun.report.speed import LEAST_SHARE as LEAST_PART
from batchrun.report.speed import LENGTHS_TITLE, TIME_TITLE, lengths, time_note, time_spent
from batchrun.report.summary import ModelCost

if TYPE_CHECKING:
    from collections.abc import Sequence

    from batchrun.report.charts import Chart
    from batchrun.report.samples import Sample
    from batchrun.report.summary import GroupCost, Report

SPREADS = ("mean", "p50", "p90", "p95", "p99", "max")
MOST_LISTED = 30


class Share(NamedTuple):
    """A labelled bar; `share` is its length, 0 to 1."""

    name: str
    value: str
    share: float


class Plot(NamedTuple):
    """A chart with its picture."""

    chart: Chart
    svg: str


def to_html(report: Report, samples: Sequence[Sample] | None = None) -> str:
    """The report as a page of its own, with samples of prompts and answers if some are given."""
    worked = headline(report)
    return page(
        "report.html",
        name=report.run.name,
        verdict=verdict(report),
        headline=f"{worked[:1].upper()}{worked[1:]}",
        sentences=[sentence for sentence in (price_and_time(report), ending(report)) if sentence],
        about=about(report),
        notes=notes(report),
        cards=_cards(report),
        limits_title=TITLE,
        bounds=_bounds(report),
        advice=advice(report) if limits(report) else "",
        time_title=TIME_TITLE,
        phases=_phases(report),
        time_note=time_note(report) if time_spent(report) else "",
        failures=[(group, examples(group)) for group in report.failures[:MOST_LISTED]],
        plots=[Plot(chart, draw(chart)) for chart in charts(report)],
        columns=SPREADS,
        latencies=latencies(report),
        lengths_title=LENGTHS_TITLE,
        lengths=lengths(report),
        slowest=report.slowest,
        several_models=len(report.cost.by_model) > 1,
        costs=_costs(report),
        tokens=_tokens(report),
        sections=figures(report),
        samples=samples,
    )


def verdict(report: Report) -> str:
    """`good` if every row succeeded, `bad` if none did, else `mixed`."""
    count = report.rows
    if count.succeeded and not count.failed and not count.missing:
        return "good"
    return "mixed" if count.succeeded or count.total == 0 else "bad"


def _cards(report: Report) -> list[Card]:
    """The figures that most readers came for."""
    count, speed, tokens = report.rows, report.throughput, report.tokens
    settled = count.succeeded + count.failed
    latency = report.latency.latency_s
    cards = [Card("Succeeded", number(count.succeeded), f"of {number(count.total or settled)} rows")]
    if count.failed:
        cards.append(Card("Failed", number(count.failed), percent(count.failed, settled)))
    if paid := money.cost(report):
        each = report.cost.usd_per_1000_rows
        more = paid[0].meaning if each is None else f"{dollars(each)} per 1,000 rows"
        more = "simulated: nothing was paid" if report.run.simulated else more
        cards.append(Card("Cost", paid[0].value, more))
    if latency:
        more = f"95 % within {duration(latency.p95_s)}"
        cards.append(Card("Median latency", duration(latency.p50_s), more))
    if speed.rows_per_s:
        cards.append(Card("Rows per second", rate(speed.rows_per_s), f"in {duration(speed.active_s)}"))
    if tokens.total_tokens:
        more = f"{number(tokens.completion_tokens)} of them completion"
        cards.append(Card("Tokens", number(tokens.total_tokens), more))
    return cards


def _bounds(report: Report) -> list[Share]:
    bounds = limits(report)
    shares = [share for share in report.limited.values() if share >= LEAST_SHARE] if bounds else []
    return [Share(name, value, share) for (value, name), share in zip(bounds, shares, strict=True)]


def _phases(report: Report) -> list[Share]:
    shares = [share for share in report.time_shares.values() if share >= LEAST_PART]
    return [Share(name, value, share) for (value, name), share in zip(time_spent(report), shares, strict=True)]


def _costs(report: Report) -> list[tuple[str, list[tuple[str, ModelCost | GroupCost, float]]]]:
    """Tables of what the models, tiers and values of a column used: each with its name and its share of the whole."""
    tables: list[tuple[str, Sequence[ModelCost | GroupCost]]] = [("Cost by model", report.cost.by_model)]
    if len(report.by_tier) > 1:
        tables.append(("Cost by service tier", report.by_tier))
    if report.by_column:
        tables.append((f"Cost by {report.by_column.column}", report.by_column.groups))
    return [(caption, _shares_of(groups)) for caption, groups in tables if groups]


def _shares_of(groups: Sequence[ModelCost | GroupCost]) -> list[tuple[str, ModelCost | GroupCost, float]]:
    """Each group with its share of the cost, or of the tokens where no cost is known."""
    costs = [group.cost_usd or 0 for group in groups]
    sizes = costs if any(costs) else [float(group.prompt_tokens + group.completion_tokens) for group in groups]
    names = [group.model if isinstance(group, ModelCost) else group.name for group in groups]
    whole = sum(sizes) or 1
    return [(name, group, size / whole) for name, group, size in zip(names, groups, sizes, strict=True)][:MOST_LISTED]


def _tokens(report: Report) -> list[Share]:
    """In and out, and what each is made of."""
    used = report.tokens
    cached, reasoning = min(used.cached_tokens, used.prompt_tokens), min(used.reasoning_tokens, used.completion_tokens)
    parts = {
        "prompt, cached": cached,
        "prompt, not cached" if cached else "prompt": used.prompt_tokens - cached,
        "completion, reasoning": reasoning,
        "completion, visible" if reasoning else "completion": used.completion_tokens - reasoning,
    }
    whole = used.prompt_tokens + used.completion_tokens
    return [Share(name, number(value), value / whole) for name, value in parts.items() if value]
