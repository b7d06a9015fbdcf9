"""`batchrun compare` as a user types it: forms, gates, exit codes, and what cannot be compared."""

from __future__ import annotations

import asyncio
import json
import resource
import shutil
import subprocess
import sys

import pytest
from commands import BATCHRUN, called
from comparisons import CONFIG, answer, compared, failure, make, make_large
from servers import ROOT
from stores import run_file, started

from batchrun.config import StoreConfig
from batchrun.store.folder import RunFolder
from batchrun.store.identity import fit
from batchrun.store.keeper import Store
from batchrun.store.manifest import Session

ROWS = 12
MOST_MB = 500


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Two runs, of which B costs half as much again and failed two rows, beside runs that fit nothing."""
    place = tmp_path_factory.mktemp("compare")
    make(place / "a", [answer(row, cost_usd=0.002) for row in range(ROWS)])
    make(place / "b", [answer(row, cost_usd=0.003) for row in range(2, ROWS)] + [failure(0), failure(1)])
    make(place / "strange", [answer(0, custom_id="x", request_key="f" * 32)])
    make(place / "unkept", [answer(row, input=None) for row in range(ROWS)], keep_columns=[])
    make(place / "begun", [], rows=ROWS)
    make(place / "failed", [failure(row) for row in range(ROWS)])
    (place / "nothing").mkdir()
    return place


@pytest.fixture(autouse=True)
def _here(place, monkeypatch):
    """Folders are named as they are seen from there."""
    monkeypatch.chdir(place)


def test_a_comparison_goes_to_stdout():
    """And nothing else is said; the exit code is 0, whatever differs."""
    ended = called("compare", "a", "b")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith("B against A in 12 pairs of rows")
    assert "2  answered -> server_error" in ended.out


@pytest.mark.parametrize(
    ("form", "begins"),
    [("text", "B against A"), ("markdown", "# b against a"), ("json", "{"), ("html", "<!DOCTYPE html>")],
)
def test_every_form_goes_to_a_file(form, begins, tmp_path):
    """Whole, and no word of it to the terminal."""
    ended = called("compare", "a", "b", "--column", "label", "--format", form, "-o", tmp_path / "file")
    assert tuple(ended) == (0, "", "")
    assert (tmp_path / "file").read_text(encoding="utf-8").startswith(begins)


def test_gates_that_pass():
    """Nothing more is said than in the comparison."""
    ended = called("compare", "a", "b", "--fail-if", "cost_usd > +60%", "--fail-if", "failures > 2")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.count("passed") == 2


def test_gates_that_pass_into_a_file(tmp_path):
    """Whoever cannot see the comparison is told."""
    ended = called("compare", "a", "b", "--fail-if", "failures > 2", "-o", tmp_path / "file")
    assert tuple(ended) == (0, "", "exit 0: no gate failed, of 1. Next: batchrun report b\n")


def test_gates_that_fail():
    """Code 3, after the comparison; the last line names each of them and its numbers."""
    gates = ["cost_usd > +10%", "failures > +0", "different > 50%"]
    ended = called("compare", "a", "b", *(word for gate in gates for word in ("--fail-if", gate)))
    assert (ended.code, ended.out.count("FAILED"), ended.out.count("passed")) == (3, 2, 1)
    assert ended.last == (
        "exit 3: 2 of 3 gates failed: cost_usd > +10%: +50% (0.02 -> 0.03); failures > +0: +2 (0 -> 2). "
        "Next: batchrun report b"
    )


def test_json_knows_its_gates():
    """For a pipeline that wants to say more."""
    ended = called("compare", "a", "b", "--fail-if", "failures > +0", "--format", "json")
    expected = {"gate": "failures > +0", "failed": True, "a": 0.0, "b": 2.0, "value": 2.0}
    assert (ended.code, json.loads(ended.out)["gates"]) == (3, [expected])


def test_gates_from_the_environment(monkeypatch):
    """Without spaces in them."""
    monkeypatch.setenv("BATCHRUN_COMPARE_FAIL_IF", "cost_usd>+10% failures>5")
    assert called("compare", "a", "b").last.startswith("exit 3: 1 of 2 gates failed: cost_usd > +10%: +50% ")


@pytest.mark.parametrize(
    ("arguments", "code", "says", "next_step"),
    [
        (["a", "nowhere"], 7, "nowhere: is not a run folder", "give the folder that a run wrote"),
        (["nothing", "b"], 7, "nothing: is not a run folder", "give the folder that a run wrote"),
        (["a", "a"], 2, "a and a are the same folder", "name the folders of two runs"),
        (["a", "../{}/a/"], 2, "are the same folder", "name the folders of two runs"),
        (["a", "begun"], 2, "begun: no row has an answer or a failure yet", "wait for one, or run it first"),
        (["a", "strange"], 2, "no row of a is in strange: neither the ids", "the same custom_id in both"),
        (["a", "b", "--column", "lable"], 2, "lable was not kept, only label, topic", "did you mean label?"),
        (["a", "b", "--column", "cost"], 2, "the column cost was not kept", "name one that was kept"),
        (["a", "unkept", "--column", "label"], 2, "label was not kept, no column was", "[label]"),
        (["a", "b", "--fail-if", "cost > +1%"], 2, "there is no metric cost", "did you mean cost_usd?"),
        (["a", "b", "--fail-if", "accuracy < 1"], 2, "nobody knows what is right", "add --column NAME"),
        (["a", "b", "-o", "nowhere/file"], 2, "nowhere/file: cannot be written", "name a file in a folder"),
        (["a"], 2, "Missing argument 'OUT_B'", "batchrun compare --help"),
        (["a", "b", "--format", "xml"], 2, "'xml' is not one of", "batchrun compare --help"),
    ],
)  # fmt: skip
def test_what_cannot_be_compared(place, arguments, code, says, next_step):
    """It is said in words, with what to do next, and nothing comes out."""
    ended = called("compare", *(word.format(place.name) for word in arguments))
    assert (ended.code, ended.out) == (code, "")
    assert says in ended.err
    assert ended.last.startswith(f"exit {code}: ")
    assert next_step in ended.last


def test_only_failures_can_be_compared():
    """What failed is all there is to say."""
    ended = called("compare", "failed", "b")
    assert ended.code == 0
    assert "A has only failures" in ended.out
    assert "10  server_error -> answered" in ended.out


@pytest.mark.parametrize("kind", ["results", "failures"])
def test_a_damaged_part(kind, tmp_path):
    """It is named, and how to mend the folder."""
    shutil.copytree("b", tmp_path / "b")
    part = max((tmp_path / "b" / kind).glob("part-*.parquet"), key=lambda path: path.stat().st_size)
    data = bytearray(part.read_bytes())
    data[4:400] = bytes(396)
    part.write_bytes(data)
    ended = called("compare", "a", tmp_path / "b")
    assert (ended.code, ended.out) == (7, "")
    assert part.name in ended.err
    assert "verify" in ended.last


def test_a_run_that_is_going_on(tmp_path):
    """It is compared as far as it is committed, and left as it is."""
    folder = RunFolder(tmp_path / "on")
    folder.make()

    async def running():
        store = Store(folder, fit(folder, run_file(ROWS, config=CONFIG)).run)
        store.start(StoreConfig(flush_ms=1), lambda error: None)
        for row in (answer(0, "other"), answer(5), failure(7)):
            store.keep(row)
        await store.journal.settled()
        found = await asyncio.to_thread(compared, "a", tmp_path / "on", column="label")
        await asyncio.to_thread(store.close, Session(exit_code=0, cause="done"), [])
        return found

    with folder.locked():
        found = asyncio.run(running())
    assert (found.pairing.rows, found.b.missing, found.b.exit_code) == (3, ROWS - 3, None)
    assert (found.answers.identical, found.answers.different, found.answers.only_in_a) == (1, 1, 1)
    assert found.answers.examples[0].b == "other"


def test_failures_that_are_tried_again(place, tmp_path):
    """The part whose failures have all been followed by others holds no row, and is passed over."""
    lost = failure(0, custom_id="x", request_key="e" * 32)
    folder = RunFolder(make(tmp_path / "again", [lost]))
    with folder.locked():
        store = Store(folder, folder.read_run_file())
        started(store)
        store.keep(lost)
        store.abandon()
    ended = called("compare", tmp_path / "again", place / "a")
    assert "neither the ids agree (x, row-0)" in ended.err


def test_failures_that_were_mended_since_do_not_count(tmp_path):
    """A row that failed and succeeded in a later start has succeeded."""
    make(tmp_path / "b", [failure(row) for row in range(ROWS)])
    make(tmp_path / "b", [answer(row) for row in range(ROWS)])
    found = compared("a", tmp_path / "b")
    assert (found.moves, found.b.failed, found.answers.identical) == ([], 0, ROWS)


def test_every_metric_stands_in_the_help():
    """A gate can be typed from it."""
    from batchrun.report.compare.gates import NAMES

    text = called("compare", "--help").out
    assert [name for name in NAMES if name not in text.split()] == []


ALONE = "import subprocess, sys; subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)"
"""What a process has taken before `exec` counts into its peak, so a small process stands between it and the tests."""


@pytest.mark.rig
def test_a_million_rows(tmp_path):
    """Two runs of a million rows each are compared within 500 MB."""
    rows = 1_000_000
    a, b = (make_large(tmp_path / name, rows, seed) for seed, name in enumerate("ab", start=1))
    command = [*BATCHRUN, "compare", str(a), str(b), "--column", "label"]
    subprocess.run([sys.executable, "-c", ALONE, *command], check=True, cwd=ROOT)
    units = 1 << 20 if sys.platform == "darwin" else 1 << 10
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / units < MOST_MB
