"""docs/compare.md: its commands run, its output is what comes, its tables are the code's."""

from __future__ import annotations

import os
import re
import shlex
import shutil
from contextlib import ExitStack

import pytest
from commands import begun, called
from servers import ROOT

from batchrun.cli import batchrun as group
from batchrun.report.compare import intervals
from batchrun.report.compare.gates import NAMES, parse_gate

PAGE = (ROOT / "docs" / "compare.md").read_text(encoding="utf-8")
MEASURED = ("A ", "B ", "cost", "latency", "Significant")
"""How the lines begin that depend on how fast things went, or on which prompt was cached when."""


def blocks(kind: str) -> list[str]:
    """The fenced blocks of one kind."""
    return re.findall(rf"^```{kind}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def sessions() -> list[tuple[str, list[str]]]:
    """Each command that is shown with its output."""
    parts = [part for block in blocks("console") for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]]
    return [(part.partition("\n")[0], part.partition("\n")[2].splitlines()) for part in parts]


def gates() -> list[str]:
    """The gates of the table."""
    return re.findall(r"^\| `([^`]+)` \|", PAGE.partition("## Gates")[2], re.MULTILINE)


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    """What each shown command says: the runs side by side in processes of their own, then the rest in this one."""
    place = tmp_path_factory.mktemp("clone")
    for name in ("configs", "sample_data"):
        shutil.copytree(ROOT / name, place / name)
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("BATCHRUN_")]:
            patch.delenv(name)
        patch.setenv("COLUMNS", "80")
        patch.chdir(place)
        typed = {
            command: shlex.split(command)[1:] for command in [*dict(sessions()), *"".join(blocks("sh")).splitlines()]
        }
        with ExitStack() as running:
            begun_runs = {
                command: running.enter_context(begun(*words, env={"BATCHRUN_CONCURRENCY": "200"}))
                for command, words in typed.items()
                if words[0] == "run"
            }
            ended = {command: "".join(process.communicate()) for command, process in begun_runs.items()}
        for command in typed.keys() - ended.keys():
            done = called(*typed[command])
            ended[command] = done.out + done.err
    return {command: text.splitlines() for command, text in ended.items()}


@pytest.mark.rig
@pytest.mark.parametrize(("command", "shown"), sessions())
def test_the_page_shows_what_comes(command, shown, said):
    """Every line, but for what is measured."""

    def steady(lines: list[str]) -> list[str]:
        return [line for line in lines if not line.startswith(MEASURED) and "cost_usd" not in line]

    assert shown
    assert steady(said[command]) == steady(shown)


@pytest.mark.rig
def test_the_other_forms_are_written(said):
    """Each of the commands that are shown without output."""
    commands = "".join(blocks("sh")).splitlines()
    assert len(commands) == 3
    assert [said[command] for command in commands] == [[]] * 3


@pytest.mark.parametrize("command", [*dict(sessions()), *"".join(blocks("sh")).splitlines()])
def test_every_shown_command_is_understood(command):
    """Its options exist."""
    _, name, *arguments = shlex.split(command)
    assert group.commands[name].make_context(name, arguments)


def test_the_page_knows_every_metric():
    """In the order of the help."""
    table = PAGE.partition("## The metrics")[2].partition("Two answers")[0]
    cells = re.findall(r"^\| (`[^|]+) \|", table, re.MULTILINE)
    assert sorted(re.findall(r"`(\w+)`", " ".join(cells))) == sorted(NAMES)


@pytest.mark.parametrize("gate", gates())
def test_every_shown_gate_is_one(gate):
    """It is understood as it stands."""
    assert parse_gate(gate, accuracy=True)


def test_the_sizes_are_those_of_the_code():
    """Where the bootstrap ends, and how few pairs will do."""
    least_for_p95 = round(intervals.LEAST_BEYOND / 0.05)
    assert f"up to {intervals.MOST_RESAMPLED:,} pairs | {intervals.REPLICATES:,} bootstrap samples" in PAGE
    said_of_few = f"With fewer than {intervals.LEAST_PAIRS} pairs there is no interval, nor of a p95 with fewer than "
    assert f"{said_of_few}{least_for_p95}" in " ".join(PAGE.split())


def test_every_option_is_on_the_page():
    """But for those that need no words."""
    options = {name for one in group.commands["compare"].params for name in one.opts if name.startswith("--")}
    assert {name for name in options if name not in PAGE} <= {"--output", "--help"}


def test_links_lead_somewhere():
    """To a file that is there."""
    assert [to for to in re.findall(r"\]\(([^)]+)\)", PAGE) if not (ROOT / "docs" / to).exists()] == []
