"""`batchrun plan`: what a run would send, cost and take."""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING, Any

import click

from batchrun.cli.configured import configuration_of, configured
from batchrun.cli.lines import last_line, put

if TYPE_CHECKING:
    from batchrun.config import Config
    from batchrun.forecasting import Forecast, ModelForecast, Range

_REQUEST_CHARS = 2000


@click.command(context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "BATCHRUN"})
@configured
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    envvar="BATCHRUN_PLAN_FORMAT",
    help="For people, or for programs.",
)
def plan(*, arguments: tuple[str, ...], sets: tuple[str, ...], **options: Any) -> int:
    """Say what a run would send, what it would cost and how long it takes at least. Nothing is sent.

    It takes the arguments of `batchrun run`, reads and renders every row, and looks at what the run folder holds.

    \b
    Examples:
      batchrun plan configs/quickstart.yaml
      batchrun plan prompts.jsonl -m simulated/small --format json
    """  # noqa: D301 (click reads the backspace)
    return show(configuration_of(arguments, sets, options), options)


def show(config: Config, options: dict[str, Any]) -> int:
    """Print the plan of a run; returns the exit code: 2 where rows cannot be sent as they are."""
    import msgspec

    from batchrun.forecasting import forecast

    found = forecast(config, limit=options["limit"], retry_failed=options["retry_failed"])
    if options.get("form") == "json":
        put(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())
    else:
        put(to_text(found))
    if found.invalid and not options.get("skip_invalid"):
        last_line(2, f"{found.invalid:,} rows cannot be sent; nothing was sent", "correct them, or --skip-invalid")
        return 2
    words = ["run" if word == "plan" else word for word in sys.argv[1:] if word != "--dry-run"]
    last_line(0, f"{found.to_send:,} rows would be sent; nothing was sent", shlex.join(["batchrun", *words]))
    return 0


def to_text(found: Forecast) -> str:
    """The plan in lines of text."""
    from batchrun.report.format import dollars, duration

    lines = [f"{found.folder}: {found.rows:,} rows ({_forms(found)}), {found.to_send:,} to send"]
    if found.change:
        lines.append(f"The input has changed: {found.change}. It takes --on-change to go on.")
    lines += [f"problem: {problem}" for problem in found.problems]
    if found.invalid > len(found.problems):
        lines.append(f"and {found.invalid - len(found.problems):,} more")
    if found.to_send:
        lines += ["", f"{'':10}{'low':>14}{'likely':>14}{'high':>14}"]
        lines.append(_numbers("Prompt", found.prompt_tokens, "tokens"))
        lines.append(_numbers("Answers", found.completion_tokens, "tokens"))
        if found.cost_usd:
            cost = found.cost_usd
            usd = "".join(f"{dollars(value):>14}" for value in (cost.low, cost.likely, cost.high))
            lines.append(f"{'Cost':10}{usd}  prices of {found.price_date}")
        lines += ["", *(f"{'':10}{line}" for one in found.models for line in _why(one))]
    if found.unpriced_models:
        lines.append(f"unpriced: {', '.join(found.unpriced_models)}; put a price into a file and name it as `prices`")
    if found.least_s is not None:
        lines.append(f"{'Time':10}at least {duration(found.least_s)}: {found.bound_by}")
    return "\n".join([*lines, *_first(found)])


def _forms(found: Forecast) -> str:
    forms = [f"{count:,} {form}" for form, count in found.forms.items()]
    return ", ".join([*forms, *([f"{found.invalid:,} that cannot be sent"] if found.invalid else [])])


def _numbers(name: str, tokens: Range, unit: str) -> str:
    return f"{name:10}{tokens.low:14,.0f}{tokens.likely:14,.0f}{tokens.high:14,.0f}  {unit}"


def _why(one: ModelForecast) -> list[str]:
    source = f"from {one.learnt_from:,} answers in the folder" if one.learnt_from else "a guess: there is no answer yet"
    why = [f"{one.model}: {one.rows:,} rows, {source}"]
    if one.unlimited_rows:
        why.append(f"{one.unlimited_rows:,} rows set no max_tokens: their answers may cost more than `high`")
    return why


def _first(found: Forecast) -> list[str]:
    if not found.first_url:
        return []
    import msgspec

    body = msgspec.json.format(msgspec.json.encode(found.first_request), indent=2).decode()
    cut = body if len(body) <= _REQUEST_CHARS else body[:_REQUEST_CHARS] + "…"
    return ["", f"The first request: POST {found.first_url}", cut]
