"""`batchrun run`: runs a file of prompts, or goes on with it."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from batchrun.cli.lines import last_line, put, same_command, say
from batchrun.errors import ConfigError, EndpointError, Interrupted

if TYPE_CHECKING:
    from batchrun.config import Config
    from batchrun.errors import BatchrunError
    from batchrun.run import Ending

_CONFIG_SUFFIXES = (".yaml", ".yml", ".toml")


@click.command(context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "BATCHRUN"})
@click.argument("arguments", nargs=-1, metavar="[CONFIG] [INPUT]")
@click.option("-i", "--input", metavar="FILE", help="Prompts: .jsonl, .parquet or .csv, a glob, or - for stdin.")
@click.option("-o", "--output", metavar="OUT", help="Run folder; {name} and {date} are filled in.")
@click.option("-m", "--model", metavar="MODEL", help="Model, where a row names none.")
@click.option("-n", "--limit", metavar="N", type=click.IntRange(min=1), help="Send only the first N rows.")
@click.option("-c", "--concurrency", metavar="N", type=click.IntRange(min=1), help="At most N requests in flight.")
@click.option(
    "--rpm", metavar="N", type=click.FloatRange(min=0, min_open=True), help="At most N requests in any minute."
)
@click.option(
    "--stream",
    metavar="WHEN",
    type=click.Choice(["auto", "always", "never"]),
    help="Stream: auto (where it is needed), always or never.",
)
@click.option(
    "--set",
    "sets",
    metavar="KEY=VALUE",
    multiple=True,
    envvar="BATCHRUN_SET",
    help="Any key, e.g. request.params.temperature=0.7",
)
@click.option(
    "--retry-failed",
    metavar="WHICH",
    type=click.Choice(["retryable", "all", "none"]),
    default="retryable",
    show_default=True,
    help="Failures of earlier starts to try again: retryable, all or none.",
)
@click.option("--skip-invalid", is_flag=True, help="Keep unusable rows as failures instead of stopping.")
@click.option("--fail-threshold", metavar="N|N%", default="0", show_default=True, help="More failures: exit 3.")
@click.option("-q", "--quiet", is_flag=True, help="Say only warnings, errors and the last line.")
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
    """  # noqa: D301 (click reads the backspace)
    from batchrun.config import load_config

    path, source = _split(arguments, options["input"])
    overrides = {
        "input": source,
        "output": options["output"],
        "request.model": options["model"],
        "request.stream": options["stream"],
        "limits.concurrency": options["concurrency"],
        "limits.requests_per_minute": options["rpm"],
    }
    threshold = _threshold(options["fail_threshold"])
    config = load_config(path, overrides=overrides, sets=sets)
    if options["verbose"]:
        import msgspec

        say(msgspec.yaml.encode(config).decode().rstrip())
    return _conclude(_walk(config, options), threshold, config.output, quiet=options["quiet"])


def _walk(config: Config, options: dict[str, Any]) -> Ending:
    import asyncio

    from batchrun.cli.lean import be_lean
    from batchrun.cli.progress import Progress
    from batchrun.run import Options, walk

    be_lean()
    how = Options(limit=options["limit"], retry_failed=options["retry_failed"], skip_invalid=options["skip_invalid"])
    return asyncio.run(walk(config, how, Progress(quiet=options["quiet"])))


def _conclude(ending: Ending, threshold: tuple[float, bool], folder: str, *, quiet: bool) -> int:
    """Print the report, say how it ended and what to type next; returns the exit code of the contract."""
    if not quiet:
        from batchrun.cli.report import terminal_width
        from batchrun.report.text import to_text

        put(to_text(ending.report, width=terminal_width()))
        say(f"answers   {folder}/results/")
        if ending.report.rows.failed:
            say(f"failures  {folder}/failures/")
        say(f"report    {folder}/report/summary.json, report.md")
    if ending.cause:
        return _cut_short(ending, ending.cause)
    return _settled(ending, threshold, f"batchrun report {shlex.quote(folder)}")


def _cut_short(ending: Ending, cause: BatchrunError) -> int:
    """The last lines of a run that something ended before its time."""
    rows = ending.report.rows
    if isinstance(cause, Interrupted):
        why, after = cause.message, same_command()
    else:
        say(f"error: {cause.message}")
        why = "the endpoint cannot be used" if isinstance(cause, EndpointError) else "the disk failed or is full"
        after = cause.remedy or same_command()
    last_line(cause.exit_code, f"{why}; {rows.succeeded:,} of {rows.total or 0:,} rows have a result", after)
    return cause.exit_code


def _settled(ending: Ending, threshold: tuple[float, bool], report: str) -> int:
    """The last line of a run that did all that was to be done."""
    rows, total = ending.report.rows, ending.report.rows.total or 0
    kinds = ", ".join(f"{group.rows:,} {group.error_type}" for group in ending.report.failures[:3])
    failed = f"{rows.failed:,} of {total:,} rows failed ({kinds})"
    if rows.failed > _most_failures(threshold, total):
        last_line(3, failed, same_command() if ending.open_rows else report)
        return 3
    sent = (
        f"{ending.sent:,} request{'' if ending.sent == 1 else 's'} sent" if ending.sent else "nothing was left to send"
    )
    facts = [f"{rows.succeeded:,} of {total:,} rows have a result", *([failed] if rows.failed else []), sent]
    last_line(0, "; ".join(facts), f"the same without --limit for {rows.missing:,} more" if rows.missing else report)
    return 0


def _split(arguments: tuple[str, ...], option: str | None) -> tuple[str | None, str | None]:
    """Configuration and input; an input that is named as an argument wins over one from the environment."""
    configs = [name for name in arguments if name.endswith(_CONFIG_SUFFIXES)]
    sources = [name for name in arguments if not name.endswith(_CONFIG_SUFFIXES)]
    if option and (
        not sources or click.get_current_context().get_parameter_source("input") is ParameterSource.COMMANDLINE
    ):
        sources.append(option)
    if len(configs) > 1 or len(sources) > 1:
        raise ConfigError(
            f"more than one {'configuration' if len(configs) > 1 else 'input'} is named: "
            + " ".join(configs if len(configs) > 1 else sources),
            remedy="name one; for several input files use a glob in quotes: 'data/*.jsonl'",
        )
    return (configs[0] if configs else None), (sources[0] if sources else None)


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
