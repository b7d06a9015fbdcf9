"""The rules of the house: who imports whom, who touches the disk, how long a file may be, what is shipped."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from functools import cache
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "batchrun"
MODULES = sorted(PACKAGE.rglob("*.py"))
MOST_LINES, MOST_FUNCTION_LINES = 300, 50
LONG_ONES = {"report/metrics.py: summarise"}
"""Asked whether it is still one thing. It is: one Struct, filled in at once."""

CHANGES_THE_DISK = re.compile(
    r"chmod|copyfile|copytree|f(data)?sync|f?truncate|hardlink_to|link|makedirs|mkdir|mkdtemp|mkfifo|mkstemp|posix_fallocate|"
    r"pwrite|removedirs|renames?|rmdir|rmtree|symlink(_to)?|touch|unlink|write_(bytes|text)|\w*Temporary(File|Directory)"
)
AMBIGUOUS = {"copy", "copy2", "move", "open", "remove", "replace", "write"}
"""They change the disk as functions of `os` and `shutil`; lists, texts and streams have methods of these names."""

MAY_CHANGE_THE_DISK = {
    "cli/report.py": {"write_text"},  # -o FILE is the user's file, not a run's
    "export/order.py": {"TemporaryFile"},  # rows waiting for their place, unlinked from the start
    "export/target.py": {"fsync", "open", "replace", "unlink"},  # the user's file again, and standard output
    "cli/lines.py": {"open"},  # /dev/null, in place of a pipe that was closed
    "prompts/__init__.py": {"TemporaryFile"},  # standard input, unlinked from the start
    "simulated/ledger.py": {"open", "write"},  # of the simulated endpoint, for tests
}
HEAVY = {"aiohttp", "jinja2", "jsonschema", "matplotlib", "numpy", "pandas", "pyarrow"}


def name_of(module: Path) -> str:
    """How a module is named in a failing test."""
    return module.relative_to(PACKAGE).as_posix()


@cache
def tree_of(module: Path) -> ast.Module:
    """The syntax tree of a module."""
    return ast.parse(module.read_text(encoding="utf-8"))


def changes_in(tree: ast.AST) -> set[str]:
    """The calls that change the disk, other than through an `fs`."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return {call for node in calls if (call := _change(node)) is not None}


def _change(call: ast.Call) -> str | None:
    function = ast.unparse(call.func)
    owner, _, name = function.rpartition(".")
    if owner.split(".")[-1] in {"fs", "_fs"}:
        return None
    changes = CHANGES_THE_DISK.fullmatch(name) or (name in AMBIGUOUS and owner in {"os", "shutil"})
    changes = changes or (name == "open" and _opens_for_writing(call, method=bool(owner)))
    # of text and of Structs, `replace` has other arguments than that of a path
    changes = changes or (name == "replace" and len(call.args) == 1 and not call.keywords)
    return name if changes else None


def _opens_for_writing(call: ast.Call, *, method: bool) -> bool:
    modes = [word.value for word in call.keywords if word.arg == "mode"] + call.args[0 if method else 1 :][:1]
    return any(not isinstance(mode, ast.Constant) or bool(set(str(mode.value)) & set("wax+")) for mode in modes)


def test_imports_point_down():
    """Rooms are strangers, and nothing below run.py knows it: the contract in pyproject.toml holds."""
    if find_spec("importlinter") is None:
        pytest.skip("import-linter comes with .[dev]")
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()", "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 kept, 0 broken" in done.stdout


def test_every_room_is_in_the_contract():
    """A new room is under the contract from its first day."""
    contract = (ROOT / "pyproject.toml").read_text(encoding="utf-8").partition("layers = [")[2]
    rooms = {f"batchrun.{path.name}" for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}
    assert {room for room in rooms if not re.search(rf"\b{re.escape(room)}\b", contract)} == set()


def test_only_fs_changes_the_disk():
    """All other modules go through store/fs.py, so that a rig can fail any operation of a run."""
    found = {name_of(module): changes_in(tree_of(module)) for module in MODULES}
    assert found.pop("store/fs.py")
    assert {name: calls for name, calls in found.items() if calls} == MAY_CHANGE_THE_DISK


