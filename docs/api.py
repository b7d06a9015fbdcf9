"""Prints the reference of the Python API, made of its docstrings: `python docs/api.py > docs/api.md`."""  # noqa: INP001

from __future__ import annotations

import re
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import griffe

if TYPE_CHECKING:
    from collections.abc import Iterator

WIDTH = 120
HEAD = """\
# Python API

What `import batchrun` offers, what that returns and what it raises, from the docstrings; [python.md](python.md) shows
how to use it. Units are in the names: `_s` are seconds, `_usd` US dollars, `_tokens` tokens, `_at` times in UTC (as a
number: microseconds since 1970).

## What is called
"""
CALLED = ("mapping.map", "mapping.amap", "mapping.stream", "run.run", "run.arun", "store.snapshot.read")
READERS = ("to_pandas", "table", "batches", "sessions")
ALIASES = ("mapping.Keys", "mapping.Rows", "store.snapshot.Kind", "store.identity.OnChange", "types.UsageSource")


def page() -> str:
    """The whole of it, as Markdown."""
    package = griffe.load("batchrun", search_paths=[Path(__file__).parent.parent])
    snapshot, report = package["store.snapshot.Snapshot"], package["report.summary.Report"]
    parts = [
        HEAD,
        *[function(package[name], "### `batchrun.{}`") for name in CALLED],
        struct(package["run.Options"], "### `batchrun.Options`"),
        "In the signatures above:\n",
        code(*[f"{package[name].name} = {package[name].value}" for name in ALIASES]),
        "## What comes back\n",
        described(snapshot, "### `{}`, which `read` returns"),
        *[function(snapshot[name], "#### `Snapshot.{}`") for name in READERS],
        struct(package["types.Record"], "### `{}`, which `stream` yields"),
        *[struct(each, "### `{}`, which `run` returns" if each is report else "#### `{}`") for each in reached(report)],
        errors(package["errors"]),
    ]
    return "\n".join(parts)


def code(*lines: str) -> str:
    """A block of Python, its quotes those of our own code."""
    return "\n".join(["```python", *[line.replace("'", '"') for line in lines], "```", ""])


def function(named: Any, title: str) -> str:
    """A function: how it is called, what it says of itself."""
    return described(named, title, *signature(named))


def struct(named: Any, title: str) -> str:
    """A class that is its fields."""
    return described(named, title, f"class {named.name}:", *[f"    {field}" for field in fields(named)])


def described(named: Any, title: str, *lines: str) -> str:
    """Its title, its code and its docstring."""
    return "\n".join([title.format(named.name), "", *([code(*lines)] if lines else []), *sections(named)])


def fields(named: Any) -> Iterator[str]:
    """The fields of a Struct with their types and defaults, in order."""
    for field in named.attributes.values():
        if field.annotation and not field.name.startswith("_"):
            yield f"{field.name}: {field.annotation}" + (f" = {field.value}" if field.value is not None else "")


def signature(named: Any) -> list[str]:
    """How a function begins: one line, or one for each argument where that would be long."""
    words = []
    for each in named.parameters:
        if each.kind is griffe.ParameterKind.keyword_only and "*" not in words:
            words.append("*")
        if each.name != "self":
            words.append(f"{each.name}: {each.annotation}" + (f" = {each.default}" if each.default is not None else ""))
    begin, end = f"{'async ' * ('async' in named.labels)}def {named.name}(", f") -> {named.returns}"
    line = begin + ", ".join(words) + end
    return [line] if len(line) <= WIDTH else [begin, *[f"    {word}," for word in words], end]


def sections(named: Any) -> Iterator[str]:
    """A docstring, section by section."""
    kinds = griffe.DocstringSectionKind
    for section in named.docstring.parse("google", returns_multiple_items=False, warnings=False):
        match section.kind:
            case kinds.text:
                yield from map(paragraph, section.value.split("\n\n"))
            case kinds.parameters | kinds.attributes:
                yield "".join(item(f"`{each.name}`", each.description) for each in section.value)
            case kinds.returns:
                yield wrapped(f"**Returns** {section.value[0].description}")
            case kinds.raises:
                names = [re.sub(r"(\w+)", r"`\1`", str(each.annotation).strip("()")) for each in section.value]
                listed = [item(name, each.description) for name, each in zip(names, section.value, strict=True)]
                yield "**Raises**\n\n" + "".join(listed)
            case kind:
                raise ValueError(f"{named.path}: a section of {kind} has no form here")


def paragraph(text: str) -> str:
    """Some lines of a docstring; examples become code, and pages links."""
    if not text.startswith(">>> "):
        return wrapped(re.sub(r"docs/([\w-]+\.md)", r"[\1](\1)", text))
    return code(*[line.removeprefix(">>> ").partition("  # doctest")[0].rstrip() for line in text.splitlines()])


def item(name: str, what: str) -> str:
    """One line of a list."""
    return wrapped(f"- {name}: {what}", indent="  ")


def wrapped(text: str, indent: str = "") -> str:
    """Some words, as wide as the other pages are."""
    plain = " ".join(text.split())
    lines = textwrap.wrap(plain, WIDTH, subsequent_indent=indent, break_on_hyphens=False, break_long_words=False)
    return "\n".join(lines) + "\n"


def reached(named: Any) -> Iterator[Any]:
    """A Struct and those that its fields are made of, each once, in the order of the fields."""
    waiting, seen = [named], set()
    while waiting:
        each = waiting.pop(0)
        if each.path not in seen:
            seen.add(each.path)
            yield each
            waiting += [found for field in each.attributes.values() for found in structs_in(field, each)]


def structs_in(field: Any, within: Any) -> Iterator[Any]:
    """The Structs of ours that a field's type names."""
    for name in re.findall(r"\b[A-Z]\w+", str(field.annotation or "")):
        found = within.module.members.get(name)
        if found is not None and found.canonical_path.startswith("batchrun.") and found.is_class:
            yield found.final_target if found.is_alias else found


def errors(module: Any) -> str:
    """A table of all that is raised on purpose."""
    lines = ["## What is raised: `batchrun.errors`\n", wrapped(module.docstring.value)]
    lines += ["| error | is a | exit code | when |", "|---|---|---|---|"]
    for each in module.members.values():
        if not each.is_alias and each.is_class:
            what = " ".join(each.docstring.value.split())
            lines.append(f"| `{each.name}` | `{each.bases[0]}` | {exit_code(each)} | {what} |")
    return "\n".join(lines) + "\n"


def exit_code(error: Any) -> str:
    """Its own, or that of the error that it is."""
    own = error.members.get("exit_code")
    return str(own.value) if own else exit_code(error.module[str(error.bases[0])])


if __name__ == "__main__":
    sys.stdout.write(page())
