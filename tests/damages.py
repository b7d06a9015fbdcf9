"""Run folders to be damaged, the ways to damage them, and what must hold afterwards."""

from __future__ import annotations

import asyncio
import random
import shutil
from typing import TYPE_CHECKING, Any, NamedTuple

from stores import feed, opened, record

from batchrun.config import StoreConfig
from batchrun.errors import FolderUnusable
from batchrun.store import parts, recovery
from batchrun.store.folder import RunFolder
from batchrun.store.fs import Fs
from batchrun.store.repair import How, Repaired, repair
from batchrun.store.snapshot import Snapshot
from batchrun.store.verify import verify

if TYPE_CHECKING:
    from pathlib import Path

ROWS = 20
WAYS = ("flip", "zero", "truncate", "delete", "duplicate", "swap", "exchange", "grow")
VICTIMS = {
    "parts": ("results/part-*", "failures/part-*"),
    "manifest": ("_manifest/*.json",),
    "journal": ("_journal/*.jl",),
    "run.json": ("run.json", "_manifest/run.json.copy"),
}
SHOWN = ("index", "custom_id", "request_key", "attempts", "cost_usd", "finished_at")
Rows = dict[int, dict[str, Any]]


class Quick(Fs):
    """A disk that confirms without flushing: nothing here loses its power."""

    def flush(self, fd: int, path: Path) -> None:
        """Say that it is done."""

    def flush_dir(self, path: Path) -> None:
        """Say that it is done."""


def answer(index: int, *, failed: bool = False):
    """A record of a row, with an answer that takes some room."""
    said = None if failed else f"answer {index} " + random.Random(index).randbytes(40).hex()
    return record(index, failed=failed, content=said)


def build(path: Path, monkeypatch, *, crashed: bool) -> Path:
    """A folder of two starts: failures of which some have become successes, and a part of several row groups.

    If it has crashed, a third start has left three journal files.
    """
    monkeypatch.setattr(parts, "ROW_GROUP_BYTES", 1)
    monkeypatch.setattr(parts, "_ROW_GROUP_ROWS", 3)
    monkeypatch.setattr(recovery, "PIECE_BYTES", 300)
    monkeypatch.setattr(parts, "_ROW_GROUP_MOST_BYTES", 1, raising=False)
    with opened(path, ROWS, Quick()) as store:
        asyncio.run(feed(store, [answer(index, failed=index % 4 == 1) for index in range(7)], part_mb=0.003, group=7))
    monkeypatch.undo()
    with opened(path, ROWS, Quick()) as store:
        again = [index for index in range(12) if store.is_open(index)]
        asyncio.run(feed(store, [answer(index, failed=index % 8 == 1) for index in again], part_mb=1))
    if crashed:
        with opened(path, ROWS, Quick()) as store:
            asyncio.run(_leave(store, [answer(index) for index in range(12, 19)]))
    return path


async def _leave(store, records) -> None:
    """Keep some records and be gone, before anything is sealed."""
    store.start(StoreConfig(flush_ms=1, part_mb=0.0006), lambda error: None)
    store.journal._seal = lambda sealed: None
    for one in records:
        await store.may_send(one.index)
        store.keep(one)
        await store.journal.settled()
    await asyncio.to_thread(store.abandon)


def contents(path: Path) -> Rows:
    """All that a folder holds, each row once, as its readers see it."""
    snapshot, found = Snapshot(path), {}
    for kind, own in (("results", "content"), ("failures", "error_type")):
        for row in snapshot.table(kind, [*SHOWN, own]).to_pylist():
            assert row["index"] not in found
            found[row["index"]] = {"kind": kind, **row}
    return found


def start(path: Path) -> tuple[Rows, list[int]]:
    """What a next run does before it sends anything: what it holds then, and the rows it names as exposed."""
    with opened(path, ROWS, Quick()) as store:
        exposed = store.recovered.exposed
        rows = contents(path)
        assert {index for index in range(ROWS) if not store.is_open(index)} >= {
            index for index, row in rows.items() if row["kind"] == "results"
        }
    return rows, exposed


def mend(path: Path, how: How = "salvage", fs: Fs | None = None) -> Repaired:
    """Repair a folder as the command does."""
    folder = RunFolder(path, fs or Quick())
    with folder.locked():
        return repair(folder, how)


