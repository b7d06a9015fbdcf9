"""`batchrun compare`: two runs side by side, and whether a pipeline may go on."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import click

from batchrun.cli.lines import last_line
from batchrun.cli.output import terminal_width, text_or_page, write_out

if TYPE_CHECKING:
    from batchrun.report.compare.shape import Comparison

GATE_FAILED = 3


@click.command(context_settings={"auto_envvar_prefix": "BATCHRUN_COMPARE"})
@click.argument("out_a", metavar="OUT_A", type=click.Path())
@click.argument("out_b", metavar="OUT_B", type=click.Path())
@click.option(
    "--column",
    metavar="NAME",
    help="Accuracy: the expected answer is in this column, one of keep_columns of both runs. An answer is right if it "
    "is the same text, but for white space around it.",
)
@click.option(
    "--fail-if",
    "fail_if",
    metavar="GATE",
    multiple=True,
    help="Exit with 3 if this is so; may be repeated. A change from A to B has a sign (METRIC > +10%), a number of B "
    "has none (METRIC > 10).",
)
@text_or_page("compare")
@click.option(
    "-o", "--output", metavar="FILE", type=click.Path(), default="-", show_default=True, help="Where to; - is stdout."
)
def compare(*, out_a: str, out_b: str, column: str | None, fail_if: tuple[str, ...], form: str, output: str) -> int:
    """Compare the run folder OUT_B with OUT_A: cost, tokens, latency, failures, answers.

    Rows pair up by custom_id, and where ids differ by what was sent. A
    difference is called significant where its 95 % interval leaves out zero.
    It works while a run is still going on.

    \b
    Metrics of a gate:
      cost_usd prompt_tokens completion_tokens total_tokens
      latency_s latency_p50_s latency_p95_s ttft_s ttft_p50_s ttft_p95_s
      failures accuracy different unpaired

    \b
    Examples:
      batchrun compare runs/small runs/large
      batchrun compare runs/small runs/large --column label \\
        --fail-if "cost_usd > +10%" --fail-if "accuracy < -0.02"
    """  # noqa: D301 (click reads the backspace)
    from batchrun.cli.lean import be_lean

    be_lean()
    from batchrun.comparing import compare_folders
    from batchrun.report.compare.gates import parse_gate
    from batchrun.report.compare.outline import judged

    gates = [parse_gate(text, accuracy=column is not None) for text in fail_if]
    found = compare_folders(out_a, out_b, column=column, gates=gates)
    write_out(_laid_out(found, form), output)
    failed, after = [gate for gate in found.gates if gate.failed], shlex.join(["batchrun", "report", out_b])
    if failed:
        why = f"{len(failed)} of {len(gates)} gates failed: {'; '.join(map(judged, failed))}"
        last_line(GATE_FAILED, why, after)
        return GATE_FAILED
    if gates and output != "-":
        last_line(0, f"no gate failed, of {len(gates)}", after)
    return 0


def _laid_out(found: Comparison, form: str) -> str:
    if form == "json":
        from batchrun.report.compare.shape import to_json

        return to_json(found)
    if form == "html":
        from batchrun.report.compare.html import to_html

        return to_html(found)
    if form == "markdown":
        from batchrun.report.compare.markdown import to_markdown

        return to_markdown(found)
    from batchrun.report.compare.text import to_text

    return to_text(found, width=terminal_width())
