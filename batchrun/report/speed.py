"""What a report says of time and speed: how fast it went, where the time went, and how long the texts are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batchrun.report.format import Figure, duration, number, percent, rate
from batchrun.report.phases import PHASES

if TYPE_CHECKING:
    from batchrun.report.summary import Report, Spread

TIME_TITLE = "Where the time went"
LENGTHS_TITLE = "Tokens a row"
LEAST_SHARE = 0.005
_UNKNOWN = {"ttft", "after_ttft", "answering"}
"""Phases of answers whose endpoint says nothing of its own part."""
_HALF_KNOWN = {"server_ttft", "server"}


def speed(report: Report) -> list[Figure]:
    """Rows and tokens per second, how many requests were out, and how late this machine was."""
    measured, client = report.throughput, report.client
    if not measured.rows_per_s:
        return []
    lines = [Figure(rate(measured.rows_per_s), "rows/s")]
    if measured.prompt_tokens_per_s:
        lines.append(Figure(rate(measured.prompt_tokens_per_s), "prompt tokens/s"))
    if measured.completion_tokens_per_s:
        lines.append(Figure(rate(measured.completion_tokens_per_s), "completion tokens/s"))
    if measured.mean_in_flight:
        lines.append(Figure(rate(measured.mean_in_flight), f"requests in flight on the mean{_ceiling(report)}"))
    if client.loop_lag_p99_s is not None and client.loop_lag_max_s is not None:
        worst = duration(client.loop_lag_max_s)
        lines.append(Figure(duration(client.loop_lag_p99_s), f"loop lag of this machine at p99, {worst} at most"))
    return lines


def time_spent(report: Report) -> list[Figure]:
    """The phases that took a share worth a line, in the order of a row's life."""
    shares = report.time_shares.items()
    return [Figure(percent(share, 1), PHASES[phase]) for phase, share in shares if share >= LEAST_SHARE]


def time_note(report: Report) -> str:
    """How long that is, and what of it is not known; the report has phases."""
    together = f"All rows together took {duration(sum(report.time_s.values()))}."
    told = {phase for phase, share in report.time_shares.items() if share >= LEAST_SHARE}
    if told & _UNKNOWN:
        return f"{together} The endpoint does not say how much of an answer's time was its own."
    if told & _HALF_KNOWN:
        return f"{together} The endpoint does not tell its queue from its work."
    return together


def lengths(report: Report) -> list[tuple[str, Spread]]:
    """How long prompts and answers are, in tokens, and how fast an answer comes."""
    named = {
        "prompt": report.per_row.prompt_tokens,
        "completion": report.per_row.completion_tokens,
        "completion/s": report.per_row.completion_tokens_per_s,
    }
    return [(name, spread) for name, spread in named.items() if spread and spread.max]


def _ceiling(report: Report) -> str:
    """How many might be, where that changed: in the last session that says so."""
    history = next((session.ceilings for session in reversed(report.run.sessions) if session.ceilings), [])
    levels = [ceiling for _, ceiling in history]
    if len(set(levels)) < 2:  # noqa: PLR2004
        return ""
    return f"; the ceiling was {number(min(levels))} to {number(max(levels))}, at the end {number(levels[-1])}"
