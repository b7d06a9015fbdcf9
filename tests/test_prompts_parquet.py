"""Parquet: nulls of nested values, values without a JSON form, damage."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchrun.errors import PromptError
from batchrun.prompts import open_prompts


def read(tmp_path, table, skip=None):
    """Read the Parquet file of a table."""
    path = tmp_path / "in.parquet"
    pq.write_table(table, path)
    return list(open_prompts(str(path)).read(skip))


def test_null_keys_of_nested_values_are_taken_out(tmp_path):
    """Arrow gives every message the keys of all messages; what is null was not there."""
    messages = [
        [{"role": "user", "content": "hi"}],
        [{"role": "tool", "content": "42", "tool_call_id": "t1"}, {"role": "user", "content": "and?"}],
    ]
    prompts = read(tmp_path, pa.table({"messages": messages}))
    assert [prompt.row["messages"] for prompt in prompts] == messages


def test_a_map_is_an_object(tmp_path):
    """Spark writes objects as maps."""
    params = pa.array([[("top_k", 5)]], pa.map_(pa.string(), pa.int64()))
    assert read(tmp_path, pa.table({"params": params}))[0].row == {"params": {"top_k": 5}}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (dt.datetime(2026, 3, 1, 12, 30, tzinfo=dt.UTC), "2026-03-01T12:30:00+00:00"),
        (dt.date(2026, 3, 1), "2026-03-01"),
        (Decimal("12.50"), "12.50"),
        (b"caf\xc3\xa9", "café"),
        (b"\xff\xfe", "//4="),
        (float("nan"), "nan"),
        (float("-inf"), "-inf"),
        ([1.5, float("nan")], [1.5, "nan"]),
    ],
)
def test_what_json_cannot_hold_becomes_text(tmp_path, value, text):
    """Templates and kept columns get readable text."""
    assert read(tmp_path, pa.table({"value": [value]}))[0].row == {"value": text}


def test_rows_are_counted_from_one(tmp_path):
    """The place of a row is its number in the file, over all row groups."""
    prompts = read(tmp_path, pa.table({"prompt": [str(n) for n in range(1030)]}))
    assert prompts[1029].where.endswith("in.parquet:row 1030")


def test_a_value_that_python_cannot_hold_spoils_its_row_alone(tmp_path):
    """Text that is not UTF-8 is a problem of one row; its neighbours are read."""
    broken = pa.array([b"fine", b"\xff", b"fine too"]).view(pa.string())
    first, problem, last = read(tmp_path, pa.table({"prompt": broken}))
    assert isinstance(problem, PromptError)
    assert problem.where.endswith("in.parquet:row 2")
    assert (first.row["prompt"], last.row["prompt"], last.index) == ("fine", "fine too", 2)


def test_a_skipped_row_is_not_decoded(tmp_path):
    """Resume does not look at what is done."""
    broken = pa.array([b"fine", b"\xff"]).view(pa.string())
    assert [prompt.index for prompt in read(tmp_path, pa.table({"prompt": broken}), lambda i: i == 1)] == [0]


@pytest.mark.parametrize("keep", [0.5, 0.99])
def test_a_cut_off_file_is_refused_as_a_whole(tmp_path, keep):
    """A Parquet file without its end is no Parquet file."""
    read(tmp_path, pa.table({"prompt": [str(n) for n in range(1000)]}))
    path = tmp_path / "in.parquet"
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])
    with pytest.raises(PromptError, match=r"in\.parquet: not Parquet, or damaged"):
        list(open_prompts(str(path)).read())


def test_two_columns_of_one_name_are_refused(tmp_path):
    """Nobody could say which of them is meant."""
    table = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["prompt", "prompt"])
    with pytest.raises(PromptError, match="two columns have the same name"):
        read(tmp_path, table)
