"""What a folder has kept is counted without reading a part, at any time."""

from __future__ import annotations

import pytest
from stores import keep_all, opened, record, started

from batchrun.errors import FolderUnusable
from batchrun.store.counting import _rows_of, count_kept
from batchrun.store.folder import RunFolder

RUN = "0" * 32


def counted(path) -> tuple[int, int, int]:
    """How many rows have succeeded, stand as failed, and were kept by the last start."""
    folder = RunFolder(path)
    kept, _ = count_kept(folder, folder.read_run_file())
    return kept.succeeded, kept.failed, kept.since


def keep_and_leave(path, rows, *records) -> None:
    """A start that ends before anything is sealed."""
    with opened(path, rows) as store:
        started(store)
        for one in records:
            store.keep(one)
        store.abandon()


def test_a_row_counts_once_as_what_it_is_in_the_end(tmp_path):
    """Whether the journal has it as a failure before its success, or after it."""
    before = [record(0, failed=True), record(0)]
    after = [record(1), record(1, failed=True)]
    keep_and_leave(tmp_path / "out", 3, *before, *after)
    assert counted(tmp_path / "out") == (2, 0, 4)


def test_a_failure_that_became_a_success_is_no_failure_any_more(tmp_path):
    """Also while its part still holds it."""
    keep_all(tmp_path / "out", [record(0), record(1, failed=True), record(2, failed=True)], 4)
    assert counted(tmp_path / "out") == (1, 2, 3)
    keep_and_leave(tmp_path / "out", 4, record(1))
    assert counted(tmp_path / "out") == (2, 1, 1)


def test_what_is_sealed_while_it_is_counted_is_in_its_part(tmp_path):
    """The journal file is gone, and there is nothing to be said of it; one that cannot be read is damage."""
    keep_and_leave(tmp_path / "out", 1, record(0))
    folder = RunFolder(tmp_path / "out")
    (path,) = folder.journal.glob("*.jl")
    number = tuple(map(int, path.stem.split("-")))
    assert len(_rows_of(folder, RUN, number)) == 1
    path.unlink()
    assert _rows_of(folder, RUN, number) == []
    path.symlink_to("elsewhere")
    with pytest.raises(FolderUnusable, match="is a symbolic link"):
        _rows_of(folder, RUN, number)
