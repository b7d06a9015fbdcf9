"""The columns as JSON lines, CSV and Parquet; the rows in order; the input's columns beside them."""

from __future__ import annotations

import csv
import io
import json
import random
import tempfile

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from exports import ROWS, ended, exported, failed, lines, make
from hypothesis import given, settings
from hypothesis import strategies as st

from batchrun.errors import ConfigError, FolderUnusable, StoreError
from batchrun.export import forms, joining, order
from batchrun.exporting import COLUMNS, open_folder
from batchrun.store.folder import RunFolder
from batchrun.store.schema import FAILURES, RESULTS, to_batch
from batchrun.store.snapshot import read

FORMULA = '=HYPERLINK("http://x","y")\n"z",'


def shuffled(count: int) -> list:
    """Records in an order of answering; every fifth row failed."""
    records = [failed(index, "timed_out") if index % 5 == 4 else ended(index) for index in range(count)]
    random.Random(7).shuffle(records)
    return records


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Twelve rows, answered in no order, in many small parts."""
    return make(tmp_path_factory.mktemp("run") / "out", shuffled(ROWS))


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    """A row of values that are hard to write, and a failure."""
    values = {
        "content": FORMULA,
        "tool_calls": '[\n{"id": 1}]',
        "perf_metrics": '{"a": 1.0}',
        "logprobs": "no JSON",
        "refusal": "",
        "embedding": [0.5, None],
        "response": '{"x": 1}',
    }
    return make(tmp_path_factory.mktemp("run") / "out", [ended(0, **values), failed(1, "timed_out")])


@pytest.fixture(scope="module")
def empty(tmp_path_factory):
    """A run of five rows, none of which is answered."""
    return make(tmp_path_factory.mktemp("run") / "out", [], 5)


def test_a_json_line_has_every_column(odd, tmp_path):
    """In the order of the columns, the same for a success and a failure, with nulls."""
    assert [list(line) for line in lines(exported(odd, tmp_path / "a", "jsonl"))] == [COLUMNS.names] * 2


def test_json_text_becomes_values(odd, tmp_path):
    """Of the columns that hold JSON; what is none stays text, and so does the answer as it came."""
    line = lines(exported(odd, tmp_path / "a", "jsonl"))[0]
    assert (line["tool_calls"], line["perf_metrics"], line["logprobs"]) == ([{"id": 1}], {"a": 1.0}, "no JSON")
    assert (line["response"], line["embedding"], line["refusal"]) == ('{"x": 1}', [0.5, None], "")


def test_times_are_iso_8601(odd, tmp_path):
    """To the microsecond, in UTC."""
    line = lines(exported(odd, tmp_path / "a", "jsonl"))[0]
    assert line["started_at"] == "2023-11-14T22:13:20.000000Z"


def test_csv_is_exact(odd, tmp_path):
    """Also what a spreadsheet would take for a formula; null is empty, JSON stays text."""
    text = exported(odd, tmp_path / "a", "csv").read_text()
    success, failure = csv.DictReader(io.StringIO(text, newline=""))
    assert list(success) == COLUMNS.names
    assert (success["content"], success["tool_calls"], success["embedding"]) == (FORMULA, '[\n{"id": 1}]', "[0.5,null]")
    assert (success["started_at"], success["error_type"]) == ("2023-11-14T22:13:20.000000Z", "")
    assert (failure["error_type"], failure["prompt_tokens"], failure["status_code"]) == ("timed_out", "", "")


def test_csv_tells_an_empty_text_from_none(odd, tmp_path):
    """By its quotes."""
    header, *rest = exported(odd, tmp_path / "a", "csv").read_text().split("\n", 1)
    assert '""' in rest[0].split(",")
    assert header.startswith('"index","custom_id"')


def test_parquet_has_both_kinds_in_one_schema(odd, tmp_path):
    """The declared columns, compressed with zstd."""
    file = pq.ParquetFile(exported(odd, tmp_path / "a", "parquet"))
    assert file.schema_arrow.equals(COLUMNS)
    assert file.metadata.row_group(0).column(0).compression == "ZSTD"
    frame = file.read().to_pandas().set_index("custom_id")
    assert frame["content"].tolist()[0] == FORMULA
    assert frame.loc["row-1", "error_type"] == "timed_out"


def test_parquet_row_groups_are_large(folder, tmp_path):
    """However small the parts were."""
    assert pq.read_metadata(exported(folder, tmp_path / "a", "parquet")).num_row_groups == 1


def test_a_large_export_has_several_row_groups(folder, tmp_path, monkeypatch):
    """They are written when they are full, not held to the end."""
    monkeypatch.setattr(forms, "_GROUP_ROWS", 5)
    metadata = pq.read_metadata(exported(folder, tmp_path / "a", "parquet"))
    assert metadata.num_rows == ROWS
    assert metadata.num_row_groups > 1


@pytest.mark.parametrize("form", ["jsonl", "csv", "parquet"])
def test_an_export_holds_what_the_folder_holds(form, folder, tmp_path):
    """Every row and every value that is one in both."""
    path = exported(folder, tmp_path / f"a.{form}", form, sort=True)
    reader = {"jsonl": lambda: pd.DataFrame(lines(path)), "csv": lambda: pd.read_csv(path)}
    frame = reader.get(form, lambda: pd.read_parquet(path))()
    assert frame["index"].tolist() == list(range(ROWS))
    view = read(folder)
    for kind, failures in (("results", False), ("failures", True)):
        kept = view.to_pandas(kind)
        part = frame[frame["error_type"].notna() == failures]
        for name in ["index", "custom_id", "request_key", "cost_usd", "attempts"]:
            assert part[name].tolist() == kept[name].tolist(), name


@pytest.mark.parametrize("form", ["openai", "fireworks", "jsonl", "csv", "parquet"])
def test_a_folder_without_answers_is_an_export_without_rows(form, empty, tmp_path):
    """An empty file of lines, a header, a file of no rows."""
    path = exported(empty, tmp_path / "a", form, sort=True)
    if form == "parquet":
        assert pq.read_table(path).schema.equals(COLUMNS)
    elif form == "csv":
        assert path.read_text() == ",".join(f'"{name}"' for name in COLUMNS.names) + "\n"
    else:
        assert path.read_bytes() == b""


def test_a_folder_of_failures_alone_is_exported(tmp_path):
    """Success is not needed."""
    folder = make(tmp_path / "out", [failed(index, "timed_out") for index in range(3)])
    assert {line["error_type"] for line in lines(exported(folder, tmp_path / "a", "jsonl"))} == {"timed_out"}


@settings(max_examples=15, deadline=None)
@given(st.permutations(range(40)), st.integers(1, 9), st.integers(1, 5))
def test_any_order_is_put_in_order(indexes, size, span):
    """Also where nearly nothing may be held, stretch within stretch; each row keeps its values."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(order, "BLOCK_BYTES", 60)
        patch.setattr(order, "FILES", span + 1)
        batches = [
            pa.record_batch({"index": indexes[at : at + size], "text": [f"t{i}" for i in indexes[at : at + size]]})
            for at in range(0, len(indexes), size)
        ]
        out = pa.Table.from_batches(order.in_order(batches, range(1000)), batches[0].schema)
    assert out.to_pydict() == {"index": list(range(40)), "text": [f"t{index}" for index in range(40)]}


