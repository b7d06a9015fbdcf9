"""A comparison as GitHub Markdown, for a pull request; text from outside stays text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batchrun.report.compare import outline
from batchrun.report.format import number
from batchrun.report.markdown import safe, table

if TYPE_CHECKING:
    from batchrun.report.compare.shape import Comparison
    from batchrun.report.format import Figure


def to_markdown(comparison: Comparison) -> str:
    """The comparison as GitHub Markdown, with tables; ends with a newline."""
    name_a, name_b = safe(comparison.a.name), safe(comparison.b.name)
    blocks = [[f"# {name_b} against {name_a}"], [f"**{outline.headline(comparison)}.**"]]
    blocks.append([f"{outline.significant(comparison)}."])
    if comparison.gates:
        blocks += [["## Gates"], _figures(outline.gates(comparison))]
    blocks.append([f"- {safe(note)}" for note in outline.notes(comparison)])
    blocks.append(table(["", ""], [[safe(name), safe(text)] for name, text in outline.runs(comparison)]))
    if lines := outline.metrics(comparison):
        blocks.append(["## Metrics"])
        blocks.append(table(["", ">A", ">B", "B against A, 95 % interval"], [list(line) for line in lines]))
    if moved := outline.moves(comparison):
        cells = [
            [number(count), safe(ending), "<br>".join(safe(example) for example in examples)]
            for count, ending, examples in moved
        ]
        blocks += [["## Failures"], table([">pairs", "A -> B", "for example"], cells)]
    if figures := outline.answers(comparison):
        blocks += [["## Answers"], _figures(figures)]
    if examples := comparison.answers.examples:
        cells = [[safe(text) for text in (one.custom_id, one.a, one.b)] for one in examples]
        blocks.append(table(["for example", "A", "B"], cells))
    if comparison.accuracy:
        blocks += [["## Accuracy"], _figures(outline.accuracy(comparison.accuracy))]
    return "\n\n".join("\n".join(lines) for lines in blocks if lines) + "\n"


def _figures(figures: list[Figure]) -> list[str]:
    return table([">", ""], [[figure.value, safe(figure.meaning)] for figure in figures])
