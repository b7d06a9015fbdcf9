"""Two writers and one folder: one goes on, the others say so, and every row is there once (T13)."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from contextlib import ExitStack, contextmanager

import pytest
from commands import at, begun, kept, prompts, wait_for
from promises import quick_folder, rows_of
from servers import simulated
from stores import keep_all, opened, record, run_file, started

from batchrun.config import StoreConfig
from batchrun.errors import BatchrunError
from batchrun.store.folder import RunFolder
from batchrun.store.identity import fit
from batchrun.store.keeper import Store
from batchrun.store.manifest import Entry, Manifest, Session, now_us

pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
ROWS = 8
BUSY = 5


class Writer:
    """A start of the run in a process of its own, which says what it does, and waits at gates."""

    def __init__(self, path, work) -> None:
        (self._said, say), (wait, self._gate) = os.pipe(), os.pipe()
        self.pid = os.fork()
        self.code: int | None = None
        if not self.pid:
            os.close(self._said)
            os.close(self._gate)
            _end(work, RunFolder(path), lambda *words: os.write(say, b"%s %d\n" % words), lambda: os.read(wait, 1))
        os.close(say)
        os.close(wait)

    def go(self, gates: int = 1) -> None:
        """Let it pass its next gates."""
        os.write(self._gate, gates * b"!")

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, unless it has ended."""
        if self.code is None:
            os.kill(self.pid, number)

    def hears(self) -> tuple[str, int] | None:
        """The next thing that it says; None if it has ended, and its code is known then."""
        said = b""
        while not said.endswith(b"\n"):
            byte = os.read(self._said, 1)
            if not byte:
                if self.code is None:
                    self.code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
                return None
            said += byte
        word, _, number = said.decode().partition(" ")
        return word, int(number)

    def ends(self) -> dict[str, list[int]]:
        """What it says until it ends: which rows it has sent, and which it was told are kept."""
        rows: dict[str, list[int]] = {"sent": [], "kept": []}
        while said := self.hears():
            rows.setdefault(said[0], []).append(said[1])
        return rows

    def close(self) -> None:
        """End it, whatever it does."""
        self.signal(signal.SIGKILL)
        self.ends()
        os.close(self._said)
        os.close(self._gate)


def _end(work, *arguments) -> None:
    code = 1
    try:
        work(*arguments)
        code = 0
    except BatchrunError as error:
        code = error.exit_code
    finally:
        os._exit(code)


def a_run(folder: RunFolder, say, gate) -> None:
    """As `run.py` does it: look, make, lock, fit, recover, send what is open."""
    gate()
    if not folder.exists():
        folder.make()
    with folder.locked():
        say(b"holds", 0)
        gate()
        store = Store(folder, fit(folder, run_file(ROWS)).run)
        asyncio.run(_send(store, say, gate))


def a_claim(folder: RunFolder, say, gate) -> None:
    """The first step of a start that a lock has let in although it should not have."""
    manifest = Manifest(folder, run_file(ROWS).run_id)
    say(b"holds", manifest.next_number())
    gate()
    manifest.put(Entry(kind="start", at=now_us(), epoch=manifest.next_number()))


async def _send(store: Store, say, gate) -> None:
    store.start(StoreConfig(flush_ms=1, part_mb=0.002), lambda error: None)
    for index in filter(store.is_open, range(ROWS)):
        await store.may_send(index)
        say(b"sent", index)
        store.keep(record(index, content=f"answer {index}" + "x" * 300))
        await store.journal.settled()
        say(b"kept", index)
    await asyncio.to_thread(gate)
    await asyncio.to_thread(store.close, Session(exit_code=0, cause="done"), [])


@contextmanager
def writers(path, count: int, work=a_run):
    """Some writers that wait at their first gate; what is left of them at the end is killed."""
    with ExitStack() as left:
        some = []
        for _ in range(count):
            some.append(Writer(path, work))
            left.callback(some[-1].close)
        yield some


def fresh(path) -> None:
    """Nothing is there."""


def crashed(path) -> None:
    """A run has left its journal behind."""
    with opened(path, ROWS) as store:
        started(store)
        store.keep(record(0))
        store.abandon()


def half_done(path) -> None:
    """A run has ended in order, with rows that are still open."""
    keep_all(path, [record(0), record(1, failed=True)], ROWS)


def assert_whole(path) -> None:
    """Every row is there once, the folder is in order, and nothing is left to do."""
    assert sorted(row["index"] for row in rows_of(path, "results")) == list(range(ROWS))
    with opened(path, ROWS) as store:
        assert store.open_rows() == 0
    assert [one for one in path.rglob("*") if one.name.endswith((".tmp", ".jl"))] == []


# 1. Starts at the same moment


def race_to_start(path, before) -> None:
    """Of three starts one holds the folder; the others end with 5 before they have sent anything."""
    before(path)
    with writers(path, 3) as some:
        for one in some:
            one.go()
        holders = [one for one in some if one.hears()]
        assert len(holders) == 1
        assert [one.code for one in some if one not in holders] == [BUSY, BUSY]
        holders[0].go(2)
        sent = holders[0].ends()["sent"]
        assert (holders[0].code, len(sent)) == (0, len(set(sent)))
    assert_whole(path)


