"""Disks that are too small, files that may not grow, folders that become read-only, few descriptors (T12).

Every ending has its exit code, what was acknowledged is kept, and the same command again finishes once there is room.
"""

from __future__ import annotations

import asyncio
import os
import random
import resource
import string
import tempfile
from collections import Counter
from pathlib import Path

import pytest
from commands import asked, at, called, kept, prompts, typed
from disks import disk_of, remount
from promises import quick_folder
from servers import simulated
from stores import opened, record

from batchrun.config import StoreConfig
from batchrun.errors import BatchrunError
from batchrun.store.journal import RESERVE_BYTES
from batchrun.store.manifest import Session
from batchrun.store.snapshot import Snapshot

pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
ROWS = 16
KB, MB = 1024, 1024 * 1024
TEXT = "".join(random.Random(12).choices(string.printable, k=400 * KB))
"""It compresses badly, so that parts need room as the journal does."""
DISKS = [100 * KB, MB, RESERVE_BYTES, *(RESERVE_BYTES + step * 200 * KB for step in range(1, 30))]
FILES = [0, 4 * KB, 100 * KB, MB, RESERVE_BYTES - 1, *(RESERVE_BYTES + step * 300 * KB for step in range(10))]
DESCRIPTORS = range(6, 20)


def answer(index: int):
    """A long answer, of which each row has its own."""
    return record(index, content=f"answer {index} {TEXT[index:]}")


def stopped_child(path, limit) -> tuple[int, list[int]]:
    """A start in a process of its own, under a limit; its exit code, and the rows that it was told are kept."""
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        code = 1
        try:
            os.closerange(3, writer)  # what other tests have open is not this start's
            os.closerange(writer + 1, 4096)
            loop = asyncio.new_event_loop()
            limit()
            with opened(path, ROWS) as store:
                loop.run_until_complete(_keep(store, writer))
            code = 0
        except BatchrunError as error:
            code = error.exit_code
        finally:
            os._exit(code)
    os.close(writer)
    with os.fdopen(reader) as file:
        told = [int(line) for line in file]
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), told


async def _keep(store, writer) -> None:
    store.start(StoreConfig(flush_ms=1, part_mb=16), lambda error: None)
    try:
        for index in filter(store.is_open, range(ROWS)):
            await store.may_send(index)
            store.keep(answer(index))
            await store.journal.settled()
            os.write(writer, b"%d\n" % index)
    finally:  # as the command does it, whatever came before
        await asyncio.to_thread(store.close, Session(exit_code=0, cause="done"), [])


def assert_nothing_lost(path, told, ending) -> None:
    """What was acknowledged is read, and a start with room pays for the rest alone."""
    before = (
        set(Snapshot(path).table("results", ["index"])["index"].to_pylist()) if (path / "run.json").exists() else set()
    )
    assert {*told} <= before, ending
    code, rest = stopped_child(path, lambda: None)
    assert code == 0, ending
    assert {*rest} == set(range(ROWS)) - before, ending
    rows = Snapshot(path).table("results").to_pylist()
    assert sorted(row["index"] for row in rows) == list(range(ROWS))
    assert all(row["content"] == answer(row["index"]).content for row in rows)
    assert list((path / "_journal").iterdir()) == []


# 1. The store


def on_a_small_disk(size: int) -> int:
    """How a run ends there."""
    with disk_of(size) as disk:
        code, told = stopped_child(disk / "out", lambda: None)
        remount(disk, "size=64m")
        assert_nothing_lost(disk / "out", told, (size, code))
    return code


def with_small_files(size: int) -> int:
    """How a run ends that may not write larger files."""
    with quick_folder() as place:
        code, told = stopped_child(place / "out", lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)))
        assert_nothing_lost(place / "out", told, (size, code))
    return code


def with_few_descriptors(count: int) -> int:
    """How a run ends that may not open more files."""
    with quick_folder() as place:
        code, told = stopped_child(place / "out", lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (count, count)))
        assert_nothing_lost(place / "out", told, (count, code))
    return code


def endings(run, limits, may_be) -> list[int]:
    """How the runs under some limits end: well where there is enough, and otherwise as the contract says."""
    codes = [run(limit) for limit in limits]
    assert set(codes) <= may_be, dict(zip(limits, codes, strict=True))
    assert codes[0] != 0
    assert codes[-1] == 0
    return codes


