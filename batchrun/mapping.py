"""Rows of a program in, answers out: `batchrun.map`, `batchrun.amap` and `batchrun.stream`.

Theory of operation. The rows are written to a file beside the run folder, and the walk runs that file as it runs any
other: what is answered is kept at once, and the same call with the same output sends only what is missing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypedDict, TypeVar, overload

import msgspec
import pandas as pd
import pyarrow as pa

from batchrun._yaml import read_keys
from batchrun.answers import SCHEMA, answers, records
from batchrun.bar import Bar
from batchrun.config import Config, check_config
from batchrun.engine.controls import GO_ON_BELOW, MOST_WAITING
from batchrun.errors import ConfigError, RowsFailed
from batchrun.prompts.given import lines_of
from batchrun.run import Options, walk
from batchrun.store.identity import temporary_folder
from batchrun.store.inputs import drop_input, input_of, keep_input

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Coroutine, Iterable
    from typing import Unpack

    from batchrun.engine.controls import Controls
    from batchrun.engine.watch import Plan
    from batchrun.run import Ending
    from batchrun.types import Record

    Rows = pd.DataFrame | pd.Series[Any] | Iterable[str | Mapping[str, Any] | None]
    Keys = Mapping[str, object] | str | Path


class ArrowTable(Protocol):
    """As much of a `pyarrow.Table` as tells it from other rows."""

    def combine_chunks(self) -> Any:
        """The same with its columns in one piece."""


class How(TypedDict, total=False):
    """What may be said beside the rows and the configuration: see `amap`."""

    output: str | Path | None
    model: str | None
    template: str | None
    strict: bool
    options: Options | None


Table = TypeVar("Table", bound=ArrowTable)

_WHO = "stream"
_COUNTS = {pa.int32(): pd.Int32Dtype(), pa.int64(): pd.Int64Dtype()}


@overload
def map(rows: Table, config: Keys | None = ..., **how: Unpack[How]) -> Table: ...  # noqa: A001 (what it is)
@overload
def map(rows: Rows, config: Keys | None = ..., **how: Unpack[How]) -> pd.DataFrame: ...  # noqa: A001
def map(  # noqa: A001
    rows: Rows | ArrowTable,
    config: Keys | None = None,
    *,
    output: str | Path | None = None,
    model: str | None = None,
    template: str | None = None,
    strict: bool = False,
    options: Options | None = None,
) -> pd.DataFrame | ArrowTable:
    """The same as `amap`, from where no event loop is running.

    >>> frame["answer"] = batchrun.map(frame, model="m", template="Translate: {{ text }}")["content"]  # doctest: +SKIP

    Raises:
        ConfigError: one is running, as in a notebook: `await batchrun.amap(...)` there. And what `amap` raises.
    """
    with suppress(RuntimeError):
        asyncio.get_running_loop()
        raise ConfigError("batchrun.map cannot wait inside a running loop", remedy="await batchrun.amap(...)")
    asked: Coroutine[Any, Any, pd.DataFrame | ArrowTable] = amap(
        rows, config, output=output, model=model, template=template, strict=strict, options=options
    )
    return asyncio.run(asked)


@overload
async def amap(rows: Table, config: Keys | None = ..., **how: Unpack[How]) -> Table: ...
@overload
async def amap(rows: Rows, config: Keys | None = ..., **how: Unpack[How]) -> pd.DataFrame: ...
async def amap(
    rows: Rows | ArrowTable,
    config: Keys | None = None,
    *,
    output: str | Path | None = None,
    model: str | None = None,
    template: str | None = None,
    strict: bool = False,
    options: Options | None = None,
) -> pd.DataFrame | ArrowTable:
    """Ask for every row and return the answers, a row for each in the same order; the same call again goes on.

    Args:
        rows: N of them. The columns of a pandas frame or a `pyarrow.Table`, or a mapping, are the keys of an input
            row (`prompt`, `messages`, `custom_id`, …); a text, in a series or any other iterable, is a `prompt`. What
            is missing in a frame (NaN, NaT, NA) is null. An iterator is read to its end before anything is sent.
        config: the configuration as keys and values, or the path of a file; its `input` has no meaning here.
        output: the run folder; else that of the configuration; else a new one among the temporary files. The rows are
            kept beside it, as `OUTPUT.input-….jsonl`.
        model: in place of the configuration's `request.model`.
        template: in place of its `request.template`.
        strict: raise for rows that cannot be sent, before anything is, and in the end for rows that failed.
        options: how to go about it, as for `run`; `skip_invalid` is the contrary of `strict`.

    Returns:
        N rows: a frame with the index of `rows`, or a table for a table. Its columns are `batchrun.answers.COLUMNS`:
        `content`, `finish_reason`, `error_type`, … with tokens as counts (`prompt_tokens`), durations in seconds
        (`latency_s`), money in dollars (`cost_usd`) and times in UTC (`started_at`). A row that failed has its
        `error_type` and no content; one that was not sent, for `Options.limit`, has nulls. The run folder, which has
        more, is named in `frame.attrs["run_folder"]`, of a table in its metadata.

    Raises:
        ConfigError, PromptError, StoreError: it cannot be run as given; nothing was sent.
        EndpointError, BudgetReached, Stopped, PilotDone, Interrupted, StoreError: the run ended early. All that was
            answered is kept, also if the call is cancelled; a note of the exception says where.
        RowsFailed: `strict`, and rows failed.
    """
    checked = _configuration(config, output=output, model=model, template=template)
    ready = _ready(checked, rows)
    if ready is None:
        return _like(rows, SCHEMA.empty_table(), None)
    options = msgspec.structs.replace(options or Options(), skip_invalid=not strict)
    ending = await _walked(ready, options, _Told(shown=options.progress))
    table = answers(ending.folder)
    if strict and (failed := ending.report.rows.failed):
        raise RowsFailed(
            f"{failed:,} of {table.num_rows:,} rows failed; the first: {_first_failure(table)}",
            remedy=f"look at batchrun.read({ending.folder!r}).table('failures'); the same call sends what may succeed",
        )
    return _like(rows, table, ending.folder)


async def stream(
    rows: Rows | ArrowTable,
    config: Keys | None = None,
    *,
    output: str | Path | None = None,
    model: str | None = None,
    template: str | None = None,
    options: Options | None = None,
) -> AsyncGenerator[Record, None]:
    """Yield the record of every row once, as they are settled; those that earlier calls have settled come last.

    A failed row is a record with an `error_type`; `index` is the row's position, from 0. A slow loop body slows the
    run down: while more than 512 records wait for it nothing new is sent. Leaving the loop ends the run, and what was
    answered is kept; to have that done at once, and not when Python finds the time, use `contextlib.aclosing`.

    Arguments are those of `amap`.

    Raises:
        BatchrunError: between two records, as `amap` raises it, but for RowsFailed.
    """
    ready = _ready(_configuration(config, output=output, model=model, template=template), rows)
    if ready is None:
        return
    flow = _Flow()
    options = msgspec.structs.replace(options or Options(), skip_invalid=True)
    run = asyncio.create_task(_walked(ready, options, flow))
    run.add_done_callback(flow.end_of_run)
    try:
        while (record := await flow.next()) is not None:
            yield record
        ending = await run
    finally:
        run.cancel()
        await asyncio.gather(run, return_exceptions=True)
    for record in records(ending.folder, flow.seen):
        yield record


class _Told(Bar):
    """Shows a bar, and remembers where a run is kept."""

    folder: str | None = None

    def plan(self, plan: Plan) -> None:
        super().plan(plan)
        self.folder = plan.folder


class _Flow(_Told):
    """Records on their way from a run to a loop that may be slow."""

    def __init__(self) -> None:
        super().__init__(shown=False)  # what the loop prints would be drawn over
        self.seen = bytearray()
        self._waiting: asyncio.Queue[Record | None] = asyncio.Queue()
        self._controls: Controls | None = None
        self._paused = False

    def plan(self, plan: Plan) -> None:
        super().plan(plan)
        self.seen = bytearray(plan.rows)

    def steer(self, controls: Controls) -> None:
        self._controls = controls

    def row(self, record: Record) -> None:
        self.seen[record.index] = 1
        self._waiting.put_nowait(record)
        if self._controls and not self._paused and self._waiting.qsize() > MOST_WAITING:
            self._paused = True
            self._controls.pause(_WHO)

    def end_of_run(self, _run: asyncio.Task[Ending]) -> None:
        self._controls = None
        self._waiting.put_nowait(None)

    async def next(self) -> Record | None:
        record = await self._waiting.get()
        if self._controls and self._paused and self._waiting.qsize() < GO_ON_BELOW:
            self._paused = False
            self._controls.resume(_WHO)
        return record


def _configuration(
    config: Keys | None, *, output: str | Path | None, model: str | None, template: str | None
) -> Config:
    """The configuration without an input; raises ConfigError."""
    named = str(config) if isinstance(config, str | Path) else ""
    values = read_keys(named) if isinstance(config, str | Path) else dict(config or {})
    if output is not None:
        values["output"] = str(output)
    elif "output" not in values:
        values["output"] = temporary_folder()
    given = {key: value for key, value in (("model", model), ("template", template)) if value is not None}
    request = values.get("request") or {}
    if isinstance(request, Mapping):
        values["request"] = {**request, **given}
    return check_config({**values, "input": "-"}, origin=named or "configuration")


def _ready(config: Config, rows: Any) -> Config | None:
    """The configuration with the rows as its input, on disk; None if there are none."""
    path = keep_input(config.output, lines_of(rows))
    return msgspec.structs.replace(config, input=str(path)) if path else None


async def _walked(config: Config, options: Options, told: _Told) -> Ending:
    """Run it to its end; what ends it early is raised, with a note of where the answers are."""
    before = input_of(config.output)
    try:
        ending = await walk(config, options, told)
        if ending.cause:
            raise ending.cause
    except BaseException as error:
        if told.folder:
            error.add_note(f"What was answered is kept in {told.folder}: the same call with this output goes on.")
        raise
    if before and Path(ending.folder) == Path(config.output) and str(before) != config.input:
        drop_input(before)
    return ending


def _like(rows: Rows | ArrowTable, table: pa.Table, folder: str | None) -> pd.DataFrame | ArrowTable:
    """The answers in the form of the rows."""
    named = {"run_folder": folder} if folder else {}
    if isinstance(rows, pa.Table):
        same: ArrowTable = table.replace_schema_metadata(named)
        return same
    frame: pd.DataFrame = table.to_pandas(types_mapper=_COUNTS.get)
    frame.attrs.update(named)
    if isinstance(rows, pd.DataFrame | pd.Series):
        frame.index = rows.index
    return frame


def _first_failure(table: pa.Table) -> str:
    return next(filter(None, table.column("error_message").to_pylist()), "")
