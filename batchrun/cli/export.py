"""`batchrun export`: what a run has kept, as a file of another form."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import click

from batchrun.cli.lines import say

if TYPE_CHECKING:
    from batchrun.export.forms import Form
    from batchrun.exporting import Exported


@click.command(context_settings={"auto_envvar_prefix": "BATCHRUN_EXPORT"})
@click.argument("out", metavar="OUT", type=click.Path())
@click.option(
    "-o", "--output", metavar="FILE", type=click.Path(), default="-", show_default=True, help="Where to; - is stdout."
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["openai", "fireworks", "jsonl", "parquet", "csv"]),
    envvar="BATCHRUN_EXPORT_FORMAT",
    help="By default parquet or csv if FILE ends so, else openai.",
)
@click.option(
    "--sorted", "sort", is_flag=True, envvar="BATCHRUN_EXPORT_SORTED", help="Write the rows in the order of the input."
)
@click.option(
    "--join",
    metavar="INPUT",
    type=click.Path(),
    help="Put the columns of INPUT first; implies --sorted. For jsonl, parquet and csv.",
)
def export(*, out: str, output: str, form: Form | None, sort: bool, join: str | None) -> None:
    """Write what the run folder OUT holds, successes and failures, in one file.

    openai and fireworks are the batch output of those providers, one JSON
    object a line; jsonl, parquet and csv have the columns of OUT. A FILE that
    is there is replaced, whole, once all is written. It works while the run is
    still going on.

    \b
    Example:
      batchrun export runs/quickstart -o answers.jsonl --sorted
    """  # noqa: D301 (click reads the backspace)
    from batchrun.cli.lean import be_lean

    be_lean()
    from batchrun.export.target import opened
    from batchrun.exporting import export as write
    from batchrun.exporting import open_folder, refuse_target
    from batchrun.prompts import open_prompts
    from batchrun.store.folder import RunFolder

    form = form or _form_of(output)
    snapshot = open_folder(RunFolder(out))
    prompts = None if join is None else open_prompts(join)
    refuse_target(snapshot, output, prompts)
    with suppress(BrokenPipeError):  # its reader has seen enough
        with opened(output, binary=form == "parquet") as sink:
            done = write(snapshot, sink, form, sort=sort, join=prompts)
        say(_told(done, output))


def _form_of(output: str) -> Form:
    name = output.lower()
    if name.endswith(".parquet"):
        return "parquet"
    return "csv" if name.endswith(".csv") else "openai"


def _told(done: Exported, output: str) -> str:
    failed = f" ({done.failures:,} failures)" if done.failures else ""
    missing = f"; {done.missing:,} rows of the input have no answer yet" if done.missing else ""
    return f"exported {done.rows:,} rows{failed} to {'stdout' if output == '-' else output}{missing}"
