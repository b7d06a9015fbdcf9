"""What all tests share."""

from __future__ import annotations

import gc

import pytest
from counts import reach


def pytest_addoption(parser):
    parser.addoption("--write-counts", action="store_true", help="keep the counts that the rigs reach")


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
    import os

    for name in list(os.environ):
        if name.startswith("BATCHRUN_") or name == "FIREWORKS_API_KEY":
            monkeypatch.delenv(name)


def pytest_collection_finish():
    """What collection made stays until the end: nobody needs to look through it for garbage again and again."""
    gc.collect()
    gc.freeze()
