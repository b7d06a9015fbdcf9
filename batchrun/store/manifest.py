"""What is committed: numbered entries, each put where no entry was, never changed afterwards.

Theory of operation. `_manifest/00000000000000000007.json` exists or it does not: it is written aside, flushed, and
given its name by link(2), which fails if the name is taken. So of two writers that both believe to be alone exactly
one goes on, and a reader needs no lock. The entries, replayed in order, say which parts are committed, which journal
segments they have absorbed, when each start of the run began (its `epoch` is the number of its `start` entry) and how
it ended.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Literal

import msgspec

from batchrun.errors import FolderBusy, FolderUnusable
from batchrun.store.folder import repair_command
from batchrun.store.framing import frame, seed_of, unframe
from batchrun.store.fs import looking, read
from batchrun.types import Record

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from batchrun.store.folder import RunFile, RunFolder


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """One sealed Parquet file; `name` is relative to the run folder. `cost_nano_usd` sums what is priced in it.

    `checksums` are the CRC-32 of each row group, and last of the footer, with the byte where it ends: should the file
    be damaged, they tell which of its rows are not.
    """

    name: str
    bytes: int
    sha256: str
    checksums: list[tuple[int, int]] = []
    rows: int
    index_min: int | None = None
    index_max: int | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_nano_usd: int = 0


class Session(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How one start of the run ended, and what it measured of itself.

    `limited_s` are seconds by what bound them, `ceilings` how many requests might be in flight, from which second on.
    """

    exit_code: int
    cause: str
    wall_s: float = 0.0
    requests: int = 0
    free_retries: int = 0
    throttled: int = 0
    mended: int = 0
    limited_s: dict[str, float] = {}
    ceilings: list[tuple[float, int]] = []
    loop_lag_p99_s: float | None = None
    loop_lag_max_s: float | None = None


class Entry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One step of the folder's history.

    `start` claims an epoch; `part` commits the parts of one journal segment, and the finished `turns` of conversations
    that it holds no record of; `merge` puts parts in place of others; `input` says that from here on the rows are those
    of another input, with its `rows` and its `fingerprint`, and puts parts in place of those whose rows have moved;
    `exposed` names rows that were sent before a crash and not committed; `close` says how a start ended.
    """

    kind: Literal["start", "part", "merge", "input", "exposed", "close"]
    at: int
    epoch: int
    segment: int | None = None
    parts: list[Part] = []
    drops: list[str] = []
    dispatched_below: int = 0
    exposed: list[int] = []
    turns: list[Record] = []
    rows: int = 0
    fingerprint: str = ""
    session: Session | None = None


def now_us() -> int:
    """The time of day in microseconds since 1970, UTC."""
    return time.time_ns() // 1000


class Manifest:
    """The entries of a folder, and what they add up to. Finished turns are left on disk: they may be large."""

    def __init__(self, folder: RunFolder, run_id: str) -> None:
        self._folder = folder
        self._run_id = run_id
        self.entries: list[Entry] = []
        self.parts: dict[str, Part] = {}
        self.absorbed: set[tuple[int, int]] = set()
        self._with_turns: list[int] = []
        self._replay()

    def put(self, entry: Entry) -> None:
        """Commit an entry under the next number; raises FolderBusy if somebody else has taken it."""
        number = len(self.entries)
        data = frame(msgspec.json.encode(entry), seed_of(self._run_id, "manifest", number))
        try:
            self._folder.fs.put_if_absent(self._path(number), data)
        except FileExistsError as error:
            raise FolderBusy(
                f"{self._folder}: another run writes into it", remedy="wait for it to end, or name another folder"
            ) from error
        self._add(entry)

    def next_number(self) -> int:
        """The number of the entry that comes next."""
        return len(self.entries)

    def exposed(self) -> list[int]:
        """Rows that were last named as sent and not kept."""
        named = (entry.exposed for entry in reversed(self.entries) if entry.kind in {"exposed", "close", "input"})
        return next(named, [])

    def with_input(self, run: RunFile) -> RunFile:
        """What `run.json` says, with the input as it is since the last change of it."""
        last = next((entry for entry in reversed(self.entries) if entry.kind == "input"), None)
        return msgspec.structs.replace(run, rows=last.rows, fingerprint=last.fingerprint) if last else run

    def open_epochs(self) -> set[int]:
        """Starts that did not close, and whose exposed rows have not been named since."""
        epochs: set[int] = set()
        for entry in self.entries:
            if entry.kind == "start":
                epochs.add(entry.epoch)
            elif entry.kind == "exposed":
                epochs = {entry.epoch}
            elif entry.kind == "close":
                epochs.clear()
        return epochs

    def dispatched_below(self, epochs: set[int]) -> int:
        """The highest dispatch mark that the sealed segments of some epochs left."""
        return max((entry.dispatched_below for entry in self.entries if entry.epoch in epochs), default=0)

    @property
    def has_turns(self) -> bool:
        """Whether there is anything in `turns`."""
        return bool(self._with_turns)

    def turns(self) -> Iterator[Record]:
        """What was finished of conversations when a segment was sealed; of several records of a row the last counts."""
        for number in self._with_turns:
            yield from self._read(number).turns

    def _replay(self) -> None:
        with looking(self._folder.manifest):
            names = sorted(path.name for path in self._folder.manifest.iterdir() if path.suffix == ".json")
        names = [name for name in names if not name.startswith(".")]
        for number, name in enumerate(names):
            if name != self._path(number).name:
                raise _damaged(self._path(number), "is missing")
            self._add(self._read(number))

    def _read(self, number: int) -> Entry:
        return read_entry(self._path(number), self._run_id, number)

    def _add(self, entry: Entry) -> None:
        if entry.kind == "input":  # earlier turns are of rows that were counted in another way
            self._with_turns.clear()
        if entry.turns:
            self._with_turns.append(len(self.entries))
            entry = msgspec.structs.replace(entry, turns=[])
        self.entries.append(entry)
        for part in entry.parts:
            self.parts[part.name] = part
        for name in entry.drops:
            self.parts.pop(name, None)
        if entry.kind == "part" and entry.segment is not None:
            self.absorbed.add((entry.epoch, entry.segment))

    def _path(self, number: int) -> Path:
        return self._folder.manifest / f"{number:020d}.json"


def read_entry(path: Path, run_id: str, number: int) -> Entry:
    """The entry of a number; raises FolderUnusable if it is not whole or not this run's."""
    line = unframe(read(path), seed_of(run_id, "manifest", number))
    if line is None:
        raise _damaged(path, "does not match its checksum")
    try:
        return msgspec.json.decode(line, type=Entry)
    except msgspec.ValidationError as error:
        raise FolderUnusable(
            f"{path}: was written by a newer batchrun: {error}", remedy="pip install --upgrade batchrun-llm"
        ) from error


def _damaged(path: Path, what: str) -> FolderUnusable:
    return FolderUnusable(
        f"{path}: {what}: the folder's history is damaged, nothing was changed",
        remedy=repair_command(path.parent.parent),
    )