def race_for_an_epoch(path, before) -> None:
    """Where locks let everybody in (some network disks do) only one gets the next number of the manifest."""
    before(path)
    with opened(path, ROWS):
        pass
    with writers(path, 3, a_claim) as some:
        assert len({one.hears() for one in some}) == 1
        for one in some:
            one.go()
        for one in some:
            one.ends()
        assert sorted(one.code for one in some) == [0, BUSY, BUSY]
    keep_all(path, [record(index) for index in range(ROWS)], ROWS)
    assert_whole(path)


# 2. The holder is stopped


def stop_the_holder(path, before, *, after: int) -> None:
    """A stopped process still holds its lock: a second start is refused, and later the first goes on."""
    before(path)
    with writers(path, 2) as (first, second):
        stopped_while_it_sends(first, after)
        second.go()
        assert second.hears() is None
        assert second.code == BUSY
        first.go()
        first.signal(signal.SIGCONT)
        first.ends()
        assert first.code == 0
    assert_whole(path)


def stopped_while_it_sends(one: Writer, after: int) -> list[int]:
    """Which rows a writer has been told are kept when it is stopped, somewhere behind the `after`-th thing it says."""
    one.go(2)
    one.hears()
    told = []
    for _ in range(after):
        word, index = one.hears() or ("", -1)
        told += [index] if word == "kept" else []
    one.signal(signal.SIGSTOP)
    return told


def take_the_lock(path, before, *, after: int, stopped: bool) -> None:
    """A hand removes the lock of a run that goes on: a second run takes over, and the first does not confirm any more.

    What the first was told is kept is not paid for again.
    """
    before(path)
    with writers(path, 2) as (first, second):
        first.go()
        told = stopped_while_it_sends(first, after)
        if not stopped:
            first.signal(signal.SIGCONT)
        (path / "_lock").unlink()
        second.go(3)
        if not stopped:
            told += first.ends()["kept"]
        said = second.ends()
        if stopped:
            first.signal(signal.SIGCONT)
            told += first.ends()["kept"]
        assert first.code in {0, BUSY, 6, 7}, first.code
        assert not {*told} & {*said["kept"]}
        assert second.code == 0 or (second.code in {BUSY, 6, 7} and not stopped)
    if second.code:
        keep_all(path, [record(index) for index in range(ROWS) if index not in told], ROWS)
    assert_whole(path)


BEFORE = [fresh, crashed, half_done]


def races(times: int):
    """Each kind of race so often, from a folder of each kind, with the place that it is held in."""
    chance = random.Random(13)
    for number in range(times):
        before, after = BEFORE[number % len(BEFORE)], chance.randrange(2 * ROWS - 4)
        yield lambda path, before=before: race_to_start(path, before)
        yield lambda path, before=before: race_for_an_epoch(path, before)
        yield lambda path, before=before, after=after: stop_the_holder(path, before, after=after)
        yield lambda path, before=before, after=after: take_the_lock(path, before, after=after, stopped=True)
        yield lambda path, before=before, after=after: take_the_lock(path, before, after=after, stopped=False)


def run_races(times: int) -> int:
    """How many were run."""
    count = 0
    for race in races(times):
        with quick_folder() as place:
            race(place / "out")
        count += 1
    return count


def test_two_writers():
    """The short form: one of each kind."""
    assert run_races(1) == 5


@pytest.mark.rig
def test_two_writers_many_times(reached):
    """T13: every kind of race, from every kind of folder, at many moments."""
    reached("T13", "races of writers", run_races(42), 190)


# 3. The command


def start_together(server, tmp_path, number: int) -> None:
    """Two commands at once: one sends, the other ends with 5, or comes so late that nothing is left to send."""
    out, before = tmp_path / f"out-{number}", server.totals()["requests"]
    command = ["run", prompts(tmp_path / "in.jsonl", 3), *at(server.base_url, out), "-c", "1"]
    with begun(*command) as one, begun(*command) as other:
        errors = [each.communicate(timeout=60)[1] for each in (one, other)]
    codes = sorted((one.returncode, other.returncode))
    assert codes == [0, BUSY] or any("nothing was left to send" in error for error in errors), errors
    assert server.totals()["requests"] - before == 3
    assert kept(out) == ["c0", "c1", "c2"]


def stop_the_command(server, tmp_path, number: int) -> None:
    """A stopped run holds its folder; a second one ends with 5, and says who has it."""
    out, before = tmp_path / f"stopped-{number}", server.totals()["requests"]
    command = ["run", prompts(tmp_path / "in.jsonl", 3), *at(server.base_url, out), "-c", "1"]
    with begun(*command) as one:
        wait_for(lambda: server.totals()["requests"] > before, one)
        one.send_signal(signal.SIGSTOP)
        with begun(*command) as other:
            _, refusal = other.communicate(timeout=60)
        one.send_signal(signal.SIGCONT)
        one.communicate(timeout=60)
    assert (other.returncode, f"process {one.pid} on" in refusal) == (BUSY, True), refusal
    assert one.returncode == 0
    assert server.totals()["requests"] - before == 3


@pytest.mark.rig
def test_two_commands(tmp_path, reached):
    """T13: the installed command, at once and while the other is stopped."""
    with simulated({"latency": {"ttft_s": 0.2, "per_token_s": 0}}) as server:
        for number in range(5):
            start_together(server, tmp_path, number)
            stop_the_command(server, tmp_path, number)
    reached("T13", "races of commands", 10, 10)
