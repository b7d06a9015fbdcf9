"""One contract for every reader: the same rows come out of the same data, whatever file holds them."""

from __future__ import annotations

import csv
import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchrun.errors import PromptError
from batchrun.prompts import open_prompts
from batchrun.types import Prompt

ROWS = [
    {"custom_id": "a", "prompt": "plain", "label": "x"},
    {"custom_id": "b", "prompt": 'two\nlines, a comma and a "quote"', "label": "y"},
    {"custom_id": "c", "prompt": "naïve 日本語 🙂 \u2028 \x85 end", "label": None},
    *({"custom_id": f"d{n}", "prompt": f"row {n}", "label": "z"} for n in range(600)),
]


def as_lines(rows):
    """Write rows as JSON lines."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def write_jsonl(path, rows):
    """Plain lines."""
    path.write_bytes(as_lines(rows))


def write_gzip(path, rows):
    """Two gzip members in one file, as appending makes them."""
    lines = as_lines(rows)
    path.write_bytes(gzip.compress(lines[: len(lines) // 2]) + gzip.compress(lines[len(lines) // 2 :]))


def write_zstd(path, rows):
    """One zstd frame."""
    path.write_bytes(pa.Codec("zstd").compress(as_lines(rows), asbytes=True))


def write_parquet(path, rows):
    """Several row groups."""
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=500)


def write_csv(path, rows):
    """A header, and quotes where they are needed."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


WRITERS = {
    "rows.jsonl": write_jsonl,
    "rows.ndjson": write_jsonl,
    "rows.json": write_jsonl,
    "ROWS.JSONL": write_jsonl,
    "rows.jsonl.gz": write_gzip,
    "rows.jsonl.zst": write_zstd,
    "unpacked-by-a-browser.jsonl.gz": write_jsonl,
    "rows.parquet": write_parquet,
    "rows.csv": write_csv,
}


@pytest.fixture(params=WRITERS)
def prompts(request, tmp_path):
    """The rows in one kind of file."""
    path = tmp_path / request.param
    WRITERS[request.param](path, ROWS)
    return open_prompts(str(path))


def test_rows_come_out_as_they_went_in(prompts):
    """Every reader gives each row, in order, with its values."""
    assert [prompt.row for prompt in prompts.read()] == ROWS


def test_index_counts_from_zero(prompts):
    """The index is the position in the input."""
    assert [prompt.index for prompt in prompts.read()] == list(range(len(ROWS)))


def test_ids_are_the_rows_own(prompts):
    """`custom_id` is the row's."""
    assert [prompt.custom_id for prompt in prompts.read()] == [row["custom_id"] for row in ROWS]


def test_each_row_says_where_it_stands(prompts):
    """No two rows stand in the same place, and each place starts with the file's name."""
    places = [prompt.where for prompt in prompts.read()]
    assert len(set(places)) == len(ROWS)
    assert all(place.startswith(prompts.files[0] + ":") for place in places)


def test_reading_again_gives_the_same(prompts):
    """An input is read more than once."""
    assert list(prompts.read()) == list(prompts.read())


def test_skipped_rows_keep_their_index(prompts):
    """What is skipped is left out; the other rows keep index, id and place."""
    everything = list(prompts.read())
    assert list(prompts.read(lambda index: index % 3 == 0)) == [p for p in everything if p.index % 3]


def test_skipping_everything_yields_nothing(prompts):
    """A resume of a complete run reads no row."""
    assert list(prompts.read(lambda _: True)) == []


def test_missing_ids_are_made_of_the_index(tmp_path):
    """Rows without an id, or with a null one, get `row-{index}` in every format."""
    rows = [{"custom_id": None, "prompt": "p"}, {"custom_id": None, "prompt": "q"}]
    for name, write in WRITERS.items():
        write(tmp_path / name, rows)
        ids = [prompt.custom_id for prompt in open_prompts(str(tmp_path / name)).read()]
        assert ids == ["row-0", "row-1"], name


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.parquet"])
def test_a_whole_number_becomes_its_text(name, tmp_path):
    """Ids that are numbers are taken as text."""
    WRITERS[name](tmp_path / name, [{"custom_id": 7, "prompt": "p"}])
    assert [prompt.custom_id for prompt in open_prompts(str(tmp_path / name)).read()] == ["7"]


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.parquet"])
@pytest.mark.parametrize("custom_id", ["", 1.5, True, ["a"]])
def test_other_ids_make_the_row_unusable(name, custom_id, tmp_path):
    """An id that is neither text nor a whole number is a problem of its row alone."""
    WRITERS[name](tmp_path / name, [{"custom_id": custom_id, "prompt": "p"}])
    (problem,) = open_prompts(str(tmp_path / name)).read()
    assert isinstance(problem, PromptError)
    assert problem.index == 0
    assert "custom_id" in problem.message


def test_rows_are_counted_over_all_files(tmp_path):
    """A glob is one input: files in the order of their names, one index over all of them, formats mixed."""
    write_jsonl(tmp_path / "b.jsonl", ROWS[2:4])
    write_parquet(tmp_path / "a.parquet", ROWS[:2])
    write_csv(tmp_path / "c.csv", ROWS[4:6])
    prompts = open_prompts(str(tmp_path / "*"))
    assert [(prompt.index, prompt.row) for prompt in prompts.read()] == list(enumerate(ROWS[:6]))
    assert prompts.files == [str(tmp_path / name) for name in ("a.parquet", "b.jsonl", "c.csv")]
    assert prompts.size_bytes == sum(file.stat().st_size for file in tmp_path.iterdir())


def test_skipping_crosses_files(tmp_path):
    """The index that decides on skipping goes on from file to file."""
    write_jsonl(tmp_path / "1.jsonl", ROWS[:3])
    write_parquet(tmp_path / "2.parquet", ROWS[3:6])
    prompts = open_prompts(str(tmp_path / "*"))
    assert [prompt.row for prompt in prompts.read(lambda index: index < 4)] == ROWS[4:6]


def test_rows_are_prompts(prompts):
    """A sound file has no problem in it."""
    assert all(type(prompt) is Prompt for prompt in prompts.read())
