"""The journal says that something is on disk when it is, and not before."""

from __future__ import annotations

import asyncio
import threading

import pytest
from stores import feed, opened, record, started

from batchrun.config import StoreConfig
from batchrun.errors import StoreError
from batchrun.store.fs import Fs
from batchrun.store.manifest import Session
from batchrun.store.snapshot import Snapshot


class SlowDisk(Fs):
    """A disk whose flushes of journal segments return when they are let go."""

    def __init__(self):
        self.asked = threading.Semaphore(0)
        self.let_go = threading.Semaphore(0)
        self.slow = False

    def flush(self, fd, path):
        if self.slow and path.suffix == ".jl":
            self.asked.release()
            self.let_go.acquire()
        super().flush(fd, path)


@pytest.mark.parametrize("what", ["keep", "may_send"])
def test_nothing_is_confirmed_before_its_flush_returned(tmp_path, what):
    """While the disk is still at it, a kept record is not committed, and a row may not be sent."""
    disk = SlowDisk()

    async def watch(store):
        store.start(StoreConfig(flush_ms=1), lambda error: None)
        disk.slow = True
        if what == "keep":
            store.keep(record(0))
        waiting = asyncio.create_task(store.journal.settled() if what == "keep" else store.may_send(0))
        await asyncio.to_thread(disk.asked.acquire)
        for _ in range(100):
            await asyncio.sleep(0)
        confirmed_early = waiting.done()
        disk.slow = False
        disk.let_go.release()
        await waiting
        await asyncio.to_thread(store.close, Session(exit_code=0, cause=""), [])
        return confirmed_early

    with opened(tmp_path / "out", 1, disk) as store:
        assert asyncio.run(watch(store)) is False


class FullDisk(Fs):
    """A disk that has no room left, but for what the reserve gives back."""

    full = False

    def write(self, fd, data, path):
        if self.full and any(path.parent.glob(".reserve")):
            raise StoreError(f"{path}: No space left on device")
        super().write(fd, data, path)


def test_the_reserve_takes_what_was_answered_when_the_disk_is_full(tmp_path):
    """The group that met the full disk goes into a new segment, and nothing of it is lost or there twice."""
    disk = FullDisk()

    async def fill(store):
        store.start(StoreConfig(flush_ms=1), lambda error: None)
        store.keep(record(0))
        await store.journal.settled()
        disk.full = True
        store.keep(record(1))
        await store.journal.settled()
        await asyncio.to_thread(store.abandon)

    with opened(tmp_path / "out", 3, disk) as store:
        asyncio.run(fill(store))
    with opened(tmp_path / "out", 3) as store:
        asyncio.run(feed(store, [record(2)]))
    assert Snapshot(tmp_path / "out").table("results")["index"].to_pylist() == [0, 1, 2]


class BrokenDisk(Fs):
    """A disk on which every write to the journal fails from some moment on."""

    broken = False

    def write(self, fd, data, path):
        if self.broken:
            raise StoreError(f"{path}: Input/output error", remedy="repair it")
        super().write(fd, data, path)


def test_a_disk_that_fails_is_told_to_everybody_who_waits_keeps_or_closes(tmp_path):
    """Nobody hangs: the waiter, the callback, the next keep and the close all hear of it."""
    disk = BrokenDisk()
    heard: list[StoreError] = []

    async def suffer(store):
        store.start(StoreConfig(flush_ms=1), heard.append)
        disk.broken = True
        store.keep(record(0))
        for action in (store.journal.settled, store.journal.settled):
            with pytest.raises(StoreError, match="Input/output error"):
                await action()
        with pytest.raises(StoreError, match="Input/output error"):
            store.keep(record(1))
        with pytest.raises(StoreError, match="Input/output error"):
            await asyncio.to_thread(store.close, Session(exit_code=6, cause=""), [])

    with opened(tmp_path / "out", 2, disk) as store:
        asyncio.run(suffer(store))
    assert [error.exit_code for error in heard] == [6]


def test_a_disk_that_fails_when_the_loop_has_ended_is_told_to_whoever_closes(tmp_path):
    """There is nobody else left to tell."""
    disk = BrokenDisk()
    with opened(tmp_path / "out", 1, disk) as store:
        started(store)
        disk.broken = True
        store.keep(record(0))
        with pytest.raises(StoreError, match="Input/output error"):
            store.close(Session(exit_code=6, cause=""), [])


def test_the_first_failure_is_the_cause(tmp_path):
    """The writer and the sealer may both fail: what follows says nothing new."""
    with opened(tmp_path / "out", 1) as store:
        started(store)
        for what in ("first", "second"):
            store.journal.fail(StoreError(what))
        with pytest.raises(StoreError, match="first"):
            store.close(Session(exit_code=6, cause=""), [])


def test_a_bug_in_the_writer_is_no_slow_disk(tmp_path):
    """Nobody waits for a writer that has died of what nobody thought of."""

    def seal(sealed):
        raise RuntimeError(f"segment {sealed.segment} is odd")

    with opened(tmp_path / "out", 1) as store:
        started(store)
        store.journal._seal = seal
        with pytest.raises(StoreError, match="writing failed: RuntimeError: segment 1 is odd"):
            store.close(Session(exit_code=0, cause=""), [])


def test_who_gave_up_waiting_is_not_told(tmp_path):
    """A run that is cancelled while the disk is at it goes on to its end."""
    disk = SlowDisk()

    async def give_up(store):
        store.start(StoreConfig(flush_ms=1), lambda error: None)
        disk.slow = True
        store.keep(record(0))
        waiting, patient = (asyncio.create_task(store.journal.settled()) for _ in range(2))
        await asyncio.to_thread(disk.asked.acquire)
        waiting.cancel()
        disk.slow = False
        disk.let_go.release()
        await patient
        await asyncio.to_thread(store.close, Session(exit_code=0, cause=""), [])
        return waiting.cancelled()

    with opened(tmp_path / "out", 1, disk) as store:
        assert asyncio.run(give_up(store))


def test_who_waits_is_told_by_one_of_two_threads_that_fail(tmp_path):
    """The sealer tells those whom the writer was about to tell: nobody is told by neither."""

    async def wait(store):
        store.start(StoreConfig(flush_ms=1), lambda error: None)
        await store.journal.settled()
        waiters = [asyncio.get_running_loop().create_future() for _ in range(2)]
        store.journal._waiters.extend(waiters)
        store.journal._tell(3)
        await asyncio.gather(*waiters)
        await asyncio.to_thread(store.abandon)

    with opened(tmp_path / "out", 1) as store:
        asyncio.run(wait(store))


def test_nothing_is_kept_before_the_start(tmp_path):
    """It would be in no journal."""
    with opened(tmp_path / "out", 1) as store, pytest.raises(StoreError, match="before the store is started"):
        store.keep(record(0))


def test_more_than_the_disk_can_take_waits(tmp_path):
    """Back-pressure: with 16 MiB not yet on disk `room` returns only when the disk has caught up."""
    disk = SlowDisk()

    async def push(store):
        store.start(StoreConfig(flush_ms=1), lambda error: None)
        disk.slow = True
        for index in range(18):
            store.keep(record(index, content="x" * (1 << 20)))
        full = store.journal.full
        waiting = asyncio.create_task(store.room())
        await asyncio.to_thread(disk.asked.acquire)
        disk.slow = False
        disk.let_go.release()
        await waiting
        still_full = store.journal.full
        await asyncio.to_thread(store.close, Session(exit_code=0, cause=""), [])
        return full, still_full

    with opened(tmp_path / "out", 18, disk) as store:
        assert asyncio.run(push(store)) == (True, False)
