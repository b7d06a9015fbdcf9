"""The options that say what is to be run, which several commands take, and the configuration that they make."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from batchrun.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from batchrun.config import Config

_CONFIG_SUFFIXES = (".yaml", ".yml", ".toml")


def _dollars(_context: click.Context, _option: click.Parameter, text: str | None) -> float | None:
    try:
        usd = None if text is None else float(text)
    except ValueError:
        usd = 0.0
    if usd is None or 0 < usd < math.inf:
        return usd
    raise ConfigError(
        f"--max-cost {text!r} is no amount of dollars above zero", remedy="write e.g. --max-cost 5 or --max-cost 2.50"
    )


_OPTIONS = [
    click.argument("arguments", nargs=-1, metavar="[CONFIG] [INPUT]", type=click.Path()),
    click.option(
        "-i",
        "--input",
        metavar="FILE",
        type=click.Path(),
        help="Prompts: .jsonl, .parquet or .csv, a glob, or - for stdin.",
    ),
    click.option(
        "-o", "--output", metavar="OUT", type=click.Path(), help="Run folder; {name} and {date} are filled in."
    ),
    click.option("--base-url", metavar="URL", help="Endpoint; `simulated` needs no key and costs nothing."),
    click.option("-m", "--model", metavar="MODEL", help="Model, where a row names none."),
    click.option("-n", "--limit", metavar="N", type=click.IntRange(min=1), help="Send only the first N rows."),
    click.option("-c", "--concurrency", metavar="N", type=click.IntRange(min=1), help="At most N requests in flight."),
    click.option(
        "--rpm", metavar="N", type=click.FloatRange(min=0, min_open=True), help="At most N requests in any minute."
    ),
    click.option("--max-cost", metavar="USD", callback=_dollars, help="Spend at most so many dollars."),
    click.option(
        "--stream",
        metavar="WHEN",
        type=click.Choice(["auto", "always", "never"]),
        help="Stream: auto (where it is needed), always or never.",
    ),
    click.option(
        "--set",
        "sets",
        metavar="KEY=VALUE",
        multiple=True,
        envvar="BATCHRUN_SET",
        help="Any key, e.g. request.params.temperature=0.7",
    ),
    click.option(
        "--retry-failed",
        metavar="WHICH",
        type=click.Choice(["retryable", "all", "none"]),
        default="retryable",
        show_default=True,
        help="Failures of earlier starts to try again: retryable, all or none.",
    ),
    click.option("--skip-invalid", is_flag=True, help="Keep unusable rows as failures instead of stopping."),
]


def configured(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that `configuration_of` reads."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def configuration_of(arguments: tuple[str, ...], sets: tuple[str, ...], options: dict[str, Any]) -> Config:
    """The configuration that a command line asks for; raises ConfigError."""
    from batchrun.config import load_config

    path, source = _split(arguments, options["input"])
    overrides = {
        "input": source,
        "output": options["output"],
        "endpoint.base_url": options["base_url"],
        "request.model": options["model"],
        "request.stream": options["stream"],
        "limits.concurrency": options["concurrency"],
        "limits.requests_per_minute": options["rpm"],
        "limits.max_cost_usd": options["max_cost"],
    }
    return load_config(path, overrides=overrides, sets=sets)


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
