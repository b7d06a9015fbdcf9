"""T17: many rows. What a start takes does not grow with what is kept, and nothing is read that it does not need."""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from stores import keep_all, opened, record, run_file

from batchrun.config import StoreConfig
from batchrun.store import history, parts, recovery
from batchrun.store.folder import RunFolder, part_name
from batchrun.store.keeper import Store
from batchrun.store.manifest import Entry, Session
from batchrun.store.parts import PartWriter
from batchrun.store.schema import FAILURES, to_batch

DONE = Session(exit_code=0, cause="done")
FEW, MANY = 8_000, 1_000_000
TEXT = "The parcel was due on Monday. " * 22
MOST_MORE_MB = 150

RUN_ALONE = "import subprocess, sys; subprocess.run([sys.executable, *sys.argv[1:]], check=True)"
"""What a process has taken before `exec` counts into its peak, so a small process stands between it and the tests."""

OPEN = """
import resource, sys
from batchrun.store.folder import RunFolder
from batchrun.store.keeper import Store
folder = RunFolder(sys.argv[1])
with folder.locked():
    store = Store(folder, folder.read_run_file())
    for index in range(store.open_rows()):
        store._histories.pop(index)
units = 1 << 20 if sys.platform == "darwin" else 1 << 10
print(store.open_rows(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / units)
"""
"""Opens a folder and takes the histories of the rows to be sent, all or none; says how many, and its peak in MB."""


def feed(path, rows: int) -> None:
    """One run that keeps rows of 1.6 KB as fast as the store takes them."""
    one = record(0, content=TEXT, response=TEXT)

    async def feeding(store: Store) -> None:
        store.start(StoreConfig(), lambda error: None)
        for index in range(rows):
            await store.may_send(index)
            store.keep(msgspec.structs.replace(one, index=index, custom_id=f"row-{index}"))
            await store.room()
        await asyncio.to_thread(store.close, DONE, [])

    with opened(path, rows) as store:
        asyncio.run(feeding(store))


def opened_alone(path) -> tuple[int, float]:
    """A start in a process of its own: the rows that it would send, and its peak memory in MB."""
    command = [sys.executable, "-c", RUN_ALONE, "-c", OPEN, str(path)]
    open_rows, peak_mb = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return int(open_rows), float(peak_mb)


def row_groups(path) -> int:
    """How many there are in all parts."""
    return sum(pq.read_metadata(part).num_row_groups for part in path.rglob("part-*.parquet"))


def test_parts_have_few_and_large_row_groups(tmp_path):
    """Rule 27: at the rate of this run a million rows give fewer than a thousand row groups; all rows are done."""
    feed(tmp_path / "out", FEW)
    assert 2 <= row_groups(tmp_path / "out") < 1000 * FEW / MANY
    with opened(tmp_path / "out", FEW) as store:
        assert store.open_rows() == 0


def test_small_batches_are_gathered_into_one_row_group(tmp_path):
    """A merge that keeps a row here and there does not make a row group of each."""
    folder = RunFolder(tmp_path / "out")
    folder.make()
    writer = PartWriter(folder, folder.failures, part_name(1, 1), FAILURES)
    for index in range(50):
        writer.add(to_batch([record(index, failed=True)], FAILURES))
    assert (writer.finish().rows, row_groups(tmp_path / "out")) == (50, 1)


def test_a_start_reads_key_columns_only(tmp_path, monkeypatch):
    """Of a million answers the texts stay on disk: they are hashed, not read."""
    keep_all(tmp_path / "out", [record(0), record(1, failed=True)], 2)
    read = set()

    def spying(folder, part, columns):
        read.update(columns)
        return parts.read_columns(folder, part, columns)

    monkeypatch.setattr(recovery, "read_columns", spying)
    with opened(tmp_path / "out", 2, retry_failed="none"):
        assert read == {"index", "error_type"}


@pytest.mark.rig
def test_a_million_rows_through_the_store(tmp_path, reached):
    """A start that finds them, every part checked, takes at most 150 MB more than one that finds a single row."""
    feed(tmp_path / "one", 1)
    feed(tmp_path / "many", MANY)
    assert row_groups(tmp_path / "many") < 1000
    (_, one_mb), (open_rows, many_mb) = (opened_alone(tmp_path / name) for name in ("one", "many"))
    assert open_rows == 0
    assert many_mb - one_mb < MOST_MORE_MB
    reached("T17", "rows fed to the store and found again", MANY, MANY)


# Failures that are tried again


