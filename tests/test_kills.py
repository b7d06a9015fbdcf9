"""The real command, killed and signalled at random until it is done: what is lost, paid for twice, and not said."""

from __future__ import annotations

import random
import re
import signal
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

import pyarrow.parquet as pq
import pytest
from commands import asked, at, begun, prompts, wait_for
from servers import simulated

from batchrun.store.snapshot import read

if TYPE_CHECKING:
    from pathlib import Path

CONCURRENCY = 16
FLUSH_ROWS = 3 * CONCURRENCY
"""Answers that may come within one flush; an endpoint that takes 20 ms a request gives about this many in 50 ms."""

SECRET = "sk-sentinel-of-the-kills"
ENDINGS = (*("kill",) * 6, "SIGTERM", "SIGINT", "twice")
"""How a start is ended, by chance; `twice` is a signal, and another before the first is done."""

CODES = {"kill": {-9}, "SIGTERM": {143}, "SIGINT": {130}, "twice": {143}, "none": {0}}


class Start(NamedTuple):
    """One start: how it was ended, its exit code and stderr, the ledger before and after it, and what was kept then."""

    ending: str
    code: int
    err: str
    charged_before: int
    charged_after: int
    kept: dict[int, str]

    @property
    def exposed(self) -> set[str]:
        """The rows that it named as exposed by an earlier start."""
        said = re.search(r"paid for twice: ([-\d, ]+) \(counted from 0\)", self.err)
        runs = (run.partition("-") for run in said[1].split(", ")) if said else ()
        return {f"q{row}" for first, _, last in runs for row in range(int(first), int(last or first) + 1)}


class Trial:
    """A run of some rows, in a folder of its own, against an endpoint of its own."""

    def __init__(self, folder: Path, server, rows: int, seed: int) -> None:
        self.out, self.server, self.rows = folder / "out", server, rows
        self.randomly = random.Random(seed)
        source = prompts(folder / "in.jsonl", rows, words="x" * 300)
        more = ["-c", CONCURRENCY, "--set", "store.part_mb=0.1", "--set", "endpoint.api_key_env=KEY_OF_KILLS"]
        self.command = ["run", source, *at(server.base_url, self.out, *more)]
        self.starts: list[Start] = []

    def start(self, ending: str) -> Start:
        """Start it, and end it once it has charged some random number of requests."""
        before = len(self.server.ledger())
        enough = before + self.randomly.randint(1, 12 * CONCURRENCY)
        with begun(*self.command, env={"KEY_OF_KILLS": SECRET}) as run:
            if ending != "none":
                wait_for(lambda: len(self.server.ledger()) >= enough, run)
                self.end(run, ending)
            _, err = run.communicate(timeout=120)
        wait_for(lambda: self.server.totals()["in_flight"] == 0)
        kept = read(self.out).table("results", ["index", "content"]).to_pylist()
        content = {row["index"]: row["content"] for row in kept}
        assert len(content) == len(kept)
        self.starts.append(Start(ending, run.returncode, err, before, len(self.server.ledger()), content))
        return self.starts[-1]

    def end(self, run, ending: str) -> None:
        """Do to a process what the ending says."""
        if ending == "kill":
            run.kill()
        else:
            run.send_signal(signal.SIGINT if ending == "SIGINT" else signal.SIGTERM)
            if ending == "twice":
                run.send_signal(signal.SIGTERM)


def trial(folder: Path, *, rows: int, kills: int, seed: int) -> Counter[str]:
    """Kill and signal it until it was killed so often, let it finish, start it once more; how its starts ended."""
    folder.mkdir()
    with simulated({"latency": {"ttft_s": 0.02, "per_token_s": 0, "sigma": 0.5}}, api_key=SECRET) as server:
        run = Trial(folder, server, rows, seed)
        while sum(start.ending == "kill" for start in run.starts) < kills:
            start = run.start(run.randomly.choice(ENDINGS))
            assert start.code, f"it was done after {len(run.starts)} starts: give it more rows"
        run.start("none")
        ledger = server.ledger()
        run.start("none")
        assert server.ledger() == ledger
        check_money(run, ledger)
    check_rows(run, ledger)
    check_words(run)
    return Counter(start.ending for start in run.starts)


def check_rows(run: Trial, ledger) -> None:
    """Each row is there once, in a visible part, as it was when first kept, and costs what the endpoint charged."""
    answers = pq.read_table(run.out / "results").to_pylist()
    assert sorted(row["index"] for row in answers) == list(range(run.rows))
    content = {row["index"]: row["content"] for row in answers}
    for start in run.starts:
        assert start.kept.items() <= content.items()
    lines = {line["last_user"].split()[0]: line for line in ledger}
    for row in answers:
        line = lines[f"q{row['index']}"]
        assert (row["custom_id"], row["prompt_tokens"]) == (f"c{row['index']}", line["prompt_tokens"])
        assert row["completion_tokens"] == line["completion_tokens"]
    left = [path for path in run.out.rglob("*") if path.name.endswith(".tmp") or path.parent.name == "_journal"]
    assert left == []


def check_money(run: Trial, ledger) -> None:
    """What was kept is never charged again; what was charged twice was named, and is within the bound."""
    charged = asked(ledger)
    assert set(charged) == {f"q{index}" for index in range(run.rows)}
    named: set[str] = set()
    kept: set[str] = set()
    twice = 0
    for start in run.starts:
        named |= start.exposed
        before = set(charged[: start.charged_before])
        again = [row for row in charged[start.charged_before : start.charged_after] if row in before]
        assert kept.isdisjoint(again)
        assert named.issuperset(again)
        assert len(again) <= CONCURRENCY + FLUSH_ROWS
        kept = {f"q{index}" for index in start.kept}
        twice += len(again)
    assert twice == len(charged) - run.rows


def check_words(run: Trial) -> None:
    """Each start says what a crash could cost and, where it can, how it ended; the key is nowhere."""
    for start in run.starts:
        assert start.code in CODES[start.ending] or (start.ending != "kill" and start.code == 0), start.err
        if "to send" in start.err and ", 0 to send" not in start.err:
            bound = f"pay twice for {CONCURRENCY} requests in flight and 0.05 s of answers, no more"
            assert bound in start.err
        if start.ending != "kill":
            assert start.err.splitlines()[-1].startswith(f"exit {start.code}: "), start.err
        assert SECRET not in start.err
    files = [path for path in run.out.rglob("*") if path.is_file()]
    assert [path for path in files if SECRET.encode() in path.read_bytes()] == []


def trials(folder: Path, count: int, **given: int) -> Counter[str]:
    """So many trials, two at a time; the sum of their counts."""
    with ThreadPoolExecutor(2) as pool:
        return sum(pool.map(lambda seed: trial(folder / str(seed), seed=seed, **given), range(count)), Counter())


def test_a_few_kills(tmp_path):
    """Killed and signalled, the command loses nothing and says what may be paid for twice."""
    endings = trial(tmp_path / "one", rows=700, kills=1, seed=0)
    print(dict(endings))  # noqa: T201
    assert endings["kill"] == 1


@pytest.mark.rig
def test_many_kills(tmp_path, reached):
    """The same, ten kills at a time."""
    endings = trials(tmp_path, 6, rows=4000, kills=10)
    print(dict(endings))  # noqa: T201
    reached("T4", "kills of the command", endings["kill"], at_least=60)


@pytest.mark.long
def test_two_hundred_kills(tmp_path):
    """The same for a release."""
    endings = trials(tmp_path, 20, rows=5000, kills=10)
    print(dict(endings))  # noqa: T201
    assert endings["kill"] == 200
