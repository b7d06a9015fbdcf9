"""How far a run is: a tqdm bar on a terminal, otherwise one plain line every 30 seconds; always on stderr."""

from __future__ import annotations

import asyncio
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn

from tqdm import tqdm

from batchrun.cli.lines import say
from batchrun.engine.watch import Plan, Status, Watch

if TYPE_CHECKING:
    from collections.abc import Callable

    from batchrun.types import Record

_BAR_PERIOD_S = 0.25
_LINE_PERIOD_S = 30.0
_ROWS_NAMED = 10


class Progress(Watch):
    """Says what is about to be done, shows how it goes, and says when it is being stopped."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._bar: tqdm[NoReturn] | None = None
        self._task: asyncio.Task[None] | None = None
        self._done = self._failed = self._tokens = self._total = 0
        self._cost_usd = 0.0
        self._unpriced = False
        self._began_at = 0.0

    def plan(self, plan: Plan) -> None:
        """Say what is to be sent, what a crash could cost, and what an earlier one may have cost."""
        self._total = plan.open_rows
        if plan.exposed:
            named = ", ".join(map(str, plan.exposed[:_ROWS_NAMED]))
            more = f" and {len(plan.exposed) - _ROWS_NAMED:,} more" if len(plan.exposed) > _ROWS_NAMED else ""
            say(
                f"warning: an earlier start ended before it could keep everything: up to {len(plan.exposed):,} rows "
                f"may have been sent already, and be paid for twice: {named}{more} (counted from 0)"
            )
        if self._quiet:
            return
        kept = plan.rows - plan.open_rows
        say(f"{plan.folder}: {plan.rows:,} rows, {kept:,} settled or left out, {plan.open_rows:,} to send")
        if plan.open_rows and not plan.simulated:
            say(
                f"a crash can make you pay twice for at most {plan.concurrency:,} requests in flight and for the "
                f"answers of its last {plan.flush_s:g} s"
            )

    def begin(self, status: Callable[[], Status]) -> None:
        """Start to show how it goes."""
        self._began_at = time.monotonic()
        if self._quiet:
            return
        if sys.stderr.isatty():
            self._bar = tqdm(
                total=self._total, unit="row", dynamic_ncols=True, mininterval=_BAR_PERIOD_S, smoothing=0.1
            )
        self._task = asyncio.get_running_loop().create_task(self._show(status))

    def row(self, record: Record) -> None:
        """Count a settled row."""
        self._done += 1
        self._failed += record.error_type is not None
        self._tokens += record.completion_tokens or 0
        if record.cost_usd is not None:
            self._cost_usd += record.cost_usd
        elif record.error_type is None:
            self._unpriced = True

    def stopping(self, cause: BaseException, in_flight: int) -> None:
        """Say that the run is ending, and what it waits for."""
        if not self._quiet:
            self._above_the_bar(f"stopping: {cause}; waiting for {in_flight:,} in flight (Ctrl-C again: leave them)")

    def end(self) -> None:
        """Take the bar down."""
        if self._task:
            self._task.cancel()
        if self._bar is not None:
            self._bar.update(self._done - self._bar.n)
            self._bar.close()

    async def _show(self, status: Callable[[], Status]) -> None:
        with suppress(asyncio.CancelledError):
            while True:
                if self._bar is not None:
                    self._bar.set_postfix_str(self._facts(status()), refresh=False)
                    self._bar.update(self._done - self._bar.n)
                    self._bar.refresh()
                    await asyncio.sleep(_BAR_PERIOD_S)
                else:
                    await asyncio.sleep(_LINE_PERIOD_S)
                    say(self._line(status()))

    def _facts(self, status: Status) -> str:
        elapsed_s = max(time.monotonic() - self._began_at, 0.001)
        facts = [
            f"{self._failed:,} failed",
            f"{status.in_flight:,} in flight",
            f"{self._tokens / elapsed_s:,.0f} tok/s",
        ]
        if status.throttled:
            facts.append(f"{status.throttled:,} throttled")
        facts.append("unpriced" if self._unpriced and not self._cost_usd else f"${self._cost_usd:.4f}")
        return ", ".join(facts)

    def _line(self, status: Status) -> str:
        elapsed_s = max(time.monotonic() - self._began_at, 0.001)
        rate = self._done / elapsed_s
        left = f"{(self._total - self._done) / rate:,.0f} s left" if rate else "no row yet"
        oldest = f"oldest {status.oldest_s:,.0f} s"
        return f"{self._done:,}/{self._total:,} rows, {left}, {oldest}, {self._facts(status)}"

    def _above_the_bar(self, text: str) -> None:
        if self._bar is not None:
            self._bar.clear()
        say(text)
