"""A report for the terminal: one screen, aligned, in plain characters."""

from __future__ import annotations

import textwrap
import unicodedata
from typing import TYPE_CHECKING

from batchrun.report.format import number, percent, rate, seconds, visible
from batchrun.report.limited import TITLE, advice, limits
from batchrun.report.outline import about, ending, examples, figures, headline, latencies, notes, price_and_time
from batchrun.report.speed import LENGTHS_TITLE, TIME_TITLE, lengths, time_note, time_spent

if TYPE_CHECKING:
    from collections.abc import Callable

    from batchrun.report.format import Figure
    from batchrun.report.summary import FailureGroup, Report

LEAST_WIDTH = 40
LABEL = 10
LATENCY_LABEL = 22
LATENCY_COLUMN = 9
COLUMNS = ("mean", "p50", "p90", "p95", "p99", "max")
DROPPED_FIRST = ("mean", "p90", "p95", "max", "p99")


def to_text(report: Report, width: int = 80) -> str:
    """Lay a report out in at most `width` columns (at least 40); ends with a newline.

    Nothing from outside passes as it came: controls and invisible characters are escaped.
    """
    width = max(width, LEAST_WIDTH)
    blocks = [_top(report, width), [cut(f"{label:{LABEL}}{visible(text)}", width) for label, text in about(report)]]
    sections, bounds, spent = figures(report), limits(report), time_spent(report)
    shown = [*sections, (TITLE, bounds), (TIME_TITLE, spent)]
    value_width = max([len(figure.value) for _, lines in shown for figure in lines], default=0)
    for title, lines in sections:
        blocks.append(_section(title, lines, value_width, width))
        if title == "Rows" and report.failures:
            blocks.append(_failures(report.failures, value_width, width))
    if bounds:
        blocks.append([TITLE, *_section("", bounds, value_width, width), *wrap(advice(report), width)])
    if spent:
        blocks.append([TIME_TITLE, *_section("", spent, value_width, width), *wrap(time_note(report), width)])
    seconds_of = [(label, [getattr(spread, f"{name}_s") for name in COLUMNS]) for label, spread in latencies(report)]
    tokens_of = [(label, [getattr(spread, name) for name in COLUMNS]) for label, spread in lengths(report)]
    blocks.append(_table("Seconds", seconds_of, seconds, width))
    blocks.append(_table(LENGTHS_TITLE, tokens_of, rate, width))
    blocks.append(_notes(report, width))
    return "\n\n".join("\n".join(lines) for lines in blocks if lines) + "\n"


def _top(report: Report, width: int) -> list[str]:
    said = [f"{report.run.name}: {headline(report)}.", price_and_time(report), ending(report)]
    return [line for sentence in said if sentence for line in wrap(sentence, width)]


def _section(title: str, lines: list[Figure], value_width: int, width: int) -> list[str]:
    titles = [title, *[""] * (len(lines) - 1)]
    return [
        cut(f"{name:{LABEL}}{figure.value:>{value_width}}  {visible(figure.meaning)}", width)
        for name, figure in zip(titles, lines, strict=True)
    ]


def _failures(groups: list[FailureGroup], value_width: int, width: int) -> list[str]:
    lines: list[str] = []
    for group in groups:
        title = "" if lines else "Failures"
        named = f"{visible(group.error_type)}, {percent(group.share, 1)}"
        lines.append(cut(f"{title:{LABEL}}{number(group.rows):>{value_width}}  {named}", width))
        for ids, message in examples(group):
            lines += wrap(f"{ids}: {message}", width, first=" " * LABEL, then=" " * (LABEL + 2), most=2)
    return lines


def _table(title: str, rows: list[tuple[str, list[float]]], form: Callable[[float], str], width: int) -> list[str]:
    """Lines of one number in each of COLUMNS; on a narrow screen some columns are left out."""
    if not rows:
        return []
    written = [(label, dict(zip(COLUMNS, map(form, values), strict=True))) for label, values in rows]
    column_width = max(LATENCY_COLUMN, *(len(cell) + 1 for _, cells in written for cell in cells.values()))
    shown = list(COLUMNS)
    for column in DROPPED_FIRST:
        if LATENCY_LABEL + column_width * len(shown) > width:
            shown.remove(column)
    table = [(title, dict(zip(COLUMNS, COLUMNS, strict=True))), *written]
    return [
        f"{label:{LATENCY_LABEL}}" + "".join(f"{cells[column]:>{column_width}}" for column in shown)
        for label, cells in table
    ]


def _notes(report: Report, width: int) -> list[str]:
    return [line for note in notes(report) for line in wrap(note, width, first="- ", then="  ")]


def wrap(text: str, width: int, *, first: str = "", then: str = "", most: int | None = None) -> list[str]:
    """Lines of a text from outside, made visible, of at most `width` columns and at most so many."""
    text = visible(text)
    return textwrap.wrap(
        text,
        width if _columns(text) == len(text) else width // 2,
        initial_indent=first,
        subsequent_indent=then,
        max_lines=most,
        placeholder="...",
        break_on_hyphens=False,
    )


def cut(text: str, width: int) -> str:
    """Cut a line to its width on the screen."""
    text = text[: width + 1]
    if _columns(text) <= width:
        return text
    while _columns(text) > width - len("..."):
        text = text[:-1]
    return text.rstrip() + "..."


def _columns(text: str) -> int:
    """How many columns a text takes; wide characters (Chinese, Japanese, emoji) take two."""
    return len(text) if text.isascii() else sum(1 + (unicodedata.east_asian_width(c) in "WF") for c in text)
