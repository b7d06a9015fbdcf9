"""A comparison for the terminal: aligned, in plain characters, nothing from outside as it came."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batchrun.report.compare import outline
from batchrun.report.format import number, visible
from batchrun.report.text import LABEL, LEAST_WIDTH, cut, wrap

if TYPE_CHECKING:
    from batchrun.report.compare.shape import Comparison
    from batchrun.report.format import Figure

_GAP = 2


def to_text(comparison: Comparison, width: int = 80) -> str:
    """Lay a comparison out in at most `width` columns (at least 40); ends with a newline."""
    width = max(width, LEAST_WIDTH)
    blocks = [
        [one for said in (outline.headline, outline.significant) for one in wrap(f"{said(comparison)}.", width)],
        _runs(comparison, width),
        _metrics(comparison, width),
        _failures(comparison, width),
        _answers(comparison, width),
    ]
    if found := comparison.accuracy:
        blocks.append(_figures("Accuracy", outline.accuracy(found), width))
    blocks.append([one for note in outline.notes(comparison) for one in wrap(note, width, first="- ", then="  ")])
    blocks.append(_gates(comparison, width))
    return "\n\n".join("\n".join(lines) for lines in blocks if lines) + "\n"


def _runs(comparison: Comparison, width: int) -> list[str]:
    return [
        one
        for label, text in outline.runs(comparison)
        for one in wrap(text, width, first=f"{label:{LABEL}}", then=" " * LABEL)
    ]


def _metrics(comparison: Comparison, width: int) -> list[str]:
    lines = outline.metrics(comparison)
    if not lines:
        return []
    label = max(len(one.label) for one in lines)
    value = max(len(text) for one in lines for text in (one.a, one.b)) + _GAP
    change = max(len(one.change) for one in lines)
    below = label + 2 * value + _GAP + change > width
    said = [cut(f"{'':{label}}{'A':>{value}}{'B':>{value}}  B against A, 95 % interval", width)]
    for one in lines:
        beside = f"{one.label:{label}}{one.a:>{value}}{one.b:>{value}}"
        if below:
            said += [cut(beside, width), *wrap(one.change, width, first="  ", then="  ")]
        else:
            said.append(f"{beside}  {one.change}".rstrip())
    return said


def _failures(comparison: Comparison, width: int) -> list[str]:
    lines: list[str] = []
    for count, ending, examples in outline.moves(comparison):
        title = "" if lines else "Failures"
        lines.append(cut(f"{title:{LABEL}}{number(count):>{_value_width(comparison)}}  {visible(ending)}", width))
        for example in examples:
            lines += wrap(example, width, first=" " * LABEL, then=" " * (LABEL + 2), most=2)
    return lines


def _answers(comparison: Comparison, width: int) -> list[str]:
    lines = _figures("Answers", outline.answers(comparison), width)
    for one in comparison.answers.examples:
        lines.append(cut(" " * LABEL + visible(one.custom_id), width))
        for name, said in (("A", one.a), ("B", one.b)):
            lines += wrap(f"{name}: {said}", width, first=" " * (LABEL + 2), then=" " * (LABEL + 5), most=2)
    return lines


def _figures(title: str, figures: list[Figure], width: int) -> list[str]:
    titles = [title, *[""] * (len(figures) - 1)]
    value = max((len(figure.value) for figure in figures), default=0)
    return [
        cut(f"{name:{LABEL}}{figure.value:>{value}}  {figure.meaning}", width)
        for name, figure in zip(titles, figures, strict=False)
    ]


def _gates(comparison: Comparison, width: int) -> list[str]:
    titles = ["Gates", *[""] * len(comparison.gates)]
    return [
        one
        for title, gate in zip(titles, outline.gates(comparison), strict=False)
        for one in wrap(gate.meaning, width, first=f"{title:{LABEL}}{gate.value}  ", then=" " * (LABEL + 8))
    ]


def _value_width(comparison: Comparison) -> int:
    return max(len(number(move.rows)) for move in comparison.moves)