def finish(path: Path) -> Rows:
    """Keep what is open, as a next run would; returns what the folder then holds."""
    with opened(path, ROWS, Quick()) as store:
        left = [answer(index) for index in range(ROWS) if store.is_open(index)]
        if left:
            asyncio.run(feed(store, left, part_mb=1, group=40))
    return contents(path)


class Damage(NamedTuple):
    """What was done to which file."""

    way: str
    victim: str
    detail: str


def damage(path: Path, dice: random.Random) -> Damage | None:
    """Damage a file of a folder in some way; None if that left it as it was."""
    names = [name for kind in VICTIMS.values() for pattern in kind for name in path.glob(pattern)]
    kinds = [[one for pattern in kind for one in sorted(path.glob(pattern))] for kind in VICTIMS.values()]
    victim = dice.choice(dice.choice([files for files in kinds if files]))
    way = dice.choice(WAYS)
    name, before = victim.relative_to(path).as_posix(), victim.read_bytes()
    if way == "delete":
        victim.unlink()
        return Damage(way, name, "")
    if way == "duplicate":
        return _duplicate(path, victim, name, dice)
    if way == "exchange":
        others = [one for one in names if one.parent == victim.parent and one != victim]
        if not others:
            return None
        other = dice.choice(sorted(others))
        after = other.read_bytes()
        other.write_bytes(before)
        victim.write_bytes(after)
        return Damage(way, name, other.name) if before != after else None
    after, detail = _changed(before, way, dice)
    victim.write_bytes(after)
    return Damage(way, name, detail) if after != before else None


def _duplicate(path: Path, victim: Path, name: str, dice: random.Random) -> Damage | None:
    """Copy a file under another name that such files may have."""
    number = dice.choice([1, 2, 3, 5, 8, 90])
    if victim.suffix == ".parquet":
        target = path / dice.choice(["results", "failures"]) / f"part-{dice.choice([0, 3, 7]):06d}-{number:06d}.parquet"
    elif victim.suffix == ".jl":
        target = victim.with_name(f"{dice.choice([0, 3, 7]):06d}-{number:06d}.jl")
    elif victim.parent.name == "_manifest" and victim.suffix == ".json":
        target = victim.with_name(f"{number + 5:020d}.json")
    else:
        return None
    if target.exists():
        return None
    shutil.copy(victim, target)
    return Damage("duplicate", name, target.relative_to(path).as_posix())


def _changed(data: bytes, way: str, dice: random.Random) -> tuple[bytes, str]:
    size = len(data)
    at = dice.randrange(size)
    length = dice.choice([1, 2, 8, 64, 512, size])
    if way == "flip":
        bit = 1 << dice.randrange(8)
        return data[:at] + bytes([data[at] ^ bit]) + data[at + 1 :], f"bit {bit} at {at} of {size}"
    if way == "zero":
        end = min(size, at + length)
        return data[:at] + bytes(end - at) + data[end:], f"{at} to {end} of {size}"
    if way == "truncate":
        return data[:at], f"at {at} of {size}"
    if way == "grow":
        return data + dice.randbytes(length), f"by {length}"
    middle = dice.randrange(at, size)
    return data[middle:] + data[at:middle] + data[:at], f"blocks at {at} and {middle} of {size}"


def noticed(path: Path) -> bool:
    """Whether the next start refuses the folder."""
    try:
        start(path)
    except FolderUnusable:
        return True
    return False


def problems(path: Path) -> list[str]:
    """What `verify` finds, as lines."""
    return [f"{problem.file}: {problem.what}" for problem in verify(RunFolder(path)).problems]


class Cut(BaseException):
    """The process ends here."""


class Cutting(Quick):
    """A disk at whose N-th operation the process ends: before it, or after it."""

    def __init__(self, at: int | None = None, *, after: bool = False) -> None:
        self.at, self.after, self.count = at, after, 0

    def _strike(self, name, *args):
        self.count += 1
        if self.count == self.at and not self.after:
            raise Cut
        result = getattr(Quick, name)(self, *args)
        if self.count == self.at:
            raise Cut
        return result


def _cutting(name):
    return lambda self, *args: self._strike(name, *args)


for _name in ("make_dir", "create", "write", "rename", "link", "unlink"):
    setattr(Cutting, _name, _cutting(_name))


def flip(path: Path, at: int) -> None:
    """Change a bit of a byte of a file; negative numbers count from its end."""
    data = bytearray(path.read_bytes())
    data[at] ^= 16
    path.write_bytes(data)
