"""One request, tried until it succeeds or cannot, becomes one record: a failed one too, it is not an exception."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Protocol

import msgspec

from batchrun.engine.limits import Closed, Turnstile
from batchrun.engine.retry import Again, EndRun, Tally, judge
from batchrun.errors import Ambiguous, EndpointError, NotSent, Throttled
from batchrun.pricing import cost_nano_usd
from batchrun.types import Attempt, Completion, Record, Request, Usage

if TYPE_CHECKING:
    from collections.abc import Callable

    from batchrun.config import Config
    from batchrun.errors import PromptError
    from batchrun.pricing import Price

MOST_LOGGED_ATTEMPTS = 50
MESSAGE_CHARS = 1000
RESPONSE_HEAD_CHARS = 2048
_AMBIGUOUS_SHARE = 0.05


class Endpoint(Protocol):
    """What the engine needs of an endpoint."""

    async def complete(self, request: Request) -> Completion:
        """Send one request and return its completion; raises EndpointError where there is none."""
        ...


class Counts(msgspec.Struct):
    """What one start of a run has done on the wire."""

    requests: int = 0
    throttled: int = 0
    ambiguous_retries: int = 0
    answered: int = 0
    succeeded: int = 0


class Hopeless(Exception):
    """No request of this run can succeed; `error` says why."""

    def __init__(self, error: EndpointError) -> None:
        super().__init__(error.message)
        self.error = error


class Fulfiller:
    """Tries requests against one endpoint, behind one turnstile; `sending` holds the index of all that are out."""

    def __init__(
        self,
        endpoint: Endpoint,
        turnstile: Turnstile,
        config: Config,
        *,
        rows: int,
        price_for: Callable[[str], Price | None],
    ) -> None:
        self._endpoint, self._turnstile, self._config, self._price_for = endpoint, turnstile, config, price_for
        self._loop = asyncio.get_running_loop()
        self._most_ambiguous_retries = max(config.limits.concurrency, int(rows * _AMBIGUOUS_SHARE))
        self._began_at = self._loop.time()
        self.counts = Counts()
        self.sending: dict[int, float] = {}
        self.last_progress_at = self._began_at

    async def fulfil(self, request: Request) -> Record | None:
        """Try a request until there is a record of it; None if the run ends before that.

        Raises:
            Hopeless: what came back will come back for every row.
        """
        taken_at = self._loop.time()
        log: list[Attempt] = []
        tally = Tally()
        queued_s: float | None = None
        while True:
            try:
                await self._turnstile.enter()
            except Closed:
                return None
            sent_at, started_at = self._loop.time(), time.time_ns() // 1000
            if queued_s is None:
                queued_s = sent_at - taken_at
            answer = await self._attempt(request, sent_at)
            if isinstance(answer, Completion):
                return self._success(request, answer, log, queued_s, started_at)
            self._count(answer, tally, sent_at)
            latency_s = self._loop.time() - sent_at
            wait_s = self._next_wait(answer, tally, deadline=taken_at + self._config.timeouts.row_s)
            if wait_s is None:
                return self._failure(
                    request, answer, log, queued_s=queued_s, started_at=started_at, latency_s=latency_s
                )
            log.append(self._logged(request, answer, len(log) + 1, started_at=started_at, latency_s=latency_s))
            try:
                await self._turnstile.sleep(wait_s)
            except Closed:
                return None

    async def _attempt(self, request: Request, sent_at: float) -> Completion | EndpointError:
        """One try; a cancelled one stays in `sending`: it may be charged."""
        self.sending[request.index] = sent_at
        self.counts.requests += 1
        answer: Completion | EndpointError
        try:
            answer = await self._endpoint.complete(request)
            self._turnstile.ceiling.succeeded(sent_at, self._turnstile.in_flight)
        except EndpointError as error:
            answer = error
        finally:
            self._turnstile.leave()
        del self.sending[request.index]
        return answer

    def _count(self, error: EndpointError, tally: Tally, sent_at: float) -> None:
        if isinstance(error, NotSent):
            tally.not_sent += 1
            return
        self.counts.answered += error.status_code is not None
        if isinstance(error, Throttled):
            tally.throttled += 1
            self.counts.throttled += 1
            self._turnstile.ceiling.throttled(sent_at, self._loop.time())
            if error.retry_after_s is not None:
                self._turnstile.pause(min(error.retry_after_s, self._config.retry.max_wait_s))
        elif isinstance(error, Ambiguous):
            tally.ambiguous += 1

    def _next_wait(self, error: EndpointError, tally: Tally, *, deadline: float) -> float | None:
        """How long to wait before the next try, None if there is none; raises Hopeless."""
        verdict = judge(error, tally, self._config.retry, any_succeeded=self.counts.succeeded > 0)
        waited_s = self._loop.time() - self._began_at
        nobody_there = isinstance(error, NotSent) and not self.counts.answered and not self.counts.succeeded
        if isinstance(verdict, EndRun) or (nobody_there and waited_s >= self._config.timeouts.connect_s):
            raise Hopeless(error)
        if not isinstance(verdict, Again) or self._loop.time() + verdict.wait_s > deadline:
            return None
        if isinstance(error, Ambiguous):
            if self.counts.ambiguous_retries >= self._most_ambiguous_retries:
                return None
            self.counts.ambiguous_retries += 1
        return verdict.wait_s

    def _success(
        self, request: Request, done: Completion, log: list[Attempt], queued_s: float, started_at: int
    ) -> Record:
        self.counts.succeeded += 1
        self.last_progress_at = self._loop.time()
        usage = done.usage or _NO_USAGE
        return Record(
            index=request.index,
            custom_id=request.custom_id,
            request_key=request.request_key,
            requested_model=request.model,
            model=done.model,
            content=done.content,
            reasoning_content=done.reasoning_content,
            refusal=done.refusal,
            tool_calls=done.tool_calls,
            choices=done.choices,
            logprobs=done.logprobs,
            embedding=done.embedding,
            finish_reason=done.finish_reason,
            prompt_tokens=usage.prompt_tokens,
            cached_tokens=usage.cached_tokens,
            completion_tokens=usage.completion_tokens,
            reasoning_tokens=usage.reasoning_tokens,
            total_tokens=usage.total_tokens,
            usage_source="endpoint" if done.usage else "missing",
            cost_usd=_total_usd(self._cost_usd(request, done.usage), log),
            input=request.input,
            attempts=len(log) + 1,
            attempt_log=_log_text(log),
            queued_s=queued_s,
            latency_s=done.latency_s,
            ttft_s=done.ttft_s,
            ttfvt_s=done.ttfvt_s,
            itl_mean_s=done.itl_mean_s,
            itl_p99_s=done.itl_p99_s,
            server_ttft_s=done.server_ttft_s,
            server_processing_s=done.server_processing_s,
            perf_metrics=done.perf_metrics,
            status_code=done.status_code,
            request_id=done.request_id,
            started_at=started_at,
            finished_at=time.time_ns() // 1000,
            response=done.response if self._config.store.keep_response else None,
        )

    def _failure(
        self,
        request: Request,
        error: EndpointError,
        log: list[Attempt],
        *,
        queued_s: float,
        started_at: int,
        latency_s: float,
    ) -> Record:
        if not isinstance(error, NotSent | Throttled):
            self.last_progress_at = self._loop.time()
        usage = error.usage or _NO_USAGE
        return Record(
            index=request.index,
            custom_id=request.custom_id,
            request_key=request.request_key,
            requested_model=request.model,
            error_type=error.error_type,
            error_code=error.error_code,
            error_message=error.message[:MESSAGE_CHARS] or type(error).__name__,
            prompt_tokens=usage.prompt_tokens,
            cached_tokens=usage.cached_tokens,
            completion_tokens=usage.completion_tokens,
            reasoning_tokens=usage.reasoning_tokens,
            total_tokens=usage.total_tokens,
            usage_source="endpoint" if error.usage else "missing",
            cost_usd=_total_usd(self._cost_usd(request, error.usage), log),
            input=request.input,
            attempts=len(log) + 1,
            attempt_log=_log_text(log),
            queued_s=queued_s,
            latency_s=latency_s,
            status_code=error.status_code,
            request_id=error.request_id,
            started_at=started_at,
            finished_at=time.time_ns() // 1000,
            response=error.response[:RESPONSE_HEAD_CHARS] if error.response else None,
        )

    def _logged(
        self, request: Request, error: EndpointError, number: int, *, started_at: int, latency_s: float
    ) -> Attempt:
        return Attempt(
            number=number,
            started_at=started_at,
            latency_s=latency_s,
            error_type=error.error_type,
            error_code=error.error_code,
            error_message=error.message[:MESSAGE_CHARS] or type(error).__name__,
            status_code=error.status_code,
            request_id=error.request_id,
            retry_after_s=error.retry_after_s,
            usage=error.usage,
            cost_usd=self._cost_usd(request, error.usage),
        )

    def _cost_usd(self, request: Request, usage: Usage | None) -> float | None:
        nano_usd = cost_nano_usd(usage, self._price_for(request.model)) if usage else None
        return None if nano_usd is None else nano_usd / 1e9


_NO_USAGE = Usage()


def invalid_record(error: PromptError) -> Record:
    """The record of a row that could not be sent."""
    now = time.time_ns() // 1000
    index = error.index or 0
    return Record(
        index=index,
        custom_id=error.custom_id or f"row-{index}",
        error_type="input_invalid",
        error_message=error.message[:MESSAGE_CHARS],
        started_at=now,
        finished_at=now,
    )


def _total_usd(last_usd: float | None, log: list[Attempt]) -> float | None:
    """What all attempts of a row cost together, in whole nano-dollars; None if nothing of it is known."""
    costs = [round(cost * 1e9) for cost in (last_usd, *(attempt.cost_usd for attempt in log)) if cost is not None]
    return sum(costs) / 1e9 if costs else None


def _log_text(log: list[Attempt]) -> str | None:
    """The attempts before the last as JSON text; of a very long story the beginning and the end."""
    if len(log) > MOST_LOGGED_ATTEMPTS:
        log = log[: MOST_LOGGED_ATTEMPTS // 2] + log[-MOST_LOGGED_ATTEMPTS // 2 :]
    return msgspec.json.encode(log).decode() if log else None
