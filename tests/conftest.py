"""What all tests share."""

from __future__ import annotations

import gc
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from counts import reach

MEMORY, ROOM_BYTES = Path("/dev/shm"), 1 << 30


def pytest_addoption(parser):
    parser.addoption("--write-counts", action="store_true", help="keep the counts that the rigs reach")


def pytest_xdist_auto_num_workers(config):
    """Plain tests take every core; rigs, which take several themselves, are told how many (`-n`), or run in turn."""
    return None if _plain(config) else 0


def _plain(config) -> bool:
    return "not rig" in config.option.markexpr


def pytest_configure(config):
    """Plain tests write to memory where there is some: a disk takes its time to flush, of which they ask thousands.

    The rigs write to the disk.
    """
    if _plain(config) and not config.option.basetemp and _has_room(MEMORY):
        folder = tempfile.TemporaryDirectory(dir=MEMORY, prefix="batchrun-tests-")
        config.add_cleanup(folder.cleanup)
        Path(folder.name).chmod(0o711)  # as that of the system, for a test that is somebody else for a moment
        os.environ["TMPDIR"] = tempfile.tempdir = folder.name


def _has_room(folder: Path) -> bool:
    return os.access(folder, os.W_OK) and shutil.disk_usage(folder).free > ROOM_BYTES


@pytest.fixture
def reached(request):
    """`reached(rig, what, count, at_least)`: how many of what a rig did, which must not fall from run to run.

    A rig is named as in `T1`; call it once for each `what`, with a count that does not depend on chance.
    `pytest -m rig --write-counts` keeps the counts in `docs/counts.json`.
    """

    def say(rig: str, what: str, count: int, at_least: int) -> None:
        reach(rig, what, count, at_least, write=request.config.getoption("--write-counts"))

    return say


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch):
    """A developer's own BATCHRUN_* variables and key must not change a test."""
    for name in list(os.environ):
        if name.startswith("BATCHRUN_") or name == "FIREWORKS_API_KEY":
            monkeypatch.delenv(name)


def pytest_collection_finish():
    """What collection made stays until the end: nobody needs to look through it for garbage again and again."""
    gc.collect()
    gc.freeze()
