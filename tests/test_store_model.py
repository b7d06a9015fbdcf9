"""The store on a disk that loses all that it may lose when the power goes: whatever was said to be kept is there."""

from __future__ import annotations

import hashlib
import inspect
import multiprocessing
import random
import re
import shutil
import sys
from concurrent.futures import ProcessPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import pytest
from disk_model import Disk, Recorder, lay_out
from promises import (
    ROWS,
    Broken,
    Keeping,
    Told,
    all_succeed,
    assert_done,
    assert_kept,
    compacting,
    quick_folder,
    some_records,
    start_of,
)
from stores import record, started
from system_calls import SEEN, Call, intercepted

from batchrun.store import fs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from promises import Run, Tell

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
    pytest.mark.skipif(sys.platform == "darwin", reason="a flush is no call of `os` there"),
]
OUT = "new/deep/out"
"""The run folder on the disk; those above it are new, too."""


class Scene(NamedTuple):
    """A start that was recorded: what was on the disk before it, if anything, and what was told before it."""

    name: str
    before: Path | None
    told: Told
    log: list[Call | tuple[str, int, bool]]
    root: Path


def recorded(root: Path, run: Run, fault=None) -> list[Call | tuple[str, int, bool]]:
    """The log of a start on the disk at `root`."""
    recorder = Recorder(fault)
    with intercepted(root, recorder):
        run(root / OUT, recorder.tell)
    return recorder.log


def scene(
    folder: Path, name: str, run: Run, *, before: Path | None = None, told: Told | None = None, fault=None
) -> Scene:
    """Record a start, on a copy of what was there before."""
    root = folder / name
    shutil.copytree(before, root) if before else root.mkdir()
    return Scene(name, before, told or Told(), recorded(root, run, fault), root)


def abandoning(path: Path, tell: Tell) -> None:
    """A start that is left in a hurry: nothing is sealed at its end."""
    with start_of(path) as store:
        started(store)
        for one in some_records()[:7]:
            tell("handed", one.index, failed=one.error_type is not None)
            store.keep(one)
        store.abandon()
        for one in some_records()[:7]:
            tell("kept", one.index, failed=one.error_type is not None)


class FailsOnce:
    """One flush of the journal fails."""

    def __init__(self, at: int) -> None:
        self.left = at

    def __call__(self, call: Call, act):
        if call.name == "flush" and call.path.suffix == ".jl":
            self.left -= 1
            if not self.left:
                raise OSError(5, "Input/output error")
        return act()


def scenes(folder: Path) -> Iterator[Scene]:
    """Every kind of start there is."""
    fresh = scene(folder, "fresh", Keeping(some_records()))
    yield fresh
    told = told_in(fresh.log)
    yield scene(folder, "failures-leave", Keeping(all_succeed()), before=fresh.root, told=told)
    hurried = scene(folder, "hurried", abandoning)
    yield hurried
    yield scene(folder, "resumed", Keeping(all_succeed()), before=hurried.root, told=told_in(hurried.log))
    yield scene(folder, "flush-fails", Keeping(some_records()), fault=FailsOnce(3))
    yield scene(folder, "compacted", compacting, before=fresh.root, told=told)
    twice = [*some_records(), *some_records()[:5], *(record(index, failed=True) for index in range(5, ROWS))]
    yield scene(folder, "answered-twice", Keeping(twice))


def told_in(log) -> Told:
    """What the driver was told."""
    told = Told()
    for entry in log:
        if not isinstance(entry, Call):
            told(entry[0], entry[1], failed=entry[2])
    return told


def stale_blocks(folder: Path) -> list[bytes]:
    """What blocks of the disk may hold from before: the journal of another run."""
    records = [msgspec.structs.replace(one, content="of another run") for one in all_succeed()]
    log = recorded(folder / "another", Keeping(records))
    return [call.data for call in log if isinstance(call, Call) and call.name == "write" and call.path.suffix == ".jl"]


class State(NamedTuple):
    """What is left on the disk after a number of entries of a scene's log."""

    scene: Scene
    entries: int
    there: dict[Path, bytes | None]

    @property
    def digest(self) -> bytes:
        told = [entry for entry in self.scene.log[: self.entries] if not isinstance(entry, Call)]
        return hashlib.sha256(repr((sorted(self.there.items()), told)).encode()).digest()


