"""What is plotted of a report, and in which words: numbers and text of our own, never text from outside."""

from __future__ import annotations

import bisect
import math
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import msgspec

from batchrun.report.format import dollars, duration, rate
from batchrun.report.summary import Timeline

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from batchrun.report.summary import Distribution, Report

LEAST_ROWS = 20
"""With fewer, the table of the slowest rows says more than a curve."""
LEAST_INTERVALS = 4
ROWS_AN_INTERVAL = 8
"""With fewer on the mean, a time line shows more chance than change."""
LEAST_WAIT_S = 0.001
"""Waits below it are noise of the clock; a logarithmic axis begins here."""
MOST_TICKS = 6
_TIMES_S = (
    (0.001, 0.01, 0.1, 1, 10, 60, 600, 3600, 36_000, 360_000),
    (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 60, 300, 1800, 3600, 18_000, 36_000, 86_400, 360_000),
    tuple(step * 10.0**power for power in range(-3, 1) for step in (1, 2, 5)),
    (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 18_000, 36_000, 86_400),
)
"""Where an axis of times may have its ticks, from the coarsest to the finest."""
_UNITS = ((2 * 86_400, 86_400, "days"), (2 * 3600, 3600, "hours"), (180, 60, "minutes"), (0, 1, "seconds"))