@pytest.mark.parametrize(
    "code",
    [
        "open(p, 'w')",
        "open(p, mode=m)",
        "p.open('ab')",
        "p.open(mode='r+')",
        "os.open(p, flags)",
        "os.replace(a, b)",
        "a.replace(b)",
        "p.parent.mkdir()",
        "self.path.unlink()",
        "shutil.rmtree(p)",
        "os.write(fd, b'')",
    ],
)
def test_a_change_of_the_disk_is_seen(code):
    """The check above can fail."""
    assert changes_in(ast.parse(code))


@pytest.mark.parametrize(
    "code",
    ["open(p)", "p.open('rb')", "a.replace('x', 'y')", "self._fs.unlink(p)", "items.remove(x)", "replace(s, x=1)"],
)
def test_what_is_harmless_is_not(code):
    """Nor does it cry wolf."""
    assert not changes_in(ast.parse(code))


def test_nothing_is_long():
    """A file of more than 300 lines, or a function of more than 50, is asked whether it is still one thing."""
    long = {name_of(module) for module in MODULES if module.read_text(encoding="utf-8").count("\n") > MOST_LINES}
    for module in MODULES:
        functions = [
            node for node in ast.walk(tree_of(module)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        ]
        many = [node.name for node in functions if (node.end_lineno or 0) - node.lineno >= MOST_FUNCTION_LINES]
        long |= {f"{name_of(module)}: {name}" for name in many}
    assert long == LONG_ONES


def test_every_module_says_what_it_is_for():
    """Each opens with a docstring, whose first line is a sentence."""
    docstrings = {name_of(module): ast.get_docstring(tree_of(module)) or "" for module in MODULES}
    assert [name for name, text in docstrings.items() if not re.match(r"[^\n]+[.:?]", text)] == []


def test_nothing_is_printed():
    """Output goes through cli/, which keeps what a peer sends from steering the terminal."""
    calls = [(name_of(module), node) for module in MODULES for node in ast.walk(tree_of(module))]
    calls = [(name, node.func) for name, node in calls if isinstance(node, ast.Call)]
    assert [name for name, called in calls if isinstance(called, ast.Name) and called.id == "print"] == []


@pytest.mark.parametrize(("version", "allowed"), [("3.14.0", False), ("3.14.1", False), ("3.14.2", True)])
def test_broken_releases_of_aiohttp_are_excluded(version, allowed):
    """3.14.0 and 3.14.1 break reused connections when a read time-out is set."""
    wanted = [Requirement(text) for text in metadata.requires("batchrun-llm") or []]
    specifier = next(one.specifier for one in wanted if one.name == "aiohttp")
    assert specifier.contains(version) is allowed


def test_every_import_is_declared():
    """What is imported is a dependency of ours, not only of a dependency."""
    roots = {root for module in MODULES for node in ast.walk(tree_of(module)) for root in _imported(node)}
    foreign = roots - sys.stdlib_module_names - {"batchrun", "uvloop"}  # which is used where it happens to be
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert {"pyyaml" if root == "yaml" else root for root in foreign} == {
        Requirement(text).name for text in project["dependencies"]
    }


def _imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name.partition(".")[0] for alias in node.names]
    return [node.module.partition(".")[0]] if isinstance(node, ast.ImportFrom) and node.module else []


def test_types_are_shipped():
    """Without py.typed no type checker looks at our annotations."""
    assert (PACKAGE / "py.typed").exists()


@pytest.mark.parametrize("code", ["import batchrun", "from batchrun.cli import batchrun"])
def test_heavy_imports_wait(code):
    """Neither `import batchrun` nor `batchrun --help` pays for what it does not use."""
    command = [sys.executable, "-c", f"import sys; {code}; print(*sys.modules, sep='\\n')"]
    loaded = set(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split())
    assert loaded & HEAVY == set()


def test_no_place_of_work_is_named():
    """What is here runs anywhere: no path and no package index of whoever wrote it."""
    folders = [ROOT / name for name in ["batchrun", "benchmarks", "configs", "docs", "sample_data", "tests", ".ci"]]
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    files += [path for path in ROOT.iterdir() if path.suffix in {".md", ".toml", ".yaml"}]
    places = re.compile(rb"(?<![\w.{}])/" + rb"(work|root)/|files\.python" + rb"hosted|pypi" + rb"\.org")
    temporary = re.compile(rb"(?<![\w.{}])/" + rb"tmp/")
    texts = {path: path.read_bytes() for path in files if "__pycache__" not in path.parts}
    named = [path for path, text in texts.items() if places.search(text)]
    named += [path for path, text in texts.items() if temporary.search(text) and "tests" not in path.parts]
    assert named == []
