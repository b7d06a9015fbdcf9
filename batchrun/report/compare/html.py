"""A comparison as one HTML page, in the style of the report's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batchrun.report.compare import outline
from batchrun.report.page import Card, page

if TYPE_CHECKING:
    from batchrun.report.compare.shape import Comparison

KEY_FIGURES = {"cost": "", "latency, p50": " s", "latency, p95": " s", "failures": "", "accuracy": ""}
"""Each with the unit that a table says elsewhere."""


def to_html(comparison: Comparison) -> str:
    """The comparison as a page of its own."""
    lines = outline.metrics(comparison)
    key = [(one, KEY_FIGURES[one.label]) for one in lines if one.label in KEY_FIGURES]
    found = comparison.accuracy
    return page(
        "compare/comparison.html",
        name=f"{comparison.b.name} against {comparison.a.name}",
        verdict=verdict(comparison),
        headline=headline(comparison),
        sentences=[f"{outline.headline(comparison)}."],
        about=outline.runs(comparison),
        notes=outline.notes(comparison),
        cards=[Card(one.label, one.b + unit, one.change or "as in A") for one, unit in key],
        gates=outline.gates(comparison),
        lines=lines,
        moves=outline.moves(comparison),
        figures=[("Answers", outline.answers(comparison)), *([("Accuracy", outline.accuracy(found))] if found else [])],
        examples=comparison.answers.examples,
    )


def headline(comparison: Comparison) -> str:
    """What became of the gates, else what is significant."""
    failed = sum(gate.failed for gate in comparison.gates)
    count = len(comparison.gates)
    if not count:
        return outline.significant(comparison)
    if count == 1:
        return "The gate failed" if failed else "The gate passed"
    return f"{failed} of {count} gates failed" if failed else f"All {count} gates passed"


def verdict(comparison: Comparison) -> str:
    """`bad` if a gate failed, `good` if all passed; without one `mixed` if anything is significant."""
    if comparison.gates:
        return "bad" if any(gate.failed for gate in comparison.gates) else "good"
    return "mixed" if any(metric and metric.significant for metric in comparison.metrics.values()) else "good"
