"""What a user sees: help, the bar on a terminal, the lines without one."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import re
import subprocess
import sys
from importlib import import_module

import pytest
import virtual_time
from commands import at, called, on_a_terminal, prompts, size_of
from servers import ROOT, simulated

from batchrun.cli import batchrun as group
from batchrun.cli.lines import log_as, put, say
from batchrun.cli.progress import LINE_PERIOD_S, Progress, columns_of_stderr, ranges
from batchrun.engine.watch import Plan, Status
from batchrun.types import Record

HEAVY = {"aiohttp", "pyarrow", "pandas", "numpy", "yaml", "jinja2", "tqdm", "asyncio", "msgspec", "urllib.parse"}
PLAN = {"folder": "out", "concurrency": 9, "flush_s": 0.05, "simulated": True, "exposed": []}


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["-h"],
        ["run", "-h"],
        ["report", "--help"],
        ["export", "-h"],
        ["simulate", "-h"],
        ["status", "-h"],
        ["ctl", "-h"],
        ["init", "-h"],
    ],
)
def test_help_costs_nothing(arguments):
    """It is on stdout, with an example, exits with 0, and imports nothing heavy."""
    code = (
        f"import sys; sys.argv = ['batchrun', *{arguments}]\n"
        "from batchrun.__main__ import main\n"
        "try: main()\n"
        "except SystemExit as end: print(*sys.modules, file=sys.stderr); sys.exit(end.code)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert "Example" in done.stdout
    assert set(done.stderr.split()) & HEAVY == set()


def test_every_line_of_help_fits_a_terminal():
    """Eighty columns, apart from examples that are to be copied whole."""
    for name in [[], *([name] for name in group.commands)]:
        lines = called(*name, "-h").out.splitlines()
        assert [line for line in lines if len(line) > 80 and "batchrun run" not in line] == []


def test_no_command_is_a_question():
    """`batchrun` alone shows its commands, on stderr, and says which to begin with."""
    ended = called()
    assert (ended.code, ended.out) == (2, "")
    assert "Commands:" in ended.err
    assert ended.last == "exit 2: no command is named. Next: batchrun run --help"


def test_a_bug_is_ours_and_says_so(monkeypatch):
    """Whatever is raised, the last line is there, with exit code 1 and what to do."""
    module = import_module("batchrun.cli.run")

    def broken(_):
        raise RuntimeError("broken")

    monkeypatch.setattr(module, "_threshold", broken)
    ended = called("run", "in.jsonl")
    assert ended.code == 1
    assert "RuntimeError: broken" in ended.err
    assert ended.last.startswith(
        "exit 1: a bug in batchrun; nothing that was kept is lost. Next: report the lines above"
    )


def test_what_a_peer_sends_is_not_obeyed(capsys):
    """Escapes are shown, so that an answer cannot paint the terminal."""
    say("\x1b[2Jgone\r\u202etxt")
    assert capsys.readouterr().err == "\\x1b[2Jgone\\x0d\\x202etxt\n"


def test_data_ends_with_one_newline(capsys):
    """Whether it brought one or not."""
    put("a")
    put("b\n")
    assert capsys.readouterr().out == "a\nb\n"


def progress(*, done=3, total=200, cost_usd=0.001, **status):
    """A view of a run in which some rows are done; nothing draws it."""
    shown = Progress(quiet=2)
    shown.plan(Plan(rows=total, open_rows=total, **PLAN))
    stands = {"in_flight": 32, "ceiling": 64, "oldest_s": 2.4, "throttled": 0, **status}
    shown.begin(lambda: Status(**stands))
    for index in range(done):
        shown.row(Record(index=index, custom_id=str(index), completion_tokens=5, cost_usd=cost_usd))
    return shown


def test_a_line_says_how_it_stands():
    """Done, failed, in flight, tokens, cost; then the time left, throttled requests, the age of the oldest."""
    shown = progress(throttled=7)
    shown.row(Record(index=9, custom_id="9", error_type="server_error"))
    line = re.sub(r"[\d,]+ tok/s", "N tok/s", shown.line())
    line = re.sub(r"[\d:]+ left", "T left", line)
    assert line == "4/200, 1 failed, 32/64 in flight, N tok/s, $0.0030, T left, 7 throttled, oldest 2 s"


def test_a_line_names_the_rows_that_are_retried_and_the_oldest():
    """With what that one waits for, if it is known; without a row there is nothing to name."""
    assert "retrying" not in progress().line()
    assert ", 3 retrying, 7 throttled, oldest 2 s" in progress(retrying=3, throttled=7).line()
    assert progress(oldest="row-17", waits_for="an answer").line().endswith(", oldest 2 s (row-17: an answer)")
    assert progress(oldest="row-17").line().endswith(", oldest 2 s (row-17)")
    assert progress(waits_for="an answer").line().endswith(", oldest 2 s")


@pytest.mark.parametrize(
    ("custom_id", "shown"),
    [
        ("x" * 20, "x" * 20),
        ("x" * 21, "x" * 17 + "..."),
        ("\x1b[2Jgone", "\\x1b[2Jgone"),
        ("a\r\nb", "a b"),
        ("\u202e" * 20, "\\u202e\\u202e\\u202..."),
    ],
)
def test_an_id_is_short_and_harmless(custom_id, shown):
    """At most twenty characters, none of which a terminal obeys: the bar is not written through `say`."""
    assert progress(oldest=custom_id, waits_for="a retry").line().endswith(f"({shown}: a retry)")


@pytest.mark.parametrize("custom_id", ["row-17", "\u8a55" * 20])
def test_no_line_is_wider_than_its_room(custom_id):
    """The name of the oldest goes first; a wide character takes two columns."""
    shown = progress(oldest=custom_id, waits_for="generated tokens", retrying=3)
    for room in range(70, 160):
        line = shown.line(room)
        assert len(line) + line.count("\u8a55") <= room
        assert line.endswith((" left", " retrying", "oldest 2 s", "generated tokens)"))
    assert custom_id[:17] in line


def said_of_outages(capsys, quiet):
    """What is said, where there is no terminal, of a run in which an endpoint is gone twice."""
    troubles = ["", "cannot connect", "cannot connect", "reset", "", "no answer"]

    async def main():
        now = asyncio.get_running_loop().time
        stands = {"in_flight": 32, "ceiling": 64, "oldest_s": 2.4, "throttled": 0}
        shown = Progress(quiet=quiet)
        shown.plan(Plan(rows=200, open_rows=200, **PLAN))
        capsys.readouterr()
        shown.begin(lambda: Status(outage=troubles[int(now() / LINE_PERIOD_S)], **stands))
        await asyncio.sleep((len(troubles) - 0.5) * LINE_PERIOD_S)
        shown.end()

    virtual_time.run(main())
    return capsys.readouterr().err.splitlines()


@pytest.mark.parametrize("quiet", [0, 1])
def test_an_outage_is_told_once(capsys, quiet):
    """With its reason, with `-q` too; the next one is told again."""
    said = [line for line in said_of_outages(capsys, quiet) if "0/200, " not in line]
    assert [line.rpartition(": ")[2] for line in said] == ["cannot connect", "no answer"]
    assert said[0].startswith("warning: the endpoint does not work, and is asked again every few seconds: ")


def test_an_outage_that_passes_is_not_told_to_cron(capsys):
    """`-qq` is silent if all is well at the end; else the last line says what was wrong."""
    assert said_of_outages(capsys, quiet=2) == []


def test_unknown_cost_is_not_zero():
    """A model without a price is said to have none, and a sum that lacks some rows has a plus."""
    assert "cost unknown" in progress(cost_usd=None).line()
    shown = progress()
    shown.row(Record(index=9, custom_id="9"))
    assert "$0.0030+" in shown.line()


def test_a_narrow_terminal_keeps_what_matters():
    """The line gives up what matters less."""
    line = progress(throttled=7).line(60)
    assert "$0.0030" in line
    assert "oldest" not in line


@pytest.mark.parametrize(
    ("rows", "text"),
    [([], ""), ([3], "3"), ([3, 4], "3-4"), ([0, 2, 3, 4, 9], "0, 2-4, 9"), (list(range(0, 1000, 2)), ", ...")],
)
def test_rows_are_named_in_ranges(rows, text):
    """Sorted numbers are told in as few words as they need."""
    assert ranges(rows).endswith(text)
    assert len(ranges(rows)) < 2000


def test_the_bar_never_breaks_a_line(tmp_path):
    """On a terminal the bar stays on one line of it and shows all that matters; it is redrawn, not repeated."""
    with simulated({"latency": {"ttft_s": 0.15, "per_token_s": 0, "sigma": 0}}) as server:
        command = ["run", prompts(tmp_path / "in.jsonl", 10), *at(server.base_url, tmp_path / "out", "-c", 2)]
        code, seen = on_a_terminal(*command, columns=80)
    assert code == 0
    drawn = [text for text in re.split(r"[\r\n]+", seen) if "tok/s" in text]
    assert len(drawn) > 3
    assert max(map(len, drawn)) <= 80
    assert re.match(r"10/10, 0 failed, 0/2 in flight, [\d,]+ tok/s, \$0\.0\d+, 00:00 left", drawn[-1])
    assert drawn[-1].rstrip().endswith("| 100 %")
    assert "\x1b[" not in drawn[-1]


def test_a_long_run_says_what_it_will_cost():
    """Once enough rows are done; never where a price is missing."""
    assert "in all" not in progress(done=19).line()
    assert ", ~$0.20 in all" in progress(done=20).line()
    assert "in all" not in progress(done=20, cost_usd=None).line()


def test_the_width_is_that_of_the_terminal_behind_stderr(monkeypatch):
    """Also where stdout is a pipe, and as it is now: a terminal may get narrower. COLUMNS wins, if it is a number."""
    monkeypatch.delenv("COLUMNS", raising=False)
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as terminal:
        monkeypatch.setattr("sys.stderr", terminal)
        widths = []
        for columns in (150, 70):
            size_of(theirs, columns)
            widths.append(columns_of_stderr())
        monkeypatch.setenv("COLUMNS", "66")
        widths.append(columns_of_stderr())
        monkeypatch.setenv("COLUMNS", "wide")
        widths.append(columns_of_stderr())
    os.close(ours)
    assert widths == [150, 70, 66, 70]


def test_logs_for_programs(tmp_path):
    """Each line on stderr is a JSON object with its time and level; the last one says how it ended."""
    with simulated() as server:
        words = ["run", prompts(tmp_path / "in.jsonl", 2), *at(server.base_url, tmp_path / "out")]
        ended = called(*words, "--log-format", "json", "--skip-invalid", "--set", "limits.requests_per_minute=60000")
        refused = called(*words, "--log-format", "json", "-c", "0")
    said = [json.loads(line) for line in ended.err.splitlines()]
    assert {"at", "level", "message"} <= set.intersection(*map(set, said))
    last = said[-1]
    assert (last["event"], last["exit_code"], last["level"]) == ("ended", 0, "info")
    assert last["next"] == f"batchrun report {tmp_path / 'out'}"
    assert [json.loads(line)["level"] for line in refused.err.splitlines()] == ["error", "info"]


def test_a_line_for_programs_has_every_fact(capsys):
    """What a person reads on one line, as numbers; controls are escaped."""
    log_as("json")
    try:
        shown = progress(oldest="a\x1b[2J", retrying=2)
        say(shown.line(), **shown.facts())
    finally:
        log_as("text")
    found = json.loads(capsys.readouterr().err)
    assert (found["event"], found["done"], found["total"], found["in_flight"], found["ceiling"]) == (
        "progress",
        3,
        200,
        32,
        64,
    )
    assert (found["retrying"], found["oldest"], found["cost_usd"]) == (2, "a\x1b[2J", 0.003)
