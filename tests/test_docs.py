"""The pages of docs/: their commands run, their links lead somewhere, their tables are the code's."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from functools import cache
from itertools import dropwhile, groupby
from typing import TYPE_CHECKING, Any, get_args

import msgspec
import pytest
import yaml
from commands import called
from msgspec import inspect
from servers import ROOT, embedded_at_once

from batchrun.cli import batchrun as group
from batchrun.cli.contents import without_aliases
from batchrun.config import Config, check_config
from batchrun.store.schema import FAILURES, RESULTS
from batchrun.types import ErrorType

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DOCS = ROOT / "docs"
PAGES = sorted(path.name for path in DOCS.glob("*.md"))
LINKED = sorted(
    path.relative_to(ROOT).as_posix()
    for place in ("", "docs/**/", "sample_data/", "benchmarks/")
    for path in ROOT.glob(f"{place}*.md")
)
TRIED_ELSEWHERE = {"compare.md", "export.md", "prices.md", "requests.md", "tracing.md", "verify.md"}
"""Their commands are run by the tests of their own parts."""

AT_ONCE = {"quickstart.md"}
"""Run by a newcomer's `pytest`; the others take their time and are run as rigs."""

EXIT_CODES = {0, 1, 2, 3, 4, 5, 6, 7, 8, 130, 143}
MEASURED = re.compile(
    r"\d[\d.,]* (?:ms|s|min|rows/s|% {1,2}(?:concurrency|of the time))\b|\d{4}-\d\d-\d\d|\d\d:\d\d(?::\d\d)?"
)
"""What is another number each time."""


def page(name: str) -> str:
    """The text of a page."""
    return (DOCS / name).read_text(encoding="utf-8")


def blocks(kind: str, text: str) -> list[str]:
    """The fenced blocks of one kind."""
    return re.findall(rf"^```{kind}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def sessions(text: str) -> list[tuple[str, list[str]]]:
    """Each command that is shown with its output, in order."""
    parts = [part for block in blocks("console", text) for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]]
    return [(part.partition("\n")[0], part.partition("\n")[2].splitlines()) for part in parts]


