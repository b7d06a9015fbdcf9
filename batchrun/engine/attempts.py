"""One request, tried until it succeeds or cannot, becomes one record: a failed one too, it is not an exception."""

from __future__ import annotations

import asyncio
import functools
import math
import time
from typing import TYPE_CHECKING, Protocol

import msgspec

from batchrun.engine.lanes import Lane
from batchrun.engine.limits import Closed
from batchrun.engine.money import NOTHING, Hold, Money
from batchrun.engine.pace import JUST_NOW_S
from batchrun.engine.quota import THROTTLED, TRANSIENT
from batchrun.engine.records import attempt_of, record_of
from batchrun.engine.retry import MOST_INVALID, Again, EndRun, GiveUp, Tally, judge
from batchrun.engine.turns import number_of, with_turns_before
from batchrun.errors import Ambiguous, AnswerInvalid, EndpointError, EndpointUnusable, NotSent, Rejected, Throttled
from batchrun.types import Attempt, Completion, Record, Request

if TYPE_CHECKING:
    from collections.abc import Callable

    from batchrun.config import Config
    from batchrun.engine.lanes import Lanes
    from batchrun.engine.limits import Place
    from batchrun.engine.validity import Validity
    from batchrun.pricing import Price

ACCEPTED_S = 0.3
"""Who turns a request away does it sooner: what has been out for longer is being worked on."""

_AMBIGUOUS_SHARE = 0.05
_NOT_CHARGED = (Rejected, EndpointUnusable, Throttled, NotSent)
_TROUBLE = frozenset({"connection_failed", "timed_out", "server_error"})
"""What an endpoint that is down gives; any other answer shows that it works."""

_LEAST_ATTEMPT_S = 1.0
"""What is sent costs money: it gets this much time, even if its row's deadline is nearer."""


class Endpoint(Protocol):
    """What the engine needs of an endpoint."""

    async def complete(self, request: Request, *, within_s: float) -> Completion:
        """Send one request and return its completion; raises EndpointError where there is none in that time."""
        ...


class Counts(msgspec.Struct):
    """What one start of a run has done on the wire."""

    requests: int = 0
    throttled: int = 0
    ambiguous_retries: int = 0
    succeeded: int = 0


class Row(msgspec.Struct, kw_only=True):
    """How far a request has got: all of it, or one `turn` of a conversation.

    `started_at` is the time of day in microseconds, other times are the loop's; `cost_usd` is the last attempt's.
    """

    request: Request
    lane: Lane
    turn: int | None
    taken_at: float
    spent: float = 0.0
    retrying: bool = False
    queued_s: float | None = None
    ends_at: float = math.inf
    sent_at: float = 0.0
    started_at: int = 0
    latency_s: float = 0.0
    cost_usd: float | None = None
    usage_estimated: bool = False
    tally: Tally = msgspec.field(default_factory=Tally)
    log: list[Attempt] = []


class Hopeless(Exception):
    """No request of this run can succeed; `error` says why."""

    def __init__(self, error: EndpointError) -> None:
        super().__init__(error.message)
        self.error = error