def states(of: Scene, count: int, stale: list[bytes], seed: int) -> list[State]:
    """So many different states: half with nothing, or all, of what is not safe after some entry, half by chance.

    Of the latter every other is in the middle of a write to the journal, where most is in doubt.
    """
    randomly = random.Random(seed)
    ends = [(entries, wish) for entries in range(len(of.log) + 1) for wish in ("nothing", "all")]
    randomly.shuffle(ends)
    writes = [at for at, entry in enumerate(of.log, 1) if entry[0] == "write" and entry.path.suffix in {".jl", ".tmp"}]
    writes = [at for at in writes if of.log[at - 1].path.suffix == ".jl"] or writes
    found: dict[bytes, State] = {}
    while len(found) < count:
        by_chance = randomly.choice([randomly.randint(0, len(of.log)), randomly.choice(writes)])
        entries, wish = ends.pop() if ends and len(found) % 2 else (by_chance, None)
        calls = [entry for entry in of.log[:entries] if isinstance(entry, Call)]
        there = Disk(of.root, calls, of.before).after_power_cut(randomly, stale, wish)
        state = State(of, entries, there)
        found.setdefault(state.digest, state)
    return list(found.values())


def check(state: State, *, to_the_end: bool = False) -> None:
    """Start in a state, twice: all promises are kept."""
    before, told = state.scene.told, told_in(state.scene.log[: state.entries])
    with quick_folder() as folder:
        lay_out({folder / path.relative_to(state.scene.root): content for path, content in state.there.items()})
        try:
            assert_kept(folder / OUT, before, told)
            if to_the_end:
                assert_done(folder / OUT, before | told)
        except Exception as error:
            calls = [entry for entry in state.scene.log[: state.entries] if isinstance(entry, Call)]
            last = f"{calls[-1].name} {calls[-1].path.name}" if calls else "nothing"
            raise Broken(f"{state.scene.name}, power cut after {last}: {error}") from error


def check_all(some: list[State]) -> int:
    """On both cores, every tenth to the end; how many they were."""
    with ProcessPoolExecutor(2, multiprocessing.get_context("fork")) as pool:
        return len(list(pool.map(_check, enumerate(some), chunksize=20)))


def _check(numbered: tuple[int, State]) -> None:
    check(numbered[1], to_the_end=numbered[0] % 10 == 0)


def left_of(root: Path, *calls: Call) -> set[tuple[tuple[str, bytes], ...]]:
    """Everything that may be left of a disk after some calls, by the names of the files."""
    disk, randomly = Disk(root, calls), random.Random(1)
    left = (disk.after_power_cut(randomly, [b"old"], None) for _ in range(200))
    return {tuple((path.name, content) for path, content in there.items() if content is not None) for there in left}


def test_what_is_not_flushed_may_be_lost_or_in_pieces(tmp_path):
    """The name without the data, the data in part or as it was before, and neither."""
    path = tmp_path / "a"
    left = left_of(tmp_path, Call("create", path), Call("write", path, data=b"new"))
    assert left >= {(), (("a", b""),), (("a", b"ne"),), (("a", b"new"),), (("a", b"old"),), (("a", b"\0\0\0"),)}


def test_a_file_and_its_name_are_flushed_apart(tmp_path):
    """Each flush is good for what it names."""
    path = tmp_path / "a"
    written = (Call("create", path), Call("write", path, data=b"new"))
    flushed, named = Call("flush", path), Call("flush_dir", tmp_path)
    assert left_of(tmp_path, *written, flushed) == {(), (("a", b"new"),)}
    assert {left and left[0][0] for left in left_of(tmp_path, *written, named)} == {"a"}
    assert left_of(tmp_path, *written, flushed, named) == {(("a", b"new"),)}


def test_a_flush_that_failed_is_not_mended_by_the_next(tmp_path):
    """The data stays in doubt."""
    path = tmp_path / "a"
    calls = (Call("create", path), Call("flush_dir", tmp_path), Call("write", path, data=b"new"))
    assert (("a", b""),) in left_of(tmp_path, *calls, Call("flush_failed", path), Call("flush", path))


def test_no_call_of_the_store_goes_unseen():
    """What `store/fs.py` asks of the system is seen by the rigs, unless it changes nothing that a crash could undo."""
    called = set(re.findall(r"\bos\.(\w+)\(", inspect.getsource(fs)))
    assert called - set(SEEN) <= {"chmod", "fdopen", "stat", "strerror", "urandom"}


def test_some_states():
    """The short form: some states of every scene."""
    with quick_folder() as folder:
        stale = stale_blocks(folder)
        for one in scenes(folder):
            for state in states(one, 4, stale, seed=1):
                check(state)


@pytest.mark.rig
def test_many_states(reached):
    """The long form."""
    with quick_folder() as folder:
        stale = stale_blocks(folder)
        some = [state for one in scenes(folder) for state in states(one, 300, stale, seed=2)]
        reached("T2", "states after a power cut", check_all(some), at_least=2000)