def test_sorting_holds_a_block_and_not_the_run(monkeypatch):
    """Of 40 blocks in no order Arrow never holds more than six at once."""
    monkeypatch.setattr(order, "BLOCK_BYTES", 1 << 19)
    indexes = list(range(20_000))
    random.Random(3).shuffle(indexes)
    before = pa.total_allocated_bytes()
    most = 0

    def batches():
        for at in range(0, len(indexes), 400):
            some = indexes[at : at + 400]
            yield pa.record_batch({"index": some, "text": ["x" * 1000] * 400})

    found = 0
    for batch in order.in_order(batches(), range(20_000)):
        most = max(most, pa.total_allocated_bytes() - before)
        found += batch.num_rows
    assert found == 20_000
    assert most < 6 << 19


def test_sorting_without_room_says_so(monkeypatch, folder, tmp_path):
    """It ends with the disk's exit code and names TMPDIR."""

    def full():
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(order, "BLOCK_BYTES", 1)
    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    with pytest.raises(StoreError, match="sorting: No space left") as raised:
        exported(folder, tmp_path / "a", "jsonl", sort=True)
    assert "TMPDIR" in raised.value.remedy
    assert list(tmp_path.iterdir()) == []


def given_input(path, rows: int = ROWS, **columns):
    """An input of some rows, with a column for each word: its value by index."""
    made = [
        {"custom_id": f"row-{index}", "prompt": "q"} | {name: value(index) for name, value in columns.items()}
        for index in range(rows)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in made))
    return path


