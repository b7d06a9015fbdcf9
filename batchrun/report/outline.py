"""What a report says, in its order, before text.py or markdown.py lays it out: headline, figures, notes.

Strings may hold text from outside as it came; a writer makes it safe.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from batchrun.report import money
from batchrun.report.format import Figure, dollars, duration, number, percent, period, rows
from batchrun.report.speed import speed

if TYPE_CHECKING:
    from batchrun.report.summary import Distribution, FailureGroup, GroupCost, Report

SETTLED = (0, 3)
_LIMIT_OF_ONES_OWN = 4
MOST_LISTED = 5
MOST_GROUPS = 10


def headline(report: Report) -> str:
    """Did it work?"""
    count = report.rows
    if not count.succeeded and not count.failed:
        return "the input has no rows" if count.total == 0 else "no row has an answer yet"
    if count.succeeded == count.total:
        return f"all {rows(count.total)} succeeded" if count.total > 1 else "its one row succeeded"
    of = f"{number(count.succeeded)} of {rows(count.total)}" if count.total is not None else rows(count.succeeded)
    parts = [f"{of} succeeded"]
    if count.failed:
        parts.append(f"{number(count.failed)} failed")
    if count.missing:
        parts.append(f"{number(count.missing)} {'is' if count.missing == 1 else 'are'} missing")
    return ", ".join(parts)


def price_and_time(report: Report) -> str | None:
    """What it took, in a sentence."""
    if report.run.simulated:
        return "Simulated: no model answered, and nothing was paid."
    spent = [f"cost {money.span(report.cost)}"] if report.cost.cost_usd else []
    if report.throughput.active_s:
        spent.append(f"took {duration(report.throughput.active_s)}")
    return f"It {' and '.join(spent)}." if spent else None


def ending(report: Report) -> str | None:
    """How the last session ended, unless it settled every row."""
    if not report.run.sessions:
        return None
    last = report.run.sessions[-1]
    if last.exit_code is None:
        return "The last session is still going on, or was killed: this is what is on disk."
    if last.exit_code in SETTLED:
        return None
    cause = f": {last.cause.rstrip('.')}" if last.cause else ""
    return f"The last session ended with exit code {last.exit_code}{cause}."


def about(report: Report) -> list[tuple[str, str]]:
    """What ran, where and when: labels and texts."""
    run = report.run
    named = ", ".join(run.models[:MOST_LISTED])
    more = len(run.models) - MOST_LISTED
    lines = [
        ("Model", f"{named} and {number(more)} more" if more > 0 else named),
        ("Endpoint", run.endpoint),
        ("Prices", ", ".join(filter(None, (run.price_date, run.price_source)))),
    ]
    if report.first_started_at is not None and report.last_finished_at is not None:
        lines.append(("When", period(report.first_started_at, report.last_finished_at)))
    active = duration(report.throughput.active_s) if report.throughput.active_s else ""
    sessions = len(run.sessions)
    lines.append(("Active", f"{active} in {sessions} sessions" if active and sessions > 1 else active))
    return [(label, text) for label, text in lines if text]


def figures(report: Report) -> list[tuple[str, list[Figure]]]:
    """The sections that are a number and a meaning a line."""
    sections = [
        ("Rows", _rows(report)),
        ("Tokens", money.tokens(report)),
        ("Cost", money.cost(report)),
        ("By tier", _groups(report.by_tier) if len(report.by_tier) > 1 else []),
        ("By column", _groups(report.by_column.groups, report.by_column.column) if report.by_column else []),
        ("Session", money.last_session(report)),
        ("What if", money.what_if(report)),
        ("Speed", speed(report)),
        ("Retries", _retries(report)),
        ("Answers", _answers(report)),
    ]
    return [(title, lines) for title, lines in sections if lines]


def examples(group: FailureGroup) -> list[tuple[str, str]]:
    """Messages of a failure group, each with the ids it was seen at."""
    ids: dict[str, list[str]] = {}
    for example in group.examples:
        ids.setdefault(example.message, []).append(example.custom_id)
    return [(", ".join(seen), message) for message, seen in ids.items()]


def latencies(report: Report) -> list[tuple[str, Distribution]]:
    """What was measured, the longest wait of a user first."""
    latency = report.latency
    named = {
        "latency": latency.latency_s,
        "first token": latency.ttft_s,
        "first visible token": latency.ttfvt_s if latency.ttfvt_s != latency.ttft_s else None,
        "a token after it": latency.tpot_s,
        "between pieces": latency.itl_mean_s,
        "waiting to be sent": latency.queued_s,
        "server: first token": latency.server_ttft_s,
        "server: processing": latency.server_processing_s,
        "network, this machine": latency.overhead_s,
        "latency of failures": latency.failures_latency_s,
    }
    return [(name, measured) for name, measured in named.items() if measured]


def notes(report: Report) -> list[str]:
    """What a reader must know to trust the numbers, or could do about them."""
    tokens, answers, client = report.tokens, report.answers, report.client
    said = []
    if report.rows.missing:
        limited = [session.exit_code for session in report.run.sessions][-1:] == [_LIMIT_OF_ONES_OWN]
        after = (
            "raise or lift the limit that ended it, and run it again" if limited else "the same command again goes on"
        )
        said.append(f"{rows(report.rows.missing)} still to do: {after}.")
    if report.run.replaced_rows:
        spent = f", which cost {dollars(report.run.replaced_cost_usd)}" if report.run.replaced_cost_usd else ""
        said.append(f"Not counted: {rows(report.run.replaced_rows)} of an earlier input{spent}, kept in _replaced/.")
    said += money.notes(report)
    if tokens.rows_with_estimated_usage:
        said.append(f"Usage is estimated for {rows(tokens.rows_with_estimated_usage)}.")
    if report.latency.latency_s and report.latency.latency_s.relative_error:
        error = percent(report.latency.latency_s.relative_error, 1)
        said.append(f"There are many rows: percentiles are read from a histogram, and right to {error}.")
    if answers.truncated:
        said.append(f"Cut off at the token limit: {rows(answers.truncated)}. Raise max_tokens if that matters.")
    if answers.reasoning_overflow:
        said.append(f"All tokens went into reasoning: {rows(answers.reasoning_overflow)}. Raise max_tokens.")
    if client.client_bound and client.loop_lag_p99_s is not None:
        lag = duration(client.loop_lag_p99_s)
        said.append(f"This machine was the bottleneck (loop lag p99 {lag}): the latencies above are too long.")
    return said


def _rows(report: Report) -> list[Figure]:
    count = report.rows
    settled = count.succeeded + count.failed
    total = settled if count.total is None else max(count.total, settled)
    lines = [Figure(number(count.succeeded), f"succeeded, {percent(count.succeeded, total)}")]
    if count.failed:
        lines.append(Figure(number(count.failed), f"failed, {percent(count.failed, total)}"))
    if count.missing:
        lines.append(Figure(number(count.missing), f"missing, {percent(count.missing, total)}"))
    if len(lines) > 1 or count.total is None:
        lines.append(Figure(number(total), "so far" if count.total is None else "in all"))
    return lines if total else []


def _groups(groups: list[GroupCost], column: str = "") -> list[Figure]:
    named = f"{column} = " if column else ""
    lines = [
        Figure(
            money.of_group(group),
            f"{named}{group.name}: {rows(group.rows)}, {number(group.prompt_tokens)} + "
            f"{number(group.completion_tokens)} tokens"
            + (f", {number(group.failed)} failed" if group.failed else "")
            + (f", {number(group.unpriced_rows)} unpriced" if group.unpriced_rows and group.cost_usd else ""),
        )
        for group in groups[:MOST_GROUPS]
    ]
    if len(groups) > MOST_GROUPS:
        lines.append(Figure("...", f"and {number(len(groups) - MOST_GROUPS)} more: see --format json"))
    return lines


def _retries(report: Report) -> list[Figure]:
    retries = report.retries
    lines = []
    if retries.rows_retried:
        lines.append(Figure(number(retries.rows_retried), "rows took more than one attempt"))
    if retries.attempts_wasted:
        lines.append(
            Figure(number(retries.attempts_wasted), f"of {number(retries.attempts)} attempts brought no result")
        )
    if retries.wasted_prompt_tokens or retries.wasted_completion_tokens:
        spent = retries.wasted_cost_usd
        cost = "at a price that is not known" if spent is None else f"for {dollars(spent)}" if spent else "for nothing"
        tokens = f"{number(retries.wasted_prompt_tokens)} + {number(retries.wasted_completion_tokens)}"
        lines.append(Figure(tokens, f"prompt + completion tokens wasted on these, {cost}"))
    if retries.throttled:
        lines.append(Figure(number(retries.throttled), "times throttled (429, 503)"))
    if retries.free_retries:
        lines.append(Figure(number(retries.free_retries), "sent again at once: the connection had gone"))
    return lines


def _answers(report: Report) -> list[Figure]:
    reasons, mended = report.answers.finish_reasons, report.answers.mended
    told = {} if set(reasons) <= {"stop"} else reasons
    lines = [Figure(number(count), f"finish_reason {name}") for name, count in list(told.items())[:MOST_LISTED]]
    if mended:
        lines.append(Figure(number(mended), "held what no column can: replaced there, kept in `response`"))
    return lines
