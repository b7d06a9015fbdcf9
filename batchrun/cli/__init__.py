"""The terminal: the group below is the table of contents, one file a command."""

from __future__ import annotations

import click

from batchrun import __version__
from batchrun.cli.compact import compact
from batchrun.cli.export import export
from batchrun.cli.plan import plan
from batchrun.cli.prices import prices
from batchrun.cli.report import report
from batchrun.cli.run import run
from batchrun.cli.simulate import simulate
from batchrun.cli.verify import verify


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="batchrun")
def batchrun() -> None:
    """Run a file of prompts through a language-model endpoint, and never pay twice.

    \b
    Example, without a key:
      batchrun run prompts.jsonl -o out --model simulated/small --set endpoint.base_url=simulated
    """  # noqa: D301 (click reads the backspace)


batchrun.add_command(run)
batchrun.add_command(plan)
batchrun.add_command(report)
batchrun.add_command(export)
batchrun.add_command(verify)
batchrun.add_command(compact)
batchrun.add_command(prices)
batchrun.add_command(simulate)
