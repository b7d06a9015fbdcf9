"""What a type checker should say of the Python API: nothing. Never run; `pytest -m rig` has mypy read it."""

from __future__ import annotations

from contextlib import aclosing
from pathlib import Path
from typing import Any, assert_type

import pandas as pd

import batchrun
from batchrun.errors import BatchrunError, RowsFailed
from batchrun.report.summary import Report
from batchrun.store.snapshot import Snapshot
from batchrun.types import Record

CONFIG = {"endpoint": {"base_url": "simulated"}, "request": {"model": "simulated/small"}}


def runs() -> None:
    assert_type(batchrun.run("configs/quickstart.yaml"), Report)
    assert_type(batchrun.run(CONFIG, options=batchrun.Options(limit=10)), Report)
    assert_type(batchrun.run(Path("nightly.yaml")).rows.failed, int)
    assert_type(batchrun.run(CONFIG).cost.cost_usd, float | None)
    batchrun.run(CONFIG, limit=10)  # type: ignore[call-arg]
    batchrun.Options(on_change="overwrite")  # type: ignore[arg-type]
    batchrun.run(options=batchrun.Options())  # type: ignore[call-arg]
    batchrun.Options(limits=10)  # type: ignore[call-arg]


def reads() -> None:
    snapshot = batchrun.read(Path("runs/quickstart"))
    assert_type(snapshot, Snapshot)
    assert_type(snapshot.to_pandas("failures", ["custom_id", "error_type"]), pd.DataFrame)
    snapshot.to_pandas("successes")  # type: ignore[arg-type]


def fails() -> None:
    try:
        batchrun.map(["one"], strict=True)
    except RowsFailed as error:
        assert_type(error.remedy, str)
    except BatchrunError as error:
        assert_type(error.exit_code, int)


class Table:
    """What is no frame and can `combine_chunks`, as an Arrow table with types of its own."""

    def combine_chunks(self) -> Table:
        return self


def maps(frame: pd.DataFrame, texts: pd.Series[str], table: Any) -> None:
    assert_type(batchrun.map(frame), pd.DataFrame)
    assert_type(batchrun.map(frame, "nightly.yaml", template="{{ text }}", output=Path("out")), pd.DataFrame)
    assert_type(batchrun.map(texts, CONFIG, model="m", strict=True), pd.DataFrame)
    assert_type(batchrun.map(["one", None]), pd.DataFrame)
    assert_type(batchrun.map(({"prompt": str(number)} for number in range(3)), output="out"), pd.DataFrame)
    assert_type(batchrun.map(table), Any)  # pyarrow has no types
    assert_type(batchrun.map(Table(), strict=True), Table)
    batchrun.map([1, 2])  # type: ignore[list-item]
    batchrun.map(frame, outputs="out")  # type: ignore[call-overload]
    batchrun.map(frame, options={"limit": 10})  # type: ignore[call-overload]


async def maps_in_a_loop(frame: pd.DataFrame) -> None:
    assert_type(await batchrun.arun(CONFIG), Report)
    assert_type(await batchrun.amap(frame, Path("nightly.yaml"), strict=True), pd.DataFrame)
    assert_type(await batchrun.amap(Table()), Table)
    async for record in batchrun.stream(frame, CONFIG, output="out"):
        assert_type(record, Record)
        assert_type(record.content, str | None)
        assert_type(record.finished_at, int | None)
        record.content = "other"  # type: ignore[misc]
    async with aclosing(batchrun.stream(["one"])) as records:
        assert_type(await anext(records), Record)
