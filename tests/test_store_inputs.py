"""Rows of a program, kept in a file beside the run folder."""

from __future__ import annotations

from commands import prompts
from stores import keep_all, record

from batchrun.store.inputs import input_of, keep_input


def test_many_rows_are_kept_whole(tmp_path):
    """They go to the disk in pieces, and the folders above are made."""
    lines = [b"%07d%s\n" % (number, b"x" * 1000) for number in range(2500)]
    path = keep_input(str(tmp_path / "a" / "b" / "out"), lines)
    assert path.read_bytes() == b"".join(lines)
    assert [found.name for found in path.parent.iterdir()] == [path.name]


def test_a_file_of_the_users_is_not_ours(tmp_path):
    """Of a run of the user's own input nothing is ever taken away."""
    prompts(tmp_path / "in.jsonl", 1)
    keep_all(tmp_path / "out", [record(0)], 1)
    assert input_of(str(tmp_path / "out")) is None
