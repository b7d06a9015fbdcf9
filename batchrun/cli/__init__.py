"""The terminal: the group below is the table of contents, one file a command."""

from __future__ import annotations

import click

from batchrun.cli.compact import compact
from batchrun.cli.compare import compare
from batchrun.cli.contents import Contents, show_versions
from batchrun.cli.ctl import ctl
from batchrun.cli.export import export
from batchrun.cli.init import init
from batchrun.cli.plan import plan
from batchrun.cli.prices import prices
from batchrun.cli.report import report
from batchrun.cli.run import run
from batchrun.cli.simulate import simulate
from batchrun.cli.status import status
from batchrun.cli.verify import verify

_COMPLETION = """\b
Completion with the Tab key: this line, at the end of your shell's file.
  eval "$(_BATCHRUN_COMPLETE=bash_source batchrun)"   # ~/.bashrc
  eval "$(_BATCHRUN_COMPLETE=zsh_source batchrun)"    # ~/.zshrc
  _BATCHRUN_COMPLETE=fish_source batchrun | source    # config.fish
"""


@click.group(cls=Contents, epilog=_COMPLETION)
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=show_versions,
    help="Show the versions that a bug report should name.",
)
def batchrun() -> None:
    """Run a file of prompts through a language-model endpoint, and never pay twice.

    \b
    Example, without a key:
      batchrun run prompts.jsonl -o out --model simulated/small --set endpoint.base_url=simulated
    """  # noqa: D301 (click reads the backspace)


batchrun.add_command(init)
batchrun.add_command(run)
batchrun.add_command(plan)
batchrun.add_command(status)
batchrun.add_command(ctl)
batchrun.add_command(report)
batchrun.add_command(compare)
batchrun.add_command(export)
batchrun.add_command(verify)
batchrun.add_command(compact)
batchrun.add_command(prices)
batchrun.add_command(simulate)
