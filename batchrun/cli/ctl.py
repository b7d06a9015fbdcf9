"""`batchrun ctl`: retunes a run that is going on."""

from __future__ import annotations

import shlex

import click

from batchrun.cli.lines import last_line
from batchrun.errors import ConfigError


@click.command(context_settings={"auto_envvar_prefix": "BATCHRUN_CTL"})
@click.argument("out", metavar="OUT", type=click.Path())
@click.argument("do", metavar="set|pause|resume|drain", type=click.Choice(["set", "pause", "resume", "drain"]))
@click.argument("change", metavar="[KEY=VALUE]", required=False)
def ctl(*, out: str, do: str, change: str | None) -> int:
    """Retune the run that is going on in the folder OUT, without a restart.

    \b
    set KEY=VALUE  keep to another limit: limits.concurrency,
                   limits.requests_per_minute, ..._tokens_per_minute,
                   limits.max_cost_usd; null lifts a limit
    pause          send nothing new; what is in flight goes on
    resume         go on
    drain          send nothing new, wait for what is in flight, end (exit 4)

    It takes about a second, and holds until that run ends: the configuration
    stays as it is.

    \b
    Examples:
      batchrun ctl runs/quickstart set limits.concurrency=16
      batchrun ctl runs/quickstart pause
    """  # noqa: D301 (click reads the backspace)
    from batchrun.cli.lean import be_lean

    be_lean()
    if (do == "set") != (change is not None):
        raise ConfigError(
            "set takes KEY=VALUE, and nothing else does",
            remedy=f"batchrun ctl {shlex.quote(out)} set limits.concurrency=16",
        )
    from batchrun.controlling import change_of, request
    from batchrun.store.folder import RunFolder

    control = change_of(change) if change is not None else None
    folder = RunFolder(out)
    folder.read_run_file()
    answer = request(folder, control or do)
    if not answer.done:
        raise ConfigError(answer.said, remedy=answer.remedy)
    last_line(0, answer.said, f"batchrun status {shlex.quote(out)}")
    return 0
