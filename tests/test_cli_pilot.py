"""A pilot, as a user meets it: some rows first, what the rest will cost, and then the rest or what to type."""

from __future__ import annotations

import asyncio
import io
import json
import os
import pty
import random
import re
import signal
import sys
from collections import Counter

import pytest
from commands import END_S, asked, at, begun, called, kept, on_a_terminal, wait_for
from servers import simulated

import batchrun
from batchrun.cli import question
from batchrun.config import check_config
from batchrun.errors import PilotDone
from batchrun.piloting import PilotWatch
from batchrun.pricing import cost_nano_usd, load_prices
from batchrun.run import Options, walk
from batchrun.types import Usage

ROWS = 90


@pytest.fixture(scope="module")
def server():
    """An endpoint that answers at once; its rows are told apart by the name of their test's folder."""
    with simulated() as server:
        yield server


def skewed(path, rows=ROWS, *, seed=1):
    """An input whose prompts are a few words mostly, and some very long."""
    dice = random.Random(seed)
    lines = [
        {"custom_id": f"c{row}", "prompt": f"{path.parent.name}-{row} " + "word " * int(dice.lognormvariate(2.5, 1.2))}
        for row in range(rows)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def of(path, server):
    """The rows of an input that were charged, in order."""
    return [name for name in asked(server.ledger()) if name.startswith(f"{path.parent.name}-")]


@pytest.fixture
def command(tmp_path, server):
    """A run with a pilot of twenty rows."""
    return ["run", skewed(tmp_path / "in.jsonl"), *at(server.base_url, tmp_path / "out"), "--pilot", "20"]


def test_without_a_terminal_it_stops_and_says_what_to_type(tmp_path, server, command):
    """Exit 4 after the pilot; again, nothing is sent; with the budget that it names all is sent, each row once."""
    stopped = called(*command)
    assert stopped.code == 4, stopped.err
    assert re.search(
        r"exit 4: the pilot is done: 70 more rows will cost \$0\.\d+ \(\$0\.\d+ to \$0\.\d+\) "
        r"and take .* \(.* to .*\), with 95 % confidence; 20 of 90 rows have a result\. "
        r"Next: the same with --max-cost 0\.\d+ or more, or without --pilot$",
        stopped.last,
    )
    assert "90 rows, 90 to send, 20 of them as a pilot" in stopped.err
    assert len(of(tmp_path / "in.jsonl", server)) == 20
    assert called(*command, "-q").err == f"{stopped.last}\n"
    assert len(of(tmp_path / "in.jsonl", server)) == 20
    budget = re.search(r"--max-cost ([\d.]+)", stopped.last)[1]
    done = called(*command, "--max-cost", budget)
    assert done.code == 0, done.err
    assert f"going on: with that the budget of ${float(budget):g}" in done.err
    assert Counter(of(tmp_path / "in.jsonl", server)) == Counter(f"{tmp_path.name}-{row}" for row in range(ROWS))
    assert "nothing was left to send" in called(*command).last


def test_without_a_pilot_it_goes_on(tmp_path, server, command):
    """What the pilot sent is kept as any other row; with `-n` it is drawn from the first rows alone."""
    first = called(*command, "-n", 40)
    assert (first.code, "20 more rows will cost" in first.last) == (4, True)
    assert all(int(name.removeprefix("c")) < 40 for name in kept(tmp_path / "out"))
    done = called(*command[:-2])
    assert done.code == 0, done.err
    assert len(of(tmp_path / "in.jsonl", server)) == ROWS


def test_a_budget_that_may_not_do_is_no_agreement(tmp_path, server, command):
    """It says that it may be passed; the last budget that it names is enough in the end."""
    stopped = called(*command, "--max-cost", "0.003")
    assert stopped.code == 4
    assert "which may pass the budget of $0.003; " in stopped.last
    assert len(of(tmp_path / "in.jsonl", server)) == 20


def test_a_pilot_of_all_rows_is_a_run(command):
    """There is no rest to ask about."""
    done = called(*command[:-1], "100%")
    assert done.code == 0, done.err
    assert "pilot:" not in done.err


@pytest.mark.parametrize("pilot", ["0", "-1", "1", "nan", "inf", "2.5", "200%", "0%", "-3%", "five", "%", ""])
def test_a_pilot_that_is_none_is_refused(tmp_path, command, pilot):
    """With what would be one; nothing is sent, and no folder is left."""
    refused = called(*command[:-2], f"--pilot={pilot}")
    assert refused.code == 2, refused.err
    assert f"error: --pilot {pilot}: is no number of rows from 2 on, and no share of them" in refused.err
    assert refused.last == "exit 2: nothing was sent. Next: write e.g. --pilot 50 or --pilot 2%"
    assert not (tmp_path / "out").exists()


def test_a_pilot_larger_than_the_input_is_refused(tmp_path, command):
    """With the number of rows that there are."""
    refused = called(*command[:-1], "91")
    assert (refused.code, "error: --pilot 91: the input has 90 rows" in refused.err) == (2, True)
    limited = called(*command[:-1], "11", "-n", "10")
    assert (limited.code, "error: --pilot 11: --limit leaves 10 rows" in limited.err) == (2, True)
    assert not (tmp_path / "out").exists()


def test_failures_are_told_and_all_of_them_say_nothing(tmp_path):
    """A pilot of which no row succeeds is no promise that the rest costs nothing, whatever the budget."""
    source = skewed(tmp_path / "in.jsonl", 40)
    refusing = {"faults": [{"kind": "server_error", "status": 400}]}
    with simulated(refusing) as server:
        command = ["run", source, *at(server.base_url, tmp_path / "out"), "--pilot", "10", "--max-cost", "9"]
        stopped = called(*command)
        assert stopped.code == 4, stopped.err
        assert "pilot: 10 rows, 10 failed, $0; " in stopped.err
        assert "30 more rows will cost an unknown amount" in stopped.last
        assert stopped.last.endswith("Next: the same without --pilot")
        assert server.totals()["requests"] == 10


def test_a_killed_pilot_goes_on_with_the_same_rows(tmp_path):
    """None of its kept rows is sent again, only its rows are named as exposed, and no other row is sent."""
    source = skewed(tmp_path / "in.jsonl")
    with simulated({"latency": {"ttft_s": 0.1, "per_token_s": 0, "sigma": 0}}) as server:
        command = ["run", source, *at(server.base_url, tmp_path / "out"), "--pilot", "20", "-c", "3"]
        with begun(*command) as process:
            wait_for(lambda: len(server.ledger()) >= 9, process)
            process.send_signal(signal.SIGKILL)
            process.wait()
        before = set(kept(tmp_path / "out"))
        ended = called(*command)
        assert ended.code == 4, ended.err
        counts = Counter(asked(server.ledger()))
    assert len(counts) == 20
    twice = {f"c{name.rpartition('-')[2]}" for name, times in counts.items() if times > 1}
    assert not twice & before
    exposed = re.search(r"up to (\d+) rows may have been sent already", ended.err)
    assert 0 < int(exposed[1]) <= 20 - len(before)


def test_a_signal_in_the_pilot_is_one_as_ever(tmp_path):
    """What is in flight is answered and kept, all is sealed, and the same command goes on with the same rows."""
    source = skewed(tmp_path / "in.jsonl")
    with simulated({"latency": {"ttft_s": 0.1, "per_token_s": 0, "sigma": 0}}) as server:
        command = ["run", source, *at(server.base_url, tmp_path / "out"), "--pilot", "20", "-c", "3"]
        with begun(*command) as process:
            wait_for(lambda: len(server.ledger()) >= 4, process)
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=END_S)
        assert process.returncode == 130, err
        assert "more rows will cost" not in err
        assert list((tmp_path / "out/_journal").iterdir()) == []
        ended = called(*command)
        assert "may have been sent already" not in ended.err
        assert ended.code == 4
        assert len(server.ledger()) == len(set(asked(server.ledger()))) == 20


