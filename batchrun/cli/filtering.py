"""`batchrun run … -o -`: a filter, whose run folder is a temporary one that keeps everything."""

from __future__ import annotations

import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import click

from batchrun.cli.lines import say
from batchrun.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from batchrun.cli.outflow import Outflow
    from batchrun.config import Config
    from batchrun.export.forms import Form

_FORMS = ["jsonl", "fireworks", "csv"]
_OPTIONS = [
    click.option(
        "--format",
        "form",
        type=click.Choice(_FORMS),
        metavar="FORM",
        envvar="BATCHRUN_RUN_FORMAT",
        help="With -o -: answers to stdout as jsonl (by default), fireworks or csv.",
    ),
    click.option("--sorted", "sort", is_flag=True, help="With -o -: in the order of the input, once all are there."),
]


def filtered_by(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options of a filter."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def is_filter(options: dict[str, Any]) -> bool:
    """Whether the answers go to stdout. If so, they are kept in a temporary folder, which the options then name."""
    if options["output"] != "-":
        if options["form"] or options["sort"]:
            raise ConfigError(
                "--format and --sorted are for answers on stdout",
                remedy="add -o -, or use `batchrun export OUT` when the run has ended",
            )
        return False
    if sys.stdout is None:
        raise ConfigError("-o -: stdout is closed", remedy="name a run folder with -o")
    from batchrun.cli.lean import be_lean

    be_lean()
    from batchrun.store.identity import temporary_folder

    options["output"] = temporary_folder()
    sys.argv[1:] = in_folder(sys.argv[1:], options["output"])  # what is said to go on with
    return True


def in_folder(words: list[str], folder: str) -> list[str]:
    """The same command line with a run folder in place of stdout."""
    kept: list[str] = []
    passed = iter(words)
    for word in passed:
        if word in {"-o", "--output", "--output-file", "--format"}:
            next(passed, "")
        elif not word.startswith("--format=") and word not in {"-o-", "--output=-", "--output-file=-", "--sorted"}:
            kept.append(word)
    return [*kept, "-o", folder]


@contextmanager
def flowing_out(config: Config, options: dict[str, Any]) -> Iterator[Outflow | None]:
    """Write records to stdout while the block runs, or all of them in order after it; raises StoreError.

    A reader that has left is no error: what it did not take is in the folder.
    """
    say(f"every answer is kept in {config.output}")
    form: Form = options["form"] or "jsonl"
    if options["sort"]:
        yield None
        _export_sorted(config.output, form)
        return
    from batchrun.cli.outflow import Outflow

    outflow = Outflow(form, config.endpoint.api)
    try:
        yield outflow
    finally:
        outflow.finish()
    outflow.raise_failure()


def _export_sorted(folder: str, form: Form) -> None:
    from batchrun.export.target import opened
    from batchrun.exporting import export, open_folder
    from batchrun.store.folder import RunFolder

    snapshot = open_folder(RunFolder(folder))
    with suppress(BrokenPipeError), opened("-", binary=False) as sink:
        export(snapshot, sink, form, sort=True)
