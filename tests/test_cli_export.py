"""`batchrun export` as a user types it, and its page in docs/."""

from __future__ import annotations

import asyncio
import os
import pty
import re
import resource
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from commands import at, begun, called, prompts
from exports import begun as going_on
from exports import ended, exported, failed, lines, make, openai_results
from servers import ROOT, simulated

import batchrun.export.target as target_module
from batchrun.__main__ import main
from batchrun.config import StoreConfig
from batchrun.store.manifest import Session

PAGE = (ROOT / "docs" / "export.md").read_text(encoding="utf-8")
KEPT = (
    '{"id":"chatcmpl-1","object":"chat.completion","created":1795368000,"model":"m","choices":[{"index":0,"message":'
    '{"role":"assistant","content":"billing"},"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":1,'
    '"total_tokens":10}}'
)


def blocks(kind: str) -> list[str]:
    """The fenced blocks of one kind in the page."""
    return re.findall(rf"^```{kind}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def sessions() -> list[tuple[str, list[str]]]:
    """Each command of the page with what it shows."""
    return [(block[2:].partition("\n")[0], block.partition("\n")[2].splitlines()) for block in blocks("console")]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with the run and the input of the page."""
    place = tmp_path_factory.mktemp("page")
    (place / "tickets.jsonl").write_text(blocks("json")[0])
    told = {"error_type": "request_rejected", "error_code": "BAD_REQUEST", "error_message": "unknown parameter"}
    rows = [
        ended(
            0, custom_id="t-1", request_id="chatcmpl-1", content="billing", model="m", prompt_tokens=9, response=KEPT
        ),
        failed(1, custom_id="t-2", status_code=400, request_id="chatcmpl-2", **told),
    ]
    (place / "runs").mkdir()
    make(place / "runs" / "tickets", rows, source="tickets.jsonl")
    return place


@pytest.fixture
def here(place, tmp_path, monkeypatch):
    """A copy of it, in which the commands of a test are typed."""
    shutil.copytree(place, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(("command", "shown"), sessions(), ids=lambda value: value if isinstance(value, str) else "")
def test_the_page_shows_what_comes(command, shown, monkeypatch, capfd):
    """Each command of docs/export.md: its data on stdout, and one line of talk on stderr."""
    line, _, cut = command.partition(" | ")
    monkeypatch.setattr(sys, "argv", shlex.split(line))
    with pytest.raises(SystemExit):
        main()
    out, err = capfd.readouterr()
    if cut:
        out = subprocess.run(shlex.split(cut), input=out, capture_output=True, text=True, check=True).stdout
    assert (out.splitlines(), err.splitlines()) == (shown[:-1], shown[-1:])


def test_the_reader_of_the_page_reads(here, capsys):
    """Its code runs as it stands."""
    assert called("export", "runs/tickets", "-o", "answers.jsonl").code == 0
    with (here / "answers.jsonl").open(encoding="utf-8") as file:
        exec(blocks("python")[0], {"open": lambda name, encoding: file})
    assert capsys.readouterr().out == "t-1 billing\n"


def test_the_page_knows_every_form():
    """Those of the option, each with a row in its table."""
    help_text = called("export", "--help").out
    forms = re.search(r"\[(openai[^\]]*)\]", help_text)[1].split("|")
    assert re.findall(r"^\| `(\w+)`", PAGE, re.MULTILINE) == forms


@pytest.mark.parametrize(
    ("name", "start"),
    [("a.parquet", b"PAR1"), ("A.CSV", b'"index"'), ("a.jsonl", b'{"id":"batch'), ("a", b'{"id":"batch')],
)
def test_the_name_says_the_form(name, start, here):
    """Parquet and CSV by their suffix; all else is OpenAI's."""
    assert called("export", "runs/tickets", "-o", name) == (0, "", f"exported 2 rows (1 failures) to {name}\n")
    assert (here / name).read_bytes().startswith(start)


def test_the_format_wins_over_the_name(here):
    """It was asked for."""
    assert called("export", "runs/tickets", "-o", "a.csv", "--format", "jsonl").code == 0
    assert lines(here / "a.csv")[0]["index"] == 0


def test_the_environment_is_heard(here, monkeypatch):
    """BATCHRUN_EXPORT_FORMAT, _SORTED and _JOIN are the options of these names."""
    for name, value in {"FORMAT": "jsonl", "SORTED": "1", "JOIN": "tickets.jsonl"}.items():
        monkeypatch.setenv(f"BATCHRUN_EXPORT_{name}", value)
    assert called("export", "runs/tickets", "-o", "a").code == 0
    assert [line["label"] for line in lines(here / "a")] == ["billing", "shipping"]


def test_rows_without_an_answer_are_counted(tmp_path):
    """The last line says how many are still to come."""
    folder = make(tmp_path / "out", [ended(0)], 1500)
    ending = called("export", folder, "-o", tmp_path / "a")
    assert ending.last == f"exported 1 rows to {tmp_path / 'a'}; 1,499 rows of the input have no answer yet"


def test_a_run_is_exported_while_it_goes_on(tmp_path):
    """What is in the open journal is there too, each row once."""

    async def half_way():
        with going_on(tmp_path / "out", 9) as store:
            store.start(StoreConfig(flush_ms=1, part_mb=0.0001), print)
            for index in range(6):
                await store.may_send(index)
                store.keep(failed(index, "timed_out") if index == 2 else ended(index))
                await store.journal.settled()
            found = lines(exported(tmp_path / "out", tmp_path / "a", "jsonl", sort=True))
            await asyncio.to_thread(store.close, Session(exit_code=0, cause="done"), [])
            return found

    found = asyncio.run(half_way())
    assert [(line["index"], line["error_type"]) for line in found] == [
        (index, "timed_out" if index == 2 else None) for index in range(6)
    ]


def test_a_run_becomes_a_batch_output(tmp_path):
    """From prompts to a file that a reader of OpenAI's accepts, with the endpoint's own error in it."""
    with simulated({"faults": [{"kind": "server_error", "match": "q1 "}]}) as server:
        source, out = prompts(tmp_path / "in.jsonl", 4), tmp_path / "out"
        assert called("run", source, *at(server.base_url, out, "--set", "retry.max_attempts=1")).code == 3
    assert called("export", out, "-o", tmp_path / "a.jsonl", "--sorted").code == 0
    bodies, errors = openai_results(tmp_path / "a.jsonl")
    assert list(bodies) == ["c0", "c2", "c3"]
    types = pytest.importorskip("openai.types.chat")
    assert all(types.ChatCompletion.model_validate(body, strict=True).usage for body in bodies.values())
    assert errors["c1"]["message"]


def test_a_file_is_replaced_whole(here):
    """And keeps what it had where the export fails half-way."""
    Path("a.jsonl").write_text("before")
    Path("other.jsonl").write_text('{"custom_id": "t-1"}\n{"custom_id": "x"}\n')
    ending = called("export", "runs/tickets", "-o", "a.jsonl", "--format", "jsonl", "--join", "other.jsonl")
    assert (ending.code, Path("a.jsonl").read_text()) == (2, "before")
    assert called("export", "runs/tickets", "-o", "a.jsonl").code == 0
    assert len(lines(Path("a.jsonl"))) == 2
    assert [path.name for path in here.iterdir() if path.name.startswith(".")] == []


@pytest.mark.usefixtures("here")
def test_a_link_stays_a_link():
    """What it points to is replaced."""
    Path("there").mkdir()
    Path("a.jsonl").symlink_to("there/b.jsonl")
    assert called("export", "runs/tickets", "-o", "a.jsonl").code == 0
    assert Path("a.jsonl").is_symlink()
    assert len(lines(Path("there/b.jsonl"))) == 2


def test_a_pipe_is_written_to(here):
    """It cannot be replaced, and neither can a device."""
    os.mkfifo(here / "pipe")
    with os.fdopen(os.open(here / "pipe", os.O_RDONLY | os.O_NONBLOCK), "rb") as reader:
        assert called("export", "runs/tickets", "-o", "pipe").code == 0
        assert len(reader.read().splitlines()) == 2
    assert (here / "pipe").is_fifo()


@pytest.mark.parametrize("form", ["openai", "csv", "parquet"])
def test_a_full_disk_ends_with_6(form, here):
    """Whatever the writer does on its way out; there is a last line, with what to do, and no file."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16, limits[1]))
    try:
        ending = called("export", "runs/tickets", "-o", "a", "--format", form)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert ending.code == 6
    assert ending.err.startswith("error: a: File too large\nexit 6: ")
    assert len(ending.err.splitlines()) == 2
    assert {path.name for path in here.iterdir()} == {"runs", "tickets.jsonl"}


def test_stdout_is_no_file_of_the_folder(here, monkeypatch, capfd):
    """Also for who stands in the run folder."""
    monkeypatch.chdir(here / "runs" / "tickets")
    monkeypatch.setattr(sys, "argv", ["batchrun", "export", "."])
    with pytest.raises(SystemExit) as end:
        main()
    assert (end.value.code, len(capfd.readouterr().out.splitlines())) == (0, 2)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["nowhere", "-o", "a"], 7, "not a run folder"),
        (["runs/tickets", "-o", "missing/a"], 2, "cannot be written: No such file"),
        (["runs/tickets", "-o", "runs"], 2, "is a folder"),
        (["runs/tickets", "-o", "runs/tickets/results/part-9.parquet"], 2, "lies in a run folder"),
        (["runs/tickets", "-o", "runs/tickets/a.jsonl"], 2, "lies in a run folder"),
        (["runs/tickets", "-o", "tickets.jsonl"], 2, "is the input"),
        (["runs/tickets", "-o", "labels.jsonl", "--format", "csv", "--join", "labels.jsonl"], 2, "is the input"),
        (["runs/tickets", "-o", "a", "--format", "xml"], 2, "xml"),
        (["runs/tickets", "-o", "a.csv", "--join", "missing.jsonl"], 2, "no such file"),
    ],
)
def test_what_cannot_be_is_refused(arguments, code, said, here):
    """With the exit code of the contract and a remedy, and no file is made or changed."""
    shutil.copy("tickets.jsonl", "labels.jsonl")
    before = {path: path.stat().st_mtime_ns for path in here.rglob("*") if path.is_file()}
    ending = called("export", *arguments)
    assert ending.code == code
    assert said in ending.err
    assert re.fullmatch(rf"exit {code}: .+\. Next: .+", ending.last)
    assert {path: path.stat().st_mtime_ns for path in here.rglob("*") if path.is_file()} == before


def test_a_damaged_folder_ends_with_7(here):
    """And no file is made."""
    part = max((here / "runs" / "tickets" / "results").iterdir())
    part.write_bytes(part.read_bytes()[:-1])
    assert called("export", "runs/tickets", "-o", "a").code == 7
    assert not Path("a").exists()


def test_a_reader_may_leave(tmp_path):
    """As `head` does: no complaint, no failure."""
    folder = make(tmp_path / "out", [ended(index, content="x" * 50_000) for index in range(20)])
    with begun("export", folder) as process:
        assert process.stdout.readline().startswith('{"id":')
        process.stdout.close()
        assert (process.wait(timeout=60), process.stderr.read()) == (0, "")


def on_a_terminal(monkeypatch, *arguments: object) -> tuple[int, bytes]:
    """Type a command where stdout is a terminal; returns its exit code and what is seen there."""
    leader, follower = pty.openpty()
    with os.fdopen(leader, "rb", buffering=0) as seen, os.fdopen(follower, "w") as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        monkeypatch.setattr(sys, "argv", ["batchrun", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        os.set_blocking(leader, False)
        return int(end.value.code or 0), seen.read() or b""


def test_a_terminal_is_not_steered(tmp_path, monkeypatch):
    """Escape sequences of either kind, and what turns text around, are shown and not obeyed."""
    folder = make(tmp_path / "out", [ended(0, content="a\x1b[2J\x9b2J\u202eé")])
    code, seen = on_a_terminal(monkeypatch, "export", folder, "--format", "csv")
    assert code == 0
    assert rb'"a\u001b[2J\u009b2J\u202e' + "é".encode() in seen
    assert b"\x1b" not in seen


@pytest.mark.usefixtures("here")
def test_parquet_is_nothing_for_a_terminal(monkeypatch):
    """It is refused before anything is written."""
    assert on_a_terminal(monkeypatch, "export", "runs/tickets", "--format", "parquet") == (2, b"")


def test_an_interrupted_export_leaves_nothing(here, monkeypatch):
    """Neither half a file nor the one aside."""

    def interrupted(*_: object) -> bytes:
        raise KeyboardInterrupt

    monkeypatch.setattr(target_module.Sink, "_shaped", interrupted)
    with pytest.raises(KeyboardInterrupt):
        exported("runs/tickets", "a.jsonl", "openai")
    assert {path.name for path in here.iterdir()} == {"runs", "tickets.jsonl"}