def test_joined_columns_come_first(folder, tmp_path):
    """Each beside its own row, in the order of the input."""
    source = given_input(tmp_path / "in.jsonl", label=lambda index: f"l{index}", meta=lambda index: {"at": [index]})
    found = lines(exported(folder, tmp_path / "a", "jsonl", join=source))
    assert [(line["label"], line["meta"], line["index"]) for line in found] == [
        (f"l{index}", {"at": [index]}, index) for index in range(ROWS)
    ]
    assert list(found[0]) == ["prompt", "label", "meta", *COLUMNS.names]


def test_a_joined_column_that_we_have_too_gets_another_name(folder, tmp_path):
    """`input_…`, however often that is taken; custom_id is there once."""
    one = {"index": lambda index: -index, "input_index": lambda index: 2 * index}
    found = lines(exported(folder, tmp_path / "a", "jsonl", join=given_input(tmp_path / "in.jsonl", **one)))
    assert list(found[0])[:3] == ["prompt", "input_input_index", "input_index"]
    assert (found[3]["index"], found[3]["input_input_index"], found[3]["input_index"]) == (3, -3, 6)


def test_joined_columns_keep_their_type(folder, tmp_path):
    """Text, counts, numbers, truth; what is of several kinds, or has parts, is JSON text throughout."""
    columns = {
        "count": lambda index: index or None,
        "number": lambda index: index if index % 2 else index / 2,
        "truth": lambda index: index > 3,
        "mixed": lambda index: index if index % 2 else "x",
        "huge": lambda index: 2**70,
        "nothing": lambda index: None,
    }
    source = given_input(tmp_path / "in.jsonl", **columns)
    table = pq.read_table(exported(folder, tmp_path / "a", "parquet", join=source))
    text = pa.large_string()
    kinds = [pa.int64(), pa.float64(), pa.bool_(), text, text, text]
    assert [table.schema.field(name).type for name in columns] == kinds
    assert table.column("mixed").to_pylist()[:2] == ['"x"', "1"]
    assert table.column("count").to_pylist()[:2] == [None, 1]
    assert table.column("huge")[0].as_py() == str(2**70)


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_a_table_is_joined_too(form, folder, tmp_path):
    """Its input may be a table itself."""
    source = tmp_path / "in.csv"
    pd.DataFrame({"custom_id": [f"row-{n}" for n in range(ROWS)], "label": [f"l{n}" for n in range(ROWS)]}).to_csv(
        source, index=False
    )
    path = exported(folder, tmp_path / "a", form, join=source)
    frame = pd.read_csv(path) if form == "csv" else pd.read_parquet(path)
    assert frame.columns[0] == "label"
    assert frame["label"].tolist() == [f"l{n}" for n in range(ROWS)]


