"""The rigs themselves: bugs that are planted into a copy of the store are caught, each of them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from typing import TYPE_CHECKING

import pytest
from mutant_trial import CAUGHT
from mutants import MUTANTS, ROOT, Mutant, place_of, plant, table

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(sys.platform == "darwin", reason="a flush is no call of `os` there")
TABLE = ROOT / "docs/mutants.md"


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_its_place_is_there(mutant):
    """What a mutant changes is in the store as it is today, once."""
    assert place_of(mutant, ROOT / "batchrun")


def test_the_table_says_what_is_tested():
    """`docs/mutants.md` ends with the table that `python tests/mutants.py` prints."""
    assert TABLE.read_text(encoding="utf-8").endswith("\n\n" + table())


def trial(mutant: Mutant, folder: Path) -> subprocess.CompletedProcess[str]:
    """The short rig against a copy of the package that holds a mutant."""
    package = folder / mutant.name / "batchrun"
    shutil.copytree(ROOT / "batchrun", package, ignore=shutil.ignore_patterns("__pycache__"))
    plant(mutant, package)
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(package.parent), str(ROOT / "tests")])}
    command = [sys.executable, "-P", str(ROOT / "tests/mutant_trial.py"), mutant.rig, mutant.scene]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=300)


@pytest.mark.rig
@pytest.mark.parametrize("rig", ["T1", "T2"])
def test_a_store_without_one_is_not_accused(tmp_path, rig):
    """Or what is said of the others would mean nothing."""
    innocent = MUTANTS[0]._replace(name="none", new=MUTANTS[0].old, rig=rig, scene="fresh")
    done = trial(innocent, tmp_path)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr


@pytest.mark.rig
def test_every_mutant_is_caught(tmp_path, reached):
    """By what the table names."""
    with ThreadPoolExecutor(2) as pool:
        trials = list(pool.map(trial, MUTANTS, repeat(tmp_path)))
    for mutant, done in zip(MUTANTS, trials, strict=True):
        print(f"{mutant.rig}, {mutant.scene}: {mutant.name}: {done.stdout.strip() or 'SURVIVED'}")  # noqa: T201
    missed = {
        mutant.name: done.stderr for mutant, done in zip(MUTANTS, trials, strict=True) if done.returncode != CAUGHT
    }
    assert missed == {}
    reached("T5", "planted bugs, all of them caught", len(MUTANTS), at_least=16)
