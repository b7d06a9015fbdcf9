"""`batchrun verify` as a user types it, and its page in docs/."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
from pathlib import Path

import pytest
from commands import at, begun, called, kept, prompts, wait_for
from servers import ROOT, embedded_at_once, simulated

PAGE = (ROOT / "docs" / "verify.md").read_text(encoding="utf-8")
ASKED = [
    "Please send the invoice again.",
    "Where is my parcel?",
    "The handle broke off.",
    "How do I return this?",
    "I was charged twice.",
    "The colour is wrong.",
    "Can I change my address?",
    "Thank you, all is well.",
]
PART = "results/part-000000-000001.parquet"


def sessions() -> list[tuple[str, list[str]]]:
    """Each command of the page with what it shows."""
    shown = re.findall(r"^```console\n\$ (.*?)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    return [(command, lines.splitlines()) for command, lines in shown]


def steady(text: str) -> list[str]:
    """Its lines without what differs from run to run: sizes and the time of a quarantine."""
    text = re.sub(r"\d+ KB", "N KB", re.sub(r"instead of [\d,]+ ", "instead of N ", text))
    return re.sub(r"\d{8}T\d{6}Z-\d", "NOW", text).splitlines()


def run(*more: object):
    """Type the run of the page."""
    endpoint = "endpoint.base_url=simulated"
    with pytest.MonkeyPatch.context() as patch:
        for name, value in embedded_at_once(Path()).items():
            patch.setenv(name, value)
        return called("run", "tickets.jsonl", "-o", "out", "-m", "simulated/small", "--set", endpoint, "-q", *more)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The run of the page: eight rows, in two starts and so in two parts."""
    place = tmp_path_factory.mktemp("page")
    rows = [json.dumps({"custom_id": f"t-{number}", "prompt": text}) for number, text in enumerate(ASKED, 1)]
    (place / "tickets.jsonl").write_text("\n".join(rows) + "\n")
    with contextlib.chdir(place):
        assert run("-n", "5").code == 0
        assert run().code == 0
    return place


@pytest.fixture
def here(made, tmp_path, monkeypatch):
    """A copy of it, where we are."""
    shutil.copytree(made, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def test_the_page_shows_what_comes(here):
    """Its commands, in order, on the folder that it speaks of."""
    (here / "runs").mkdir()
    (here / "out").rename(here / "runs" / "tickets")
    for number, (command, lines) in enumerate(sessions()):
        if number == 1:
            os.truncate(here / "runs/tickets" / PART, 4000)
        done = called(*shlex.split(command)[1:])
        assert steady(done.out + done.err) == steady("\n".join(lines)), command


def test_a_folder_that_is_whole_is_left_as_it_was(here):
    """Nothing is written, not even a lock, and with --repair nothing but that."""
    files = {path: path.read_bytes() for path in here.rglob("*") if path.is_file() and path.name != "_lock"}
    assert called("verify", "out").code == 0
    repaired = called("verify", "out", "--repair", "salvage")
    assert (repaired.code, "repaired" in repaired.out) == (0, False)
    assert {path: path.read_bytes() for path in here.rglob("*") if path.is_file() and path.name != "_lock"} == files


def test_a_folder_that_may_only_be_read(here):
    """It is enough to read."""
    for path in [*here.rglob("*"), here / "out"]:
        path.chmod(0o500 if path.is_dir() else 0o400)
    try:
        assert called("verify", "out").code == 0
    finally:
        for path in [here / "out", *here.rglob("*")]:
            path.chmod(0o700)


def test_a_run_names_the_command_that_mends_its_folder(here):
    """What it says to type next works, and after it the same run buys what was lost and nothing else."""
    os.truncate(here / "out" / PART, 4000)
    refused = run()
    assert refused.code == 7
    assert "5 committed rows are in it, which cost $0.0003" in refused.err
    command = refused.last.partition("Next: ")[2]
    assert called(*shlex.split(command)[1:]).code == 0
    assert run().last == "exit 0: 8 of 8 rows have a result; 5 requests sent. Next: batchrun report out"
    assert called("verify", "out", "--input", "tickets.jsonl").code == 0


def test_rows_that_will_be_bought_again_are_named_by_their_ids(here):
    """With the input, which knows them."""
    os.truncate(here / "out" / PART, 4000)
    done = called("verify", "out", "--repair", "rerun", "--input", "tickets.jsonl")
    assert "row 0 (t-1), row 1 (t-2), row 2 (t-3), row 3 (t-4), row 4 (t-5)\n" in done.out
    assert done.code == 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda rows: [*rows, {"custom_id": "t-9", "prompt": "More?"}], "1 have no answer: t-9"),
        (lambda rows: rows[:-1], "1 answers are to another request, or of another id: row 7"),
        (
            lambda rows: [rows[0] | {"prompt": "Other."}, *rows[1:]],
            "1 answers are to another request, or of another id: t-1",
        ),
        (
            lambda rows: [rows[0] | {"custom_id": "u"}, *rows[1:]],
            "1 answers are to another request, or of another id: u",
        ),
    ],
)
def test_an_input_with_other_rows_ends_with_7(change, said, here):
    """Each kind of difference is counted and named."""
    rows = [json.loads(line) for line in (here / "tickets.jsonl").read_text().splitlines()]
    (here / "other.jsonl").write_text("".join(json.dumps(row) + "\n" for row in change(rows)))
    done = called("verify", "out", "--input", "other.jsonl")
    assert said in done.out
    assert done.code == 7


