"""docs/python.md: its blocks run and print what is shown, its tables are the code's."""

from __future__ import annotations

import ast
import asyncio
import inspect
import re

import pytest
from servers import ROOT, simulated

import batchrun
from batchrun.answers import COLUMNS

PAGE = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")


def blocks(text):
    """Each block of Python with what is shown under it."""
    return re.findall(r"^```python\n(.*?)^```$(?:\n\n```text\n(.*?)^```$)?", text, re.MULTILINE | re.DOTALL)


def run(code, names):
    """Run a block, which may await as a cell of a notebook may."""
    compiled = compile(code, "docs/python.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    waiting = eval(compiled, names)
    if inspect.iscoroutine(waiting):
        asyncio.run(waiting)


def test_the_blocks_run(tmp_path, monkeypatch, capsys):
    """In order, as the cells of one notebook, and each prints what stands under it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    names, printed = {}, []
    with simulated() as server:
        for code, _ in blocks(PAGE):
            run(code.replace('"simulated"', f'"{server.base_url}"'), names)
            printed.append(capsys.readouterr().out)
    assert printed == [shown for _, shown in blocks(PAGE)]


@pytest.mark.parametrize("name", sorted(batchrun.__all__))
def test_every_name_is_described(name):
    """In the words of its docstring."""
    named = getattr(batchrun, name)
    first = inspect.getdoc(getattr(named, name, named)).partition("\n")[0]  # `run` is a module that can be called
    assert f"| `batchrun.{name}` | {first} |" in PAGE


def test_every_column_is_described():
    """The table has each, and no other."""
    table = PAGE.partition("| column | |")[2].partition("\n\n")[0]
    cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    assert sorted(re.findall(r"`(\w+)`", " ".join(cells))) == sorted(COLUMNS)
