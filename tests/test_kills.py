"""SIGKILL at random moments of the real command, until it is done: what is lost, paid for twice, and not said."""

from __future__ import annotations

import random
import re
from typing import NamedTuple

import pandas as pd
import pytest
from commands import asked, at, begun, prompts, wait_for
from servers import simulated

CONCURRENCY = 16
FLUSH_ROWS = 3 * CONCURRENCY
"""Answers that may come within one flush; an endpoint that takes 20 ms a request gives about this many in 50 ms."""


class Start(NamedTuple):
    """One start of the command: whether it was killed, what it said, and the ledger's length before and after."""

    killed: bool
    code: int
    err: str
    charged_before: int
    charged_after: int

    @property
    def exposed(self) -> set[str]:
        """The rows that it named as exposed by an earlier start."""
        said = re.search(r"paid for twice: ([-\d, ]+) \(counted from 0\)", self.err)
        runs = (run.partition("-") for run in said[1].split(", ")) if said else ()
        return {f"q{row}" for first, _, last in runs for row in range(int(first), int(last or first) + 1)}


def start(command, server, randomly):
    """Start it, and kill it once it has charged some random number of requests; let it end if it ends before."""
    before = len(server.ledger())
    enough = before + randomly.randint(1, 12 * CONCURRENCY)
    with begun(*command) as run:
        try:
            wait_for(lambda: len(server.ledger()) >= enough, run)
        except AssertionError:
            killed = False
        else:
            killed = run.poll() is None
            run.kill()
        _, err = run.communicate(timeout=60)
    wait_for(lambda: server.totals()["in_flight"] == 0)
    return Start(killed, run.returncode, err, before, len(server.ledger()))


def kill_until_done(tmp_path, *, rows, kills, seed):
    """Kill it so many times while it is sending, then let it finish; returns its starts, the ledger and the answers."""
    randomly = random.Random(seed)
    source = prompts(tmp_path / "in.jsonl", rows, words="x" * 300)
    starts: list[Start] = []
    with simulated({"latency": {"ttft_s": 0.02, "per_token_s": 0, "sigma": 0.5}}) as server:
        more = ["-c", CONCURRENCY, "--set", "store.part_mb=0.1"]
        command = ["run", source, *at(server.base_url, tmp_path / "out", *more)]
        while sum(start.killed for start in starts) < kills:
            starts.append(start(command, server, randomly))
            assert starts[-1].killed, f"it was done after {len(starts) - 1} kills: give it more rows"
        with begun(*command) as run:
            before = len(server.ledger())
            _, err = run.communicate(timeout=120)
        ledger = server.ledger()
        starts.append(
            Start(killed=False, code=run.returncode, err=err, charged_before=before, charged_after=len(ledger))
        )
        return starts, ledger, pd.read_parquet(tmp_path / "out/results")


def check(starts, ledger, answers, rows):
    """Nothing lost, nothing twice, nobody paid for twice who was not named, and few of those; returns the counts."""
    assert starts[-1].code == 0, starts[-1].err
    assert sorted(answers["index"]) == list(range(rows))
    charged = asked(ledger)
    assert set(charged) == {f"q{index}" for index in range(rows)}
    named: set[str] = set()
    charged_twice = 0
    for start in starts:
        named |= start.exposed
        before = set(charged[: start.charged_before])
        again = [row for row in charged[start.charged_before : start.charged_after] if row in before]
        assert named.issuperset(again)
        assert len(again) <= CONCURRENCY + FLUSH_ROWS
        charged_twice += len(again)
    assert charged_twice == len(charged) - rows
    return {"kills": len(starts) - 1, "rows": rows, "lost": 0, "kept twice": 0, "charged twice": charged_twice}


def loop(tmp_path, record_property, **given):
    """One loop of kills, and its counts for whoever reads the outcome."""
    counts = check(*kill_until_done(tmp_path, **given), given["rows"])
    for name, count in counts.items():
        record_property(name, count)
    print("kills:", ", ".join(f"{name} {count}" for name, count in counts.items()))  # noqa: T201


def test_a_few_kills(tmp_path, record_property):
    """Killed three times while it sends, the command loses nothing and says what may be paid for twice."""
    loop(tmp_path, record_property, rows=900, kills=3, seed=20261122)


@pytest.mark.rig
@pytest.mark.parametrize("seed", range(4))
def test_many_kills(tmp_path, record_property, seed):
    """The same, ten kills at a time."""
    loop(tmp_path, record_property, rows=2500, kills=10, seed=seed)