def test_small_disks():
    """The short form: no room for the answers, and enough."""
    endings(on_a_small_disk, [DISKS[6], 64 * MB], {0, 6})


def test_small_files():
    """The short form: none for the reserve, none for all answers; these go into several segments."""
    endings(with_small_files, [FILES[1], FILES[8]], {0, 6})


def test_few_descriptors():
    """The short form."""
    endings(with_few_descriptors, [6, 64], {0, 6, 7})


def test_a_disk_that_becomes_read_only():
    """A start there is refused; what is there can be read."""
    with disk_of(64 * MB) as disk:
        code, told = stopped_child(
            disk / "out", lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (FILES[8], FILES[8]))
        )
        remount(disk, "ro")
        assert stopped_child(disk / "out", lambda: None) == (6, [])
        assert {*told} <= {*Snapshot(disk / "out").table("results", ["index"])["index"].to_pylist()}
        remount(disk, "rw")
        assert_nothing_lost(disk / "out", told, code)


# 2. The command

ANSWERS = {"latency": {"ttft_s": 0, "per_token_s": 0}, "answers": {"tokens": 3000}}
MORE = ["-c", "8", "--set", "request.params.max_tokens=4000"]


def command_for(server, place, out, rows: int = 60):
    """The command that is limited, and typed again without a limit."""
    return ["run", prompts(place / "in.jsonl", rows), *at(server.base_url, out, *MORE)]


def assert_finished(server, out, command, ended) -> None:
    """It ended in order, and again with room it finishes and sends nothing twice of what was kept."""
    assert ended.last.startswith(f"exit {ended.code}: "), ended.err
    assert "Traceback" not in ended.err
    committed = kept(out) if (out / "run.json").exists() else []
    before = len(server.ledger())
    again = called(*command)
    assert again.code == 0, again.err
    charged = Counter(asked(server.ledger()[before:]))
    assert not [row for row in committed if charged[row.replace("c", "q")]]
    assert len(kept(out)) == int(again.err.split(" of ")[-1].split()[0].replace(",", ""))


def command_on_a_small_disk(server, size: int) -> int:
    """How the command ends there."""
    with disk_of(size) as disk, tempfile.TemporaryDirectory() as place:
        command = command_for(server, Path(place), disk / "out")
        ended = typed(*command)
        remount(disk, "size=64m")
        assert_finished(server, disk / "out", command, ended)
    return ended.code


def limited_command(server, kind: int, limit: int, rows: int = 60) -> int:
    """How the command ends under a limit of the system."""
    with tempfile.TemporaryDirectory() as place:
        command = command_for(server, Path(place), Path(place) / "out", rows)
        ended = typed(*command, preexec_fn=lambda: resource.setrlimit(kind, (limit, limit)))
        assert_finished(server, Path(place) / "out", command, ended)
    return ended.code


@pytest.fixture(scope="module")
def server():
    """An endpoint of long answers."""
    with simulated(ANSWERS) as one:
        yield one


def test_the_command_with_few_descriptors(server):
    """The short form: it says so before anything is sent."""
    assert limited_command(server, resource.RLIMIT_NOFILE, 48, rows=3) == 2


# 3. The long forms


@pytest.mark.rig
def test_the_store_under_many_limits(reached):
    """T12: the store."""
    disks = endings(on_a_small_disk, [*DISKS, 64 * MB], {0, 6})
    files = endings(with_small_files, [*FILES, 64 * MB], {0, 6})
    descriptors = endings(with_few_descriptors, [*DESCRIPTORS, 64], {0, 6, 7})
    reached("T12", "runs of the store", len(disks + files + descriptors), 60)


@pytest.mark.rig
def test_the_command_under_many_limits(server, reached):
    """T12: the command; with too few descriptors nothing is sent."""
    sizes = [MB, *(RESERVE_BYTES + step * 500 * KB for step in range(6)), 64 * MB]
    codes = endings(lambda size: command_on_a_small_disk(server, size), sizes, {0, 6})
    limits = [KB, MB, RESERVE_BYTES, RESERVE_BYTES + 500 * KB, 64 * MB]
    codes += endings(lambda size: limited_command(server, resource.RLIMIT_FSIZE, size), limits, {0, 6})
    for count in (40, 48, 56, 64, 71, 72, 80, 128, 256):
        codes.append(limited_command(server, resource.RLIMIT_NOFILE, count, rows=12))
        assert codes[-1] == (2 if count < 72 else 0)
    reached("T12", "runs of the command", len(codes), 20)
