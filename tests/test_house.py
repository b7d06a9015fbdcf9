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
    r"[fl]?ch(mod|own)|copy_file_range|copyfile|copytree|f(data)?sync|f?truncate|hardlink_to|link|makedirs|mkdir|mkdtemp|"
    r"mkfifo|mknod|mkstemp|posix_fallocate|pwritev?|removedirs|renames?|rmdir|rmtree|symlink(_to)?|touch|"
    r"unlink|unpack_archive|utime|write_(bytes|text)|writev|\w*Temporary(File|Directory)|"
    r"memmap|tofile|OSFile|output_stream|(Parquet|CSV)Writer|FileHandler|"
    r"write_(csv|dataset|feather|to_dataset)|to_(csv|excel|feather|hdf|parquet|pickle)"
)
AMBIGUOUS = {"copy", "copy2", "fdopen", "move", "open", "popen", "remove", "replace", "system", "write", "write_table"}
"""They change the disk as functions of these modules; lists, texts and streams have methods of these names."""
MODULES_OF_THE_AMBIGUOUS = {"os", "shutil", "pq"}

MAY_CHANGE_THE_DISK = {
    "cli/output.py": {"write_text"},  # -o FILE is the user's file, not a run's
    "export/order.py": {"TemporaryFile"},  # rows waiting for their place, unlinked from the start
    "export/target.py": {"fsync", "open", "replace", "unlink"},  # the user's file again, and standard output
    "cli/lines.py": {"open"},  # /dev/null, in place of a pipe that was closed
    "prompts/__init__.py": {"TemporaryFile"},  # standard input, unlinked from the start
    "export/forms.py": {"CSVWriter", "ParquetWriter"},  # into a sink of export/target.py
    "store/parts.py": {"ParquetWriter"},  # into a sink that writes through an `fs`
    "simulated/ledger.py": {"open", "write"},  # of the simulated endpoint, for tests
}
HEAVY = {"aiohttp", "jinja2", "jsonschema", "numpy", "pandas", "pyarrow", "tokenizers"}


def name_of(module: Path) -> str:
    """How a module is named in a failing test."""
    return module.relative_to(PACKAGE).as_posix()


@cache
def tree_of(module: Path) -> ast.Module:
    """The syntax tree of a module."""
    return ast.parse(module.read_text(encoding="utf-8"))


def changes_in(tree: ast.AST) -> set[str]:
    """What changes the disk other than through an `fs`, whether it is called there or handed on to be called."""
    return {change for node in ast.walk(tree) if (change := _change(node)) is not None}


def _change(node: ast.AST) -> str | None:
    if isinstance(node, ast.Import | ast.ImportFrom):
        return _imported_change(node)
    if isinstance(node, ast.Call):
        function = ast.unparse(node.func)
        owner, _, name = function.rpartition(".")
        changes = CHANGES_THE_DISK.fullmatch(name)
        changes = changes or (name == "open" and _opens_for_writing(node, method=bool(owner)))
        # of text and of Structs, `replace` has other arguments than that of a path
        changes = changes or (name == "replace" and len(node.args) == 1 and not node.keywords)
    elif isinstance(node, ast.Attribute):
        owner, name = ast.unparse(node.value), node.attr
        changes = CHANGES_THE_DISK.fullmatch(name) or (name in AMBIGUOUS and owner in MODULES_OF_THE_AMBIGUOUS)
    else:
        return None
    return name if changes and owner.split(".")[-1] not in {"fs", "_fs"} else None


def _imported_change(node: ast.Import | ast.ImportFrom) -> str | None:
    """Functions of `os` by themselves, and modules that pretend to be an `fs`."""
    names = [alias.name for alias in node.names if alias.asname in {"fs", "_fs"}]
    if isinstance(node, ast.ImportFrom) and node.module in {"os", "shutil"}:
        names += [one.name for one in node.names if one.name in AMBIGUOUS or CHANGES_THE_DISK.fullmatch(one.name)]
    return names[0] if names else None


def _opens_for_writing(call: ast.Call, *, method: bool) -> bool:
    """The mode comes first in methods of paths, and second in functions, whatever module they are of."""
    modes = [word.value for word in call.keywords if word.arg == "mode"] + call.args[0 if method else 1 : 2]
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
        "gzip.open('out.gz', 'wb')",
        "os.fdopen(fd, 'wb')",
        "from os import replace as put",
        "import os as _fs",
        "list(map(os.unlink, paths))",
        "at_end(path.unlink)",
        "pq.write_table(table, path)",
        "pq.ParquetWriter(path, schema)",
        "frame.to_csv(path)",
        "pa.OSFile(path, 'w')",
        "tempfile.mkstemp()",
        "tempfile.NamedTemporaryFile('w')",
        "shutil.move(a, b)",
        "os.chown(p, 1, 1)",
        "os.system('rm x')",
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
    calls = [(module, node) for module in MODULES for node in ast.walk(tree_of(module)) if isinstance(node, ast.Call)]
    called = [(module, node.func) for module, node in calls if isinstance(node.func, ast.Name)]
    assert [name_of(module) for module, function in called if function.id == "print"] == []


@pytest.mark.parametrize(("version", "allowed"), [("3.14.0", False), ("3.14.1", False), ("3.14.2", True)])
def test_broken_releases_of_aiohttp_are_excluded(version, allowed):
    """3.14.0 and 3.14.1 break reused connections when a read time-out is set."""
    wanted = [Requirement(text) for text in metadata.requires("batchrun-llm") or []]
    specifier = next(one.specifier for one in wanted if one.name == "aiohttp")
    assert specifier.contains(version) is allowed


def test_every_import_is_declared():
    """What is imported is a dependency of ours, not only of a dependency."""
    roots = {root for module in MODULES for node in ast.walk(tree_of(module)) for root in _imported(node)}
    optional = {"uvloop", "tokenizers", "opentelemetry"}  # used where they happen to be
    foreign = roots - sys.stdlib_module_names - {"batchrun", *optional}
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
    assert loaded_by(code) & HEAVY == set()


def test_the_first_request_waits_for_nothing_that_comes_after_it():
    """Neither for the report's arithmetic and its page, nor for a limit that nobody has set."""
    later = {"pyarrow.compute", "batchrun.reporting", "jinja2", "aiolimiter"}
    assert loaded_by("import batchrun.cli.watching, batchrun.run") & later == set()


def loaded_by(code: str) -> set[str]:
    """The modules that are there when a process of its own has run some code."""
    command = [sys.executable, "-c", f"import sys; {code}; print(*sys.modules, sep='\\n')"]
    return set(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split())


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
