"""The package as users get it: built once, installed into each Python that is there, and tried away from its source."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from commands import lacking
from servers import ROOT

from batchrun import __version__

pytestmark = pytest.mark.rig

VERSIONS = ["3.11", "3.12", "3.13"]
MAP = """
import pandas, batchrun
frame = pandas.DataFrame({"text": ["one", None]}, index=["a", "b"])
config = {"endpoint": {"base_url": "simulated"}}
answers = batchrun.map(frame, config, model="simulated/small", template="Say {{ text }}.", output="mapped")
print(answers.index.tolist(), answers["error_type"].isna().tolist())
"""


def python_of(version):
    """An interpreter of this version, from PATH, pyenv or beside our own; None if there is none that starts."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"), "versions")
    kept = [path for place in (pyenv, Path(sys.base_prefix).parent) for path in place.glob(f"{version}.*/bin/python")]
    named = [shutil.which(f"python{version}"), *kept]
    for path in filter(None, named):
        if subprocess.run([path, "-c", "import venv, ensurepip"], capture_output=True, check=False).returncode == 0:
            return path
    return None


def done(*command, cwd, **env):
    """How a command ended, which must be well; none of this environment's settings go with it."""
    clean = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "BATCHRUN_", "PYTEST"))
    }
    env = {**clean, "PIP_DISABLE_PIP_VERSION_CHECK": "1", **env}
    ended = subprocess.run([*map(str, command)], cwd=cwd, env=env, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The folder of the sdist and of the wheel that is made of it."""
    pytest.importorskip("build", reason="pip install build, which the extra dev has")
    place = tmp_path_factory.mktemp("dist")
    done(sys.executable, "-m", "build", "--outdir", place, ROOT, cwd=place)
    return place


@pytest.fixture(scope="module")
def wheel(built):
    (path,) = built.glob("*.whl")
    return path


def test_the_wheel_has_the_package_and_nothing_else(wheel):
    """Every file of it, the types' mark, prices, pages and schema among them, and the licence; no tests."""
    names = set(zipfile.ZipFile(wheel).namelist())
    package = {path.relative_to(ROOT).as_posix() for path in (ROOT / "batchrun").rglob("*") if path.is_file()}
    there = {name for name in package if "__pycache__" not in name}
    about = f"batchrun_llm-{__version__}.dist-info"
    beside = ("METADATA", "WHEEL", "entry_points.txt", "RECORD", "licenses/LICENSE")
    assert names == there | {f"{about}/{name}" for name in beside}
    assert {"batchrun/py.typed", "batchrun/prices.yaml", "batchrun/report/page.css"} < names


def test_the_sdist_can_be_tested(built):
    """It has the tests and what they read."""
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = {"LICENSE", "README.md", "CHANGELOG.md", "pyproject.toml", "tests/conftest.py", "configs/quickstart.yaml"}
    assert wanted - names == set()
    assert {"sample_data/prompts.jsonl", "docs/python.md", "batchrun/py.typed"} - names == set()


@pytest.mark.parametrize("version", VERSIONS)
def test_what_is_installed_works(version, wheel, tmp_path):
    """In this Python: the quickstart, a newcomer's first run, a frame, and the types for a type checker."""
    python = python_of(version)
    if python is None:
        lacking(f"Python {version}")
    done(python, "-m", "venv", "venv", cwd=tmp_path)
    there = tmp_path / "venv" / "bin"
    done(there / "pip", "install", "--no-compile", "--only-binary=:all:", wheel, cwd=tmp_path)
    said = done(there / "batchrun", "--version", cwd=tmp_path).stdout
    assert said.startswith(f"batchrun {__version__}\nPython {version}.")
    for walk in (quickstart, newcomer, frame, types):
        (tmp_path / walk.__name__).mkdir()
        walk(there, tmp_path / walk.__name__)


def quickstart(there, place):
    """Copied to where nothing else is, it gives no warning, and there is a page of it."""
    for name in ("configs/quickstart.yaml", "sample_data/prompts.jsonl"):
        (place / name).parent.mkdir()
        shutil.copy(ROOT / name, place / name)
    batchrun = [there / "python", "-W", "error", "-m", "batchrun"]
    done(*batchrun, "run", "configs/quickstart.yaml", "-q", cwd=place)
    done(*batchrun, "report", "runs/quickstart", "--format", "html", "-o", "page.html", cwd=place)
    assert (place / "page.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def newcomer(there, place):
    """`init` writes a configuration, and says what to type to have prompts too."""
    written = done(there / "batchrun", "init", "--base-url", "simulated", cwd=place)
    done("sh", "-c", written.stderr.rpartition(" Next: ")[2], cwd=place, PATH=f"{there}:{os.environ['PATH']}")
    ended = done(there / "batchrun", "run", "batchrun.yaml", "-q", cwd=place)
    assert ended.stderr.startswith("exit 0: 1 of 1 rows have a result")


def frame(there, place):
    """Answers with its index, without a warning."""
    assert done(there / "python", "-W", "error", "-c", MAP, cwd=place).stdout == "['a', 'b'] [True, False]\n"


def types(there, place):
    """They are found in the wheel, not in the source."""
    (place / "user.py").write_text('import batchrun\nreveal_type(batchrun.run("x.yaml").rows.failed)\n')
    mypy = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", os.devnull]
    said = done(*mypy, "--python-executable", there / "python", "user.py", cwd=place).stdout
    assert 'Revealed type is "int"' in said.replace("builtins.", "")
