"""`batchrun compact`: merges the small parts of a closed run."""

from __future__ import annotations

import shlex

import click

from batchrun.cli.lines import last_line, say


@click.command(context_settings={"auto_envvar_prefix": "BATCHRUN"})
@click.argument("folder", metavar="OUT", type=click.Path())
def compact(folder: str) -> int:
    """Merge the small parts of a run that is closed.

    Many short starts leave many small Parquet files, which are slow to read. Those below 16 MB become files of about
    128 MB. No row changes, and nothing is sent. While it works, a reader of OUT/results may find a part less for a
    moment, never a row twice.

    \b
    Example:
      batchrun compact runs/quickstart
    """  # noqa: D301 (click reads the backspace)
    from batchrun.store.compacting import compact as merge_small_parts
    from batchrun.store.folder import RunFolder

    there = RunFolder(folder)
    there.read_run_file()
    with there.locked():
        done = merge_small_parts(there)
    before = f"{done.parts_before:,} parts, {done.bytes_before / 1e6:,.1f} MB"
    say(f"{folder}: {before} -> {done.parts_after:,} parts, {done.bytes_after / 1e6:,.1f} MB")
    what = "merged" if done.parts_after < done.parts_before else "there was nothing to merge"
    last_line(0, what, f"batchrun verify {shlex.quote(folder)}")
    return 0
