"""What a store was given and what it promised, seen from outside of it, and whether a folder keeps that."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import traceback
import uuid
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pyarrow.parquet as pq
from stores import feed, opened, record
from system_calls import CRASHED, intercepted

from batchrun.errors import BatchrunError, StoreError
from batchrun.store.compacting import compact
from batchrun.store.folder import RunFolder

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from contextlib import AbstractContextManager

    from batchrun.store.keeper import Store
    from batchrun.types import Record

ROWS = 12
MAY_END = frozenset({0, CRASHED, 6})
_OF_BOTH = ["index", "custom_id", "request_key", "attempts", "cost_usd"]
LOOKED_AT = {"results": [*_OF_BOTH, "content"], "failures": [*_OF_BOTH, "error_type"]}


Tell = Callable[..., None]
Run = Callable[[Path, Tell], None]
"""A start of a run in a folder, which tells what it was told."""


class Broken(AssertionError):
    """A promise is broken."""


class Told:
    """What a driver has sent, handed over and been told is kept: rows as (index, whether it failed)."""

    def __init__(self, lines: Iterable[str] = ()) -> None:
        self.sent: Counter[tuple[int, bool]] = Counter()
        self.handed: Counter[tuple[int, bool]] = Counter()
        self.kept: Counter[tuple[int, bool]] = Counter()
        for line in lines:
            event, index, failed = line.split()
            self(event, int(index), failed=failed == "True")

    def __call__(self, event: str, index: int, *, failed: bool) -> None:
        getattr(self, event)[index, failed] += 1

    def __or__(self, later: Told) -> Told:
        both = Told()
        for event in vars(both):
            getattr(both, event).update(getattr(self, event) + getattr(later, event))
        return both


class Found(NamedTuple):
    """What a start finds: rows still to be sent, those it names as exposed, and the sizes of the visible parts."""

    still_open: set[int]
    exposed: set[int]
    parts: dict[str, int]


def some_records() -> list[Record]:
    """Successes, and a failure now and then."""
    return [record(index, failed=index % 5 == 3) for index in range(ROWS)]


def all_succeed() -> list[Record]:
    """Every row succeeds."""
    return [record(index) for index in range(ROWS)]


def start_of(path: Path) -> AbstractContextManager[Store]:
    """A start of the run; as in life, a run that finds none there gets an id of its own."""
    return opened(path, ROWS, run_id=uuid.uuid4().hex)


class Keeping(NamedTuple):
    """A whole start, which keeps those of the records whose rows are open."""

    records: list[Record]

    def __call__(self, path: Path, tell: Tell) -> None:
        with start_of(path) as store:
            asyncio.run(feed(store, [one for one in self.records if store.is_open(one.index)], tell=tell))


def compacting(path: Path, tell: Tell) -> None:  # noqa: ARG001 (nothing is kept here)
    """What `batchrun compact` does."""
    folder = RunFolder(path)
    with folder.locked():
        compact(folder)


def driven(path: Path, run: Run, handle=None, *, may_end: frozenset[int] = MAY_END) -> Told:
    """The same in a process of its own, which a fault may end anywhere; what it was told comes through a pipe."""
    reader, writer = os.pipe()
    write = os.write
    pid = os.fork()
    if not pid:
        code = CRASHED - 1
        try:
            with ExitStack() as held:
                if handle:
                    held.enter_context(intercepted(path.parent, handle))
                run(path, lambda *said, failed: write(writer, f"{said[0]} {said[1]} {failed}\n".encode()))
            code = 0
        except StoreError as error:
            code = error.exit_code
            write(2, f"{error}\n".encode()) if code not in may_end else None
        except BaseException:  # noqa: BLE001 (the process ends here, and says why)
            write(2, traceback.format_exc().encode())
        finally:
            os._exit(code)
    os.close(writer)
    with os.fdopen(reader) as file:
        told = Told(file)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code not in (may_end if handle else {0}):
        raise Broken(f"the process ended with {code}")
    return told


def rows_of(path: Path, room: str) -> list[dict[str, object]]:
    """What anyone finds in the visible parts of a room; each of them is whole at every moment."""
    return [
        row
        for part in sorted(path.glob(f"{room}/part-*"))
        for row in pq.ParquetFile(part).read(LOOKED_AT[room], use_threads=False).to_pylist()
    ]


def once(rows: Iterable[dict[str, object]]) -> dict[int, dict[str, object]]:
    """Rows by index; none is there twice."""
    rows = list(rows)
    by_index = {row["index"]: row for row in rows}
    if len(by_index) != len(rows):
        raise Broken(f"rows are there twice: {sorted(row['index'] for row in rows)}")
    return by_index


def assert_visible(path: Path) -> None:
    """Whatever has just happened: every visible part is whole, and no row is in two parts of the results."""
    try:
        once(rows_of(path, "results"))
        rows_of(path, "failures")
    except OSError as error:
        raise Broken(f"a visible part is not whole: {error}") from error


def recover(path: Path) -> Found:
    """What a start finds that sends nothing."""
    try:
        with start_of(path) as store:
            exposed = set(store.recovered.exposed)
            still_open = {index for index in range(ROWS) if store.is_open(index)}
    except BatchrunError as error:
        raise Broken(f"the same command again is refused: {error}") from error
    return Found(still_open, exposed, {part.name: part.stat().st_size for part in path.glob("*/part-*")})


def assert_kept(path: Path, before: Told, told: Told) -> None:
    """What was promised, in earlier starts and in the last, is there, once, as it was given, and nothing else.

    Recovering twice is recovering once.
    """
    assert_visible(path)
    found = recover(path)
    _agree(path, found, before, before | told)
    if recover(path) != found:
        raise Broken("recovering twice finds something else than recovering once")
    left = [str(one.relative_to(path)) for one in path.rglob("*") if one.name.endswith((".tmp", ".jl"))]
    if left:
        raise Broken(f"left behind: {left}")


def _agree(path: Path, found: Found, before: Told, told: Told) -> None:
    results = once(rows_of(path, "results"))
    failures = {row["index"]: row for row in rows_of(path, "failures") if row["index"] not in results}
    succeeded = {index for index, failed in told.kept if not failed}
    failed = {index for index, failed in told.kept if failed}
    unsettled = {index for index, _ in told.sent} - results.keys() - failures.keys()
    wrong = {
        "kept, and lost": succeeded - results.keys(),
        "kept as failures, and lost": failed - results.keys() - failures.keys(),
        "not open, and without a result": set(range(ROWS)) - results.keys() - found.still_open,
        "open, with a result": found.still_open & results.keys(),
        "sent, not kept, and not named as exposed": unsettled - found.exposed,
        "kept, and named as exposed": found.exposed & results.keys(),
    }
    if any(wrong.values()):
        raise Broken("; ".join(f"{what}: {sorted(rows)}" for what, rows in wrong.items() if rows))
    for index, row in results.items():
        _as_given(row, record(index), (index, False), told, failed_before=(index, True) in before.kept)
    for index, row in failures.items():
        _as_given(row, record(index, failed=True), (index, True), told, failed_before=False)


def _as_given(row, given: Record, key: tuple[int, bool], told: Told, *, failed_before: bool) -> None:
    if key not in told.handed:
        raise Broken(f"invented: {row}")
    most = told.handed[key[0], True] + told.handed[key[0], False]
    if not 1 + failed_before <= row["attempts"] <= most or row["cost_usd"] != given.index * row["attempts"] / 1e9:
        raise Broken(f"another history: {row}")
    if any(row[name] != getattr(given, name) for name in row if name not in {"attempts", "cost_usd"}):
        raise Broken(f"not as it was given: {row}")


def assert_done(path: Path, told: Told) -> None:
    """The same command again finishes, now that every row succeeds: each is there once, and nothing else is left."""
    again = Told()
    Keeping(all_succeed())(path, again)
    results, failures = once(rows_of(path, "results")), rows_of(path, "failures")
    if sorted(results) != list(range(ROWS)) or failures:
        raise Broken(f"it is done, with results {sorted(results)} and failures {failures}")
    if again.sent.keys() & told.kept.keys():
        raise Broken(f"kept, and sent again: {sorted(again.sent.keys() & told.kept.keys())}")
    if left := [
        str(one.relative_to(path)) for one in path.rglob("*") if one.parent.name == "_journal" or one.suffix == ".tmp"
    ]:
        raise Broken(f"left behind: {left}")


@contextmanager
def quick_folder() -> Iterator[Path]:
    """A folder in memory where there is one: what ends with the process needs no disk."""
    room = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=room if os.access(room, os.W_OK) else None) as folder:
        yield Path(folder)


def copied(source: Path, target: Path) -> Path:
    """A copy of a run folder."""
    return Path(shutil.copytree(source, target))
