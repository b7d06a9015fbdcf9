"""`batchrun plan`: what a run would send, cost and take."""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING, Any

import click

from batchrun.cli.configured import configuration_of, configured
from batchrun.cli.lines import last_line, put, shown
from batchrun.cli.output import text_or_json

if TYPE_CHECKING:
    from batchrun.config import Config


@click.command(context_settings={"auto_envvar_prefix": "BATCHRUN"})
@configured
@text_or_json("plan")
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

    from batchrun.cli.plan_text import to_text
    from batchrun.forecasting import forecast

    found = forecast(config, limit=options["limit"], retry_failed=options["retry_failed"])
    if options.get("form") == "json":
        put(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())
    else:
        put(shown(to_text(found)))
    if found.invalid and not options.get("skip_invalid"):
        last_line(2, f"{found.invalid:,} rows cannot be sent; nothing was sent", "correct them, or --skip-invalid")
        return 2
    words = ["run" if word == "plan" else word for word in sys.argv[1:] if word != "--dry-run"]
    last_line(0, f"{found.to_send:,} rows would be sent; nothing was sent", shlex.join(["batchrun", *words]))
    return 0