@pytest.mark.parametrize(("typed", "code"), [(b"y\n", 0), (b"\n", 4), (None, 130)])
def test_on_a_terminal_it_asks(tmp_path, server, command, typed, code):
    """Only a yes goes on; Ctrl-C at the question ends the run as it does anywhere."""
    answers = [typed]

    def reply(seen, process):
        if b"[y/N] " not in seen or not answers:
            return b""
        answer = answers.pop()
        if answer is None:
            process.send_signal(signal.SIGINT)
        return answer or b""

    ended, text = on_a_terminal(*command, streams=("stdin", "stderr"), columns=200, reply=reply)
    assert ended == code, text
    assert "Go on? [y/N] " in text
    assert f"exit {code}: " in text.splitlines()[-1]
    assert len(of(tmp_path / "in.jsonl", server)) == (ROWS if code == 0 else 20)


def test_without_a_terminal_on_both_sides_nobody_is_asked(monkeypatch):
    """Whoever types could not see the question, or who reads it could not answer."""
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "r+b", buffering=0) as terminal, os.fdopen(ours, "wb", buffering=0) as keys:
        keys.write(b"y\n")
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(terminal)))
        monkeypatch.setattr(sys, "stderr", io.StringIO())
        assert asyncio.run(question.asked("Go on?")) is False
        assert sys.stderr.getvalue() == ""


