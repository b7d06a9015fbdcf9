"""Standard streams that are closed, full, or read by nobody: words, exit code, and nothing that is kept is lost."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from commands import BATCHRUN, at, called, kept, prompts, typed
from servers import simulated


@pytest.fixture(scope="module")
def server():
    """Answers at once."""
    with simulated() as endpoint:
        yield endpoint


@pytest.fixture(scope="module")
def done(tmp_path_factory, server):
    """A run of three rows that has ended."""
    here = tmp_path_factory.mktemp("done")
    assert called("run", prompts(here / "in.jsonl", 3), *at(server.base_url, here / "out"), "-q").code == 0
    return here / "out"


def without(streams, *arguments):
    """Type it in a shell that closes some streams."""
    return typed(*arguments, program=["/bin/sh", "-c", f'exec "$@" {streams}', "sh", *BATCHRUN])


def to_nobody(*arguments):
    """Type it in front of a reader that has left already."""
    read_end, write_end = os.pipe()
    os.close(read_end)
    with open(write_end, "wb") as stdout:  # noqa: PTH123 (it has no path)
        return typed(*arguments, stdout=stdout)


@pytest.mark.parametrize("streams", [">&-", pytest.param("2>&-", marks=pytest.mark.rig), ">&- 2>&- <&-"])
def test_a_run_whose_streams_are_closed(tmp_path, server, streams):
    """It runs, and keeps every row."""
    ended = without(streams, "run", prompts(tmp_path / "in.jsonl", 3), *at(server.base_url, tmp_path / "out"))
    assert ended.code == 0
    assert len(kept(tmp_path / "out")) == 3
    assert ("exit 0: 3 of 3 rows have a result" in ended.err) is ("2>&-" not in streams)


def test_no_file_becomes_a_closed_stream():
    """Else what a library writes to stderr could land in a journal: the three numbers are taken before anything."""
    look = "import os; fine = {os.fstat(n).st_rdev for n in range(3)} == {os.stat('/dev/null').st_rdev}"
    code = (
        f"from batchrun.__main__ import main\ntry: main()\nexcept SystemExit: pass\n{look}\nraise SystemExit(7 * fine)"
    )
    program = ["/bin/sh", "-c", 'exec "$@" >&- 2>&- <&-', "sh", BATCHRUN[0], "-c", code]
    assert typed("--version", program=program).code == 7


@pytest.mark.parametrize("command", [["report"], ["export"], ["report", "--follow"]], ids=" ".join)
def test_data_for_a_closed_stdout(done, command):
    """It is not thrown away in silence: the option that names a file is said."""
    ended = without(">&-", *command, done)
    assert (ended.code, ended.err.splitlines()[0]) == (2, "error: stdout is closed")
    assert ended.last.endswith("name a file with -o")


@pytest.mark.parametrize("command", ["report", "status", "--version", "--help"])
def test_a_reader_that_has_left(done, command):
    """Who reads no more has seen enough: that is no failure."""
    ended = to_nobody(*([command] if command.startswith("-") else [command, done]))
    assert (ended.code, "stdout" in ended.err) == (0, False), ended.err


@pytest.mark.rig
def test_a_run_whose_reader_has_left(tmp_path, server):
    """Its report goes nowhere, and all is kept."""
    ended = to_nobody("run", prompts(tmp_path / "in.jsonl", 3), *at(server.base_url, tmp_path / "out"))
    assert ended.last.startswith("exit 0: 3 of 3 rows have a result")
    assert len(kept(tmp_path / "out")) == 3


def test_a_full_disk_behind_the_report(done):
    """The report could not be written, and that is said; the run itself is whole."""
    with Path("/dev/full").open("w") as full:
        ended = typed("report", done, stdout=full)
    assert ended.code == 6
    assert ended.err.splitlines()[0] == "warning: stdout: No space left on device"


@pytest.mark.parametrize("command", [["--help"], ["run", "-h"], ["--version"]], ids=" ".join)
def test_a_full_disk_behind_the_help(command):
    """It is no bug: the same is said of it."""
    with Path("/dev/full").open("w") as full:
        ended = typed(*command, stdout=full)
    assert (ended.code, ended.err) == (0, "warning: stdout: No space left on device\n")
