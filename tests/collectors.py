"""An OpenTelemetry collector: takes traces by OTLP over HTTP on a real socket, and tells what it was sent."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, NamedTuple

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue


class Event(NamedTuple):
    """Something that happened at a time, in microseconds."""

    name: str
    at: int
    attributes: dict[str, Any]


class Span(NamedTuple):
    """A span as it was sent; ids are hexadecimal, times microseconds, `kind` and `status` the protocol's numbers."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str
    kind: int
    status: int
    began_at: int
    ended_at: int
    attributes: dict[str, Any]
    events: list[Event]


class Collector:
    """Whoever listens at `url`, and what was sent there: whole requests, and the paths and headers of them."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.bodies: list[bytes] = []
        self.headers: list[dict[str, str]] = []

    def resources(self) -> list[dict[str, Any]]:
        """What the senders said of themselves, one for each request."""
        return [_attributes(one.resource.attributes) for body in self.bodies for one in _read(body).resource_spans]

    def spans(self) -> list[Span]:
        """All spans, those of rows by their index and the runs' last."""
        scopes = (scope for body in self.bodies for one in _read(body).resource_spans for scope in one.scope_spans)
        spans = [_span(span) for scope in scopes for span in scope.spans]
        return sorted(spans, key=lambda span: (span.began_at, span.attributes.get("batchrun.index", 1 << 30)))

    def runs(self) -> list[Span]:
        """The spans of runs, in the order of their beginning."""
        return [span for span in self.spans() if span.name == "batchrun run"]

    def rows(self) -> list[Span]:
        """The spans of rows, by their index."""
        rows = [span for span in self.spans() if span.name != "batchrun run"]
        return sorted(rows, key=lambda span: span.attributes["batchrun.index"])


@contextmanager
def collecting(status: int = 200) -> Iterator[Collector]:
    """A collector that answers with this status until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            collector.headers.append({"path": self.path, **{name.lower(): text for name, text in self.headers.items()}})
            collector.bodies.append(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        collector = Collector(f"http://127.0.0.1:{http.server_port}")
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield collector
        finally:
            http.shutdown()
            thread.join()


@contextmanager
def silent() -> Iterator[str]:
    """The URL of somebody who takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def nobody() -> str:
    """The URL of a port where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"http://127.0.0.1:{listener.getsockname()[1]}"


def _read(body: bytes) -> ExportTraceServiceRequest:
    return ExportTraceServiceRequest.FromString(body)


def _span(span: Any) -> Span:
    return Span(
        name=span.name,
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        kind=span.kind,
        status=span.status.code,
        began_at=span.start_time_unix_nano // 1000,
        ended_at=span.end_time_unix_nano // 1000,
        attributes=_attributes(span.attributes),
        events=[Event(one.name, one.time_unix_nano // 1000, _attributes(one.attributes)) for one in span.events],
    )


def _attributes(attributes: list[KeyValue]) -> dict[str, Any]:
    return {one.key: _value(one.value) for one in attributes}


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    return [_value(one) for one in value.array_value.values] if kind == "array_value" else getattr(value, kind)
