"""Laws of reading: what is written comes back, and a Parquet copy sends the same bytes."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchrun.config import check_config
from batchrun.prompts import open_prompts
from batchrun.prompts.render import Renderer

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
key = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8).filter(lambda name: name != "custom_id")
whole = st.integers(-(2**63), 2**63 - 1)
value = st.recursive(
    st.none() | st.booleans() | whole | st.floats(allow_nan=False, allow_infinity=False) | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(key, inner, max_size=3),
    max_leaves=8,
)
rows_of_anything = st.lists(st.dictionaries(key, value, max_size=4), min_size=1, max_size=8)

call = st.fixed_dictionaries(
    {"id": text, "function": st.fixed_dictionaries({"name": text}, optional={"arguments": text})}
)
message = st.one_of(
    st.fixed_dictionaries({"role": st.sampled_from(["system", "user"]), "content": text}, optional={"name": text}),
    st.fixed_dictionaries(
        {"role": st.just("assistant")}, optional={"tool_calls": st.lists(call, min_size=1, max_size=2)}
    ),
    st.fixed_dictionaries({"role": st.just("tool"), "content": text, "tool_call_id": text}),
)
params = st.fixed_dictionaries(
    {}, optional={"top_k": st.integers(0, 99), "top_p": st.floats(0, 1), "stop": st.lists(text, min_size=1, max_size=2)}
)
messages = st.lists(message, min_size=1, max_size=3)
common = {"model": st.sampled_from(["m1", "m2"]), "system": text, "params": params}
turns = st.lists(text.filter(bool), min_size=1, max_size=3)
in_body = {"model": text, "seed": st.integers(0, 9), "stream": st.booleans()}
bodies = st.fixed_dictionaries({"messages": messages}, optional=in_body)
line = {"method": st.just("POST"), "url": st.just("/v1/embeddings")}
request_row = st.one_of(
    st.fixed_dictionaries({"messages": messages}, optional=common),
    st.fixed_dictionaries({"prompt": text}, optional=common),
    st.fixed_dictionaries({"turns": turns}, optional=common),
    st.fixed_dictionaries({"body": bodies}),
    st.fixed_dictionaries({**line, "body": st.fixed_dictionaries({"input": text})}),
)

url = st.sampled_from(["a.png", "b.gif", "https://a.example/x", "data:image/png;base64,AAAA"])
part = st.one_of(
    st.fixed_dictionaries({"type": st.just("text"), "text": text}),
    st.fixed_dictionaries(
        {
            "type": st.just("image_url"),
            "image_url": st.fixed_dictionaries({"url": url}, optional={"detail": st.just("low")}),
        }
    ),
)
picture_row = st.fixed_dictionaries(
    {
        "messages": st.lists(
            st.fixed_dictionaries({"role": st.just("user"), "content": st.lists(part, max_size=3)}),
            min_size=1,
            max_size=2,
        )
    }
)

QUICK = settings(deadline=None, max_examples=20)
MANY = settings(deadline=None, max_examples=200)
EVERY_CALL = {"id": "", "function": {"name": "", "arguments": ""}}
EVERY_MESSAGE = {"role": "", "content": "", "name": "", "tool_calls": [EVERY_CALL], "tool_call_id": ""}
EVERY_KEY = {
    "messages": [EVERY_MESSAGE],
    "prompt": "",
    "turns": [""],
    "method": "",
    "url": "",
    "body": {"messages": [EVERY_MESSAGE], "input": "", "model": "", "seed": 0, "stream": False},
    "model": "",
    "system": "",
    "params": {"top_k": 0, "top_p": 0.0, "stop": [""]},
}
EVERY_PART = {"type": "", "text": "", "image_url": {"url": "", "detail": ""}}
EVERY_PICTURE = {"messages": [{"role": "", "content": [EVERY_PART]}]}
RENDERER = Renderer(check_config({"input": "x", "request": {"model": "m", "system": "S"}}))


def read(name, content):
    """Read the rows of a file with this name and content (bytes, or a table)."""
    with tempfile.TemporaryDirectory() as folder:
        return read_in(Path(folder), name, content)


def read_in(folder, name, content):
    """Read them in a folder that stays."""
    if isinstance(content, bytes):
        (folder / name).write_bytes(content)
    else:
        pq.write_table(content, folder / name)
    return list(open_prompts(str(folder / name)).read())


def in_order(value, pattern):
    """Give the keys of a value, at every depth, the order that they have in a pattern."""
    if isinstance(value, dict):
        return {key: in_order(value[key], pattern[key]) for key in pattern if key in value}
    return [in_order(inner, pattern[0]) for inner in value] if isinstance(value, list) else value


def as_lines(rows, *, ascii_only=False):
    """Write each row as a JSON line, without its line break."""
    return [json.dumps(row, ensure_ascii=ascii_only).encode() for row in rows]


@settings(QUICK)
@given(rows_of_anything, st.booleans())
def test_rows_written_as_lines_are_read_back(rows, ascii_only):
    """Any JSON object comes back equal, escaped or not."""
    prompts = read("in.jsonl", b"\n".join(as_lines(rows, ascii_only=ascii_only)))
    assert [prompt.row for prompt in prompts] == rows


@pytest.mark.rig
@settings(MANY)
@given(rows_of_anything, st.booleans())
def test_many_rows_written_as_lines_are_read_back(rows, ascii_only):
    """The same for many more."""
    test_rows_written_as_lines_are_read_back.hypothesis.inner_test(rows, ascii_only)


@settings(QUICK)
@given(rows_of_anything, st.data())
def test_line_ends_blank_lines_and_a_mark_change_no_row(rows, data):
    """However the file was saved, rows, indices and ids are the same."""
    lines = as_lines(rows)
    blank = st.lists(st.sampled_from([b"\n", b"\r\n", b" \t\n"]), max_size=2).map(b"".join)
    ends = st.sampled_from([b"\n", b"\r\n"])
    messy = b"".join(data.draw(blank) + line + data.draw(ends) for line in lines)
    plain = read("in.jsonl", b"\n".join(lines))
    saved = read("in.jsonl", data.draw(st.sampled_from([b"", b"\xef\xbb\xbf"])) + messy)
    assert [(p.index, p.custom_id, p.row) for p in saved] == [(p.index, p.custom_id, p.row) for p in plain]


@pytest.mark.rig
@settings(MANY)
@given(rows_of_anything, st.data())
def test_line_ends_blank_lines_and_a_mark_change_none_of_many_rows(rows, data):
    """The same for many more."""
    test_line_ends_blank_lines_and_a_mark_change_no_row.hypothesis.inner_test(rows, data)


request_rows = st.lists(request_row, min_size=1, max_size=6)


@settings(QUICK, max_examples=30)
@given(request_rows)
def test_a_parquet_copy_sends_the_same_bytes(rows):
    """What Arrow adds to make rows alike is taken out again; all rows have one order of keys here, as Arrow does."""
    rows = [in_order(row, EVERY_KEY) for row in rows]
    table = pa.Table.from_pylist([EVERY_KEY, *rows]).slice(1)
    lines = [RENDERER.render(prompt) for prompt in read("in.jsonl", b"\n".join(as_lines(rows)))]
    copies = [RENDERER.render(prompt) for prompt in read("in.parquet", table)]
    assert copies == lines


@pytest.mark.rig
@settings(MANY)
@given(request_rows)
def test_many_parquet_copies_send_the_same_bytes(rows):
    """The same for many more."""
    test_a_parquet_copy_sends_the_same_bytes.hypothesis.inner_test(rows)


@settings(QUICK, max_examples=25)
@given(st.lists(picture_row, min_size=1, max_size=4))
def test_a_parquet_copy_sends_the_same_images(rows):
    """Files are found from either, and nothing that Arrow adds to a part is sent."""
    rows = [in_order(row, EVERY_PICTURE) for row in rows]
    table = pa.Table.from_pylist([EVERY_PICTURE, *rows]).slice(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n")
        (folder / "b.gif").write_bytes(b"GIF89a")
        lines = [RENDERER.render(prompt) for prompt in read_in(folder, "in.jsonl", b"\n".join(as_lines(rows)))]
        copies = [RENDERER.render(prompt) for prompt in read_in(folder, "in.parquet", table)]
    assert copies == lines
    assert not any(b'"a.png"' in request.body or b'"b.gif"' in request.body for request in lines)


@settings(QUICK, max_examples=50)
@given(st.lists(st.binary(max_size=30), max_size=6))
def test_any_bytes_give_rows_or_problems(pieces):
    """No input makes the reader raise anything of its own making, and indices have no gap."""
    content = b"\n".join(pieces)
    if content and not content.startswith((b"\xff\xfe", b"\xfe\xff", b"\x1f\x8b", b"\x28\xb5\x2f\xfd")):
        found = read("in.jsonl", content)
        assert [prompt.index for prompt in found] == list(range(len(found)))
