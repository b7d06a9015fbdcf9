"""What the store promises while the disk does its duty: records come back as they went in, each of them once."""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
import tempfile
from math import isfinite
from pathlib import Path

import msgspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stores import keep_all, opened, record, run_file, started

import batchrun
from batchrun.errors import FolderBusy, FolderUnusable
from batchrun.store.folder import RunFolder
from batchrun.store.identity import fit
from batchrun.store.recovery import recover
from batchrun.store.schema import FAILURES, RESULTS
from batchrun.store.snapshot import Snapshot
from batchrun.types import Record

TEXT = st.none() | st.text(st.characters(exclude_categories=["Cs"]))
COUNT = st.none() | st.integers(0, 2**63 - 1)
SECONDS = st.none() | st.floats(0, 1e9)
TIME = st.none() | st.integers(0, 4_000_000_000_000_000)
OF_TYPE = {"string": TEXT, "large_string": TEXT, "int64": COUNT, "int32": st.integers(0, 2**31 - 1), "double": SECONDS}


def columns(schema: pa.Schema) -> dict[str, st.SearchStrategy]:
    """A strategy for each column but the key columns."""
    found = {}
    for field in schema:
        if field.name not in {"index", "custom_id", "attempts", "error_type", "usage_source"}:
            kind = "time" if pa.types.is_timestamp(field.type) else str(field.type)
            found[field.name] = TIME if kind == "time" else OF_TYPE.get(kind, st.none() | st.lists(st.floats(width=32)))
    return found


RESULT = st.fixed_dictionaries(columns(RESULTS)).map(lambda values: values | {"attempts": 1})
FAILURE = st.fixed_dictionaries(columns(FAILURES)).map(
    lambda values: values | {"attempts": 2, "error_type": "timed_out", "attempt_log": None}
)