class Axis(msgspec.Struct, frozen=True, kw_only=True):
    """One side of a chart, from `low` to `high`; a tick is a value and its label."""

    label: str
    low: float
    high: float
    ticks: list[tuple[float, str]]
    logarithmic: bool = False


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a chart, `color` 1 to 3; a line without a label goes on with the one before it."""

    label: str
    x: list[float]
    y: list[float]
    color: int = 1
    dashed: bool = False
    filled: bool = False


class Chart(msgspec.Struct, frozen=True, kw_only=True):
    """A plot and what it says to somebody who does not see it. In `steps` a value holds until the next."""

    name: str
    title: str
    says: str
    x: Axis
    y: Axis
    lines: list[Line]
    steps: bool = False


def charts(report: Report) -> list[Chart]:
    """Every chart that this report has numbers enough for."""
    drawn = [_latency(report), *_times(report)] if _settled(report) >= LEAST_ROWS else []
    return [chart for chart in drawn if chart]


def _settled(report: Report) -> int:
    return report.rows.succeeded + report.rows.failed


def _latency(report: Report) -> Chart | None:
    """How many of the rows took at most so long: an empirical distribution function."""
    latency = report.latency
    measured = {"latency": latency.latency_s, "first token": latency.ttft_s, "waiting to be sent": latency.queued_s}
    known = {
        label: spread
        for label, spread in measured.items()
        if spread and spread.quantiles_s and spread.count >= LEAST_ROWS and spread.max_s >= LEAST_WAIT_S
    }
    if not known:
        return None
    lines = [
        Line(label=label, x=[max(value, LEAST_WAIT_S) for value in spread.quantiles_s], y=_SHARES, color=color)
        for color, (label, spread) in enumerate(known.items(), 1)
    ]
    return Chart(
        name="latency",
        title="How long the rows took",
        says="; ".join(f"{label}: {_spread_in_words(spread)}" for label, spread in known.items()),
        x=_time_axis("", min(line.x[0] for line in lines), max(line.x[-1] for line in lines)),
        y=Axis(label="share of the rows", low=0, high=100, ticks=[(y, f"{y} %") for y in range(0, 101, 25)]),
        lines=lines,
    )


_SHARES = [float(share) for share in range(101)]


def _spread_in_words(spread: Distribution) -> str:
    named = {"half": spread.p50_s, "95 %": spread.p95_s, "99 %": spread.p99_s, "all": spread.max_s}
    return ", ".join(f"{share} within {duration(seconds)}" for share, seconds in named.items())


def _times(report: Report) -> list[Chart | None]:
    """What happened when."""
    times = report.timeline
    if times is None or len(times.succeeded) < LEAST_INTERVALS or times.interval_s <= 0:
        return []
    times = _smoother(times, max(3 * LEAST_INTERVALS, _settled(report) // ROWS_AN_INTERVAL))
    per_s = [[value / times.interval_s for value in values] for values in (times.succeeded, times.failed)]
    tokens_per_s = [value / times.interval_s for value in times.completion_tokens]
    spent = list(accumulate(times.cost_usd))
    return [
        _over_time("throughput", "Rows per second", times, {"succeeded": per_s[0], "failed": per_s[1]}, rate),
        _in_flight(report, times),
        _over_time("refused", "Answers 429 and 503", times, {"refused": times.throttled}, _count),
        _over_time("tokens", "Completion tokens per second", times, {"completion tokens/s": tokens_per_s}, rate),
        _over_time("spend", "Cost so far", times, {"cost": spent}, dollars),
    ]


def _smoother(times: Timeline, most: int) -> Timeline:
    """The same time line in at most so many intervals."""
    size = math.ceil(len(times.succeeded) / most)

    def merged(values: Sequence[Any]) -> list[Any]:
        return [sum(values[start : start + size]) for start in range(0, len(values), size)]

    return Timeline(
        began_at=times.began_at,
        interval_s=times.interval_s * size,
        succeeded=merged(times.succeeded),
        failed=merged(times.failed),
        completion_tokens=merged(times.completion_tokens),
        in_flight=[together / size for together in merged(times.in_flight)],
        throttled=merged(times.throttled),
        cost_usd=merged(times.cost_usd),
    )


def _over_time(
    name: str, title: str, times: Timeline, values: dict[str, Sequence[float]], said: Callable[[float], str]
) -> Chart | None:
    """One chart of the time line, of the values that are not all zero; None if all are."""
    shown = {label: list(numbers) for label, numbers in values.items() if any(numbers)}
    if not shown:
        return None
    unit_s, x = _elapsed(times)
    edges = [position * times.interval_s / unit_s for position in range(len(times.succeeded) + 1)]
    lines = [
        Line(label=label, x=edges, y=[*numbers, numbers[-1]], color=1 + (label == "failed"), filled=label != "failed")
        for label, numbers in shown.items()
    ]
    peaks = [_peak_in_words(label, numbers, times, said) for label, numbers in shown.items()]
    most = max(max(numbers) for numbers in shown.values())
    return Chart(name=name, title=title, says="; ".join(peaks), x=x, y=_y_axis(most, said), lines=lines, steps=True)


def _peak_in_words(label: str, numbers: Sequence[float], times: Timeline, said: Callable[[float], str]) -> str:
    most = max(numbers)
    at = duration(list(numbers).index(most) * times.interval_s)
    return f"{label}: at most {said(most)}, first reached {at} after the start, {said(numbers[-1])} at the end"


def _in_flight(report: Report, times: Timeline) -> Chart | None:
    """Requests in flight, under the ceiling that each session had."""
    chart = _over_time("in-flight", "Requests in flight", times, {"in flight": times.in_flight}, _count)
    ceilings = _ceilings(report, times)
    if chart is None or not ceilings:
        return chart
    highest = max(max(line.y) for line in ceilings)
    return msgspec.structs.replace(
        chart,
        says=f"{chart.says}; the ceiling: at most {_count(highest)}",
        y=_y_axis(max(highest, *times.in_flight), _count),
        lines=[*chart.lines, *ceilings],
    )


def _ceilings(report: Report, times: Timeline) -> list[Line]:
    """The ceilings of the sessions, each until its session ended or the time line does."""
    unit_s, x = _elapsed(times)
    lines: list[Line] = []
    for session in report.run.sessions:
        began = (session.started_at - times.began_at) / 1e6 / unit_s
        ended = x.high if session.wall_s is None else began + session.wall_s / unit_s
        points = [(began + after_s / unit_s, float(limit)) for after_s, limit in session.ceilings]
        points = [(max(at, 0.0), limit) for at, limit in points if at < x.high]
        if points:
            points.append((max(min(ended, x.high), points[-1][0]), points[-1][1]))
            label = "" if lines else "ceiling"
            lines.append(
                Line(label=label, x=[at for at, _ in points], y=[limit for _, limit in points], color=2, dashed=True)
            )
    return lines


def _elapsed(times: Timeline) -> tuple[int, Axis]:
    """The seconds of the unit that suits the time line, and its axis."""
    whole_s = len(times.succeeded) * times.interval_s
    unit_s, unit = next((size_s, name) for least_s, size_s, name in _UNITS if whole_s >= least_s)
    high = whole_s / unit_s
    ticks = [(value, f"{value:,g}") for value in _round_steps(high)]
    return unit_s, Axis(label=f"{unit} since the start", low=0, high=high, ticks=ticks)


def _time_axis(label: str, low: float, high: float) -> Axis:
    """An axis of seconds: logarithmic where the largest is ten times the smallest or more."""
    if high >= 10 * low:
        low, high = low / 1.1, high * 1.1
        found = [[tick for tick in ticks if low <= tick <= high] for ticks in _TIMES_S]
        fitting = [ticks for ticks in found if len(ticks) <= MOST_TICKS] or [found[0][::2]]
        ticks = max(fitting, key=len)
        return Axis(label=label, low=low, high=high, ticks=[(at, _tick(at)) for at in ticks], logarithmic=True)
    high *= 1.05
    return Axis(label=label, low=0, high=high, ticks=[(at, _tick(at)) for at in _round_steps(high)])


def _tick(seconds: float) -> str:
    """`0`, `10 ms`, `1.5 s`, `2 min`, `1 h`: a duration that is short enough for an axis."""
    for size_s, unit in ((3600, "h"), (60, "min"), (1, "s")):
        if seconds >= size_s:
            return f"{seconds / size_s:.3g} {unit}"
    return f"{seconds * 1000:.3g} ms" if seconds else "0"


def _y_axis(most: float, said: Callable[[float], str]) -> Axis:
    high = 1.05 * most
    labelled = dollars if said is dollars else "{:,g}".format
    return Axis(label="", low=0, high=high, ticks=[(at, labelled(at)) for at in _round_steps(high)])


def _round_steps(high: float) -> list[float]:
    """From 0 to at most `high`, in three to six steps of 1, 2 or 5 times a power of ten."""
    size = 10.0 ** math.floor(math.log10(high / 5))
    factor = (1, 2, 5, 10)[bisect.bisect_left((1.0, 2.0, 5.0), high / 5 / size)]
    return [position * factor * size for position in range(math.floor(high / (factor * size)) + 1)]


def _count(value: float) -> str:
    return f"{value:,.3g}" if value < 100 else f"{value:,.0f}"  # noqa: PLR2004
