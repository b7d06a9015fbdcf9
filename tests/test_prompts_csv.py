"""CSV: header, empty cells, places, and the ways it can be broken."""

from __future__ import annotations

import csv

import pytest

from batchrun.errors import PromptError
from batchrun.prompts import open_prompts


def read(tmp_path, content):
    """Read a CSV file with this content."""
    path = tmp_path / "in.csv"
    path.write_bytes(content)
    return list(open_prompts(str(path)).read())


def test_an_empty_cell_is_null(tmp_path):
    """An empty cell says nothing, so it counts as absent."""
    (prompt,) = read(tmp_path, b"custom_id,prompt,label\n,p,\n")
    assert prompt.row == {"custom_id": None, "prompt": "p", "label": None}
    assert prompt.custom_id == "row-0"


def test_a_row_stands_where_its_first_line_stands(tmp_path):
    """Quoted line breaks and blank lines are counted; the header is line 1."""
    prompts = read(tmp_path, b'prompt,label\r\n"one\r\ntwo",x\r\n\r\nthree,y\r\n')
    assert [prompt.where.rpartition(":")[2] for prompt in prompts] == ["2", "5"]
    assert prompts[0].row["prompt"] == "one\r\ntwo"


def test_a_byte_order_mark_is_no_part_of_the_header(tmp_path):
    """Excel writes one."""
    assert read(tmp_path, b"\xef\xbb\xbfprompt\np\n")[0].row == {"prompt": "p"}


def test_a_row_of_another_width_is_unusable(tmp_path):
    """Too many or too few cells mean a missing quote: that row is a problem, the next is not."""
    many, few, good = read(tmp_path, b"a,b\n1,2,3\n1\n1,2\n")
    assert many.message.endswith("in.csv:2: 3 cells, but the header names 2 columns")
    assert few.message.endswith("in.csv:3: 1 cells, but the header names 2 columns")
    assert good.index == 2


def test_a_cell_that_is_not_utf8_spoils_its_row_alone(tmp_path):
    """The column is named, and reading goes on."""
    bad, good = read(tmp_path, b"prompt,label\ncaf\xe9,x\ncaf\xc3\xa9,y\n")
    assert bad.message.endswith("in.csv:2: not UTF-8 in column 'prompt'")
    assert good.row["prompt"] == "café"


def test_open_quotes_end_the_reading(tmp_path):
    """After a quote that never closes nothing can be trusted; the line where it opened is named."""
    with pytest.raises(PromptError, match=r"in\.csv:3: not CSV: unexpected end of data"):
        read(tmp_path, b'prompt,label\na,x\n"b,y\nc,z\n')


@pytest.mark.parametrize("header", [b"a,,b", b"a,b,a", b"a,\xff"])
def test_a_header_must_name_each_column_once(tmp_path, header):
    """Empty, repeated and unreadable names are refused."""
    with pytest.raises(PromptError, match=r"in\.csv:1: the header has"):
        read(tmp_path, header + b"\n1,2,3\n")


def test_cells_may_be_large(tmp_path):
    """The standard library stops at 128 KiB a cell; documents are longer."""
    text = "x" * 300_000
    assert read(tmp_path, f"prompt\n{text}\n".encode())[0].row["prompt"] == text


def test_a_line_past_the_limit_ends_the_reading(tmp_path):
    """33 MiB without a line break are not held in memory."""
    with pytest.raises(PromptError, match=r"in\.csv:2: line is longer than 32 MiB"):
        read(tmp_path, b"prompt\n" + b"x" * (33 << 20))


def test_the_standard_library_is_still_there():
    """Our csv module does not hide Python's."""
    assert csv.reader
