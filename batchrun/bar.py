"""How far a run is, for whoever started it from Python: a bar on a terminal and in a notebook, elsewhere nothing."""

from __future__ import annotations

import asyncio
import sys
import threading
import warnings
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NoReturn

from batchrun._totals import Totals
from batchrun.piloting import PilotWatch

if TYPE_CHECKING:
    from collections.abc import Callable

    from tqdm import tqdm

    from batchrun.engine.watch import Plan, Status
    from batchrun.types import Record

PERIOD_S = 0.5


class Bar(PilotWatch):
    """Rows, failures and cost, drawn twice a second; in a notebook as a widget, where it has those."""

    def __init__(self, *, shown: bool = True) -> None:
        self._shown, self._totals, self._rows = shown, Totals(), 0
        self._bar: tqdm[NoReturn] | None = None
        self._task: asyncio.Task[None] | None = None

    def plan(self, plan: Plan) -> None:
        """Learn how many rows there are to be."""
        self._rows = plan.open_rows

    def begin(self, status: Callable[[], Status]) -> None:  # noqa: ARG002 (a bar needs no more than the rows)
        """Draw it from now on, if somebody looks."""
        if not self._shown or not _somebody_looks():
            return
        self._bar = bar = bars()(total=self._rows, initial=self._totals.done, unit=" rows", dynamic_ncols=True)
        self._task = asyncio.get_running_loop().create_task(self._keep_drawing(bar))

    def row(self, record: Record) -> None:
        """Count a settled row."""
        self._totals.add(record)

    def end(self) -> None:
        """Leave the bar as it stands at the end."""
        if self._bar is None or self._task is None:
            return
        self._task.cancel()
        with suppress(OSError):
            self._draw(self._bar)
            self._bar.close()
        self._bar = None

    async def _keep_drawing(self, bar: tqdm[NoReturn]) -> None:
        with suppress(asyncio.CancelledError, OSError):  # a terminal that is gone must not end the run
            while True:
                await asyncio.sleep(PERIOD_S)
                self._draw(bar)

    def _draw(self, bar: tqdm[NoReturn]) -> None:
        bar.n = self._totals.done
        bar.set_postfix_str(f"{self._totals.failed:,} failed, {cost_of(self._totals)}", refresh=False)
        bar.refresh()


def cost_of(totals: Totals) -> str:
    """What is known of the cost; a plus says that there is more which is not."""
    if totals.unpriced and not totals.nano_usd:
        return "cost unknown"
    usd = totals.nano_usd / 1e9
    return f"${usd:,.{2 if usd >= 1 else 4}f}{'+' if totals.unpriced else ''}"


def _somebody_looks() -> bool:
    """Whether stderr is a terminal, or a notebook shows it, whose streams say that they are none."""
    return sys.stderr is not None and (sys.stderr.isatty() or "ipykernel" in sys.modules)


def bars() -> Any:
    """The tqdm that fits where we are; it warns where a notebook has no widgets, and shows text all the same."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from tqdm.auto import tqdm

    if not hasattr(tqdm, "_lock"):  # else tqdm makes one for many processes, which on macOS starts another
        tqdm.set_lock(threading.RLock())
    return tqdm
