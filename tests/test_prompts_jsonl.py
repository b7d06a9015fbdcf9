"""JSON lines: what is forgiven, what is a problem of one row, and how it is named."""

from __future__ import annotations

import pytest

from batchrun.errors import PromptError
from batchrun.prompts import open_prompts
from batchrun.prompts.row import ROW_LIMIT_BYTES

GOOD = b'{"prompt": "p"}'


def read(tmp_path, content, skip=None):
    """Read a JSON lines file with this content."""
    path = tmp_path / "in.jsonl"
    path.write_bytes(content)
    return list(open_prompts(str(path)).read(skip))


def places(prompts):
    """Tell where prompts stand, without the folder."""
    return [prompt.where.rpartition("/")[2] for prompt in prompts]


def test_blank_lines_are_no_rows_but_are_lines(tmp_path):
    """Blank lines move the line number on, not the index."""
    prompts = read(tmp_path, b"\n" + GOOD + b"\n  \t\r\n\r\n" + GOOD + b"\n\n")
    assert places(prompts) == ["in.jsonl:2", "in.jsonl:5"]
    assert [prompt.index for prompt in prompts] == [0, 1]


def test_a_byte_order_mark_is_dropped(tmp_path):
    """Windows editors put one before the first line."""
    assert [prompt.row for prompt in read(tmp_path, b"\xef\xbb\xbf" + GOOD)] == [{"prompt": "p"}]


def test_a_byte_order_mark_alone_is_a_blank_line(tmp_path):
    """A mark on a line of its own is no row."""
    assert places(read(tmp_path, b"\xef\xbb\xbf\n" + GOOD)) == ["in.jsonl:2"]


def test_the_last_line_needs_no_line_break(tmp_path):
    """Both endings give both rows."""
    assert len(read(tmp_path, GOOD + b"\r\n" + GOOD)) == 2


def test_line_separators_inside_text_do_not_end_a_line(tmp_path):
    """U+2028, U+2029 and U+0085 are characters like others."""
    (prompt,) = read(tmp_path, '{"prompt": "a\u2028b\u2029c\x85d"}\n'.encode())
    assert prompt.row == {"prompt": "a\u2028b\u2029c\x85d"}


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b'{"prompt" "p"}', "not JSON: expecting ':' delimiter at column 11"),
        (b'{"prompt": "p"', "not JSON: expecting ',' delimiter at column 15"),
        (b'{"prompt": "p"} x', "not JSON: extra data at column 17"),
        (b"[1, 2]", "not a JSON object but array"),
        (b"17", "not a JSON object but int"),
        (b"null", "not a JSON object but null"),
        (b'{"prompt": "caf\xe9"}', "not UTF-8: byte 0xe9 at column 16"),
        (b'{"score": NaN}', "not JSON: NaN is no JSON number (null is what is meant, as a rule)"),
        (b'{"score": -Infinity}', "not JSON: -Infinity is no JSON number (null is what is meant, as a rule)"),
        (
            b'{"prompt": "\\ud83d"}',
            "not text: a lone surrogate, half of a pair \\ud800-\\udfff, stands for no character",
        ),
        (b'{"score": 1e999}', "not usable JSON: number out of range"),
        (b'{"a":' * 50_000, "not usable JSON: nested too deeply"),
        (
            b'{"score": NaN, "a":' + b"[" * 50_000,
            "not JSON, and nested too deeply or with numbers too long to say where",
        ),
        (
            b'{"score": NaN, "a": ' + b"1" * 5000 + b"}",
            "not JSON, and nested too deeply or with numbers too long to say where",
        ),
    ],
)
def test_a_bad_line_says_what_is_wrong_and_where(tmp_path, line, why):
    """A bad line comes as an error in its place; the rows around it are read, and the index counts it."""
    before, problem, after = read(tmp_path, GOOD + b"\n" + line + b"\n" + GOOD + b"\n")
    assert isinstance(problem, PromptError)
    assert problem.message == f"{tmp_path}/in.jsonl:2: {why}"
    assert (before.index, problem.index, after.index) == (0, 1, 2)
    assert problem.remedy


def test_a_skipped_line_is_not_parsed(tmp_path):
    """Resume does not look at what is done: even a bad line passes."""
    assert [prompt.index for prompt in read(tmp_path, b"{bad\n" + GOOD, skip=lambda index: index == 0)] == [1]


def test_an_endless_line_is_cut_off(tmp_path):
    """A line past the limit is one bad row, not a memory problem, and the next line is read."""
    long = b'{"prompt": "' + b"x" * (ROW_LIMIT_BYTES + 100) + b'"}'
    problem, prompt = read(tmp_path, long + b"\n" + GOOD)
    assert isinstance(problem, PromptError)
    assert problem.message.endswith("in.jsonl:1: line is longer than 32 MiB")
    assert places([prompt]) == ["in.jsonl:2"]


def test_a_long_line_within_the_limit_is_read(tmp_path):
    """A line of exactly the limit is fine."""
    text = b"x" * (ROW_LIMIT_BYTES - len(b'{"prompt": ""}'))
    (prompt,) = read(tmp_path, b'{"prompt": "' + text + b'"}\n')
    assert len(prompt.row["prompt"]) == len(text)


def test_a_json_array_names_the_cure(tmp_path):
    """A pretty-printed array is a common mistake; the remedy turns it into lines."""
    problem = read(tmp_path, b'[\n  {"prompt": "p"}\n]\n')[0]
    assert "jq -c '.[]'" in problem.remedy


def test_utf16_is_named(tmp_path):
    """What PowerShell writes by default is refused as a whole, with the command that converts it."""
    with pytest.raises(PromptError, match="is UTF-16") as caught:
        read(tmp_path, '{"prompt": "p"}\n'.encode("utf-16"))
    assert "iconv" in caught.value.remedy
