"""The store against a disk that stops, tears or fails at every operation in turn: nothing acknowledged is ever lost."""

from __future__ import annotations

import asyncio
import os
from collections import Counter

import pyarrow.parquet as pq
import pytest
from stores import CRASHED, FaultyFs, feed, opened, record

from batchrun.errors import StoreError
from batchrun.store.snapshot import Snapshot

pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
ROWS = 24
FAULTS = ("before", "after", "torn", "full", "broken")


def session(path, records, fs=None) -> list[int]:
    """One start of a run in a process of its own, which may end anywhere; returns the rows it was told are kept."""
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        code = CRASHED - 1
        try:
            with opened(path, ROWS, fs) as store:
                todo = [one for one in records if store.is_open(one.index)]
                asyncio.run(feed(store, todo, acked=Acks(writer)))
            code = 0
        except StoreError as error:
            code = error.exit_code
        finally:
            os._exit(code)
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        acked = [int(line) for line in file.read().split()]
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert code in ({0, CRASHED, 6} if fs else {0}), f"the process ended with {code}"
    return acked


class Acks:
    """A list of acknowledged rows that survives the process: every entry goes through a pipe at once."""

    def __init__(self, writer):
        self.writer = writer

    def extend(self, indexes):
        os.write(self.writer, b"".join(b"%d\n" % index for index in indexes))


def records():
    """Successes, and a failure now and then."""
    return [record(index, failed=index % 7 == 3) for index in range(ROWS)]


def contents(path, kind):
    snapshot = Snapshot(path)
    return {row["index"]: row for row in snapshot.table(kind).to_pylist()}, snapshot.table(kind).num_rows


def assert_whole(path, acked: set[int]) -> None:
    """The acknowledged rows are there, each row at most once, every visible part opens, no temporary file is left."""
    results, result_rows = contents(path, "results")
    failures, failure_rows = contents(path, "failures")
    assert len(results) == result_rows
    assert len(failures) == failure_rows
    assert acked <= results.keys() | failures.keys()
    assert not results.keys() & failures.keys()
    for index, row in results.items():
        assert row["content"] == f"answer {index}"
    for part in path.glob("*/part-*"):
        pq.read_table(part)


def operations_of_a_run(tmp_path) -> int:
    """How many operations a run without faults takes, give or take a group."""
    fs = FaultyFs()
    with opened(tmp_path / "counted", ROWS, fs) as store:
        asyncio.run(feed(store, records()))
    return fs.count


def test_a_run_without_faults_keeps_every_row_once(tmp_path):
    """The driver itself: all rows are acknowledged and there, and the journal is empty."""
    acked = session(tmp_path / "out", records())
    assert sorted(acked) == list(range(ROWS))
    assert_whole(tmp_path / "out", set(acked))
    assert list((tmp_path / "out" / "_journal").iterdir()) == []


def strike(tmp_path, at: int, fault: str) -> None:
    """A fault at one operation, then the same command again, then once more: whole each time, and then complete."""
    path = tmp_path / f"{fault}-{at}"
    acked = set(session(path, records(), FaultyFs(at, fault)))
    if not (path / "run.json").exists():
        assert not acked
    again = set(session(path, records()))
    assert_whole(path, acked | again)
    results, _ = contents(path, "results")
    failures, _ = contents(path, "failures")
    assert results.keys() | failures.keys() == set(range(ROWS))
    listing = sorted(str(p.relative_to(path)) for p in path.rglob("*") if p.suffix in {".parquet", ".tmp", ".jl"})
    assert not [name for name in listing if not name.endswith(".parquet")]
    parts = Counter(
        index for part in (path / "results").glob("part-*") for index in pq.read_table(part)["index"].to_pylist()
    )
    assert set(parts.values()) <= {1}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_at_many_operations_loses_nothing(tmp_path, fault):
    """The short form: every 29th operation of a run, each way to fail."""
    for at in range(1 + 5 * FAULTS.index(fault), operations_of_a_run(tmp_path) + 1, 29):
        strike(tmp_path, at, fault)


@pytest.mark.rig
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_at_any_operation_loses_nothing(tmp_path, fault):
    """The long form: every operation of a run, each way to fail."""
    for at in range(1, operations_of_a_run(tmp_path) + 1):
        strike(tmp_path, at, fault)


def test_a_crash_inside_recovery_loses_nothing(tmp_path):
    """What a crash left is recovered by a start that crashes at every one of its own operations, again and again."""
    path = tmp_path / "out"
    whole = operations_of_a_run(tmp_path)
    acked = set(session(path, records(), FaultyFs(whole * 2 // 3, "before")))
    assert acked
    for at in range(1, 60, 3):
        acked |= set(session(path, records(), FaultyFs(at, "before" if at % 2 else "after")))
        if (path / "_manifest").exists() and any((path / "_manifest").iterdir()):
            assert_whole(path, acked)
    session(path, records())
    assert_whole(path, set(range(ROWS)))


def test_a_disk_that_is_full_ends_the_run_and_keeps_what_was_acknowledged(tmp_path):
    """The error says so, and the reserve lets the last group through."""
    path = tmp_path / "out"
    errors = []

    async def fill(store):
        await feed(store, records(), acked=acked)

    acked: list[int] = []
    fs = FaultyFs(60, "full")
    with opened(path, ROWS, fs) as store:
        try:
            asyncio.run(fill(store))
        except StoreError as error:
            errors.append(error)
    assert "No space left" in errors[0].message
    assert errors[0].exit_code == 6
    session(path, records())
    assert_whole(path, set(range(ROWS)))