class Fulfiller:
    """Tries requests against one endpoint, each model's in its lane.

    `rows` holds all that are being worked on, in the order they were taken, `sending` the index of those that are out.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        lanes: Lanes,
        config: Config,
        *,
        rows: int,
        models: int = 1,
        price_for: Callable[[str], Price | None],
        spent_nano_usd: int = 0,
        validity: Validity | None = None,
    ) -> None:
        self._endpoint, self._lanes, self._config = endpoint, lanes, config
        self._validity, self._several_models = validity, models > 1
        limit_usd = config.limits.max_cost_usd
        limit = None if limit_usd is None else round(limit_usd * 1e9)
        self.money = Money(limit, functools.cache(price_for), spent=spent_nano_usd)
        self._loop = asyncio.get_running_loop()
        self._most_ambiguous_retries = max(config.limits.concurrency, int(rows * _AMBIGUOUS_SHARE))
        self._began_at = self._loop.time()
        self._reached = False
        self.counts = Counts()
        self.rows: dict[int, Row] = {}
        self.sending: dict[int, float] = {}
        self.unanswered_since: float | None = None
        """When the endpoint was first asked after it last gave an answer of any kind but "wait"; None if it was not."""
        self.trouble = ""
        """What kept the endpoint from working at the last attempt; empty if nothing did."""

    async def fulfil(self, request: Request) -> Record | None:
        """Try a request until there is a record of it, and of the turns before it; None if the run ends before that.

        Raises:
            Hopeless: what came back will come back for every row.
        """
        lane = self._lanes.of(request.model)
        row = Row(request=request, lane=lane, turn=number_of(request), taken_at=self._loop.time())
        self.rows[request.index] = row
        try:
            while True:
                reserved = NOTHING if self.money.limit is None else await self.money.reserve(request)
                place = await self._enter(row, reserved)
                outcome = await self._attempt(row, place, reserved)
                if isinstance(outcome, Completion):
                    break
                wait_s = self._next_wait(outcome, row)
                if wait_s is None:
                    break
                row.log.append(attempt_of(row, outcome))
                await self._wait(row, outcome, wait_s)
        except Closed:
            return None
        finally:
            del self.rows[request.index]
        record = record_of(row, outcome, keep_response=self._config.store.keep_response)
        return with_turns_before(record, request)

    async def _enter(self, row: Row, reserved: Hold) -> Place:
        """Pass the turnstile. The row's deadline begins with its first sending; waiting for a place counts nowhere."""
        came_at = self._loop.time()
        try:
            place = await row.lane.enter(row.request)
        except BaseException:
            self.money.settle(reserved, row.request, None, charged=False)
            raise
        row.sent_at, row.started_at = self._loop.time(), time.time_ns() // 1000
        if row.queued_s is None:
            row.queued_s = row.sent_at - row.taken_at
            row.ends_at = row.sent_at + self._config.timeouts.row_s
        else:
            row.ends_at += row.sent_at - came_at
        return place

    async def _wait(self, row: Row, error: EndpointError, wait_s: float) -> None:
        """Let a retry wait for its time, and then until the successes, or time itself, have paid for it."""
        row.retrying = True
        await self._lanes.sleep(wait_s)
        if not isinstance(error, NotSent):
            cost = THROTTLED if isinstance(error, Throttled) else TRANSIENT
            row.spent += cost
            while (more_s := row.lane.quota.take(cost, self._loop.time())) > 0:
                row.ends_at += more_s
                await self._lanes.sleep(more_s)
        row.retrying = False

    async def _attempt(self, row: Row, place: Place, reserved: Hold) -> Completion | EndpointError:
        """One try; a cancelled one stays in `sending`: it may be charged."""
        self.sending[row.request.index] = row.sent_at
        self.counts.requests += 1
        if self.unanswered_since is None:
            self.unanswered_since = row.sent_at
        lane = row.lane
        outcome: Completion | EndpointError | None = None
        try:
            within_s = max(_LEAST_ATTEMPT_S, row.ends_at - row.sent_at)
            outcome = await self._endpoint.complete(row.request, within_s=within_s)
            self._learn_from_success(row)
            self.trouble = ""
        except EndpointError as error:
            outcome, self.trouble = error, error.message
            lane.trouble = error.message
            self._learn_from(error, row, probe=place.probe)
        finally:
            lane.breaker.returned(probe=place.probe)
            usage, tier = (outcome.usage, getattr(outcome, "service_tier", None)) if outcome else (None, None)
            charged = not isinstance(outcome, _NOT_CHARGED)
            nano_usd = self.money.settle(reserved, row.request, usage, charged=charged, tier=tier)
            row.cost_usd = None if nano_usd is None else nano_usd / 1e9
            if place.reserved:
                place.reserved.settle(usage, charged=charged)
            lane.leave()
        del self.sending[row.request.index]
        if outcome.hints and lane.turned_away and lane.budgets:
            lane.budgets.hint(outcome.hints, row.request)
        now = self._loop.time()
        if outcome.status_code is not None and not isinstance(outcome, Throttled):
            self.unanswered_since = now if self.sending else None
        row.latency_s = now - row.sent_at
        row.usage_estimated = isinstance(outcome, Completion) and outcome.usage_estimated
        return self._checked(outcome, row) if isinstance(outcome, Completion) else outcome

    def _checked(self, completion: Completion, row: Row) -> Completion | AnswerInvalid:
        """The completion, or what is wrong with it; the last turn of a conversation is the one that is checked."""
        problem = self._validity.problem(completion) if self._validity and not row.request.turns else None
        if problem is None:
            return completion
        cut_off = completion.finish_reason == "length"  # the same limit would cut it off again
        row.tally.invalid = MOST_INVALID if cut_off else row.tally.invalid + 1
        return problem

    def _learn_from_success(self, row: Row) -> None:
        lane = row.lane
        self._reached = True
        self.counts.succeeded += 1
        lane.ceiling.succeeded(row.sent_at, lane.in_flight)
        lane.quota.succeeded(row.spent)
        row.spent = 0.0
        if lane.breaker.open_since is not None and lane.storm:
            now = self._loop.time()
            lane.pace.resume(now, now - lane.breaker.open_since)
        lane.breaker.alive()

    def _learn_from(self, error: EndpointError, row: Row, *, probe: bool) -> None:
        lane, now = row.lane, self._loop.time()
        if isinstance(error, NotSent):
            row.tally.not_sent += 1
            lane.breaker.trouble(now, probe=probe)
            lane.storm = False
            return
        self._reached = True
        if isinstance(error, Throttled):
            row.tally.throttled += 1
            self.counts.throttled += 1
            pause_s = min(error.retry_after_s or 0.0, self._config.retry.max_wait_s)
            rate_is_known = lane.pace.cuts > 0
            lane.pace.throttled(row.sent_at, now, pause_s)
            if lane.ceiling.may_be_cut(row.sent_at, now) and not (rate_is_known and self._mostly_accepted(lane, now)):
                lane.ceiling.throttled(row.sent_at, now)
            lane.breaker.trouble(now, probe=probe)
            lane.turned_away = lane.storm = True
            if pause_s:
                lane.pause(pause_s)
            return
        if isinstance(error, Ambiguous):
            row.tally.ambiguous += 1
            row.tally.note((error.error_type, error.error_code, error.status_code))
        if error.error_type in _TROUBLE:
            lane.breaker.trouble(now, probe=probe)
            lane.storm = False
        else:
            lane.breaker.alive()
            self.trouble = ""

    def _mostly_accepted(self, lane: Lane, now: float) -> bool:
        """Whether a lane's requests are let in, most of those out or lately: then it is the rate that was too much."""
        accepted = lane.pace.accepted(now, JUST_NOW_S) + sum(
            row.lane is lane and index in self.sending and now - row.sent_at > ACCEPTED_S
            for index, row in self.rows.items()
        )
        return 2 * accepted >= lane.in_flight

    def _next_wait(self, error: EndpointError, row: Row) -> float | None:
        """How long to wait before the next try, None if there is none; raises Hopeless."""
        others_may = self._several_models or self.counts.succeeded > 0
        verdict = judge(error, row.tally, self._config.retry, any_succeeded=others_may)
        if isinstance(verdict, EndRun) or (isinstance(error, NotSent) and self._nobody_is_there()):
            raise Hopeless(error)
        others_go_on = row.tally.too_long > 1 and not all(other.tally.too_long for other in self.rows.values())
        if others_go_on and isinstance(verdict, GiveUp):
            verdict = Again(self._config.retry.max_wait_s)
            row.ends_at += verdict.wait_s
        if not isinstance(verdict, Again) or self._loop.time() + verdict.wait_s > row.ends_at:
            return None
        if isinstance(error, Ambiguous):
            if self.counts.ambiguous_retries >= self._most_ambiguous_retries:
                return None
            self.counts.ambiguous_retries += 1
        return verdict.wait_s

    def _nobody_is_there(self) -> bool:
        """Whether no connection has come about for as long as one may take."""
        return not self._reached and self._loop.time() - self._began_at >= self._config.timeouts.connect_s