def fail_all(path, rows: int, log_bytes: int) -> None:
    """A closed run in which every row has failed after two attempts, in parts of 50,000 rows."""
    folder = RunFolder(path)
    folder.make()
    folder.write_run_file(run_file(rows))
    log = json.dumps([{"number": 1, "error_type": "server_error", "error_message": "x" * log_bytes}])
    piece = to_batch([record(0, failed=True, attempts=2, attempt_log=log)] * 1000, FAILURES)
    with folder.locked():
        manifest = Store(folder, run_file(rows)).recovered.manifest
        for segment, start in enumerate(range(0, rows, 50_000), start=1):
            writer = PartWriter(folder, folder.failures, part_name(0, segment), FAILURES)
            for first in range(start, min(start + 50_000, rows), 1000):
                index = pa.array(np.arange(first, min(first + 1000, rows)))
                writer.add(piece.slice(0, len(index)).set_column(0, "index", index).cast(FAILURES))
            manifest.put(Entry(kind="part", at=1, epoch=0, segment=segment, parts=[writer.finish()]))
        manifest.put(Entry(kind="close", at=1, epoch=0))


@pytest.mark.rig
def test_memory_does_not_grow_with_the_failures_that_are_tried_again(tmp_path, reached):
    """B4: what is remembered of a million failed rows is read as they are sent, a window at a time."""
    rows = MANY
    fail_all(tmp_path / "one", 1, 1000)
    fail_all(tmp_path / "many", rows, 1000)
    (_, one_mb), (open_rows, many_mb) = (opened_alone(tmp_path / name) for name in ("one", "many"))
    assert open_rows == rows
    assert many_mb - one_mb < MOST_MORE_MB
    reached("T17", "failures remembered within 150 MB", rows, rows)


@pytest.fixture
def small_windows(monkeypatch):
    """Windows of four rows, row groups of one batch."""
    monkeypatch.setattr(history, "_MOST_WINDOW_ROWS", 4)
    monkeypatch.setattr(history, "_LEAST_WINDOW_ROWS", 4)
    monkeypatch.setattr(parts, "PIECE_BYTES", 1)
    monkeypatch.setattr(recovery, "PIECE_BYTES", 1)
    monkeypatch.setattr(parts, "_ROW_GROUP_MOST_BYTES", 1)


@pytest.mark.usefixtures("small_windows")
def test_each_row_gets_its_own_history_whatever_the_order(tmp_path):
    """Failures lie in any order in their parts, rows end in another order than they are sent: nothing is mixed up."""
    rows, shuffled = 60, random.Random(7)
    order = [index for index in range(rows) if index % 3]
    shuffled.shuffle(order)
    keep_all(tmp_path / "out", [record(index, failed=True, attempts=1 + index) for index in order], rows)
    ends = [index for start in range(0, rows, 10) for index in shuffled.sample(range(start, start + 10), 10)]
    keep_all(tmp_path / "out", [record(index) for index in ends], rows)
    table = pq.read_table(tmp_path / "out" / "results", columns=["index", "attempts"]).to_pydict()
    kept = dict(zip(table["index"], table["attempts"], strict=True))
    assert kept == {index: 1 + (1 + index if index % 3 else 0) for index in range(rows)}


@pytest.mark.usefixtures("small_windows")
def test_two_windows_and_what_is_in_flight_are_held(tmp_path):
    """What is done leaves memory at once, what was not reached has not come in."""
    rows = 40
    keep_all(tmp_path / "out", [record(index, failed=True) for index in range(rows)], rows)
    with opened(tmp_path / "out", rows) as store:
        histories = store._histories
        assert histories.get(9).attempts == 1
        for index in range(8):
            histories.pop(index)
        assert sorted(histories._held) == [8, 9, 10, 11]
        histories.close()


@pytest.mark.usefixtures("small_windows")
def test_of_several_failures_of_a_row_the_last_counts_also_across_windows(tmp_path):
    """Crashes leave them all in failures/, and a window may end between them."""
    for attempts in (1, 2, 3):
        with opened(tmp_path / "out", 9) as store:
            asyncio.run(leave(store, attempts))
    with opened(tmp_path / "out", 9) as store:
        assert [store._histories.get(index).attempts for index in range(9)] == [6] * 9


async def leave(store: Store, attempts: int) -> None:
    """A run in which every row fails, and that ends as a crash does."""
    store.start(StoreConfig(flush_ms=1), lambda error: None)
    for index in range(9):
        store.keep(record(index, failed=True, attempts=attempts))
    await store.journal.settled()
    store.abandon()
