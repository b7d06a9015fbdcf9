"""What a folder has kept is counted without reading a part, at any time."""

from __future__ import annotations

import pytest
from stores import keep_all, opened, record, run_file, started

from batchrun.errors import ConfigError, FolderUnusable
from batchrun.store.counting import _rows_of, count_kept
from batchrun.store.folder import RunFolder
from batchrun.store.fs import reading
from batchrun.store.identity import fit
from batchrun.store.snapshot import read
from batchrun.store.unsealed import read_unsealed

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


def test_what_is_sealed_while_a_reader_looks_is_in_its_part(tmp_path):
    """A journal file that was there a moment ago is gone, and a reader goes on."""
    keep_and_leave(tmp_path / "out", 2, record(0))
    folder = RunFolder(tmp_path / "out")

    def read_late(number):
        keep_all(tmp_path / "out", [record(1)], 2)
        return _rows_of(folder, RUN, number)

    segments, manifest = read_unsealed(folder, RUN, read_late)
    assert segments == {}
    assert sum(part.rows for part in manifest.parts.values()) == 2


def test_what_is_sealed_after_it_was_read_counts_once(tmp_path):
    """The manifest, which is read after the journal, says what is in a part."""
    keep_and_leave(tmp_path / "out", 2, record(0))
    folder = RunFolder(tmp_path / "out")

    def read_early(number):
        rows = _rows_of(folder, RUN, number)
        keep_all(tmp_path / "out", [record(1)], 2)
        return rows

    segments, manifest = read_unsealed(folder, RUN, read_early)
    assert segments == {}
    assert sum(part.rows for part in manifest.parts.values()) == 2


def test_a_segment_that_cannot_be_read_is_damage(tmp_path):
    """It is not passed over as one that was sealed."""
    keep_and_leave(tmp_path / "out", 1, record(0))
    folder = RunFolder(tmp_path / "out")

    def unreadable(_number):
        with reading(folder.run_file / "nothing"):
            return []

    with pytest.raises(FolderUnusable, match="cannot be read: Not a directory"):
        read_unsealed(folder, RUN, unreadable)


def keeping(path, columns):
    """A run that has not begun, whose results will have some columns of its input."""
    folder = RunFolder(path)
    folder.make()
    with folder.locked():
        fit(folder, run_file(1, config={"input": "x", "keep_columns": columns}))
    return read(path)


@pytest.mark.parametrize(
    ("kept", "said"),
    [
        (["label", "split"], "out: the column lable was not kept, only label, split; did you mean label?"),
        (["tag"], "out: the column lable was not kept, only tag; name one that was kept"),
        ([], "out: the column lable was not kept, no column was; run it in a new folder with keep_columns: [lable]"),
    ],
)
def test_a_column_that_was_not_kept_is_refused_with_what_was(tmp_path, kept, said):
    """Whoever asks by a column learns which there are."""
    with pytest.raises(ConfigError) as refused:
        keeping(tmp_path / "out", kept).refuse_unkept("lable")
    assert f"{refused.value.message}; {refused.value.remedy}" == f"{tmp_path}/{said}"


def test_a_column_that_was_kept_is_not_refused(tmp_path):
    """Nothing is said of it."""
    keeping(tmp_path / "out", ["label"]).refuse_unkept("label")
