"""THE WALK: one run, from prompts to records to a report. Read this first.

A prompt becomes a request, is attempted until it brings a completion, and is kept as a record; records fill parts;
parts become a report. The rooms that do these steps do not know each other: they meet here.
"""

from __future__ import annotations

import asyncio
import sys
import time
from contextlib import AsyncExitStack, ExitStack, suppress
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING, Literal

import msgspec

from batchrun.bar import Bar
from batchrun.closing import close, session_of
from batchrun.config import Config, read_config, read_key
from batchrun.controlling import controlled
from batchrun.endpoint.descriptors import make_room
from batchrun.endpoint.http import HttpEndpoint
from batchrun.engine.attempts import Fulfiller
from batchrun.engine.controls import Controls
from batchrun.engine.lanes import Lanes
from batchrun.engine.pool import Pool
from batchrun.engine.records import invalid_record
from batchrun.engine.signals import stopped_by_signals
from batchrun.engine.turns import following
from batchrun.engine.validity import Validity
from batchrun.errors import BatchrunError, ConfigError, PromptError, StoreError
from batchrun.piloting import Pilot
from batchrun.planning import plan_of, refuse_unlimited, refuse_unpriced
from batchrun.pricing import PriceBook
from batchrun.prompts import Prompts, open_prompts
from batchrun.prompts.check import check, keys_of, refuse_invalid
from batchrun.prompts.render import Renderer
from batchrun.report.summary import Report
from batchrun.simulated.embedded import embedded
from batchrun.store.folder import RunFile, RunFolder
from batchrun.store.identity import OnChange, describe, fit, folder_of, fresh_folder
from batchrun.store.keeper import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping
    from pathlib import Path

    from batchrun.engine.watch import Plan
    from batchrun.piloting import PilotWatch
    from batchrun.store.manifest import Session
    from batchrun.types import Request

    Tap = Callable[[Callable[[int], bool]], Generator[Request, None, None]]


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How to go about a run, apart from what it is.

    Attributes:
        limit: send so many of the first rows, and no more.
        pilot: so many rows (`50`), or such a share (`"2%"`), go first, to show what the rest will cost.
        on_change: if the folder holds answers to other requests: `refuse`, `append` new rows, `rerun` what changed
            too, or begin a `new` folder.
        fresh: start over in a new folder beside it.
        retry_failed: which failures of earlier starts to send again.
        skip_invalid: a row that cannot be sent is a failure, and stops nothing.
        allow_unpriced: a budget leaves out the rows whose model has no price.
        otel: send a trace by OpenTelemetry; needs the extra `otel`.
        progress: from Python, draw a bar on stderr if that is a terminal or a notebook.
    """

    limit: int | None = None
    pilot: int | str | None = None
    on_change: OnChange = "refuse"
    fresh: bool = False
    retry_failed: Literal["retryable", "all", "none"] = "retryable"
    skip_invalid: bool = False
    allow_unpriced: bool = False
    otel: bool = False
    progress: bool = True


class Ending(msgspec.Struct, frozen=True, kw_only=True):
    """How a run ended. `cause` is None if all that was to be done was done; `open_rows` would be sent by the next."""

    folder: str
    cause: BatchrunError | None
    report: Report
    sent: int
    open_rows: int


async def walk(config: Config, options: Options, watch: PilotWatch) -> Ending:
    """Run a configuration, or go on with it.

    Raises:
        ConfigError, PromptError, StoreError: it cannot be run as given, and nothing was sent. What happens later is the
            ending's `cause`.
    """
    if not options.otel:
        return await _walk(config, options, watch)
    from batchrun.tracing.traced import traced

    async with traced(config, watch) as start:
        ending = await _walk(config, options, start.watch)
        start.cause = ending.cause
    return ending


async def _walk(config: Config, options: Options, watch: PilotWatch) -> Ending:
    folder = fresh_folder(config.output) if options.fresh else RunFolder(config.output)
    with ExitStack() as held:
        there = folder.exists()
        if there:
            held.enter_context(folder.locked())
        key = read_key(config.endpoint)
        make_room(config.limits.concurrency)
        prompts, renderer = open_prompts(config.input), Renderer(config)
        validity = Validity(config.request.validate) if config.request.validate else None
        pilot = None if options.pilot is None else Pilot(options.pilot, limit=options.limit)
        checked = check(prompts, renderer, _looks(config, pilot))
        if not options.skip_invalid:
            refuse_invalid(checked)
        if pilot:
            pilot.draw(checked)
        run = describe(config, rows=checked.rows, models=checked.models, fingerprint=checked.fingerprint)
        if config.limits.max_cost_usd and not options.allow_unpriced:
            refuse_unpriced(run)
        if there and options.on_change == "new":
            held.close()
            folder, there = folder_of(config.output, run), False
        if not there:
            folder.make()
            held.enter_context(folder.locked())
        fitted = fit(folder, run, lambda: keys_of(prompts, renderer), options.on_change)
        run = fitted.run
        store = Store(folder, run, retry_failed=options.retry_failed)
        early = pilot.rows if pilot else frozenset()
        plan = plan_of(config, fitted, store, prompts, renderer, limit=options.limit, first=checked.first, early=early)
        watch.plan(plan)
        cause, session = None, None
        if plan.open_rows:
            tap = partial(requests, prompts, renderer, store, watch=watch, limit=options.limit)
            cause, session = await send(
                tap, pilot, store, config=config, run=run, key=key, plan=plan, validity=validity, watch=watch
            )
        else:
            store.tidy()
        report, cause = _report(folder, cause)
        sent, open_rows = session.requests if session else 0, store.open_rows(options.limit)
        return Ending(folder=str(folder), cause=cause, report=report, sent=sent, open_rows=open_rows)


def _looks(config: Config, pilot: Pilot | None) -> Callable[[Request | None], None] | None:
    """What is told of every row while the input is checked."""
    looks = [*([refuse_unlimited] if config.limits.max_cost_usd else []), *([pilot.see] if pilot else [])]

    def look(request: Request | None) -> None:
        for each in looks:
            each(request)

    return look if looks else None


def _report(folder: RunFolder, cause: BatchrunError | None) -> tuple[Report, BatchrunError | None]:
    """Make the report and write it into the folder; a disk that fails now is the cause, unless there was one before."""
    from batchrun.reporting import report_on, write_report  # pyarrow.compute with it: not before the first request

    try:
        report = report_on(folder)
    except StoreError as error:  # what was in order a moment ago has gone
        raise cause or StoreError(error.message, remedy=error.remedy) from error
    try:
        write_report(folder, report)
    except StoreError as error:
        cause = cause or error
    return report, cause


def requests(
    prompts: Prompts,
    renderer: Renderer,
    store: Store,
    wanted: Callable[[int], bool],
    *,
    watch: PilotWatch,
    limit: int | None,
) -> Generator[Request, None, None]:
    """The wanted requests still to be sent, in the order of the input; a row that cannot be sent is kept as failed."""
    for prompt in prompts.read(lambda index: not (wanted(index) and store.is_open(index))):
        if limit is not None and prompt.index is not None and prompt.index >= limit:
            return
        try:
            if isinstance(prompt, PromptError):
                raise prompt
            request = renderer.render(prompt)
        except PromptError as error:
            record = invalid_record(error)
            store.keep(record)
            watch.row(record)
            continue
        so_far = store.so_far(request) if request.turns else None
        yield (so_far and following(request, so_far)) or request


async def send(
    tap: Tap,
    pilot: Pilot | None,
    store: Store,
    *,
    config: Config,
    run: RunFile,
    key: str | None,
    plan: Plan,
    validity: Validity | None,
    watch: PilotWatch,
) -> tuple[BatchrunError | None, Session]:
    """Send the pilot, if there is one, and the rest, until something ends the run; commit, seal, say how it ended."""
    began_at = time.monotonic()
    async with AsyncExitStack() as open_things:
        base_url = config.endpoint.base_url
        if config.endpoint.simulated:
            base_url = await open_things.enter_async_context(embedded())
        endpoint = await open_things.enter_async_context(HttpEndpoint(config, base_url=base_url, key=key))
        lanes, models = Lanes(config.limits), len(run.models)
        price_for = msgspec.convert(run.prices, PriceBook).price_for
        fulfiller = Fulfiller(
            endpoint,
            lanes,
            config,
            rows=run.rows,
            models=models,
            price_for=price_for,
            spent_nano_usd=plan.spent_nano_usd,
            validity=validity,
        )
        pool = Pool(fulfiller, store, lanes, config=config, watch=watch, models=models)
        controls = Controls(pool, lanes, fulfiller.money, config)
        watch.steer(controls)
        early = pilot.rows if pilot else frozenset()
        store.start(config.store, on_failure=pool.stop, early=early)
        try:
            with stopped_by_signals(pool), controlled(store.recovered.folder, controls, plan.open_rows):
                if pilot:
                    await pool.run(tap(lambda index: index in early))
                    await pilot.decide(pool, store, fulfiller.money, controls.limits, watch)
                if not pool.cause:
                    await pool.run(tap(lambda index: index not in early))
        except BaseException:  # the caller gave up: what was answered is kept all the same
            store.abandon()
            raise
    session = session_of(pool, fulfiller, endpoint, store, time.monotonic() - began_at)
    return await close(store, pool, session), session


async def arun(config: Config | Mapping[str, object] | str | Path, *, options: Options | None = None) -> Report:
    """Run a configuration (a `Config`, its keys and values, or the path of a file) and return the report on it.

    Running the same configuration again sends what is missing.

    Returns:
        The report on the whole folder, also if nothing was sent. Rows that failed are in it, not raised.

    Raises:
        ConfigError, PromptError, StoreError: it cannot be run as given; nothing was sent.
        EndpointError, BudgetReached, Stopped, PilotDone, Interrupted, StoreError: the run ended early; all that was
            answered is kept.
    """
    options = options or Options()
    ending = await walk(read_config(config), options, Bar(shown=options.progress))
    if ending.cause:
        raise ending.cause
    return ending.report


def run(config: Config | Mapping[str, object] | str | Path, *, options: Options | None = None) -> Report:
    """The same as `arun`, from where no event loop is running.

    Raises:
        ConfigError: one is running, as in a notebook: `await batchrun.arun(config)` there. And what `arun` raises.
    """
    with suppress(RuntimeError):
        asyncio.get_running_loop()
        raise ConfigError("batchrun.run cannot wait inside a running loop", remedy="await batchrun.arun(config)")
    return asyncio.run(arun(config, options=options))


class _Callable(ModuleType):
    """`batchrun.run` names both this module and the function in it: calling the module calls the function."""

    def __call__(self, config: Config | Mapping[str, object] | str | Path, *, options: Options | None = None) -> Report:
        return run(config, options=options)


sys.modules[__name__].__class__ = _Callable
