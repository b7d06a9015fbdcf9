"""Compaction: fewer parts, the same rows, in one step that a crash cannot cut in two."""

from __future__ import annotations

import shutil

import pandas as pd
import pytest
from commands import called
from stores import FaultyFs, in_a_child, keep_all, opened, record

from batchrun.errors import FolderBusy
from batchrun.store import compacting, merging
from batchrun.store.compacting import compact
from batchrun.store.folder import RunFolder
from batchrun.store.snapshot import Snapshot

pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
ROWS = 40


def many_parts(path):
    """A run of some starts, each of which leaves small parts; two rows failed, one of them only at first."""
    for start in range(0, ROWS, 10):
        rows = [record(index, failed=index % 20 == 5) for index in range(start, start + 10)]
        keep_all(path, rows, ROWS, retry_failed="none")
    keep_all(path, [record(5)], ROWS)


def compacted(path, fs=None):
    """The command's work."""
    folder = RunFolder(path, fs)
    with folder.locked():
        return compact(folder)


def rows_of(path) -> dict[str, list[int]]:
    """The rows that a reader of Parquet finds, each as often as it is there."""
    return {kind: sorted(pd.read_parquet(path / kind)["index"]) for kind in ("results", "failures")}


def parts_of(path) -> list[str]:
    """Names of the parts."""
    return sorted(str(part.relative_to(path)) for part in path.glob("*/part-*"))


EXPECTED = {"results": [index for index in range(ROWS) if index != 25], "failures": [25]}


def test_small_parts_become_one_of_each_kind_with_the_same_rows(tmp_path):
    """Values included; twice is once."""
    path = tmp_path / "out"
    many_parts(path)
    before = Snapshot(path).to_pandas()
    done = compacted(path)
    assert (done.parts_before, done.parts_after, len(parts_of(path))) == (8, 4, 4)
    assert rows_of(path) == EXPECTED
    pd.testing.assert_frame_equal(Snapshot(path).to_pandas(), before)
    names = parts_of(path)
    assert compacted(path).parts_after == 4
    assert parts_of(path) == names


def test_parts_that_are_large_stay_and_none_gets_too_large(tmp_path, monkeypatch):
    """The limits are per file."""
    monkeypatch.setattr(compacting, "SMALL_BYTES", 1)
    many_parts(tmp_path / "out")
    before = parts_of(tmp_path / "out")
    assert compacted(tmp_path / "out").parts_after == len(before)
    assert parts_of(tmp_path / "out") == before


def test_a_merged_part_ends_where_it_is_large_enough(tmp_path, monkeypatch):
    """The next rows go into another."""
    monkeypatch.setattr(merging, "PART_BYTES", 1)
    many_parts(tmp_path / "out")
    compacted(tmp_path / "out")
    assert rows_of(tmp_path / "out") == EXPECTED


def test_the_run_goes_on_after_a_compaction(tmp_path):
    """Its report counts no start more."""
    path = tmp_path / "out"
    many_parts(path)
    starts = len(Snapshot(path).sessions())
    compacted(path)
    assert len(Snapshot(path).sessions()) == starts
    with opened(path, ROWS, retry_failed="all") as store:
        assert [index for index in range(ROWS) if store.is_open(index)] == [25]
    keep_all(path, [record(25)], ROWS)
    assert rows_of(path)["results"] == list(range(ROWS))


def test_a_run_that_is_going_on_is_left_alone(tmp_path):
    """Its lock says so."""
    many_parts(tmp_path / "out")
    with opened(tmp_path / "out", ROWS), pytest.raises(FolderBusy):
        compacted(tmp_path / "out")


def strike(path, at: int, fault: str) -> None:
    """A compaction that is cut: no row is ever there twice, and the next start has them all."""
    before = path.parent / "before"
    if not before.exists():
        many_parts(before)
    shutil.copytree(before, path)
    in_a_child(lambda: compacted(path, FaultyFs(at, fault)))
    for kind, rows in rows_of(path).items():
        assert len(set(rows)) == len(rows), kind
    assert len(Snapshot(path).to_pandas()) == len(EXPECTED["results"])
    with opened(path, ROWS):
        assert rows_of(path) == EXPECTED
    compacted(path)
    assert rows_of(path) == EXPECTED
    assert len(parts_of(path)) == 4
    assert not [one for one in path.rglob(".*") if one.name.endswith(".tmp")]


@pytest.mark.parametrize("fault", ["before"])
def test_a_compaction_that_is_cut_loses_and_doubles_nothing(tmp_path, fault):
    """The short form: a few operations."""
    for at in range(12, 40, 13):
        strike(tmp_path / str(at), at, fault)


@pytest.mark.rig
@pytest.mark.parametrize("fault", ["before", "after", "torn", "full", "broken"])
def test_a_compaction_that_is_cut_anywhere_loses_and_doubles_nothing(tmp_path, fault):
    """The long form: every operation that a kill may precede, every fourth for the other ways to fail."""
    for at in range(1, 48, 1 if fault == "before" else 4):
        strike(tmp_path / str(at), at, fault)


def test_the_command_says_what_it_did(tmp_path):
    """And what there is no run in is refused."""
    many_parts(tmp_path / "out")
    done = called("compact", tmp_path / "out")
    assert done.code == 0, done.err
    assert "8 parts" in done.err
    assert done.err.splitlines()[-1].startswith("exit 0: merged")
    assert "nothing to merge" in called("compact", tmp_path / "out").err
    assert called("compact", tmp_path / "nowhere").code == 7
