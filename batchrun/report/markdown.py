"""A report as GitHub Markdown, for a pull request or a wiki; text from outside stays text."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from batchrun.report.format import number, percent, seconds, visible
from batchrun.report.limited import TITLE, advice, limits
from batchrun.report.outline import about, ending, examples, figures, headline, latencies, notes, price_and_time

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
    blocks = [[f"# {_safe(report.run.name)}"], [f"**{worked[:1].upper()}{worked[1:]}.**"]]
    blocks += [[sentence] for sentence in (price_and_time(report), _safe(ending(report) or "")) if sentence]
    blocks.append([f"- {_safe(note)}" for note in notes(report)])
    blocks.append(_table(["", ""], [[label, _safe(text)] for label, text in about(report)]))
    for title, lines in figures(report):
        blocks.append([f"## {title}"])
        blocks.append(_table([">", ""], [[figure.value, _safe(figure.meaning)] for figure in lines]))
        if title == "Rows" and report.failures:
            blocks += [["## Failures"], _failures(report)]
    if bounds := limits(report):
        blocks += [[f"## {TITLE}"], _table([">", ""], [[share, _safe(name)] for share, name in bounds])]
        blocks.append([_safe(advice(report))])
    if measured := latencies(report):
        blocks.append(["## Seconds"])
        cells = [
            [label, number(spread.count), *(seconds(getattr(spread, f"{column}_s")) for column in COLUMNS)]
            for label, spread in measured
        ]
        blocks.append(_table(["", *(f">{column}" for column in ("rows", *COLUMNS))], cells))
    return "\n\n".join("\n".join(lines) for lines in blocks if lines) + "\n"


def _failures(report: Report) -> list[str]:
    cells = []
    for group in report.failures:
        shown = "<br>".join(f"{_safe(ids)}: {_safe(message)}" for ids, message in examples(group))
        cells.append([number(group.rows), percent(group.share, 1), _safe(group.error_type), shown])
    return _table([">rows", ">share", "error_type", "for example"], cells)


def _table(heads: list[str], cells: list[list[str]]) -> list[str]:
    """Lines of a table; a head that starts with `>` has its column to the right."""
    if not cells:
        return []
    rules = ["---:" if head.startswith(">") else "---" for head in heads]
    names = [head.removeprefix(">") for head in heads]
    return ["| " + " | ".join(row) + " |" for row in (names, rules, *cells)]


def _safe(text: str) -> str:
    """Text that GitHub shows as it is: characters that mean something become entities."""
    return _MARKUP.sub(lambda match: f"&#{ord(match[0])};", visible(text))
