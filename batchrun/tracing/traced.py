"""A run that is being traced: whoever hears of it hears the same, and so does its trace."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from batchrun.errors import ConfigError, Interrupted

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from batchrun.config import Config
    from batchrun.engine.watch import Plan, Watch
    from batchrun.tracing.trace import Trace
    from batchrun.types import Record

W = TypeVar("W", bound="Watch")

END_S, HURRIED_END_S = 3.0, 0.5
"""How long the end of a run waits for a collector, and how long one that is in a hurry."""


class Start(Generic[W]):
    """A start of a run: the `watch` that it is to tell of itself, and the `cause` it ended with, if there was one."""

    def __init__(self, watch: W) -> None:
        self.watch = watch
        self.cause: BaseException | None = None


@asynccontextmanager
async def traced(config: Config, watch: W) -> AsyncIterator[Start[W]]:
    """Trace what happens in the block. A collector that fails changes nothing of it, and delays its end by END_S.

    Raises:
        ConfigError: the packages are missing, or variables make no sense.
    """
    trace = _begun(config)
    start = Start(cast("W", _Both(watch, trace)))
    try:
        yield start
    except BaseException as error:
        start.cause = error
        raise
    finally:
        hurries = isinstance(start.cause, Interrupted) or not isinstance(start.cause, Exception | None)
        warning = await trace.end(start.cause, HURRIED_END_S if hurries else END_S)
        if warning:
            watch.warn(warning)


def _begun(config: Config) -> Trace:
    try:
        from batchrun.tracing.trace import Trace
    except ImportError as error:
        raise ConfigError(
            "to send a trace, the packages of OpenTelemetry are missing",
            remedy="pip install 'batchrun-llm[otel]', or leave --otel out",
        ) from error
    try:
        return Trace(config)
    except (ValueError, RuntimeError) as error:
        remedy = "correct the OTEL_ variable that says so, or leave --otel out"
        raise ConfigError(f"OpenTelemetry cannot be set up: {error}", remedy=remedy) from error


class _Both:
    """A watch, and a trace that hears of the plan and of the rows as well."""

    def __init__(self, watch: Watch, trace: Trace) -> None:
        self._watch, self._trace = watch, trace

    def __getattr__(self, name: str) -> Any:
        return getattr(self._watch, name)

    def plan(self, plan: Plan) -> None:
        self._trace.plan(plan)
        self._watch.plan(plan)

    def row(self, record: Record) -> None:
        self._trace.row(record)
        self._watch.row(record)
