"""`batchrun status`: one screen on a run that is going on or has stopped."""

from __future__ import annotations

import shlex
import time
from typing import TYPE_CHECKING

import click

from batchrun.cli.lines import last_line, put, shown
from batchrun.cli.output import text_or_json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from batchrun.standing import Standing
    from batchrun.store.live import Live

_SAME_RUN = "the same `batchrun run` command as before"
_MODELS_SHOWN = 5
_SILENT_S = 10.0
_STATES = {
    "running": "a run is going on",
    "complete": "nothing is missing",
    "stopped": "the last run stopped before its end",
    "cut_off": "the last run was cut off (killed, or the machine went down); what was answered is kept",
    "not_begun": "nothing has been sent yet",
}


@click.command(context_settings={"auto_envvar_prefix": "BATCHRUN_STATUS"})
@click.argument("out", metavar="OUT", type=click.Path())
@text_or_json("status")
def status(*, out: str, form: str) -> int:
    """Say how the run in the folder OUT stands, on one screen.

    It changes nothing, reads little, and works while the run is going on: then
    it shows what is in flight as well, as it was about a second ago.

    \b
    Examples:
      batchrun status runs/quickstart
      batchrun status runs/quickstart --format json
      watch -n 2 batchrun status runs/quickstart
    """  # noqa: D301 (click reads the backspace)
    from batchrun.cli.lean import be_lean

    be_lean()
    import msgspec

    from batchrun.standing import stand
    from batchrun.store.folder import RunFolder

    found = stand(RunFolder(out))
    if form == "json":
        put(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())
    else:
        put(shown("\n".join(_lines(found))))
    _conclude(found)
    return 0


def _conclude(found: Standing) -> None:
    out = shlex.quote(found.folder)
    after = _SAME_RUN
    if found.state == "running":
        after = f"batchrun report {out} --follow"
    elif found.state == "complete":
        after = f"batchrun report {out}"
    failed = f", and {found.failed:,} of {found.rows:,} rows failed" if found.failed else ""
    last_line(0, _STATES[found.state] + failed, after)


def _lines(found: Standing) -> Iterator[str]:
    from batchrun.report.format import duration, percent, rate

    done = found.succeeded + found.failed
    yield f"{found.folder}: {done:,} of {found.rows:,} rows are done, {percent(done, found.rows)}"
    yield f"Rows      {found.succeeded:,} succeeded, {found.failed:,} failed, {found.missing:,} missing"
    if found.rows_per_s is not None:
        left = f"; {duration(found.eta_s)} left at this speed" if found.eta_s is not None else ""
        yield f"Speed     {rate(found.rows_per_s)} rows/s since the last start{left}"
    yield f"Tokens    {found.prompt_tokens:,} prompt, {found.completion_tokens:,} completion"
    yield f"Cost      {', '.join(_costs(found))}"
    if found.live:
        yield from _of_live(found.live, f"batchrun ctl {shlex.quote(found.folder)} resume")
    if found.last_session and found.state != "running":
        session = found.last_session
        code = f" (exit {session.exit_code})" if session.exit_code else ""
        yield f"Last run  {session.cause}{code}; {session.requests:,} requests sent"


def _costs(found: Standing) -> Iterator[str]:
    """What is known, and what is not: no figure stands for what has no price."""
    from batchrun.report.format import dollars

    apart = found.usd_per_hour is not None or bool(found.unpriced_models)
    if found.cost_usd or found.max_cost_usd or not apart:
        budget = f" of {dollars(found.max_cost_usd)}" if found.max_cost_usd else ""
        yield f"{dollars(found.cost_usd)}{budget}{' (simulated: nothing was paid)' if found.simulated else ''}"
    if found.usd_per_hour is not None:
        yield f"{dollars(found.usd_per_hour)} an hour for deployments"
    if found.unpriced_models:
        more = len(found.unpriced_models) - _MODELS_SHOWN
        yield f"unpriced: {', '.join(found.unpriced_models[:_MODELS_SHOWN])}{f' and {more:,} more' if more > 0 else ''}"


def _of_live(live: Live, resume: str) -> Iterator[str]:
    from batchrun.report.format import visible

    silent_s = time.time() - live.at / 1e6
    if silent_s > _SILENT_S:
        yield f"Silent    for {silent_s:,.0f} s: it hangs, was suspended, or is a zombie; what follows is as old"
    lower = f"; the ceiling is at {live.ceiling:,} for now" if live.ceiling < live.concurrency else ""
    yield f"In flight {live.in_flight:,} of at most {live.concurrency:,}{lower}"
    if live.paused:
        yield f"Paused    nothing new is sent, until: {resume}"
    if live.retrying or live.throttled:
        yield f"Trouble   {live.retrying:,} rows are retried; {live.throttled:,} requests were told to wait (429, 503)"
    if live.oldest:
        waits = f", waits for {live.waits_for}" if live.waits_for and not live.paused else ""
        yield f"Oldest    {live.oldest_s:,.0f} s: {visible(live.oldest[:60])}{waits}"
