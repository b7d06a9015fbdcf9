"""The Tab key in bash, zsh and fish, installed by the line that `batchrun --help` shows."""

from __future__ import annotations

import os
import pty
import re
import select
import shlex
import shutil
import subprocess

import click
import pytest
from commands import BATCHRUN, END_S, called, lacking, size_of
from servers import ROOT

from batchrun.cli import batchrun as group

CASES = [
    ("batchrun repo", "report"),
    ("batchrun run --max-c", "--max-cost"),
    ("batchrun run --stream al", "always"),
    ("batchrun report ru", "runs"),
    ("batchrun ctl runs pa", "pause"),
]
"""A command, an option, a value, a folder, and an argument that is one of a few."""
SILENT_S = 20


def line_for(shell):
    """What the help says to put into a shell's start-up file."""
    (line,) = (line for line in called("--help").out.splitlines() if f"{shell}_source" in line)
    return line.partition("   #")[0].strip()


@pytest.fixture
def here(tmp_path):
    """A folder with a `batchrun` command and a run folder in it."""
    command = tmp_path / "bin" / "batchrun"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {shlex.join(BATCHRUN)} "$@"\n')
    command.chmod(0o755)
    (tmp_path / "runs").mkdir()
    return tmp_path


def said(here, shell, *words):
    """What a shell that is given a script writes."""
    if not shutil.which(shell):
        lacking(shell)
    return subprocess.run([shell, *words], capture_output=True, text=True, cwd=here, env=world(here), check=True).stdout


def world(here):
    """A user's environment: nothing of ours but the command."""
    return {"HOME": str(here), "PATH": f"{here}/bin:/usr/bin:/bin", "PYTHONPATH": str(ROOT), "TERM": "xterm"}


@pytest.mark.parametrize(("words", "found"), CASES[:3])
def test_bash(here, words, found):
    """Its completion function offers what the words begin."""
    typed = shlex.split(words)
    script = f"{line_for('bash')}; COMP_WORDS=({words}); COMP_CWORD={len(typed) - 1}; _batchrun_completion "
    out = said(here, "bash", "--norc", "-c", f"{script} batchrun {typed[-1]} {typed[-2]}; echo ${{COMPREPLY[*]}}")
    assert found in out.split()


@pytest.mark.rig
@pytest.mark.parametrize(("words", "found"), CASES)
def test_fish(here, words, found):
    """The same; beside it stands what it is for."""
    script = f"{line_for('fish')}; complete --do-complete {shlex.quote(words)}"
    assert found in re.split(r"[\s/]+", said(here, "fish", "--no-config", "-c", script))


@pytest.mark.rig
@pytest.mark.parametrize("shell", ["bash", "zsh"])
@pytest.mark.parametrize(("words", "found"), CASES)
def test_the_key(here, shell, words, found):
    """Whoever types the beginning and Tab sees the rest, also in a zsh whose `.zshrc` has that one line only."""
    if not shutil.which(shell):
        lacking(shell)
    (here / ".zshrc").write_text(f"{line_for('zsh')}\nPS1='ready> '\n")
    (here / ".bashrc").write_text(f"{line_for('bash')}\nPS1='ready> '\n")
    ours, theirs = pty.openpty()
    size_of(theirs, 120)
    with subprocess.Popen(
        [shell, "-i"], stdin=theirs, stdout=theirs, stderr=theirs, cwd=here, env=world(here), start_new_session=True
    ) as process:
        os.close(theirs)
        seen = ""
        try:
            for until, keys in (("ready> ", f"{words}\t"), (f"{words.rpartition(' ')[0]} {found}", "")):
                while until not in re.sub(r"\x1b\[\??[\d;]*[a-zA-Z]|\x1b[=>]|[\x07\x08\r]", "", seen):
                    assert select.select([ours], [], [], SILENT_S)[0], seen
                    seen += os.read(ours, 4096).decode()
                os.write(ours, keys.encode())
        finally:
            process.kill()
            process.wait(END_S)
    os.close(ours)


def test_files_are_offered_where_files_are_meant():
    """Each parameter that the help calls FILE, OUT, INPUT or the like completes paths."""
    plain = [
        f"{name} {parameter.opts[0]}"
        for name, command in group.commands.items()
        for parameter in command.params
        if re.fullmatch(r"\W*(FILE|OUT|OUT_[AB]|INPUT|CONFIG|JSON)\b.*", parameter.metavar or "")
        and not isinstance(parameter.type, click.Path)
    ]
    assert plain == []
