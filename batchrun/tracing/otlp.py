"""Spans on their way to a collector, by OTLP over HTTP, in the background: what cannot be sent is counted and let go.

The variables OTEL_* say where to and how, as for every program.
"""

from __future__ import annotations

import logging
import os
from concurrent.futures import Future
from contextlib import suppress
from threading import Thread
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from batchrun import __version__

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.trace import Tracer

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
logging.getLogger("opentelemetry").addHandler(logging.NullHandler())  # else each failure is a line on stderr


class Exporter(SpanExporter):
    """The usual exporter, which knows how many spans have arrived, and which can be told to give up."""

    def __init__(self) -> None:
        self._to: SpanExporter = OTLPSpanExporter()
        self._gave_up = False
        self.arrived = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send some; called in the background."""
        if self._gave_up:
            return SpanExportResult.FAILURE
        result = self._to.export(spans)
        if result is SpanExportResult.SUCCESS:
            self.arrived += len(spans)
        return result

    def shutdown(self) -> None:
        """Send nothing any more, and wait for no answer."""
        if not self._gave_up:
            self._gave_up = True
            self._to.shutdown()


class Sender:
    """A tracer whose spans are sent; raises ValueError or RuntimeError for variables that make no sense."""

    def __init__(self) -> None:
        named = OTELResourceDetector().detect().attributes  # what the user calls it wins
        resource = Resource.create({"service.name": "batchrun", "service.version": __version__, **named})
        self._exporter = Exporter()
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(self._exporter))
        self.tracer: Tracer = self._provider.get_tracer("batchrun", __version__)

    @property
    def arrived(self) -> int:
        """How many spans the collector has taken."""
        return self._exporter.arrived

    def close(self) -> Future[None]:
        """Send what is left; to be waited for, but not for long: then `give_up`."""
        sent: Future[None] = Future()

        def send() -> None:
            try:
                self._provider.shutdown()
            finally:
                sent.set_result(None)

        Thread(target=send, name="batchrun-otel", daemon=True).start()
        return sent

    def give_up(self) -> None:
        """Leave what has not been sent."""
        self._exporter.shutdown()


def collector() -> str:
    """Host and port of the collector: what comes after them may hold a secret."""
    url = next(filter(None, map(os.environ.get, _ENDPOINTS)), "http://localhost:4318")
    with suppress(ValueError):
        return urlsplit(url).netloc.rpartition("@")[2] or "no host"
    return "no host"
