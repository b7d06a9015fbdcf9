"""`batchrun report`: what a run cost and how long it took, from its folder alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from batchrun.cli.lines import put
from batchrun.errors import ConfigError, StoreError

if TYPE_CHECKING:
    from batchrun.pricing import Tier


@click.command(context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "BATCHRUN_REPORT"})
@click.argument("out", metavar="OUT")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "markdown"]),
    default="text",
    show_default=True,
    envvar="BATCHRUN_REPORT_FORMAT",
    help="For people, programs, or a page.",
)
@click.option("--prices", metavar="FILE", help="What if: the same tokens at the prices of a file.")
@click.option("--as-model", metavar="M", help="What if: the same tokens, had all been asked of this model.")
@click.option(
    "--as-tier",
    type=click.Choice(["standard", "priority", "batch"]),
    help="What if: the same tokens in another service tier, or as a batch job.",
)
@click.option("-o", "--output", metavar="FILE", default="-", show_default=True, help="Where to; - is stdout.")
def report(*, out: str, form: str, prices: str | None, as_model: str | None, as_tier: Tier | None, output: str) -> None:
    """Report on the run folder OUT: rows, failures, tokens, cost, latency.

    It needs nothing but the folder, and works while the run is still going on. The options that say "What if" put a
    second bill beside the one that was paid.

    \b
    Example:
      batchrun report runs/quickstart --format markdown -o report.md
      batchrun report runs/quickstart --as-model kimi-k3
    """  # noqa: D301 (click reads the backspace)
    from batchrun.cli.lean import be_lean

    be_lean()
    from batchrun.report.markdown import to_markdown
    from batchrun.report.summary import to_json
    from batchrun.report.text import to_text
    from batchrun.reporting import Question, report_on
    from batchrun.store.folder import RunFolder

    asked = prices or as_model or as_tier
    question = Question(prices=prices, model=as_model, tier=as_tier) if asked else None
    found = report_on(RunFolder(out), question)
    if form == "json":
        text = to_json(found).decode()
    else:
        text = to_markdown(found) if form == "markdown" else to_text(found, width=terminal_width())
    if output == "-":
        if not put(text):
            raise StoreError("the report could not be written", remedy="free the disk, or name a file with -o")
    else:
        try:
            Path(output).write_text(text, encoding="utf-8")
        except OSError as error:
            remedy = "name a file in a folder that is there and yours"
            raise ConfigError(f"{output}: cannot be written: {error.strerror}", remedy=remedy) from error


def terminal_width() -> int:
    """Columns of the terminal, between 60 and 120; 80 where there is none."""
    import shutil

    return min(120, max(60, shutil.get_terminal_size((80, 24)).columns))
