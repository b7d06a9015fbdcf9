"""`batchrun run`: runs a file of prompts, or goes on with it."""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING, Any

import click

from batchrun.cli.lines import last_line, say
from batchrun.errors import ConfigError

if TYPE_CHECKING:
    from batchrun.run import Ending

_CONFIG_SUFFIXES = (".yaml", ".yml", ".toml")


@click.command(context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "BATCHRUN"})
@click.argument("arguments", nargs=-1, metavar="[CONFIG] [INPUT]")
@click.option("-i", "--input", "source", metavar="FILE", help="Prompts: .jsonl .parquet .csv, a glob, or - for stdin.")
@click.option("-o", "--output", metavar="OUT", help="Run folder; {name} and {date} are filled in.")
@click.option("-m", "--model", metavar="MODEL", help="Model, where a row names none.")
@click.option("-n", "--limit", type=click.IntRange(min=1), help="Send only the first so many rows.")
@click.option("-c", "--concurrency", type=int, help="Requests in flight at most.")
@click.option("--rpm", type=float, help="Requests per minute at most.")
@click.option("--set", "sets", metavar="KEY=VALUE", multiple=True, help="Any key, e.g. request.params.temperature=0.7")
@click.option(
    "--retry-failed",
    type=click.Choice(["retryable", "all", "none"]),
    default="retryable",
    show_default=True,
    help="Which failures of earlier starts are tried again.",
)
@click.option("--skip-invalid", is_flag=True, help="Keep unusable rows as failures instead of stopping.")
@click.option(
    "--fail-threshold", metavar="N|N%", default="0", show_default=True, help="More failures than this: exit 3."
)
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but warnings and the last line.")
@click.option("-v", "--verbose", is_flag=True, help="Say the effective configuration first.")
def run(*, arguments: tuple[str, ...], sets: tuple[str, ...], **options: Any) -> None:
    """Run a file of prompts through an endpoint; the same command again finishes what is missing.

    An argument that ends in .yaml, .yml or .toml is the configuration, any other the input. Options win over
    BATCHRUN_* variables (BATCHRUN_CONCURRENCY=16), these over the file.

    \b
    Example:
      batchrun run configs/quickstart.yaml
      batchrun run prompts.jsonl -o out -m accounts/fireworks/models/glm-5p3-flash -c 32
    """  # noqa: D301 (click reads the backspace)
    from batchrun.config import load_config

    path, source = _split(arguments)
    overrides = {
        "input": options["source"] or source,
        "output": options["output"],
        "request.model": options["model"],
        "limits.concurrency": options["concurrency"],
        "limits.requests_per_minute": options["rpm"],
    }
    threshold = _threshold(options["fail_threshold"])
    config = load_config(path, overrides=overrides, sets=sets)
    if options["verbose"]:
        import msgspec

        say(msgspec.yaml.encode(config).decode())
    ending = _walk(config, options)
    _conclude(ending, threshold, config.output, options)


def _walk(config: Any, options: dict[str, Any]) -> Ending:
    import asyncio

    from batchrun.cli.progress import Progress
    from batchrun.run import Options, walk

    how = Options(limit=options["limit"], retry_failed=options["retry_failed"], skip_invalid=options["skip_invalid"])
    return asyncio.run(walk(config, how, Progress(quiet=options["quiet"])))


def _conclude(ending: Ending, threshold: tuple[float, bool], folder: str, options: dict[str, Any]) -> None:
    """Print the report, say how it ended, and leave with the exit code of the contract."""
    from batchrun.cli.report import terminal_width
    from batchrun.report.text import to_text

    rows = ending.report.rows
    if not options["quiet"]:
        click.echo(to_text(ending.report, width=terminal_width()))
        say(f"wrote {folder}/results/ {folder}/failures/ {folder}/report/summary.json {folder}/report/report.md")
    report = f"batchrun report {shlex.quote(folder)}"
    if ending.cause:
        code, why, after = ending.cause.exit_code, ending.cause.message, ending.cause.remedy
    elif rows.failed > _most_failures(threshold, rows.total or 0):
        kinds = ", ".join(f"{group.rows:,} {group.error_type}" for group in ending.report.failures[:3])
        code, why = 3, f"{rows.failed:,} of {rows.total:,} rows failed ({kinds})"
        after = "the same command again" if ending.open_rows else f"look into {folder}/failures, or {report}"
    else:
        code, after = 0, report
        settled = "nothing was left to send" if not ending.sent else f"{ending.sent:,} requests were sent"
        why = f"{rows.succeeded:,} of {rows.total:,} rows have a result, {settled}"
    last_line(code, why, after)
    sys.exit(code)


def _split(arguments: tuple[str, ...]) -> tuple[str | None, str | None]:
    configs = [name for name in arguments if name.endswith(_CONFIG_SUFFIXES)]
    sources = [name for name in arguments if not name.endswith(_CONFIG_SUFFIXES)]
    if len(configs) > 1 or len(sources) > 1:
        raise ConfigError(
            "more than one configuration or input is named: " + " ".join(arguments),
            remedy="name one of each; for several input files use a glob in quotes: 'data/*.jsonl'",
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