def words_of(line: str) -> list[str]:
    """A line as a shell reads it; a pipe and its like are words of their own."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    return [*lexer]


def is_operator(word: str) -> bool:
    """Whether a command ends here."""
    return set(word) <= set("();<>|&")


def command_lines() -> Iterator[tuple[str, str]]:
    """Every `batchrun …` of every page, also within a pipe."""
    for name in PAGES:
        lines = "".join(blocks("sh", page(name))).replace("\\\n", " ").splitlines()
        for line in [*lines, *(command for command, _ in sessions(page(name)))]:
            for operator, part in groupby(words_of(line), is_operator):
                words = [] if operator else [*dropwhile(lambda word: word != "batchrun", part)]
                if words:
                    yield name, shlex.join(words)


def rows(text: str, cells: int) -> list[list[str]]:
    """The rows of all tables of so many columns whose first cell is code."""
    lines = [line.strip("|").split(" | ") for line in text.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in line] for line in lines if len(line) == cells]


@pytest.mark.parametrize(("name", "line"), [*command_lines()])
def test_a_shown_command_is_understood(name, line):
    """Its name, its options and their values."""
    _, command, *words = shlex.split(line)
    known = group.commands[command]
    assert known.make_context(command, without_aliases(words), resilient_parsing="--help" in words), name


def type_in(line: str) -> tuple[int, str]:
    """The exit code and the output of a line; a command that stands alone runs in this process, which is quicker."""
    words = words_of(line)
    if words[0] == "batchrun" and not any(map(is_operator, words)):
        outcome = called(*words[1:])
        return outcome.code, outcome.out + outcome.err
    line = re.sub(r"\bbatchrun (?=[a-z])", "python -m batchrun ", line).replace(
        "python ", f"{shlex.quote(sys.executable)} "
    )
    out: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "stdin": subprocess.DEVNULL}
    done = subprocess.run(line, shell=True, text=True, check=False, **out)
    return done.returncode, done.stdout


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """Be where configs/ and sample_data/ are, with an embedded endpoint that answers at once."""
    for folder in ("configs", "sample_data"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    monkeypatch.chdir(tmp_path)
    for name, value in {"COLUMNS": "80", "PYTHONPATH": str(ROOT), **embedded_at_once(tmp_path)}.items():
        monkeypatch.setenv(name, value)


def steady(line: str) -> str:
    """A line without what is measured, and without the blanks that depend on it."""
    return re.sub(r"\s+", " ", MEASURED.sub("#", line)).strip()


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in AT_ONCE else pytest.mark.rig)
        for name in PAGES
        if name not in TRIED_ELSEWHERE and sessions(page(name))
    ],
)
@pytest.mark.usefixtures("clone")
def test_the_page_shows_what_comes(name):
    """Each line of each command, but for what is measured, and its exit code."""
    for command, shown in sessions(page(name)):
        code, said = type_in(command)
        there = {steady(line) for line in said.splitlines()}
        assert [line for line in shown if steady(line) not in there] == [], f"{command}\n{said}"
        named = re.search(r"^exit (\d+):", "\n".join(shown), re.MULTILINE)
        assert code == (int(named[1]) if named else 0), f"{command}\n{said}"


@pytest.mark.parametrize(("name", "keys"), [(name, keys) for name in PAGES for keys in blocks("yaml", page(name))])
def test_the_shown_keys_are_keys(name, keys, tmp_path, monkeypatch):
    """They make a configuration, or else a file of prices."""
    monkeypatch.chdir(tmp_path)
    values = yaml.safe_load(keys)
    if "models" not in values:
        assert check_config({"input": "prompts.jsonl", **values}), name


@cache
def anchors(path: Path) -> set[str]:
    """The names under which GitHub finds the headings of a page."""
    text = re.sub(r"^```.*?^```$", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("name", LINKED)
def test_links_lead_somewhere(name):
    """To a file that is there, and to a heading in it."""
    text = re.sub(r"^```.*?^```$", "", (ROOT / name).read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        file, _, anchor = target.partition("#")
        path = (ROOT / name).parent / file if file else ROOT / name
        found = path.exists() and (not anchor or anchor in anchors(path.resolve()))
        if not found and "://" not in target:
            broken.append(target)
    assert broken == []


def test_every_page_is_found():
    """Whoever begins at the README or at the quickstart comes to each of them."""
    seen, waiting = set(), ["quickstart.md"]
    waiting += re.findall(r"\]\(docs/(\w[\w-]*\.md)", (ROOT / "README.md").read_text(encoding="utf-8"))
    while waiting:
        name = waiting.pop()
        if name not in seen and (DOCS / name).exists():
            seen.add(name)
            waiting += re.findall(r"\]\((\w[\w-]*\.md)", page(name))
    assert sorted(seen) == PAGES


def keys_of(section: type[msgspec.Struct] = Config, path: str = "") -> Iterator[list[str]]:
    """Every key of the configuration as the page has it: its name, its type in words, its default."""
    info = inspect.type_info(section)
    assert isinstance(info, inspect.StructType)
    for field in info.fields:
        kinds = list(field.type.types) if isinstance(field.type, inspect.UnionType) else [field.type]
        inner = next((kind.cls for kind in kinds if isinstance(kind, inspect.StructType)), None)
        if not isinstance(field.type, inspect.StructType):
            default = field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
            shown = "required" if field.required else f"`{as_yaml(default)}`"
            yield [f"`{path}{field.name}`", ", or ".join(map(in_words, kinds)), shown]
        if inner is not None:
            yield from keys_of(inner, f"{path}{field.name}.")


def as_yaml(value: object) -> str:
    """A value as it is written in a configuration."""
    return yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=200).removesuffix("\n...\n").strip()


def in_words(kind: inspect.Type) -> str:
    """What may be written for a type."""
    match kind:
        case inspect.LiteralType():
            return ", ".join(f"`{value}`" for value in kind.values)
        case inspect.IntType() | inspect.FloatType():
            whole = "whole number" if isinstance(kind, inspect.IntType) else "number"
            if kind.le is not None:
                return f"{whole}, {kind.ge:,} to {kind.le:,}"
            return f"{whole} above {kind.gt}" if kind.gt is not None else f"{whole}, {kind.ge} or more"
        case inspect.ListType():
            return f"list of {in_words(kind.item_type)}"
        case inspect.StructType():
            return "the keys below"
    names = {inspect.StrType: "text", inspect.BoolType: "`true`, `false`", inspect.NoneType: "`null`"}
    return names.get(type(kind), "keys and values")


def test_the_configuration_is_the_code():
    """Every key in its order, with its type and its true default, and with some words on what it is."""
    shown = rows(page("configuration.md"), 4)
    assert [cells[:3] for cells in shown] == list(keys_of())
    assert all(cells[3] for cells in shown)


@pytest.mark.parametrize(("kind", "schema"), [("results", RESULTS), ("failures", FAILURES)])
def test_the_columns_are_the_schema(kind, schema):
    """Every column with its type, and no other."""
    types = {"double": "float64", "timestamp[us, tz=UTC]": "timestamp(us, UTC)", "list<item: float>": "list<float32>"}
    shown = {
        name.strip("`"): row[1]
        for row in rows(page("run-folder.md"), 4)
        if row[2] in {kind, "both"}
        for name in row[0].split()
    }
    assert shown == {field.name: types.get(str(field.type), str(field.type)) for field in schema}


def test_every_error_type_is_explained():
    """In the order of the code."""
    assert [cells[0].strip("`") for cells in rows(page("errors.md"), 4)] == list(get_args(ErrorType))


def test_every_exit_code_is_explained():
    """Each code of the contract, and no other."""
    codes = re.findall(r"^\| ([\d, ]+) \|", page("errors.md"), re.MULTILINE)
    assert {int(code) for cell in codes for code in cell.split(",")} == EXIT_CODES
