"""N workers share one iterator of requests; stopping is closing that tap.

Theory of operation. A worker takes a request, tries it until there is a record, hands the record over, takes the
next. It keeps its place while it waits for a retry, so an endpoint in trouble sees fewer requests: that is the
back-pressure. Only `stop` ends a run early: it closes the tap and the turnstile, so that nothing new is sent and
nobody waits; what is in flight may still be answered for `grace_s`, then it is cancelled. Of several causes the first
is kept. Whatever a worker raises becomes such a cause: no worker's trouble throws away what another one has already
paid for.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from batchrun.engine.attempts import Fulfiller, Hopeless
from batchrun.engine.bounds import Bounds
from batchrun.engine.lag import Lag
from batchrun.engine.turns import following
from batchrun.engine.watch import Status
from batchrun.errors import EndpointUnusable

if TYPE_CHECKING:
    from collections.abc import Coroutine, Generator

    from batchrun.config import Config
    from batchrun.engine.lanes import Lanes
    from batchrun.engine.watch import Watch
    from batchrun.types import Record, Request

T = TypeVar("T")
HOPELESS_GRACE_S = 4.0
MOST_ROWS_ALIKE = 50
OWN_REASONS = frozenset({"input_invalid", "context_length_exceeded", "content_filtered", "empty_response"})
"""Failures that say something of a row, and nothing of the next."""

CLIENT_LATE_S = 0.05
_LAG_PERIOD_S = 0.1


class Keeper(Protocol):
    """What the engine needs of a store."""

    async def may_send(self, index: int) -> None:
        """Return when it is safe to send this row."""
        ...

    def keep(self, record: Record) -> None:
        """Take a record over; never waits."""
        ...

    def keep_turn(self, record: Record) -> None:
        """Take over what is finished of a conversation; never waits."""
        ...

    async def room(self) -> None:
        """Return when the store can take more; at once in the usual case."""
        ...


class Pool:
    """Runs requests through a fulfiller into a keeper, many at once."""

    def __init__(
        self,
        fulfiller: Fulfiller,
        keeper: Keeper,
        lanes: Lanes,
        *,
        config: Config,
        watch: Watch,
        models: int = 1,
    ) -> None:
        self._fulfiller, self._keeper, self._lanes = fulfiller, keeper, lanes
        self._watch, self._concurrency = watch, config.limits.concurrency
        self._models, self._paused = models, False
        self._group: asyncio.TaskGroup | None = None
        self._grace_s, self._stall_s = config.timeouts.grace_s, config.timeouts.stall_s
        no_rows: tuple[Request, ...] = ()
        self._tap: Generator[Request, None, None] = (request for request in no_rows)
        self._workers: list[asyncio.Task[None]] = []
        self._ended = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self.cause: Exception | None = None
        self.hurried = False
        self.lag = Lag()
        self.bounds = Bounds(self._loop.time())
        self._alike = 0
        self._last_failure: tuple[str, str | None, int | None] | None = None

    @property
    def exit_code(self) -> int:
        """The exit code that the cause asks for: 0 without one, 1 for a bug."""
        return getattr(self.cause, "exit_code", 1) if self.cause else 0

    @property
    def abandoned(self) -> set[int]:
        """Rows whose last attempt was cancelled while it was out."""
        return set(self._fulfiller.sending)

    def status(self) -> Status:
        """Where the run stands now."""
        sending, rows = self._fulfiller.sending, self._fulfiller.rows
        oldest = next(iter(rows.values()), None)
        waits_for = ""
        if oldest:
            is_out = oldest.request.index in sending
            waits_for = "an answer" if is_out else "a retry" if oldest.retrying else oldest.lane.reason or "its turn"
        return Status(
            in_flight=len(sending),
            ceiling=self._lanes.limit,
            oldest_s=self._loop.time() - oldest.taken_at if oldest else 0.0,
            throttled=self._fulfiller.counts.throttled,
            retrying=sum(row.retrying for row in rows.values()),
            oldest=oldest.request.custom_id if oldest else "",
            waits_for=waits_for.replace("_", " "),
            outage=self._lanes.outage,
        )

    async def run(self, tap: Generator[Request, None, None]) -> None:
        """Return when the tap is dry, or closed and nothing is in flight any more; `cause` says which.

        Without a cause another tap may follow.
        """
        self._tap, self._workers = tap, []
        if self.cause:
            self._close_tap()
        pulse = asyncio.create_task(self._pulse())
        try:
            self._watch.begin(self.status)
            async with asyncio.TaskGroup() as self._group:
                self._hire()
        finally:
            self._group = None
            self._watch.end()
            pulse.cancel()
            await asyncio.gather(pulse, return_exceptions=True)

    def change(self, concurrency: int, *, paused: bool) -> None:
        """Work on so many at once from now on; workers who are then too many wait at the turnstile."""
        self._concurrency = concurrency
        if self._paused and not paused:
            self._fulfiller.unanswered_since = None
        self._paused = paused
        self._hire()

    def _hire(self) -> None:
        # of several models one may have to wait: others go on meanwhile; of none there are rows to be kept as failed
        wanted = self._concurrency * max(1, min(self._models, 2))
        ended = self._workers and all(worker.done() for worker in self._workers)
        if self._group and self.cause is None and not ended:
            self._workers += [self._group.create_task(self._work()) for _ in range(wanted - len(self._workers))]

    async def unless_ended(self, waiting: Coroutine[Any, Any, T]) -> T | None:
        """What is waited for between two taps; None, and the waiting is cancelled, as soon as the run is to end."""
        if self.cause:
            waiting.close()
            return None
        wanted, ended = asyncio.ensure_future(waiting), asyncio.ensure_future(self._ended.wait())
        try:
            await asyncio.wait((wanted, ended), return_when=asyncio.FIRST_COMPLETED)
            return wanted.result() if wanted.done() else None
        finally:
            wanted.cancel()
            ended.cancel()
            await asyncio.gather(wanted, ended, return_exceptions=True)

    def stop(self, cause: Exception, *, grace_s: float | None = None) -> None:
        """Send nothing new; cancel what is still in flight after `grace_s`. Later calls only shorten the grace."""
        if self.cause is None:
            self.cause = cause
            self._ended.set()
            self._close_tap()
            self._lanes.close()
            self._watch.stopping(cause, len(self._fulfiller.sending))
        self._loop.call_later(self._grace_s if grace_s is None else grace_s, self._cancel)

    async def _work(self) -> None:
        try:
            for request in self._tap:
                await self._keeper.may_send(request.index)
                record = await self._converse(request)
                if record is None:
                    return
                self._keeper.keep(record)
                self._watch.row(record)
                self._watch.spent(self._fulfiller.money.spent, self._fulfiller.money.limit)
                self._stop_if_all_fail(record)
                await self._keeper.room()
        except Hopeless as hopeless:
            self.stop(hopeless.error, grace_s=min(self._grace_s, HOPELESS_GRACE_S))
        except Exception as error:  # noqa: BLE001 (becomes the run's cause; the other workers finish what they have)
            self.stop(error)

    async def _converse(self, request: Request) -> Record | None:
        """Ask one turn after the other, most often there is one; what is finished is kept before the next is asked."""
        record = await self._fulfiller.fulfil(request)
        while record and (next_request := following(request, record)):
            self._keeper.keep_turn(record)
            await self._keeper.room()
            request = next_request
            record = await self._fulfiller.fulfil(request)
        return record

    def _stop_if_all_fail(self, record: Record) -> None:
        """Fifty rows in a row that fail the same way, for no reason of their own, say what the next million will do."""
        if record.error_type is None:
            self._alike = 0
            return
        failure = (str(record.error_type), record.error_code, record.status_code)
        if failure[0] in OWN_REASONS:
            return
        self._alike = self._alike + 1 if failure == self._last_failure else 1
        self._last_failure = failure
        if self._alike >= MOST_ROWS_ALIKE and self.cause is None:
            said = f"{self._alike} rows in a row failed the same way: {record.error_message}"
            remedy = "mend what the message says, then run the same command again"
            self.stop(EndpointUnusable(said, error_type=record.error_type, remedy=remedy))

    async def _pulse(self) -> None:
        """Measure how late our own loop is and what binds the run, and end one that nobody answers."""
        while True:
            before = self._loop.time()
            await asyncio.sleep(_LAG_PERIOD_S)
            now = self._loop.time()
            self.lag.add(now - before - _LAG_PERIOD_S)
            is_full = self._lanes.in_flight >= self._concurrency
            idle = "ending" if self.cause else "concurrency" if is_full else "input"
            late = now - before - _LAG_PERIOD_S > CLIENT_LATE_S
            self.bounds.add(self._lanes.reason or ("client" if late else idle), now, self._lanes.limit)
            why = self._why_stalled(now)
            if why and self.cause is None:
                remedy = "see whether the endpoint is up, then run the same command again; nothing kept is lost"
                self.stop(EndpointUnusable(why, error_type="timed_out", remedy=remedy), grace_s=0)

    def _why_stalled(self, now: float) -> str | None:
        if self._paused:
            return None
        since, outage = self._fulfiller.unanswered_since, self._lanes.outage_since()
        trouble = self._fulfiller.trouble and f": {self._fulfiller.trouble}"
        if since is not None and now - since > self._stall_s:
            return f"the endpoint has not answered for {self._stall_s:g} s{trouble}"
        if outage is not None and now - outage > self._stall_s:
            return f"the endpoint has served nothing for {self._stall_s:g} s{trouble}"
        return None

    def _close_tap(self) -> None:
        """A generator cannot be closed while it runs (a cause from inside it): it ends by itself then."""
        try:
            self._tap.close()
        except ValueError:
            return

    def _cancel(self) -> None:
        for worker in self._workers:
            worker.cancel()
