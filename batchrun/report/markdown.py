"""A report as GitHub Markdown, for a pull request or a wiki; text from outside stays text."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from batchrun.report.format import number, percent, rate, seconds, visible
from batchrun.report.limited import TITLE, advice, limits
from batchrun.report.outline import about, ending, examples, figures, headline, latencies, notes, price_and_time
from batchrun.report.speed import LENGTHS_TITLE, TIME_TITLE, lengths, time_note, time_spent

if TYPE_CHECKING:
    from batchrun.report.summary import Report

COLUMNS = ("mean", "min", "p50", "p90", "p95", "p99", "max")
_MARKUP = re.compile(
    r"""[\\`*\[\]<>&|~$@\#!]        # everything that could open a link, an image, a tag, a cell, a mention
    |(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])
    |:(?=//)|(?<=www)\.             # addresses that GitHub would turn into links by itself
    """,
    re.VERBOSE | re.IGNORECASE,
)


def to_markdown(report: Report) -> str:
    """The report as GitHub Markdown, with tables; ends with a newline."""
    worked = headline(report)
    blocks = [[f"# {safe(report.run.name)}"], [f"**{worked[:1].upper()}{worked[1:]}.**"]]
    blocks += [[sentence] for sentence in (price_and_time(report), safe(ending(report) or "")) if sentence]
    blocks.append([f"- {safe(note)}" for note in notes(report)])
    blocks.append(table(["", ""], [[label, safe(text)] for label, text in about(report)]))
    for title, lines in figures(report):
        blocks.append([f"## {title}"])
        blocks.append(table([">", ""], [[figure.value, safe(figure.meaning)] for figure in lines]))
        if title == "Rows" and report.failures:
            blocks += [["## Failures"], _failures(report)]
    if bounds := limits(report):
        blocks += [[f"## {TITLE}"], table([">", ""], [[share, safe(name)] for share, name in bounds])]
        blocks.append([safe(advice(report))])
    if spent := time_spent(report):
        blocks += [[f"## {TIME_TITLE}"], table([">", ""], [[share, safe(name)] for share, name in spent])]
        blocks.append([time_note(report)])
    if measured := latencies(report):
        blocks.append(["## Seconds"])
        cells = [
            [label, number(spread.count), *(seconds(getattr(spread, f"{column}_s")) for column in COLUMNS)]
            for label, spread in measured
        ]
        blocks.append(table(["", *(f">{column}" for column in ("rows", *COLUMNS))], cells))
    if measured_too := lengths(report):
        blocks.append([f"## {LENGTHS_TITLE}"])
        cells = [
            [label, number(spread.count), *(rate(getattr(spread, column)) for column in COLUMNS)]
            for label, spread in measured_too
        ]
        blocks.append(table(["", *(f">{column}" for column in ("rows", *COLUMNS))], cells))
    return "\n\n".join("\n".join(lines) for lines in blocks if lines) + "\n"


def _failures(report: Report) -> list[str]:
    cells = []
    for group in report.failures:
        shown = "<br>".join(f"{safe(ids)}: {safe(message)}" for ids, message in examples(group))
        cells.append([number(group.rows), percent(group.share, 1), safe(group.error_type), shown])
    return table([">rows", ">share", "error_type", "for example"], cells)


def table(heads: list[str], cells: list[list[str]]) -> list[str]:
    """Lines of a table; a head that starts with `>` has its column to the right."""
    if not cells:
        return []
    rules = ["---:" if head.startswith(">") else "---" for head in heads]
    names = [head.removeprefix(">") for head in heads]
    return ["| " + " | ".join(row) + " |" for row in (names, rules, *cells)]


def safe(text: str) -> str:
    """Text that GitHub shows as it is: characters that mean something become entities."""
    return _MARKUP.sub(lambda match: f"&#{ord(match[0])};", visible(text))
