"""`batchrun run`: runs a file of prompts, or goes on with it."""

from __future__ import annotations

import shlex
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import click

from batchrun.cli.attending import attended, attended_by
from batchrun.cli.configured import configuration_of, configured
from batchrun.cli.filtering import filtered_by, flowing_out, is_filter
from batchrun.cli.lines import last_line, put, same_command, say
from batchrun.cli.output import terminal_width
from batchrun.errors import BudgetReached, ConfigError, EndpointError, Interrupted, PilotDone, Stopped

if TYPE_CHECKING:
    from batchrun.cli.attending import Attendance
    from batchrun.cli.outflow import Outflow
    from batchrun.config import Config
    from batchrun.errors import BatchrunError
    from batchrun.run import Ending

    Last = tuple[int, str, str]
    """The exit code, why, and what to type next; nothing is to be said where there is no why."""


@click.command(context_settings={"auto_envvar_prefix": "BATCHRUN"})
@configured
@click.option(
    "--on-change",
    metavar="WHAT",
    type=click.Choice(["refuse", "append", "rerun", "new"]),
    default="refuse",
    show_default=True,
    help="The input or the requests are others than those in OUT: refuse; append new rows; rerun what changed as well; "
    "or write into a new folder.",
)
@click.option("--fresh", is_flag=True, help="Start over in a new folder beside OUT; nothing is deleted.")
@click.option(
    "--pilot",
    metavar="N|N%",
    help="Send a sample of N rows first and say what the rest will cost: go on if --max-cost holds, else ask.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be sent and what it costs, and send nothing.")
@click.option("--allow-unpriced", is_flag=True, help="Under a budget: leave rows whose model has no price uncounted.")
@click.option("--fail-threshold", metavar="N|N%", default="0", show_default=True, help="More failures: exit 3.")
@attended_by
@click.option("--otel", is_flag=True, help="Send a trace by OpenTelemetry; OTEL_* variables say where to.")
@filtered_by
@click.option(
    "-q", "--quiet", count=True, help="Say only warnings, errors and the last line; -qq: if all is well, nothing."
)
@click.option("-v", "--verbose", is_flag=True, help="Say the effective configuration first.")
def run(*, arguments: tuple[str, ...], sets: tuple[str, ...], **options: Any) -> int:
    """Run a file of prompts through an endpoint.

    The same command again finishes what is missing and sends nothing for what is kept.

    An argument that ends in .yaml, .yml or .toml is the configuration, any other the input. Options win over
    BATCHRUN_* variables (BATCHRUN_CONCURRENCY=16), these over the file.

    \b
    Examples:
      batchrun run configs/quickstart.yaml
      batchrun run prompts.jsonl -o out -m accounts/fireworks/models/glm-5p3-flash
      cat prompts.jsonl | batchrun run - -m simulated/small --base-url simulated -o - | jq .content
    """  # noqa: D301 (click reads the backspace)
    threshold, filters = _threshold(options["fail_threshold"]), is_filter(options)
    if options["dry_run"]:
        from batchrun.cli.plan import show

        return show(configuration_of(arguments, sets, options), options)
    why = ""
    with attended(options) as attendance:
        config = configuration_of(arguments, sets, options)
        if options["verbose"]:
            import msgspec

            say(msgspec.yaml.encode(config).decode().rstrip())
        with flowing_out(config, options) if filters else nullcontext() as outflow:
            ending = _walk(config, options, attendance, outflow)
        attendance.code, why, after = _conclude(ending, threshold, options["quiet"], reports=not filters)
        attendance.why = str(ending.cause or "all that was to be done was done")
    if why:
        last_line(attendance.code, why, after)  # after the warnings of those who could not be told
    return attendance.code


def _walk(config: Config, options: dict[str, Any], attendance: Attendance, outflow: Outflow | None) -> Ending:
    import asyncio

    from batchrun.cli.lean import be_lean

    be_lean()
    from batchrun.cli.watching import RunWatch
    from batchrun.run import Options, walk

    how = Options(**{name: options[name] for name in Options.__struct_fields__ if name in options})
    return asyncio.run(walk(config, how, RunWatch(attendance, outflow, quiet=options["quiet"])))


def _conclude(ending: Ending, threshold: tuple[float, bool], quiet: int, *, reports: bool) -> Last:
    """Print the report; returns what the last line is to say."""
    folder = ending.folder
    if not quiet and reports:
        from batchrun.report.text import to_text

        put(to_text(ending.report, width=terminal_width()))
        say(f"answers   {folder}/results/")
        if ending.report.rows.failed:
            say(f"failures  {folder}/failures/")
        say(f"report    {folder}/report/report.html, report.md, summary.json")
    if ending.cause:
        return _cut_short(ending, ending.cause)
    return _settled(ending, threshold, f"batchrun report {shlex.quote(folder)}", silent=quiet > 1)


def _cut_short(ending: Ending, cause: BatchrunError) -> Last:
    """The end of a run that something ended before its time."""
    rows = ending.report.rows
    if isinstance(cause, BudgetReached | PilotDone):
        why, after = cause.message, cause.remedy
    elif isinstance(cause, Interrupted | Stopped):
        why, after = cause.message, same_command(ending.folder)
    else:
        say(f"error: {cause.message}")
        why = "the endpoint cannot be used" if isinstance(cause, EndpointError) else "the disk failed or is full"
        after = cause.remedy or same_command(ending.folder)
    return cause.exit_code, f"{why}; {rows.succeeded:,} of {rows.total or 0:,} rows have a result", after


def _settled(ending: Ending, threshold: tuple[float, bool], report: str, *, silent: bool) -> Last:
    """The end of a run that did all that was to be done."""
    rows, total = ending.report.rows, ending.report.rows.total or 0
    kinds = ", ".join(f"{group.rows:,} {group.error_type}" for group in ending.report.failures[:3])
    failed = f"{rows.failed:,} of {total:,} rows failed ({kinds})"
    if rows.failed > _most_failures(threshold, total):
        return 3, failed, same_command(ending.folder) if ending.open_rows else report
    if silent:
        return 0, "", ""
    sent = (
        f"{ending.sent:,} request{'' if ending.sent == 1 else 's'} sent" if ending.sent else "nothing was left to send"
    )
    facts = [f"{rows.succeeded:,} of {total:,} rows have a result", *([failed] if rows.failed else []), sent]
    return 0, "; ".join(facts), f"the same without --limit for {rows.missing:,} more" if rows.missing else report


def _threshold(text: str) -> tuple[float, bool]:
    try:
        number = float(text.removesuffix("%"))
    except ValueError:
        number = -1.0
    if not number >= 0:
        raise ConfigError(f"--fail-threshold {text!r} is not a number of rows or a percentage", remedy="e.g. 5 or 1%")
    return number, text.endswith("%")


def _most_failures(threshold: tuple[float, bool], rows: int) -> float:
    number, percent = threshold
    return number * rows / 100 if percent else number
