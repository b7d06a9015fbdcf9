"""The pilot of a run: a sample of its rows is sent first and kept; the rest follows if what it says is agreed to.

The sample depends on the input and the size asked for alone, and what it says is read back from the run folder: so a
pilot that was cut short goes on with the same rows, and one that is complete sends nothing and says the same again.
"""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING

import numpy as np

from batchrun.engine.tokens import prompt_chars
from batchrun.engine.watch import Watch
from batchrun.errors import BatchrunError, ConfigError, PilotDone
from batchrun.pilot.drift import Drift
from batchrun.pilot.estimate import LEAST_ROWS
from batchrun.pilot.outlook import Interval, Outlook
from batchrun.pilot.sample import Lengths, Sample
from batchrun.report.format import dollars, duration, rows
from batchrun.store.snapshot import Snapshot

if TYPE_CHECKING:
    from batchrun.config import LimitsConfig
    from batchrun.engine.money import Money
    from batchrun.engine.pool import Pool
    from batchrun.pilot.sample import Ints
    from batchrun.pilot.settled import Settled
    from batchrun.prompts.check import Checked
    from batchrun.store.keeper import Store
    from batchrun.types import Request


class PilotWatch(Watch):
    """Hears of a pilot as well, says nothing, and agrees to nothing."""

    def piloted(self, outlook: Outlook, drift: Drift | None) -> None:
        """The pilot's rows are settled; `drift` wants to be told of every row that follows."""

    async def agrees(self) -> bool:
        """Ask whether to go on after what the pilot has shown; where nobody can be asked, nobody agrees."""
        return False


class Pilot:
    """A sample of so many rows, or of such a share (`"2%"`), of the first `limit` rows."""

    def __init__(self, asked: int | str, *, limit: int | None) -> None:
        """Read what is asked for; raises ConfigError where that is no number of rows and no share."""
        self._asked, self._limit = asked, limit
        self._wanted, self._is_share = _read(asked)
        self._lengths = Lengths()
        self._longest: Request | None = None
        self.rows: frozenset[int] = frozenset()

    def see(self, request: Request | None) -> None:
        """Take in a row of the input, in order; None is one that cannot be sent."""
        if request is None:
            self._lengths.add(None, 0)
            return
        self._lengths.add(request.model, prompt_chars(request) + sum(map(len, request.turns)))
        if self._longest is None or len(request.body) > len(self._longest.body):
            self._longest = request

    def draw(self, checked: Checked) -> None:
        """Choose the rows, when all have been seen; raises ConfigError if there are not so many."""
        there = min(checked.rows, self._limit or checked.rows)
        share = math.ceil(round(self._wanted * there, 6))
        wanted = max(LEAST_ROWS, share) if self._is_share else int(self._wanted)
        if wanted > there:
            among = "the input has" if there == checked.rows else "--limit leaves"
            remedy = f"ask for {LEAST_ROWS} to {there:,} rows" if there >= LEAST_ROWS else "run it without a pilot"
            raise ConfigError(f"--pilot {self._asked}: {among} {rows(there)}", remedy=remedy)
        self._sample = Sample(self._lengths, rows=there, wanted=wanted, seed=int(checked.fingerprint, 16))
        self.rows = frozenset(self._sample.rows.tolist())

    async def decide(self, pool: Pool, store: Store, money: Money, limits: LimitsConfig, watch: PilotWatch) -> None:
        """Say what the pilot says of the rest; stop the pool unless that fits the budget, or is agreed to."""
        if pool.cause:
            return
        try:
            await store.journal.settled()
            rest = store.open_among(np.flatnonzero(self._sample.strata >= 0))
            rest = rest[~np.isin(rest, self._sample.rows)]
            if not len(rest):
                return
            outlook, drift = await asyncio.to_thread(self._look, store, rest, money, limits, pool.status().ceiling)
        except BatchrunError as error:
            pool.stop(error)
            return
        watch.piloted(outlook, drift)
        if not outlook.fits and not await pool.unless_ended(watch.agrees()):
            pool.stop(self._done(outlook, money))

    def _look(
        self, store: Store, rest: Ints, money: Money, limits: LimitsConfig, places: int
    ) -> tuple[Outlook, Drift | None]:
        from batchrun.pilot.settled import COLUMNS, Settled
        from batchrun.report.charges import unsettled_attempts

        snapshot, settled = Snapshot(store.recovered.folder.path), Settled(self._sample.rows)
        for batch in snapshot.batches("results", COLUMNS):
            settled.add(batch, unsettled_attempts(batch), failed=False)
        for batch in snapshot.batches("failures", COLUMNS):
            settled.add(batch, unsettled_attempts(batch), failed=True)
        cost = settled.estimate("usd", self._sample, rest)
        total = settled.with_untold(cost.total, len(rest)) if cost else None
        outlook = Outlook(
            settled=settled.rows,
            failed=settled.failed,
            rest=len(rest),
            pilot_usd=settled.usd,
            cost_usd=total,
            time_s=self._time(settled, rest, limits, places),
            spent_usd=settled.folder_usd if money.limit is None else money.spent / 1e9,
            budget_usd=None if money.limit is None else money.limit / 1e9,
        )
        return outlook, Drift(cost) if cost else None

    def _time(self, settled: Settled, rest: Ints, limits: LimitsConfig, places: int) -> Interval | None:
        """How long the rest takes with so many requests at once, or under the limit that binds more."""
        busy = settled.estimate("busy_s", self._sample, rest)
        if busy is None:
            return None
        times = [_over(busy.total, min(places, len(rest)))]
        if limits.requests_per_minute:
            times.append(
                _over(Interval(low=len(rest), likely=len(rest), high=len(rest)), limits.requests_per_minute / 60)
            )
        for name in ("prompt", "generated"):
            per_minute = getattr(limits, f"{name}_tokens_per_minute")
            tokens = settled.estimate(name, self._sample, rest) if per_minute else None
            if tokens:
                times.append(_over(tokens.total, per_minute / 60))
        ends = {name: max(getattr(time, name) for time in times) for name in Interval.__struct_fields__}
        return Interval(**ends)

    def _done(self, outlook: Outlook, money: Money) -> PilotDone:
        said = f"the pilot is done: {of_the_rest(outlook)}"
        if outlook.most_usd is None:
            return PilotDone(said, remedy="the same without --pilot")
        if outlook.budget_usd is not None:
            said += f", which may pass the budget of {dollars(outlook.budget_usd)}"
        worst = money.worst(self._longest) if self._longest else None
        budget = _rounded_up(outlook.most_usd + (worst or 0) / 1e9)
        return PilotDone(said, remedy=f"the same with --max-cost {budget} or more, or without --pilot")


