"""`batchrun report`: what a run cost and how long it took, from its folder alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from batchrun.cli.output import terminal_width, text_or_page, write_out
from batchrun.errors import ConfigError

if TYPE_CHECKING:
    from batchrun.pricing import Tier
    from batchrun.report.summary import Report
    from batchrun.store.folder import RunFolder

MOST_SAMPLES = 50


@click.command(context_settings={"auto_envvar_prefix": "BATCHRUN_REPORT"})
@click.argument("out", metavar="OUT", type=click.Path())
@text_or_page("report")
@click.option(
    "--samples",
    type=click.IntRange(1, MOST_SAMPLES),
    metavar="N",
    help="With --format html: so many prompts and answers on the page.",
)
@click.option("--by", metavar="COLUMN", help="The cost of each value of an input column that keep_columns named.")
@click.option("--prices", metavar="FILE", type=click.Path(), help="What if: the same tokens at the prices of a file.")
@click.option("--as-model", metavar="M", help="What if: the same tokens, had all been asked of this model.")
@click.option(
    "--as-tier",
    type=click.Choice(["standard", "priority", "batch"]),
    help="What if: the same tokens in another service tier, or as a batch job.",
)
@click.option(
    "-o", "--output", metavar="FILE", type=click.Path(), default="-", show_default=True, help="Where to; - is stdout."
)
@click.option("--follow", "follows", is_flag=True, help="Redraw it on the terminal until the run has ended.")
def report(
    *,
    out: str,
    form: str,
    samples: int | None,
    by: str | None,
    prices: str | None,
    as_model: str | None,
    as_tier: Tier | None,
    output: str,
    follows: bool,
) -> None:
    """Report on the run folder OUT: rows, failures, tokens, cost, latency.

    It needs nothing but the folder, and works while the run is still going on. The options that say "What if" put a
    second bill beside the one that was paid.

    \b
    Example:
      batchrun report runs/quickstart --format markdown -o report.md
      batchrun report runs/quickstart --format html --samples 5 -o report.html
      batchrun report runs/quickstart --as-model kimi-k3
    """  # noqa: D301 (click reads the backspace)
    from batchrun.cli.lean import be_lean

    be_lean()
    from batchrun.reporting import Question, report_on
    from batchrun.store.folder import RunFolder

    if samples and form != "html":
        raise ConfigError("--samples goes onto a page", remedy="add --format html")
    question = Question(prices=prices, model=as_model, tier=as_tier, by=by)
    folder = RunFolder(out)
    if follows:
        if form != "text" or output != "-":
            raise ConfigError("--follow is for the terminal", remedy="leave out --format and -o")
        from batchrun.cli.following import follow

        follow(folder, lambda: _written(report_on(folder, question), "text", folder, None))
        return
    write_out(_written(report_on(folder, question), form, folder, samples), output)


def _written(found: Report, form: str, folder: RunFolder, samples: int | None) -> str:
    """The report in one of its forms; each is imported when it is asked for."""
    if form == "html":
        from batchrun.report.html import to_html
        from batchrun.reporting import samples_from

        return to_html(found, samples_from(folder, found, samples) if samples else None)
    if form == "markdown":
        from batchrun.report.markdown import to_markdown

        return to_markdown(found)
    if form == "json":
        from batchrun.report.summary import to_json

        return to_json(found).decode()
    from batchrun.report.text import to_text

    return to_text(found, width=terminal_width())
