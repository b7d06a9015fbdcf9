"""`batchrun status` and `batchrun report --follow`: a run seen from outside, while it goes on and after it."""

from __future__ import annotations

import asyncio
import json
import re

import pytest
from commands import END_S, at, begun, called, on_a_terminal, prompts, typed, wait_for
from servers import simulated
from stores import feed, keep_all, opened, record

from batchrun.standing import stand
from batchrun.store.folder import RunFolder
from batchrun.store.live import look
from batchrun.store.snapshot import read

HELD = {"faults": [{"kind": "slow", "seconds": 3600, "match": "q[5-9] ", "tries": 1}]}


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A run of six rows that has ended."""
    here = tmp_path_factory.mktemp("done")
    with simulated() as server:
        assert called("run", prompts(here / "in.jsonl", 6), *at(server.base_url, here / "out"), "-q").code == 0
    return here / "out"


@pytest.fixture(scope="module")
def going(tmp_path_factory):
    """A run of ten rows, five of which are answered and five wait for ever; the folder and its process."""
    tmp_path = tmp_path_factory.mktemp("going")
    with simulated(HELD) as server:
        out = tmp_path / "out"
        command = ["run", prompts(tmp_path / "in.jsonl", 10), *at(server.base_url, out, "-c", "5")]
        with begun(*command) as process:
            wait_for(lambda: (out / ".live.json").exists() and len(server.ledger()) == 10, process)
            wait_for(lambda: len(read(out).to_pandas()) == 5, process)
            yield out, process


def test_a_run_that_is_complete(done):
    """Its counts, its cost, how it ended, and the report as the next command."""
    ended = called("status", done)
    assert ended.code == 0
    assert ended.out.startswith(f"{done}: 6 of 6 rows are done, 100 %\nRows      6 succeeded, 0 failed, 0 missing\n")
    assert "Last run  nothing left to do; 6 requests sent" in ended.out
    assert ended.last == f"exit 0: nothing is missing. Next: batchrun report {done}"


def test_json_is_for_programs(done):
    """The same as numbers, and the cost is that of the report."""
    found = json.loads(called("status", done, "--format", "json").out)
    assert (found["state"], found["rows"], found["succeeded"], found["missing"]) == ("complete", 6, 6, 0)
    assert found["live"] is None
    assert round(found["cost_usd"] * 1e9) == sum(round(usd * 1e9) for usd in read(done).to_pandas()["cost_usd"])


def test_no_run_in_the_folder(tmp_path):
    """It is refused in two lines."""
    ended = called("status", tmp_path)
    assert ended.code == 7
    assert len(ended.err.splitlines()) == 2
    assert "is not a run folder" in ended.err


def test_a_run_that_is_going_on(going):
    """What is in flight, what may be, and the oldest row stand beside the counts."""
    out, _ = going
    wait_for(lambda: look(RunFolder(out)).in_flight == 5)
    ended = called("status", out)
    assert "5 succeeded, 0 failed, 5 missing" in ended.out
    assert "In flight 5 of at most 5" in ended.out
    assert re.search(r"^Oldest +\d+ s: c5, waits for an answer$", ended.out, re.MULTILINE)
    assert re.search(r"^Speed .* left at this speed$", ended.out, re.MULTILINE)
    assert ended.last == f"exit 0: a run is going on. Next: batchrun report {out} --follow"


def counted(path):
    """Succeeded and failed, and the cost in nano-dollars, by `stand` and by reading every row."""
    found, whole = stand(RunFolder(path)), read(path)
    while (now := stand(RunFolder(path))).this_start_rows != found.this_start_rows:  # some were kept between the two
        found, whole = now, read(path)
    results, failures = whole.table("results").to_pylist(), whole.table("failures").to_pylist()
    nano_usd = sum(round(row["cost_usd"] * 1e9) for row in results + failures)
    assert (found.succeeded, found.failed) == (len(results), len(failures))
    assert round(found.cost_usd * 1e9) == nano_usd
    return found


def test_failures_that_are_tried_again_count_once(tmp_path):
    """While the second start goes on, a row that failed in the first and succeeds now is no failure any more."""
    rows = [record(index, failed=index % 3 == 0) for index in range(30)]
    keep_all(tmp_path / "out", rows, 40)
    assert counted(tmp_path / "out").failed == 10
    with opened(tmp_path / "out", 40) as store:
        again = [record(index, failed=index % 2 == 0) for index in range(0, 30, 3)]

        async def part_of_it():
            work = asyncio.create_task(feed(store, again, part_mb=64))
            await asyncio.sleep(0)  # it has kept the first of them
            await store.journal.settled()
            counted(tmp_path / "out")
            await work

        asyncio.run(part_of_it())
    found = counted(tmp_path / "out")
    assert (found.failed, found.missing, found.this_start_rows) == (5, 10, 10)


def test_follow_without_a_terminal_waits_for_the_end(going):
    """Then the report is written once. The run was killed: it is told from one that goes on, and its rows count."""
    out, process = going
    with begun("report", out, "--follow") as follower:
        process.kill()
        process.wait(END_S)
        said, _ = follower.communicate(timeout=END_S)
    assert follower.returncode == 0
    assert " ".join(said.split()).count("5 of 10 rows") == 1
    assert "\x1b" not in said
    ended = called("status", out)
    assert "5 succeeded, 0 failed, 5 missing" in ended.out
    assert "In flight" not in ended.out
    assert "exit 0: the last run was cut off" in ended.last


def test_follow_redraws_on_a_terminal(done):
    """The screen is cleared before each page, and the last page stays."""
    code, seen = on_a_terminal("report", done, "--follow", streams=("stdout",))
    assert code == 0
    assert seen.startswith("\x1b[H\x1b[2J")
    assert "all 6 rows succeeded" in " ".join(seen.split())


@pytest.mark.parametrize("more", [["--format", "json"], ["-o", "report.txt"]])
def test_follow_is_for_the_terminal(done, more):
    """With a form or a file it would say nothing."""
    ended = called("report", done, "--follow", *more)
    assert (ended.code, ended.err.splitlines()[0]) == (2, "error: --follow is for the terminal")


@pytest.mark.rig
def test_a_large_run_is_not_read(tmp_path):
    """Its screen comes without a look at its parts, which may be gigabytes."""
    with opened(tmp_path / "out", 1_000_000) as store:
        asyncio.run(feed(store, (record(index) for index in range(200_000)), part_mb=8, group=5_000))
    for path in (tmp_path / "out/results").glob("part-*"):
        path.write_bytes(b"")
    assert stand(RunFolder(tmp_path / "out")).succeeded == 200_000


def test_help_has_an_example_that_runs(done):
    """It needs nothing but a folder."""
    assert f"batchrun status {'runs/quickstart'}" in called("status", "--help").out
    assert typed("status", done).code == 0