def of_the_pilot(outlook: Outlook) -> str:
    """What was sent, in words."""
    failed = f", {outlook.failed:,} failed" if outlook.failed else ""
    return f"{rows(outlook.settled)}{failed}, {dollars(outlook.pilot_usd)}"


def of_the_rest(outlook: Outlook) -> str:
    """What is to be expected, in words."""
    cost, time = outlook.cost_usd, outlook.time_s
    usd = f"{dollars(cost.likely)} ({dollars(cost.low)} to {dollars(cost.high)})" if cost else "an unknown amount"
    takes = f" and take {duration(time.likely)} ({duration(time.low)} to {duration(time.high)})" if time else ""
    return f"{outlook.rest:,} more rows will cost {usd}{takes}, with 95 % confidence"


def _over(amount: Interval, per_s: float) -> Interval:
    return Interval(low=amount.low / per_s, likely=amount.likely / per_s, high=amount.high / per_s)


def _rounded_up(usd: float) -> str:
    """Three significant digits, or whole cents."""
    digits = max(2, min(2 - math.floor(math.log10(usd)), 9)) if usd > 0 else 2
    return f"{math.ceil(usd * 10**digits) / 10**digits:.{digits}f}"


def _read(asked: int | str) -> tuple[float, bool]:
    """A number of rows, or a share from 0 to 1, and which of them it is."""
    text = str(asked).strip()
    try:
        number = float(text.removesuffix("%"))
    except ValueError:
        number = math.nan
    is_share = text.endswith("%")
    share = number / 100
    if is_share and 0 < share <= 1:
        return share, True
    if not is_share and number >= LEAST_ROWS and number.is_integer():
        return number, False
    raise ConfigError(
        f"--pilot {asked}: is no number of rows from {LEAST_ROWS} on, and no share of them",
        remedy="write e.g. --pilot 50 or --pilot 2%",
    )
