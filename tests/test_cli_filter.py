"""`batchrun run - -o -`: a filter between other programs, whose run folder keeps everything."""

from __future__ import annotations

import csv
import json
import subprocess
from pathlib import Path

import pytest
from commands import BATCHRUN, END_S, begun, called, kept, prompts, typed, wait_for
from servers import ROOT, simulated

from batchrun.cli.filtering import in_folder
from batchrun.engine.controls import MOST_WAITING
from batchrun.store.folder import RunFolder
from batchrun.store.live import look
from batchrun.store.snapshot import read


@pytest.fixture(autouse=True)
def _own_temporary_folder(tmp_path, monkeypatch):
    """What a filter keeps goes with the test."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))


@pytest.fixture(scope="module")
def server():
    """Answers at once."""
    with simulated() as endpoint:
        yield endpoint


def command(server, *more):
    """The words of a filter."""
    return ["run", "-", "-m", "simulated/small", "--base-url", server.base_url, "-o", "-", *map(str, more)]


def folder_of(err):
    """The run folder that stderr names first."""
    return Path(err.splitlines()[0].removeprefix("every answer is kept in "))


def test_answers_flow_to_stdout(tmp_path, server):
    """One JSON object a line and nothing else; the folder on stderr has the same rows."""
    with prompts(tmp_path / "in.jsonl", 30).open() as source:
        ended = typed(*command(server), stdin=source)
    assert ended.code == 0, ended.err
    rows = [json.loads(line) for line in ended.out.splitlines()]
    assert sorted(row["index"] for row in rows) == list(range(30))
    assert {row["content"] for row in rows} == set(read(folder_of(ended.err)).to_pandas()["content"])
    assert ended.last.startswith("exit 0: 30 of 30 rows have a result; 30 requests sent. Next: batchrun report ")


@pytest.mark.parametrize("form", ["csv", pytest.param("jsonl", marks=pytest.mark.rig)])
def test_sorted_is_the_order_of_the_input(tmp_path, server, form):
    """Whatever the form; a row that failed has its line as well."""
    source = prompts(tmp_path / "in.jsonl", 20)
    source.write_text(source.read_text() + '{"custom_id": "bad", "prompt": 7}\n')
    with source.open() as rows:
        ended = typed(*command(server, "--sorted", "--format", form, "--skip-invalid", "-q"), stdin=rows)
    assert ended.code == 3
    lines = ended.out.splitlines()
    found = list(csv.DictReader(lines)) if form == "csv" else [json.loads(line) for line in lines]
    assert [row["custom_id"] for row in found] == [*(f"c{index}" for index in range(20)), "bad"]


def test_a_row_that_cannot_be_sent_has_a_line(tmp_path, server):
    """Also in the order of completion."""
    (tmp_path / "in.jsonl").write_text('{"custom_id": "bad", "prompt": 7}\n{"custom_id": "good", "prompt": "q0"}\n')
    with (tmp_path / "in.jsonl").open() as source:
        ended = typed(*command(server, "--skip-invalid"), stdin=source)
    errors = {row["custom_id"]: row["error_type"] for row in map(json.loads, ended.out.splitlines())}
    assert errors == {"bad": "input_invalid", "good": None}


def test_a_reader_that_leaves_ends_the_run_and_loses_nothing(tmp_path, server):
    """`head -3` is enough: nothing more is bought, what was answered is kept, and it can go on in the folder."""
    source = prompts(tmp_path / "in.jsonl", 5_000, words="x" * 200)
    with source.open() as rows, begun(*command(server, "-c", 8), stdin=rows) as process:
        assert json.loads(process.stdout.readline())["custom_id"]
        process.stdout.close()
        err = process.stderr.read()
        assert process.wait(END_S) == 4, err
    folder = folder_of(err)
    last = err.splitlines()[-1]
    assert last.startswith("exit 4: whoever read stdout has left; ")
    assert f"{len(kept(folder)):,} of 5,000 rows" in last
    assert 0 < len(kept(folder)) < 5_000
    assert last.endswith(f"-c 8 -o {folder}")


def test_a_slow_reader_holds_the_run_back(tmp_path, server):
    """Nobody reads: what waits is bounded, nothing more is asked; then the rest comes, each row once."""
    rows = 3 * MOST_WAITING
    before = server.totals()["requests"]
    prompts(tmp_path / "in.jsonl", rows)
    words = command(server, "-c", 8, "-q")
    with (tmp_path / "in.jsonl").open() as source, begun(*words, stdin=source) as process:
        folder = RunFolder(folder_of(process.stderr.readline()))
        wait_for(lambda: (live := look(folder)) and live.paused, process)
        wait_for(lambda: server.totals()["in_flight"] == 0, process)
        asked = server.totals()["requests"] - before
        out, err = process.communicate(timeout=END_S)
    assert process.returncode == 0, err
    assert asked < rows
    assert sorted(json.loads(line)["index"] for line in out.splitlines()) == list(range(rows))


@pytest.mark.rig
def test_in_a_pipe_of_a_shell(tmp_path, server):
    """As `--help` shows it, with another program behind it."""
    source = prompts(tmp_path / "in.jsonl", 5)
    words = " ".join([*BATCHRUN, *command(server, "-qq")])
    done = subprocess.run(
        f"set -o pipefail; cat {source} | {words} | wc -l",
        shell=True,
        executable="/bin/bash",
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    assert done.stdout.strip() == "5"
    assert done.stderr.count("\n") == 1


def test_a_full_disk_behind_stdout_is_no_success(tmp_path, server):
    """The answers are in the folder, and the exit code is that of a disk."""
    with prompts(tmp_path / "in.jsonl", 5).open() as source, Path("/dev/full").open("w") as full:
        ended = typed(*command(server), stdin=source, stdout=full)
    assert ended.code == 6
    assert "No space left on device" in ended.err
    assert len(kept(folder_of(ended.err))) > 0


def test_forms_are_for_stdout(tmp_path):
    """With a run folder they would say nothing."""
    ended = called("run", prompts(tmp_path / "in.jsonl", 1), "-o", tmp_path / "out", "--sorted")
    assert ended.code == 2
    assert "batchrun export OUT" in ended.last


@pytest.mark.parametrize(
    ("words", "kept_words"),
    [
        (["run", "-", "-o", "-", "-m", "m"], ["run", "-", "-m", "m", "-o", "F"]),
        (["run", "in", "--output=-", "--format", "csv", "--sorted"], ["run", "in", "-o", "F"]),
        (["run", "in", "-o-", "--format=csv", "-c", "3"], ["run", "in", "-c", "3", "-o", "F"]),
    ],
)
def test_what_goes_on_names_the_folder(words, kept_words):
    """The same filter again would begin, and pay, again."""
    assert in_folder(words, "F") == kept_words
