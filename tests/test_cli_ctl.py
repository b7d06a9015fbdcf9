"""`batchrun ctl`: a run that is going on is retuned from outside."""

from __future__ import annotations

import json

import pytest
from commands import END_S, at, begun, called, kept, prompts, wait_for
from servers import simulated

from batchrun.controlling import change_of
from batchrun.errors import ConfigError
from batchrun.store.folder import RunFolder
from batchrun.store.live import look

SLOW = {"latency": {"ttft_s": 0.05, "per_token_s": 0, "sigma": 0}}


@pytest.fixture(scope="module")
def going(tmp_path_factory):
    """A run that would go on for minutes: its folder, its endpoint, and its process."""
    here = tmp_path_factory.mktemp("going")
    with simulated(SLOW) as server:
        source = prompts(here / "in.jsonl", 20_000)
        with begun("run", source, *at(server.base_url, here / "out", "-c", 4, "--max-cost", 50)) as process:
            wait_for((here / "out/.live.json").exists, process)
            wait_for(server.ledger, process)
            yield here / "out", server, process


def said(*arguments):
    """The last line of a `ctl` that did what it was asked."""
    ended = called("ctl", *arguments)
    assert ended.code == 0, ended.err
    return ended.last


def stands(out):
    """How the run says that it stands."""
    return look(RunFolder(out))


def test_another_concurrency(going):
    """More are sent at once after it, and fewer after the next; each answer says from what to what."""
    out, server, _ = going
    assert said(out, "set", "limits.concurrency=9").startswith("exit 0: limits.concurrency 4 -> 9. Next: ")
    wait_for(lambda: server.totals()["in_flight"] == 9)
    assert said(out, "set", "limits.concurrency=2").startswith("exit 0: limits.concurrency 9 -> 2. Next: ")
    wait_for(lambda: stands(out).concurrency == 2 and server.totals()["in_flight"] <= 2)
    before = server.totals()["requests"]
    wait_for(lambda: server.totals()["requests"] > before + 5)
    assert server.totals()["in_flight"] <= 2


def test_pause_and_resume(going):
    """While it is paused nothing is sent; then it goes on."""
    out, server, _ = going
    assert said(out, "pause").startswith("exit 0: paused; ")
    wait_for(lambda: server.totals()["in_flight"] == 0)
    before = server.totals()["requests"]
    wait_for(lambda: stands(out).paused)
    assert f"Paused    nothing new is sent, until: batchrun ctl {out} resume" in called("status", out).out
    assert server.totals()["requests"] == before
    assert said(out, "resume").startswith("exit 0: the run goes on. Next: ")
    wait_for(lambda: server.totals()["requests"] > before)


@pytest.mark.rig
@pytest.mark.parametrize(
    ("change", "answer"),
    [
        ("limits.requests_per_minute=60000", "limits.requests_per_minute null -> 60000"),
        ("limits.requests_per_minute=null", "limits.requests_per_minute 60000 -> null"),
        ("limits.max_cost_usd=40", "limits.max_cost_usd 50 -> 40"),
    ],
)
def test_other_limits(going, change, answer):
    """A limit is set, lifted, or moved."""
    assert said(going[0], "set", change).startswith(f"exit 0: {answer}. Next: ")


def test_a_budget_cannot_be_lifted(going):
    """The run itself refuses, in two lines."""
    ended = called("ctl", going[0], "set", "limits.max_cost_usd=null")
    assert ended.code == 2
    assert ended.err.splitlines()[0].startswith("error: a budget can be made larger or smaller")


@pytest.mark.rig
def test_what_is_no_control_is_taken_away(going):
    """Neither a torn file nor a foreign one ends the run or stays in the way."""
    out, _, process = going
    (out / ".control.json").write_text('{"do": "explode"}')
    wait_for(lambda: not (out / ".control.json").exists(), process)
    assert said(out, "resume").startswith("exit 0: the run goes on")


def test_drain(going):
    """What is in flight is answered, the run ends with 4, and says how to go on; nobody is left to be asked."""
    out, server, process = going
    assert said(out, "drain").startswith("exit 0: nothing new is sent; the run ends when ")
    _, err = process.communicate(timeout=END_S)
    assert process.returncode == 4
    assert err.splitlines()[-1].startswith("exit 4: ended by `batchrun ctl`; ")
    assert "Next: batchrun run " in err.splitlines()[-1]
    assert len(kept(out)) == server.totals()["charged"] == server.totals()["requests"]
    assert [path.name for path in out.iterdir() if path.name.startswith(".")] == []
    ended = called("ctl", out, "pause")
    assert (ended.code, ended.err.splitlines()[0]) == (2, f"error: {out}: no run is sending from it")
    assert json.loads((out / "run.json").read_text())["config"]["limits"]["concurrency"] == 4


@pytest.mark.parametrize(
    ("text", "problem", "remedy"),
    [
        ("limits.concurency=3", "unknown key", "did you mean `limits.concurrency`?"),
        ("limits.concurrency=0", "expected int >= 1", ""),
        ("limits.concurrency", "not KEY=VALUE", ""),
        ("limits.adaptive=false", "limits.adaptive cannot change while a run is going on", "limits.concurrency, "),
        ("request.model=other", "request.model cannot change while a run is going on", "batchrun ctl OUT drain"),
        ("limits.generated_tokens_per_minute=0.5", "cannot be meant", ""),
    ],
)
def test_what_cannot_be_set(text, problem, remedy):
    """It is refused before any run is asked, with what can be."""
    with pytest.raises(ConfigError) as refused:
        change_of(text)
    assert problem in refused.value.message
    assert remedy in refused.value.remedy


@pytest.mark.parametrize("arguments", [["set"], ["pause", "limits.concurrency=1"]])
def test_set_and_nothing_else_takes_a_value(tmp_path, arguments):
    """A command line that says too little or too much is refused."""
    ended = called("ctl", tmp_path, *arguments)
    assert (ended.code, ended.err.splitlines()[0]) == (2, "error: set takes KEY=VALUE, and nothing else does")