def test_programs_read_json(here):
    """What is wrong, and what was done about it."""
    os.truncate(here / "out" / PART, 4000)
    found = json.loads(called("verify", "out", "--format", "json").out)
    assert (found["whole"], found["rows"]) == (False, 3)
    assert [(one["file"], one["rows"], one["whole_rows"]) for one in found["problems"]] == [(PART, 5, 0)]
    done = json.loads(called("verify", "out", "--repair", "salvage", "--format", "json").out)
    assert (done["whole"], done["repair"]["lost_rows"], done["repair"]["open_rows"]) == (True, 5, 5)


@pytest.mark.parametrize(
    "stray", ["results/notes.parquet", "results/part-000009-000009.parquet", "_manifest/more.json"]
)
def test_a_file_that_is_not_ours_is_moved_to_the_quarantine(stray, here):
    """Readers of the folder would take it for the run's."""
    (here / "out" / stray).write_bytes((here / "out" / PART).read_bytes())
    found = called("verify", "out")
    assert (found.code, f"damaged   {stray}: is " in found.out) == (7, True)
    assert called("verify", "out", "--repair", "salvage").code == 0
    assert [path.name for path in (here / "out/_quarantine").rglob("*") if path.is_file()].count(
        stray.rpartition("/")[2]
    ) == 1
    assert called("verify", "out", "--input", "tickets.jsonl").code == 0


def test_what_lies_about_beside_is_only_noted(here):
    """A file of yours at the top does no harm."""
    (here / "out" / "notes.txt").write_text("mine")
    done = called("verify", "out")
    assert (done.code, "note      not a run's: notes.txt\n" in done.out) == (0, True)


def test_a_terminal_is_not_steered(here):
    """Names are shown, not obeyed."""
    (here / "out" / "\x1b[31m").write_text("mine")
    assert "\x1b" not in called("verify", "out").out


def test_what_is_no_run_folder_is_refused(here):
    """Nothing is made there."""
    (here / "empty").mkdir()
    for options in ([], ["--repair", "salvage"]):
        done = called("verify", "empty", *options)
        assert (done.code, "is not a run folder" in done.err) == (7, True)
    assert list((here / "empty").iterdir()) == []


def test_a_folder_is_verified_while_a_run_goes_on(tmp_path):
    """It says so; a repair would have to wait."""
    with simulated({"latency": {"ttft_s": 0.3, "per_token_s": 0}}) as server:
        command = ["run", prompts(tmp_path / "in.jsonl", 6), *at(server.base_url, tmp_path / "out"), "-c", "1"]
        with begun(*command) as process:
            wait_for(lambda: server.totals()["requests"] >= 2, process)
            found = called("verify", tmp_path / "out")
            repair = called("verify", tmp_path / "out", "--repair", "salvage")
            assert process.poll() is None
            process.send_signal(signal.SIGINT)
            process.wait(60)
    assert (found.code, "a run is going on" in found.out) == (0, True)
    assert repair.code == 5
    assert kept(tmp_path / "out")
