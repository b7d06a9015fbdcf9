"""What limited the run: how much of the time each bound took, and what may be done about the largest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batchrun.report.format import Figure, percent

if TYPE_CHECKING:
    from batchrun.report.summary import Report

TITLE = "What limited the run"
LEAST_S = 5.0
LEAST_SHARE = 0.05
MOST_CONCURRENCY = 100_000

_IN_VAIN = "more concurrency will not help"
_MORE = f"{_IN_VAIN}: raise the limit if it is yours, else ask for a higher one"
_BOUNDS = {
    "requests": ("requests a minute", _MORE),
    "prompt_tokens": ("prompt tokens a minute", f"{_MORE}, or shorten the prompts"),
    "uncached_prompt_tokens": (
        "uncached prompt tokens a minute",
        f"{_MORE}, or put what the prompts share at their beginning, where it can be cached",
    ),
    "generated_tokens": ("generated tokens a minute", f"{_MORE}, or lower max_tokens"),
    "pace": ("the rate that the endpoint was found to take", f"{_IN_VAIN}: ask for a higher limit"),
    "ceiling": ("the ceiling on requests in flight", ""),
    "pause": (
        "pauses after 429 or 503",
        "set limits.requests_per_minute, or a lower -c, so that the endpoint refuses less",
    ),
    "outage": ("silence of the endpoint", "no setting can help: see whether it is well before the next run"),
    "concurrency": ("concurrency", ""),
    "client": ("the CPU of this machine", "run it on a faster one, or with less beside it"),
    "ending": ("its early end: nothing new was sent", _IN_VAIN),
    "input": ("too few rows left to send", _IN_VAIN),
}
"""What each bound is called, and what may be done about it; of the two without a text `_may_be_done` knows more."""


def limits(report: Report) -> list[Figure]:
    """The shares of the time that matter, the largest first; none of a run too short to tell."""
    measured_s = sum(sum(session.limited_s.values()) for session in report.run.sessions)
    if measured_s < LEAST_S:
        return []
    shares = report.limited.items()
    return [Figure(percent(share, 1), _name(bound)) for bound, share in shares if share >= LEAST_SHARE]


def advice(report: Report) -> str:
    """One sentence on the largest share; the report has one."""
    bound, share = next(iter(report.limited.items()))
    name, done = _name(bound), _may_be_done(bound, report)
    return f"{name[:1].upper()}{name[1:]} limited the run {100 * share:.0f} % of the time{done and f'; {done}'}."


def _name(bound: str) -> str:
    return _BOUNDS[bound][0] if bound in _BOUNDS else bound.replace("_", " ")


def _may_be_done(bound: str, report: Report) -> str:
    allowed = report.run.concurrency or 0
    if bound == "concurrency" and report.retries.throttled:
        return "the endpoint refused requests (429, 503) all the same: more of it may not help"
    if bound == "concurrency" and 0 < allowed < MOST_CONCURRENCY:
        return f"try -c {min(2 * allowed, MOST_CONCURRENCY)}"
    if bound == "ceiling" and report.retries.throttled:
        return "the endpoint refused more than that at once: ask for a higher limit"
    if bound == "ceiling":
        return "it was still growing: a longer run leaves it behind"
    return _BOUNDS[bound][1] if bound in _BOUNDS else ""
