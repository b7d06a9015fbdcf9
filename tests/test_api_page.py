"""docs/api.md: what docs/api.py prints, and nothing that is public is missing in it."""

from __future__ import annotations

import inspect
import runpy

import pytest
from servers import ROOT

import batchrun
from batchrun import errors

PAGE = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")


def section(name):
    """What the page says of a public name."""
    return PAGE.partition(f"### `batchrun.{name}`\n")[2].partition("\n### ")[0]


def test_the_page_is_what_the_docstrings_say():
    """If not: `python docs/api.py > docs/api.md`."""
    assert runpy.run_path(str(ROOT / "docs" / "api.py"))["page"]() == PAGE


@pytest.mark.parametrize("name", sorted(batchrun.__all__))
def test_every_public_name_is_there(name):
    """With how it is called, each argument by its name, and the first words of its docstring."""
    named = getattr(batchrun, name)
    named = getattr(named, name, named)  # `run` is a module that can be called
    shown = section(name)
    code = shown.partition("```python\n")[2].partition("\n```")[0]
    assert [argument for argument in inspect.signature(named).parameters if f"{argument}: " not in code] == []
    assert inspect.getdoc(named).partition("\n")[0] in " ".join(shown.split())
    assert name == "Options" or "**Raises**" in shown


def test_every_error_is_there():
    """With the exit code that it has."""
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, BaseException)]
    for kind in kinds:
        (line,) = [line for line in PAGE.splitlines() if line.startswith(f"| `{kind.__name__}` |")]
        assert kind is errors.Interrupted or f"| {kind.exit_code} |" in line
    assert len(kinds) > 10


def test_every_argument_is_explained():
    """Of the function that the others refer to, and every field of the options."""
    for name in ("amap", "Options"):
        arguments = inspect.signature(getattr(batchrun, name)).parameters
        assert [argument for argument in arguments if f"- `{argument}`: " not in section(name)] == []
