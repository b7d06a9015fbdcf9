"""A store driven directly, and a disk that fails or stops at the N-th operation."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from batchrun.config import StoreConfig
from batchrun.errors import StoreError
from batchrun.store.folder import RunFile, RunFolder
from batchrun.store.fs import Fs
from batchrun.store.identity import fit
from batchrun.store.keeper import Store
from batchrun.store.manifest import Session
from batchrun.types import Record

if TYPE_CHECKING:
    from collections.abc import Callable

OPERATIONS = ("make_dir", "create", "write", "flush", "reserve", "rename", "link", "unlink", "flush_dir", "lock")


CRASHED = 99


class FaultyFs(Fs):
    """Counts the operations; at number `at` the process ends (before, after, torn) or the disk begins to fail."""

    def __init__(self, at: int | None = None, fault: str = "before", *, lasting: bool = True) -> None:
        self.at, self.fault, self.lasting = at, fault, lasting
        self.count = 0
        self._mutex = threading.RLock()

    def _crash(self):
        os._exit(CRASHED)

    def _call(self, name, *args):
        with self._mutex:
            self.count += 1
            struck = self.at is not None and (self.count == self.at or (self.lasting and self.count > self.at))
            if struck and not (name == "unlink" and self.fault == "full"):
                self._strike(name, args)
            result = getattr(Fs, name)(self, *args)
            if self.count == self.at and self.fault == "after":
                self._crash()
            return result

    def _strike(self, name, args):
        if self.fault == "before":
            self._crash()
        if self.fault == "torn":
            if name == "write":
                fd, data, path = args
                Fs.write(self, fd, data[: len(data) // 2], path)
            self._crash()
        if self.fault == "full" and name in {"create", "write", "flush", "reserve"}:
            raise StoreError(f"{args[-1]}: No space left on device", remedy="free the disk")
        if self.fault == "broken" and name in {"write", "flush", "flush_dir", "rename", "link"}:
            raise StoreError(f"{args[-1]}: Input/output error", remedy="repair the disk")


def _counted(name):
    def operation(self, *args):
        return self._call(name, *args)

    return operation


for _name in OPERATIONS:
    setattr(FaultyFs, _name, _counted(_name))


def run_file(rows: int, **changes) -> RunFile:
    """A run of `rows` rows, always with the same identity."""
    values = {
        "run_id": "0" * 32,
        "created_at": "2026-11-22T00:00:00+00:00",
        "batchrun_version": "0",
        "rows": rows,
        "models": {"m": rows},
        "fingerprint": "f",
        "config": {"input": "x"},
        "prices": {"date": "2026-11-22", "source": "a test", "prices": {}},
    }
    return RunFile(**{**values, **changes})


def record(index: int, *, failed: bool = False, **changes) -> Record:
    """A record of a row: a success with a text of its own, or a failure that is worth another try."""
    values = {
        "index": index,
        "custom_id": f"row-{index}",
        "request_key": f"{index:032x}",
        "attempts": 1,
        "started_at": 1_700_000_000_000_000 + index,
        "finished_at": 1_700_000_001_000_000 + index,
        "cost_usd": index / 1e9,
    }
    if failed:
        values |= {"error_type": "server_error", "error_message": "HTTP 500"}
    else:
        values |= {"content": f"answer {index}", "prompt_tokens": 10, "completion_tokens": index}
    return Record(**{**values, **changes})


@contextmanager
def opened(path, rows: int, fs: Fs | None = None, *, run_id: str = "0" * 32, **options):
    """A locked folder with its store recovered; a run that finds none there gets this id."""
    folder = RunFolder(path, fs)
    folder.make()
    with folder.locked():
        yield Store(folder, fit(folder, run_file(rows, run_id=run_id)).run, **options)


async def feed(store: Store, records, *, part_mb: float = 0.002, tell=None, group: int = 5) -> None:
    """Keep records in groups, each of which is waited for, then close.

    `tell(event, index, failed=…)` hears of every record that it is about to be `sent`, `handed` over, and `kept`.
    """
    tell = tell or (lambda *said, failed: None)
    failed: list[StoreError] = []
    store.start(StoreConfig(flush_ms=1, part_mb=part_mb), failed.append)
    records = list(records)
    for start in range(0, len(records), group):
        some = records[start : start + group]
        for one in some:
            await store.may_send(one.index)
            tell("sent", one.index, failed=one.error_type is not None)
            tell("handed", one.index, failed=one.error_type is not None)
            store.keep(one)
        await store.journal.settled()
        for one in some:
            tell("kept", one.index, failed=one.error_type is not None)
    await asyncio.to_thread(store.close, Session(exit_code=0, cause="done"), [])


def keep_all(path, records, rows: int, **options) -> None:
    """One whole start of a run that keeps some records."""
    with opened(path, rows, **options) as store:
        asyncio.run(feed(store, records))


def started(store: Store) -> None:
    """A store that is open; its loop has ended, so that all that follows is plain calls."""

    async def start():
        store.start(StoreConfig(flush_ms=1), lambda error: None)

    asyncio.run(start())


def finished_turns(index: int, count: int, **changes) -> Record:
    """The record of a row's first turns, each of which took an attempt and a nano-dollar."""
    said = [{"role": role, "content": f"{role} {n}"} for n in range(1, count + 1) for role in ("user", "assistant")]
    log = [{"turn": n, "prompt_tokens": 10, "usage_source": "endpoint"} for n in range(1, count + 1)]
    values = {
        "attempts": count,
        "cost_usd": count / 1e9,
        "messages": json.dumps(said),
        "turn_log": json.dumps(log),
        "queued_s": 0.5,
    }
    return record(index, **{**values, **changes})


def in_a_child(work: Callable[[], object]) -> None:
    """Do something in a process of its own, which may end anywhere, or be told that the disk fails."""
    pid = os.fork()
    if not pid:
        code = CRASHED - 1
        try:
            work()
            code = 0
        except StoreError as error:
            code = error.exit_code
        finally:
            os._exit(code)
    os.waitpid(pid, 0)
