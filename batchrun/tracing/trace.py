"""One start of a run as a trace: a span of all of it, and below that one for each row that was sent."""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING

import msgspec
from opentelemetry.context import get_current
from opentelemetry.trace import SpanKind, StatusCode, get_current_span, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from batchrun._totals import Totals
from batchrun.errors import EndpointError, FolderBusy, Interrupted
from batchrun.tracing.otlp import Sender, collector
from batchrun.tracing.spans import (
    attempt_attributes,
    endpoint_attributes,
    failed_attempts,
    record_attributes,
    times_of,
    told_of,
)

if TYPE_CHECKING:
    from opentelemetry.context import Context

    from batchrun.config import Config
    from batchrun.engine.watch import Plan
    from batchrun.types import Record


class Trace:
    """Hears of a run, and makes spans of it; the times of rows are those of their records."""

    def __init__(self, config: Config) -> None:
        """Begin the span of the run; raises ValueError or RuntimeError for OTEL_ variables that make no sense."""
        self._sender = Sender()
        self._of_all = endpoint_attributes(config.endpoint)
        self._began_at = time.time_ns() // 1000
        self._span = self._sender.tracer.start_span("batchrun run", _parent(), start_time=self._began_at * 1000)
        self._context = set_span_in_context(self._span)
        self._totals = Totals()
        self._spans = 0

    def plan(self, plan: Plan) -> None:
        """What is to be done is known."""
        names = ("run_id", "folder", "rows", "open_rows")
        self._span.set_attributes(told_of({f"batchrun.{name}": getattr(plan, name) for name in names}))

    def row(self, record: Record) -> None:
        """A row is settled; one that could not be sent has no span."""
        self._totals.add(record)
        if not record.attempts or not self._span.is_recording():
            return
        self._spans += 1
        attributes, attempts = {**self._of_all, **record_attributes(record)}, failed_attempts(record, self._began_at)
        times = times_of(record, attempts, self._began_at)
        span = self._sender.tracer.start_span(
            f"{attributes['gen_ai.operation.name']} {attributes['gen_ai.request.model']}",
            self._context,
            SpanKind.CLIENT,
            attributes,
            start_time=times.began_at * 1000,
        )
        for attempt in attempts:
            ended_at = attempt.started_at * 1000 + round(attempt.latency_s * 1e9)
            span.add_event("batchrun.attempt_failed", attempt_attributes(attempt), ended_at)
        if record.error_type:
            span.set_status(StatusCode.ERROR)
        span.end(times.ended_at * 1000)

    async def end(self, cause: BaseException | None, within_s: float) -> str | None:
        """End the span of the run, and wait until all are sent, but not for long; returns what the user should know."""
        if not isinstance(cause, FolderBusy):  # the other run's trace is the one to look at
            self._end(cause)
        await asyncio.wait([asyncio.wrap_future(self._sender.close())], timeout=within_s)
        self._sender.give_up()
        lost = self._spans - self._sender.arrived
        return f"OpenTelemetry: {collector()} has not taken {lost:,} of {self._spans:,} spans" if lost else None

    def _end(self, cause: BaseException | None) -> None:
        self._spans += self._span.is_recording()
        self._span.set_attributes(_attributes(self._totals))
        if cause:
            self._span.set_attribute("error.type", _error_type(cause))
            self._span.set_status(StatusCode.ERROR)
        self._span.end()


def _error_type(cause: BaseException) -> str:
    """What ended a run, by a name that is documented: a signal outside the sending leaves by SystemExit."""
    if isinstance(cause, SystemExit | KeyboardInterrupt):
        return Interrupted.__name__
    return cause.error_type if isinstance(cause, EndpointError) else type(cause).__name__


def _attributes(totals: Totals) -> dict[str, int | float]:
    """As the span of the run has them; a cost of which nothing is known is not zero, it is left out."""
    told: dict[str, int | float] = msgspec.structs.asdict(totals)
    nano_usd = told.pop("nano_usd")
    if nano_usd or not totals.unpriced:
        told["cost_usd"] = nano_usd / 1e9
    return {f"batchrun.{name}": value for name, value in told.items()}


def _parent() -> Context:
    """The span that the program is in, else the one that TRACEPARENT names, as tools hand it to what they start."""
    current = get_current()
    if get_current_span(current).get_span_context().is_valid:
        return current
    carried = {name.lower(): os.environ[name] for name in ("TRACEPARENT", "TRACESTATE") if name in os.environ}
    return TraceContextTextMapPropagator().extract(carried)