def test_python_is_told_by_an_error(tmp_path, server):
    """Nobody can be asked; the rows that were sent are kept."""
    source = skewed(tmp_path / "in.jsonl")
    config = {
        "input": str(source),
        "output": str(tmp_path / "out"),
        "endpoint": {"base_url": server.base_url},
        "request": {"model": "simulated/small"},
    }
    with pytest.raises(PilotDone, match="72 more rows will cost") as stopped:
        batchrun.run(config, options=batchrun.Options(pilot="20%"))
    assert (stopped.value.exit_code, "--max-cost" in stopped.value.remedy) == (4, True)
    assert len(kept(tmp_path / "out")) == 18


class Agreeing(PilotWatch):
    """Agrees, and remembers to what."""

    def piloted(self, outlook, _):
        """Remember it."""
        self.outlook = outlook

    async def agrees(self):
        """Always."""
        return True


@pytest.mark.rig
def test_the_interval_holds_what_the_rest_is_charged(tmp_path, reached):
    """Of a hundred runs with skewed lengths and answers, by the endpoint's own ledger."""
    price = load_prices(None).price_for("simulated/small")
    names = ("prompt_tokens", "cached_tokens", "completion_tokens")
    held = 0
    with simulated({"answers": {"tokens": 120, "sigma": 1.0}}) as server:
        for seed in range(100):
            folder = tmp_path / f"world{seed}"
            folder.mkdir()
            source = skewed(folder / "in.jsonl", 240, seed=seed)
            config = check_config(
                {
                    "input": str(source),
                    "output": str(folder / "out"),
                    "endpoint": {"base_url": server.base_url},
                    "request": {"model": "simulated/small"},
                }
            )
            watch = Agreeing()
            ending = asyncio.run(walk(config, Options(pilot=30), watch))
            assert ending.report.rows.succeeded == 240
            lines = [line for line in server.ledger() if line["last_user"].startswith(f"world{seed}-")]
            paid = sum(cost_nano_usd(Usage(**{name: line[name] for name in names}), price) for line in lines)
            rest_usd = paid / 1e9 - watch.outlook.pilot_usd
            held += watch.outlook.cost_usd.low <= rest_usd <= watch.outlook.cost_usd.high
    assert held >= 90
    reached("T15", "runs whose pilot was told beforehand what they would cost", 100, 100)
