"""How far a run is: a tqdm bar on a terminal, otherwise one plain line every 30 seconds; always on stderr."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn

import msgspec

from batchrun._totals import Totals
from batchrun.bar import bars, cost_of
from batchrun.cli.lines import logs_json, say
from batchrun.cli.question import asked
from batchrun.errors import Interrupted
from batchrun.piloting import PilotWatch, of_the_pilot, of_the_rest
from batchrun.report.format import dollars, visible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tqdm import tqdm

    from batchrun.engine.watch import Plan, Status
    from batchrun.pilot.drift import Drift
    from batchrun.pilot.outlook import Outlook
    from batchrun.types import Record

BAR_PERIOD_S = 0.25
LINE_PERIOD_S = 30.0
RANGES_NAMED = 200
ID_CHARS = 20
LEAST_PROJECTED = 20
BUDGET_MARKS = (0.5, 0.8, 0.95)
"""The first is worth a note, the others a warning."""

_BAR_COLUMNS = len(" ####|100 %")


class Progress(PilotWatch):
    """Says what is about to be done, shows how it goes, and says when it is being stopped.

    Told once to be `quiet` it says only warnings; told twice, none of an outage or a budget, as these may end well.
    """

    def __init__(self, *, quiet: int) -> None:
        self._quiet = quiet
        self._bar: tqdm[NoReturn] | None = None
        self._task: asyncio.Task[None] | None = None
        self._totals, self._total = Totals(), 0
        self._marks: list[float] = []
        self._began_at = 0.0
        self._outage = ""
        self._before = (0, 0)
        self._rest = 0
        self._drift: Drift | None = None

    def plan(self, plan: Plan) -> None:
        """Say what is to be sent, what a crash could cost, and what an earlier one may have cost."""
        self._total, self._rest = plan.pilot_rows or plan.open_rows, plan.open_rows
        budget = (plan.budget_usd or 0) * 1e9
        self._marks = [mark for mark in BUDGET_MARKS if plan.spent_nano_usd < mark * budget and self._quiet <= 1]
        if plan.exposed:
            say(_exposure(plan.exposed, plan.exposed_nano_usd))
        if self._quiet:
            return
        kept = f"{plan.rows - plan.open_rows:,} settled or left out, " if plan.open_rows < plan.rows else ""
        first = f", {plan.pilot_rows:,} of them as a pilot" if plan.pilot_rows else ""
        say(f"{plan.folder}: {plan.rows:,} rows, {kept}{plan.open_rows:,} to send{first}")
        for note in plan.notes if plan.open_rows else ():
            say(f"note: {note}")
        if plan.open_rows and not plan.simulated:
            last = f"{plan.flush_s:g} s of answers"
            say(f"a crash can make you pay twice for {plan.concurrency:,} requests in flight and {last}, no more")

    def begin(self, status: Callable[[], Status]) -> None:
        """Start to show how it goes."""
        self._began_at, self._status = time.monotonic(), status
        self._before = self._totals.done, self._totals.completion_tokens
        if self._quiet > 1:
            return
        if not self._quiet and sys.stderr and sys.stderr.isatty() and not logs_json():
            self._bar = bars()(total=self._total, dynamic_ncols=True, bar_format="{desc} {bar}|{percentage:4.0f} %")
        self._task = asyncio.get_running_loop().create_task(self._show())

    def row(self, record: Record) -> None:
        """Count a settled row."""
        self._totals.add(record)
        projected = self._drift.add(record.index, record.cost_usd or 0.0) if self._drift else None
        if projected is not None and self._drift:
            said = f"the pilot said {dollars(self._drift.said.low)} to {dollars(self._drift.said.high)}"
            self._interrupt(f"warning: {said} for the rest, which is on its way to {dollars(projected)}")

    def spent(self, nano_usd: int, budget_nano_usd: int | None) -> None:
        """Say once of each mark that it is passed; of several at once the highest."""
        if self._marks and budget_nano_usd and nano_usd >= self._marks[0] * budget_nano_usd:
            mark = max(one for one in self._marks if nano_usd >= one * budget_nano_usd)
            self._marks = [one for one in self._marks if one > mark]
            budget = dollars(budget_nano_usd / 1e9)
            level = "note" if mark == BUDGET_MARKS[0] else "warning"
            if level == "warning" or not self._quiet:
                self._interrupt(f"{level}: {dollars(nano_usd / 1e9)}, {mark:.0%} of the budget of {budget}, is spent")

    def piloted(self, outlook: Outlook, drift: Drift | None) -> None:
        """Say what the pilot says."""
        self._total, self._drift = self._rest, drift
        if not self._quiet:
            say(f"pilot: {of_the_pilot(outlook)}; {of_the_rest(outlook)}")
        if outlook.fits and not self._quiet:
            say(f"going on: with that the budget of {dollars(outlook.budget_usd)} holds")

    async def agrees(self) -> bool:
        """Ask, where there is a terminal."""
        return await asked("Go on?")

    def stopping(self, cause: BaseException, in_flight: int) -> None:
        """Say that the run is ending, and what it waits for."""
        if self._quiet or not in_flight:
            return
        why = f"{cause}: " if isinstance(cause, Interrupted) else "stopping: "
        self._interrupt(f"{why}waiting for {in_flight:,} in flight (Ctrl-C again: leave them)")

    def warn(self, text: str) -> None:
        """Say it."""
        say(f"warning: {text}")

    def _interrupt(self, text: str) -> None:
        if self._bar is not None:
            self._bar.clear()
        say(text)

    def end(self) -> None:
        """Leave the bar as it stands at the end."""
        if self._task:
            self._task.cancel()
        if self._bar is not None:
            with suppress(OSError):
                self._draw(self._bar)
                self._bar.close()
            self._bar = None

    async def _show(self) -> None:
        with suppress(asyncio.CancelledError, OSError):  # a terminal that is gone must not end the run
            while True:
                self._warn_of_outage(self._status().outage)
                if self._bar is not None:
                    self._draw(self._bar)
                    await asyncio.sleep(BAR_PERIOD_S)
                else:
                    await asyncio.sleep(LINE_PERIOD_S)
                    if not self._quiet:
                        say(self.line(), **self.facts())

    def _warn_of_outage(self, outage: str) -> None:
        """Say it once of each; else whoever mistyped a URL would look at a bar that stands still."""
        if outage and not self._outage:
            self._interrupt(f"warning: the endpoint does not work, and is asked again every few seconds: {outage}")
        self._outage = outage

    def _draw(self, bar: tqdm[NoReturn]) -> None:
        bar.n = self._totals.done
        bar.set_description_str(self.line(columns_of_stderr() - _BAR_COLUMNS), refresh=False)
        bar.refresh()

    def line(self, room: int = 1000) -> str:
        """How it stands; the facts that matter less are left out where there is no room for them."""
        from tqdm.utils import disp_len

        status, totals = self._status(), self._totals
        elapsed_s = max(time.monotonic() - self._began_at, 0.001)
        line = ", ".join(
            [
                f"{totals.done:,}/{self._total:,}",
                f"{totals.failed:,} failed",
                f"{status.in_flight:,}/{status.ceiling:,} in flight",
                f"{(totals.completion_tokens - self._before[1]) / elapsed_s:,.0f} tok/s",
                cost_of(totals),
            ]
        )
        room -= len(line)
        for more in self._more(status, elapsed_s):
            room -= disp_len(more)
            if room < 0:
                break
            line += more
        return line

    def _more(self, status: Status, elapsed_s: float) -> Iterator[str]:
        """What goes on at the end of a line, the most important first."""
        done = self._totals.done - self._before[0]
        if done:
            from tqdm import tqdm

            left_s = (self._total - self._totals.done) * elapsed_s / done
            yield f", {tqdm.format_interval(left_s)} left"
        if (projected_usd := self._projected_usd()) is not None:
            yield f", ~{dollars(projected_usd)} in all"
        if status.retrying:
            yield f", {status.retrying:,} retrying"
        if status.throttled:
            yield f", {status.throttled:,} throttled"
        yield f", oldest {status.oldest_s:,.0f} s"
        if status.oldest:
            yield f" ({_short(status.oldest)}{status.waits_for and f': {status.waits_for}'})"

    def _projected_usd(self) -> float | None:
        """What this start will have spent when it is done, if its rows go on costing as they did."""
        totals = self._totals
        if totals.done < LEAST_PROJECTED or not totals.nano_usd or totals.unpriced:
            return None
        return totals.nano_usd / 1e9 * self._total / totals.done

    def facts(self) -> dict[str, object]:
        """How it stands, for programs; None is what nobody knows."""
        status, totals = self._status(), self._totals
        done = totals.done - self._before[0]
        elapsed_s = max(time.monotonic() - self._began_at, 0.001)
        return {
            "event": "progress",
            "done": totals.done,
            "total": self._total,
            "failed": totals.failed,
            "rows_per_s": round(done / elapsed_s, 3),
            "completion_tokens_per_s": round((totals.completion_tokens - self._before[1]) / elapsed_s, 3),
            "eta_s": round((self._total - totals.done) * elapsed_s / done, 1) if done else None,
            "cost_usd": None if totals.unpriced else totals.nano_usd / 1e9,
            "projected_usd": self._projected_usd(),
            **msgspec.structs.asdict(status),
        }


def columns_of_stderr() -> int:
    """How wide the terminal behind stderr is now: stdout may be a pipe. COLUMNS wins, as everywhere."""
    with suppress(ValueError):
        return int(os.environ.get("COLUMNS", ""))
    with suppress(ValueError, OSError):
        return os.get_terminal_size(sys.stderr.fileno()).columns or 80
    return 80


def _exposure(rows: list[int], nano_usd: int | None) -> str:
    most = "" if nano_usd is None else f"; that is {dollars(nano_usd / 1e9)} at most"
    return (
        f"warning: an earlier start was cut off: up to {len(rows):,} rows may have been sent already, and be paid for "
        f"twice: {ranges(rows)} (counted from 0){most}"
    )


def _short(custom_id: str) -> str:
    """An id made safe to show, and cut."""
    text = visible(custom_id[: ID_CHARS + 1])
    return text if len(text) <= ID_CHARS else f"{text[: ID_CHARS - 3]}..."


def ranges(rows: list[int]) -> str:
    """Sorted numbers, runs of them as `3-7`; of very many runs the first."""
    runs: list[list[int]] = []
    for row in rows:
        if runs and runs[-1][1] == row - 1:
            runs[-1][1] = row
        else:
            runs.append([row, row])
    named = [f"{first}-{last}" if last > first else str(first) for first, last in runs[:RANGES_NAMED]]
    return ", ".join(named) + (", ..." if len(runs) > RANGES_NAMED else "")
