"""What a type checker should say of the Python API: nothing. Never run; `pytest -m rig` has mypy read it."""

from __future__ import annotations

from contextlib import aclosing
from pathlib import Path
from typing import Any, assert_type

import pandas as pd

import batchrun
from batchrun.report.summary import Report
from batchrun.store.snapshot import Snapshot
from batchrun.types import Record

CONFIG = {"endpoint": {"base_url": "simulated"}, "request": {"model": "simulated/small"}}


def runs() -> None:
    assert_type(batchrun.run("configs/quickstart.yaml"), Report)
    assert_type(batchrun.run(CONFIG, options=batchrun.Options(limit=10)), Report)
    assert_type(batchrun.read(Path("runs/quickstart")), Snapshot)
    batchrun.run(options=batchrun.Options())  # type: ignore[call-arg]
    batchrun.Options(limits=10)  # type: ignore[call-arg]


def maps(frame: pd.DataFrame, texts: pd.Series[str], table: Any) -> None:
    assert_type(batchrun.map(frame), pd.DataFrame)
    assert_type(batchrun.map(frame, "nightly.yaml", template="{{ text }}", output=Path("out")), pd.DataFrame)
    assert_type(batchrun.map(texts, CONFIG, model="m", strict=True), pd.DataFrame)
    assert_type(batchrun.map(["one", None]), pd.DataFrame)
    assert_type(batchrun.map(({"prompt": str(number)} for number in range(3)), output="out"), pd.DataFrame)
    assert_type(batchrun.map(table), Any)
    batchrun.map([1, 2])  # type: ignore[list-item]
    batchrun.map(frame, outputs="out")  # type: ignore[call-overload]
    batchrun.map(frame, options={"limit": 10})  # type: ignore[call-overload]


async def maps_in_a_loop(frame: pd.DataFrame) -> None:
    assert_type(await batchrun.amap(frame, strict=True), pd.DataFrame)
    async for record in batchrun.stream(frame, CONFIG, output="out"):
        assert_type(record, Record)
        assert_type(record.content, str | None)
    async with aclosing(batchrun.stream(["one"])) as records:
        assert_type(await anext(records), Record)