def read_back(row: dict) -> dict:
    """A row of Parquet as a Record has it: times as whole microseconds."""
    return {name: int(value.value // 1000) if isinstance(value, pd.Timestamp) else value for name, value in row.items()}


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(RESULT | FAILURE, min_size=1, max_size=6))
def test_a_record_comes_back_from_its_part_as_it_went_in(rows):
    """Record -> journal -> part -> row is the identity, for any values of any column."""
    records = [Record(index=index, custom_id=f"c{index}", **row) for index, row in enumerate(rows)]
    with tempfile.TemporaryDirectory() as folder:
        keep_all(Path(folder, "out"), records, len(records))
        back = {}
        for kind, schema in (("results", RESULTS), ("failures", FAILURES)):
            table = Snapshot(Path(folder, "out")).table(kind)
            assert table.schema.equals(schema)
            times = [field.name for field in schema if pa.types.is_timestamp(field.type)]
            for name in times:
                at = table.schema.get_field_index(name)
                table = table.set_column(at, name, table.column(name).cast(pa.int64()))
            back |= {row["index"]: row for row in table.to_pylist()}
    for one in records:
        went_in = {name: value for name, value in msgspec.structs.asdict(one).items() if name in back[one.index]}
        assert same(back[one.index], went_in)


def same(left: dict, right: dict) -> bool:
    """Equality, but that JSON keeps what is no number as null."""
    return {name: finite(value) for name, value in left.items()} == {name: finite(v) for name, v in right.items()}


def finite(value):
    return [x if x is None or isfinite(x) else None for x in value] if isinstance(value, list) else value


def test_the_schema_is_there_before_any_row(tmp_path):
    """A reader finds all columns in results/ and failures/ as soon as the folder exists."""
    with opened(tmp_path / "out", 3):
        pass
    assert list(pd.read_parquet(tmp_path / "out" / "results").columns) == RESULTS.names
    assert list(pd.read_parquet(tmp_path / "out" / "failures").columns) == FAILURES.names


def test_rows_that_are_settled_are_not_open_again(tmp_path):
    """The next start sends what is missing or worth another try, and nothing else."""
    records = [record(0), record(1, failed=True), record(2, failed=True, error_type="request_rejected")]
    keep_all(tmp_path / "out", records, 4)
    open_rows = {}
    for mode in ("retryable", "all", "none"):
        with opened(tmp_path / "out", 4, retry_failed=mode) as store:
            open_rows[mode] = [index for index in range(4) if store.is_open(index)]
            assert store.open_rows() == len(open_rows[mode])
            assert store.open_among(np.arange(4)).tolist() == open_rows[mode]
    assert open_rows == {"retryable": [1, 3], "all": [1, 2, 3], "none": [3]}


def test_a_success_takes_its_failure_out_of_failures_and_keeps_its_attempts(tmp_path):
    """D6: the failure is gone after the run, its attempts and its cost are the success's."""
    log = '[{"number":1,"started_at":1,"latency_s":0.5,"error_type":"timed_out","error_message":"slow"}]'
    failure = record(1, failed=True, attempts=2, attempt_log=log, cost_usd=3e-9, latency_s=0.25)
    keep_all(tmp_path / "out", [record(0), failure, record(2, failed=True)], 3)
    keep_all(tmp_path / "out", [record(1, cost_usd=4e-9)], 3)
    results = Snapshot(tmp_path / "out").table("results").to_pylist()
    kept = next(row for row in results if row["index"] == 1)
    assert [row["index"] for row in Snapshot(tmp_path / "out").table("failures").to_pylist()] == [2]
    assert pq.read_table(tmp_path / "out" / "failures")["index"].to_pylist() == [2]
    assert kept["attempts"] == 3
    assert kept["cost_usd"] == 7e-9
    assert [entry["error_type"] for entry in json.loads(kept["attempt_log"])] == ["timed_out", "server_error"]


def test_what_an_attempt_cost_that_nobody_knows_is_not_invented(tmp_path):
    """The success that follows it costs what it costs itself."""
    keep_all(tmp_path / "out", [record(0, failed=True, prompt_tokens=10, cost_usd=None)], 1)
    keep_all(tmp_path / "out", [record(0, cost_usd=4e-9)], 1)
    (row,) = Snapshot(tmp_path / "out").table("results").to_pylist()
    (attempt,) = json.loads(row["attempt_log"])
    assert (row["cost_usd"], attempt.get("cost_usd")) == (4e-9, None)


def test_a_row_that_fails_again_has_one_failure_with_all_attempts(tmp_path):
    """The newer failure stands, and remembers the older one."""
    keep_all(tmp_path / "out", [record(0, failed=True)], 1)
    keep_all(tmp_path / "out", [record(0, failed=True, error_type="timed_out")], 1)
    rows = Snapshot(tmp_path / "out").table("failures").to_pylist()
    assert [(row["error_type"], row["attempts"]) for row in rows] == [("timed_out", 2)]


def test_a_failure_never_replaces_a_success(tmp_path):
    """D6, also if a failure of a row that has succeeded should ever reach the journal."""
    keep_all(tmp_path / "out", [record(0)], 1)
    keep_all(tmp_path / "out", [record(0, failed=True), record(0, content="another")], 1)
    snapshot = Snapshot(tmp_path / "out")
    assert snapshot.table("failures").num_rows == 0
    assert snapshot.table("results")["content"].to_pylist() == ["answer 0"]


def test_what_is_in_the_journal_is_seen_before_it_is_sealed(tmp_path):
    """A snapshot taken while a run goes on holds every committed row once, and the report's columns."""

    async def look(store):
        from batchrun.config import StoreConfig

        store.start(StoreConfig(flush_ms=1), lambda error: None)
        for index in range(5):
            await store.may_send(index)
            store.keep(record(index, failed=index == 4))
        await store.journal.settled()
        snapshot = Snapshot(tmp_path / "out")
        seen = snapshot.table("results", ["index"]).to_pydict(), snapshot.table("failures", ["index"]).to_pydict()
        await asyncio.to_thread(store.abandon)
        return seen

    with opened(tmp_path / "out", 6) as store:
        assert asyncio.run(look(store)) == ({"index": [0, 1, 2, 3]}, {"index": [4]})
    with opened(tmp_path / "out", 6) as store:
        assert [index for index in range(6) if store.is_open(index)] == [4, 5]


def test_rows_that_a_crash_exposed_are_named(tmp_path):
    """What was announced and not kept is named by the next start, and by every later one until it settles."""

    async def leave(store):
        from batchrun.config import StoreConfig

        store.start(StoreConfig(flush_ms=1), lambda error: None)
        for index in range(8):
            await store.may_send(index)
        for index in (0, 1, 2, 5):
            store.keep(record(index, failed=index == 5))
        await store.journal.settled()
        await asyncio.to_thread(store.abandon)

    with opened(tmp_path / "out", 8) as store:
        asyncio.run(leave(store))
    for _ in range(2):
        with opened(tmp_path / "out", 8) as store:
            assert store.recovered.exposed == [3, 4, 6, 7]
    keep_all(tmp_path / "out", [record(3), record(4)], 8)
    with opened(tmp_path / "out", 8) as store:
        assert store.recovered.exposed == [6, 7]


def test_read_gives_arrow_and_pandas_in_the_order_of_the_input(tmp_path):
    """batchrun.read(OUT): a frame sorted by index whose counts stay whole numbers where some are missing."""
    keep_all(tmp_path / "out", [record(2), record(0, prompt_tokens=None), record(1)], 3)
    frame = batchrun.read(tmp_path / "out").to_pandas()
    assert frame["content"].tolist() == ["answer 0", "answer 1", "answer 2"]
    assert str(frame["prompt_tokens"].dtype) == "Int64"
    assert batchrun.read(tmp_path / "out").to_pandas(columns=["custom_id"]).columns.tolist() == ["custom_id"]


def test_nothing_to_do_writes_no_history(tmp_path):
    """A start that finds every row settled leaves the manifest as it was: cron may come every minute."""
    keep_all(tmp_path / "out", [record(0)], 1)
    before = sorted((tmp_path / "out" / "_manifest").iterdir())
    with opened(tmp_path / "out", 1) as store:
        assert store.open_rows() == 0
    assert sorted((tmp_path / "out" / "_manifest").iterdir()) == before


def test_a_success_counts_before_its_old_failure_is_merged_away(tmp_path):
    """A crash between the retry and the end of the run leaves both on disk: the success holds."""

    async def leave(store):
        from batchrun.config import StoreConfig

        store.start(StoreConfig(flush_ms=1), lambda error: None)
        store.keep(record(0))
        await store.journal.settled()
        await asyncio.to_thread(store.abandon)

    keep_all(tmp_path / "out", [record(0, failed=True)], 1)
    with opened(tmp_path / "out", 1) as store:
        asyncio.run(leave(store))
    for _ in range(2):
        with opened(tmp_path / "out", 1) as store:
            assert not store.is_open(0)
    assert Snapshot(tmp_path / "out").table("failures").num_rows == 0


def test_a_start_with_nothing_to_send_finishes_what_a_crash_left(tmp_path):
    """The last failure had become a success when the process ended: it leaves failures/, and the start is closed."""
    path = tmp_path / "out"
    keep_all(path, [record(0), record(1, failed=True)], 2)
    with opened(path, 2) as store:
        started(store)
        store.keep(record(1))
        store.abandon()
    with opened(path, 2) as store:
        assert not store.open_rows()
        store.tidy()
    assert pd.read_parquet(path / "failures").empty
    assert sorted(pd.read_parquet(path / "results")["index"]) == [0, 1]
    entries = len(list((path / "_manifest").glob("*.json")))
    with opened(path, 2) as store:
        store.tidy()
    assert len(list((path / "_manifest").glob("*.json"))) == entries


def test_a_retried_row_is_seen_once_while_the_run_goes_on(tmp_path):
    """Its success is in the journal and its old failure still in a part: a snapshot shows the success alone."""
    seen = []

    async def look(store):
        from batchrun.config import StoreConfig

        store.start(StoreConfig(flush_ms=1), lambda error: None)
        store.keep(record(0))
        await store.journal.settled()
        snapshot = Snapshot(tmp_path / "out")
        seen.extend(snapshot.table(kind)["index"].to_pylist() for kind in ("results", "failures"))
        await asyncio.to_thread(store.abandon)

    keep_all(tmp_path / "out", [record(0, failed=True)], 1)
    with opened(tmp_path / "out", 1) as store:
        asyncio.run(look(store))
    assert seen == [[0], []]


def test_a_success_stands_whatever_the_journal_says_later(tmp_path):
    """D6 holds before a segment is sealed, too."""
    path = tmp_path / "out"
    keep_all(path, [record(0)], 1)
    with opened(path, 1) as store:
        started(store)
        store.keep(record(0, failed=True))
        store.abandon()
    snapshot = Snapshot(path)
    assert [snapshot.table(kind)["index"].to_pylist() for kind in ("results", "failures")] == [[0], []]


def test_a_large_answer_comes_back(tmp_path):
    """It is written in pieces."""
    content = random.Random(1).randbytes(1_500_000).hex()
    keep_all(tmp_path / "out", [record(0, content=content)], 1)
    assert Snapshot(tmp_path / "out").table("results")["content"].to_pylist() == [content]


# What keeps others out


def test_a_second_run_is_refused_and_told_who_holds_the_folder(tmp_path):
    """The lock is the kernel's; the message names process and host."""
    with opened(tmp_path / "out", 1):
        code = f"from batchrun.store.folder import RunFolder\nwith RunFolder({str(tmp_path / 'out')!r}).locked(): pass"
        other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "FolderBusy" in other.stderr
    assert f"process {__import__('os').getpid()} on" in other.stderr


def test_a_taken_manifest_number_is_another_writer(tmp_path):
    """Where locks do not work (some network disks) link(2) still lets only one of two writers go on."""
    with opened(tmp_path / "out", 2) as store:
        number = store.recovered.manifest.next_number()
        (tmp_path / "out" / "_manifest" / f"{number:020d}.json").write_bytes(b"the other's")
        with pytest.raises(FolderBusy):
            asyncio.run(_start(store))


async def _start(store):
    from batchrun.config import StoreConfig
    from batchrun.store.manifest import Session

    store.start(StoreConfig(flush_ms=1), lambda error: None)
    store.keep(record(0))
    await asyncio.to_thread(store.close, Session(exit_code=0, cause=""), [])


def test_a_folder_of_something_else_is_refused(tmp_path):
    """Foreign files are named, nothing is touched."""
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(FolderUnusable, match=r"thesis\.tex"):
        RunFolder(tmp_path).exists()
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_other_requests_are_refused_with_what_differs(tmp_path):
    """The diff names the keys that shape requests, and not those that do not."""
    with opened(tmp_path / "out", 2):
        folder = RunFolder(tmp_path / "out")
        config = {"input": "x", "request": {"params": {"temperature": 1}}, "limits": {"concurrency": 2}}
        with pytest.raises(FolderUnusable) as refused:
            fit(folder, run_file(3, fingerprint="g", config=config))
    assert "request.params.temperature: null -> 1" in refused.value.message
    assert "rows of the input: 2 -> 3" in refused.value.message
    assert "concurrency" not in refused.value.message


def test_the_same_requests_fit_whatever_else_changed(tmp_path):
    """Concurrency may change; the identity of the run and its prices stay."""
    with opened(tmp_path / "out", 2):
        kept = fit(
            RunFolder(tmp_path / "out"), run_file(2, run_id="new", config={"input": "x", "a": 1}, prices={"b": 2})
        ).run
    assert (kept.run_id, kept.prices, kept.config["a"]) == ("0" * 32, run_file(2).prices, 1)


def test_a_folder_of_a_newer_batchrun_is_refused(tmp_path):
    """It is not read as if it were ours."""
    keep_all(tmp_path / "out", [record(0)], 1)
    path = tmp_path / "out" / "run.json"
    path.write_text(path.read_text().replace('"schema_version": 1', '"schema_version": 99'))
    with pytest.raises(FolderUnusable, match="newer"):
        Snapshot(tmp_path / "out")


# Damage


def test_a_part_that_the_manifest_does_not_list_is_refused(tmp_path):
    """A copied or left-over part would be read with the others: it is named, and nothing is touched."""
    keep_all(tmp_path / "out", [record(0)], 2)
    results = tmp_path / "out" / "results"
    stray = results / "part-000007-000001.parquet"
    stray.write_bytes(next(results.glob("part-*")).read_bytes())
    with pytest.raises(FolderUnusable, match=stray.name), opened(tmp_path / "out", 2):
        pass
    assert stray.exists()


def test_rows_that_the_input_does_not_have_are_refused(tmp_path):
    """They would be counted where nobody asked for them."""
    keep_all(tmp_path / "out", [record(2)], 3)
    with pytest.raises(FolderUnusable, match="holds rows that the input does not have"):
        recover(RunFolder(tmp_path / "out"), "0" * 32, 2)


def damaged_copies(folder: Path):
    """Every file that holds something, and ways to damage it."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != "_lock" and path.stat().st_size:
            data = path.read_bytes()
            middle = len(data) // 2
            yield path, "flip", data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
            yield path, "cut", data[:middle]
            yield path, "gone", None


def test_no_damage_is_silent(tmp_path):
    """A flipped bit, a cut or a missing file is refused, or it changes nothing of what is read."""
    folder = tmp_path / "out"
    keep_all(folder, [record(index, failed=index == 3) for index in range(8)], 9)
    whole = {kind: Snapshot(folder).table(kind).to_pylist() for kind in ("results", "failures")}
    tried = 0
    for path, how, data in list(damaged_copies(folder)):
        before = path.read_bytes()
        path.unlink() if data is None else path.write_bytes(data)
        tried += 1
        try:
            with opened(folder, 9):
                pass
            found = {kind: Snapshot(folder).table(kind).to_pylist() for kind in ("results", "failures")}
            assert found == whole, (path, how)
        except FolderUnusable as error:
            assert str(folder) in error.message, (path, how)
            assert error.remedy
        path.write_bytes(before)
    assert tried > 15