def test_rows_without_an_answer_are_left_out_of_a_join(tmp_path):
    """While a run is going on, each answer still stands beside its own row."""
    folder = make(tmp_path / "out", [ended(7), ended(2)], ROWS)
    source = given_input(tmp_path / "in.jsonl", label=lambda index: index)
    found = lines(exported(folder, tmp_path / "a", "jsonl", join=source))
    assert [(line["label"], line["index"]) for line in found] == [(2, 2), (7, 7)]


def test_an_unusable_row_of_the_input_joins_as_nulls(tmp_path):
    """It was a failure then and is one now."""
    folder = make(tmp_path / "out", [ended(0), failed(1, "input_invalid"), ended(2)])
    source = given_input(tmp_path / "in.jsonl", 3, label=lambda index: index)
    first, _, last = source.read_text().splitlines()
    source.write_text(f"{first}\nnot JSON\n{last}\n")
    found = lines(exported(folder, tmp_path / "a", "jsonl", join=source))
    assert [line["label"] for line in found] == [0, None, 2]


@pytest.mark.parametrize("rows", [ROWS - 1, ROWS + 1])
def test_an_input_of_more_or_fewer_rows_is_refused(rows, folder, tmp_path):
    """With both counts and nothing written."""
    source = given_input(tmp_path / "in.jsonl", rows)
    with pytest.raises(ConfigError, match=f"has {rows} rows, and the run has {ROWS}"):
        exported(folder, tmp_path / "a", "jsonl", join=source)
    assert list(tmp_path.iterdir()) == [source]


def test_an_input_of_other_rows_is_refused(folder, tmp_path):
    """With the line and both ids, and nothing is left of what was written before."""
    source = given_input(tmp_path / "in.jsonl")
    source.write_text(source.read_text().replace("row-9", "other"))
    with pytest.raises(ConfigError, match=r"in\.jsonl:10 is 'other', and that row of the run is 'row-9'"):
        exported(folder, tmp_path / "a", "jsonl", join=source)
    assert list(tmp_path.iterdir()) == [source]


def test_an_input_of_endless_columns_is_refused(folder, tmp_path, monkeypatch):
    """A column a row would make memory follow the input."""
    monkeypatch.setattr(joining, "MOST_COLUMNS", 5)
    source = tmp_path / "in.jsonl"
    source.write_text("".join(json.dumps({f"c{index}": 1}) + "\n" for index in range(ROWS)))
    with pytest.raises(ConfigError, match=r"more than 5 columns by .*:6"):
        exported(folder, tmp_path / "a", "jsonl", join=source)


@pytest.mark.parametrize("form", ["openai", "fireworks"])
def test_the_providers_forms_have_no_room_for_columns(form, folder, tmp_path):
    """The remedy is another form."""
    with pytest.raises(ConfigError, match="no room") as raised:
        exported(folder, tmp_path / "a", form, join=given_input(tmp_path / "in.jsonl"))
    assert raised.value.remedy == "add --format jsonl"


@pytest.mark.parametrize("damage", ["flip", "cut", "gone"])
def test_a_damaged_part_is_not_exported(damage, tmp_path):
    """Each is compared with its checksum before anything is written."""
    folder = make(tmp_path / "out", shuffled(ROWS))
    part = max((folder / "results").iterdir())
    content = bytearray(part.read_bytes())
    content[len(content) // 2] ^= 1
    part.write_bytes(content if damage == "flip" else content[:-9])
    if damage == "gone":
        part.unlink()
    with pytest.raises(FolderUnusable, match="part-"):
        open_folder(RunFolder(folder))


def test_a_lost_manifest_is_damage(tmp_path):
    """Not a bug of ours."""
    folder = make(tmp_path / "out", [ended(0)])
    (folder / "_manifest").rename(tmp_path / "elsewhere")
    with pytest.raises(FolderUnusable, match="_manifest: is missing"):
        open_folder(RunFolder(folder))


def test_the_columns_are_those_of_both_kinds():
    """None is lost, and each has one type in both."""
    assert set(COLUMNS.names) == {*RESULTS.names, *FAILURES.names}
    assert to_batch([ended(0)], COLUMNS).num_rows == 1
