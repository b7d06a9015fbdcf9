"""Names in a run folder, `run.json` that says what is being run, and the lock that keeps a second run out."""

from __future__ import annotations

import os
import platform
import re
import shlex
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from batchrun.errors import FolderBusy, FolderUnusable, StoreError
from batchrun.store.framing import frame, seed_of, unframe
from batchrun.store.fs import Fs, looking, read
from batchrun.store.inspection import is_folder, look_into, refuse_open_to_others
from batchrun.store.schema import SCHEMA_VERSION

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

REPLACED, QUARANTINE = "_replaced", "_quarantine"
_OURS = {
    "run.json",
    "results",
    "failures",
    "report",
    "_journal",
    "_manifest",
    "_replaced",
    "_quarantine",
    "_lock",
    ".run.json.tmp",
}


class RunFile(msgspec.Struct, frozen=True, kw_only=True):
    """`run.json`: what is being run. `fingerprint` is a hash over the requests and ids of all `rows` of the input."""

    schema_version: int = SCHEMA_VERSION
    run_id: str
    created_at: str
    batchrun_version: str
    rows: int
    models: dict[str, int]
    fingerprint: str
    config: dict[str, Any]
    prices: dict[str, Any]


class RunFolder:
    """The paths of one run folder, its `run.json` and its lock."""

    def __init__(self, path: str | Path, fs: Fs | None = None) -> None:
        self.path = Path(path)
        self.fs = fs or Fs()
        self.results = self.path / "results"
        self.failures = self.path / "failures"
        self.report = self.path / "report"
        self.journal = self.path / "_journal"
        self.manifest = self.path / "_manifest"
        self.run_file = self.path / "run.json"
        self.run_copy = self.manifest / "run.json.copy"
        self.run_id = ""
        """As it was last read or written: every part names it."""
        self.rooms = (self.results, self.failures, self.report, self.journal, self.manifest)
        self._held: tuple[int, int] | None = None

    @property
    def replaced_rooms(self) -> list[Path]:
        """Where answers are that a changed input has no use for, if there are any."""
        return [path for path in (self.path / REPLACED / "results", self.path / REPLACED / "failures") if path.exists()]

    def __str__(self) -> str:
        return str(self.path)

    def exists(self) -> bool:
        """Whether a run lives here. To be asked before anything is written.

        Raises:
            FolderUnusable: something else lives here, or only half of a run; others may write here; or what is in a
                file's place is no file.
        """
        if not is_folder(self.path):
            return False
        there = os.path.lexists(self.run_file)  # before the rooms, which a run that is just beginning makes first
        found = self.look(whole=there)
        refuse_open_to_others(self.path, found)
        entries = [name for name in found.get(self.manifest, ()) if name.endswith(".json")]
        if not there and (entries or self._answers(found)) and not os.path.lexists(self.run_file):
            raise FolderUnusable(
                f"{self.run_file}: is missing, and answers are here; nothing was changed",
                remedy=repair_command(self.path),
            )
        with looking(self.path):
            foreign = sorted({entry.name for entry in self.path.iterdir()} - _OURS)
        if foreign and not there:
            raise FolderUnusable(
                f"{self}: holds files that are not a run's: {', '.join(foreign[:3])}",
                remedy="name an empty or a new folder with -o",
            )
        return there

    def look(self, *, whole: bool = True) -> Mapping[Path, list[str]]:
        """The names in each of the rooms, none of them a link or anything else that has no place there.

        Raises:
            FolderUnusable: one is; or, if it should be `whole`, a room or its history is missing.
        """
        replaced = self.path / REPLACED
        rooms = (*self.rooms, replaced, replaced / "results", replaced / "failures")
        found = look_into(rooms, [self.run_file, self.path / "_lock", self.path / ".run.json.tmp"])
        for room in self.rooms if whole else ():
            if room not in found and room != self.report:
                mkdir = f"mkdir -m 700 {shlex.quote(str(room))}"
                remedy = f"restore it from a copy; if it was empty there: {mkdir}"
                raise FolderUnusable(f"{room}: is missing; nothing was changed", remedy=remedy)
        if whole and self._answers(found) and not any(name.endswith(".json") for name in found[self.manifest]):
            raise FolderUnusable(
                f"{self.manifest}: is empty, and answers are here that it should list; nothing was changed",
                remedy=repair_command(self.path),
            )
        return found

    def _answers(self, found: Mapping[Path, list[str]]) -> bool:
        """Whether there are any; the empty first parts and what has no entry yet of a first start are none."""
        parts = {name for room in (self.results, self.failures) for name in found.get(room, ())}
        parts = {name for name in parts - {part_name(0, 0)} if name.startswith("part-")}
        return bool(parts) or any(name.endswith(".jl") for name in found.get(self.journal, ()))

    def make(self) -> None:
        """Make the folder, those above it, and the rooms in it; what is there stays.

        A folder is made when the names of those above it are on disk. So of what a start has made that was killed only
        the lowest name may not be, and is flushed by the next.
        """
        with looking(self.path):
            new = [path for path in self.path.parents if not path.exists()]
        above = [self.path, *new][-1].parent.parent
        if os.access(above, os.R_OK, effective_ids=True):  # else nothing there is ours
            self.fs.flush_dir(above)
        for path in reversed(new):
            self.fs.make_dir(path, 0o777)
            self.fs.flush_dir(path.parent)
        self.fs.make_dir(self.path)
        for room in self.rooms:
            self.fs.make_dir(room)
        refuse_open_to_others(self.path, self.look(whole=False))  # somebody may have been quicker
        self.fs.flush_dir(self.path)
        self.fs.flush_dir(self.path.parent)

    def make_room(self, room: str) -> None:
        """Make a room by its path in the folder; one that is there may have been made by a start that was killed."""
        path = self.path
        for name in room.split("/"):
            path /= name
            self.fs.make_dir(path)
            self.fs.flush_dir(path.parent)

    def read_run_file(self) -> RunFile:
        """What `run.json` says, or its copy if they differ; raises FolderUnusable if missing, damaged, or newer."""
        try:
            data = read(self.run_file)
        except FolderUnusable as error:
            if not isinstance(error.__cause__, FileNotFoundError):
                raise
            raise FolderUnusable(
                f"{self}: is not a run folder (no readable run.json)", remedy="give the folder that a run wrote"
            ) from error
        try:
            version = msgspec.json.decode(data).get("schema_version")
            if isinstance(version, int) and version > SCHEMA_VERSION:
                raise FolderUnusable(
                    f"{self}: was written by a newer batchrun (schema {version}, this one knows {SCHEMA_VERSION})",
                    remedy="pip install --upgrade batchrun-llm",
                )
            run = msgspec.json.decode(data, type=RunFile)
        except (msgspec.DecodeError, UnicodeDecodeError, AttributeError) as error:
            raise FolderUnusable(
                f"{self.run_file}: is damaged: {error}; nothing was changed", remedy=repair_command(self.path)
            ) from error
        run = self.read_run_copy() or run
        self.run_id = run.run_id
        return run

    def read_run_copy(self) -> RunFile | None:
        """What the copy of `run.json` says, which has a checksum; None if it is missing or damaged."""
        with suppress(FolderUnusable, msgspec.DecodeError):
            line = unframe(read(self.run_copy), seed_of("run.json"))
            return msgspec.json.decode(line, type=RunFile) if line else None
        return None

    def write_run_file(self, run: RunFile) -> None:
        """Put `run.json` in place, whole or not at all, after a copy, as without it nothing could be proven."""
        self.run_id = run.run_id
        self.fs.replace(self.run_copy, frame(msgspec.json.encode(run), seed_of("run.json")))
        self.fs.replace(self.run_file, msgspec.json.format(msgspec.json.encode(run), indent=2) + b"\n")

    def write_report(self, name: str, data: bytes) -> None:
        """Put a file into `report/`, whole or not at all."""
        self.make_room(self.report.name)
        self.fs.replace(self.report / name, data)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder; raises FolderBusy if another run does. The kernel frees the lock when the process ends."""
        path = self.path / "_lock"
        try:
            fd = self.fs.lock(path)
        except BlockingIOError as error:
            raise FolderBusy(
                f"{self}: another run holds it ({_holder(path)})", remedy="wait for it to end, or name another folder"
            ) from error
        try:
            status = os.fstat(fd)
            self._held = (status.st_dev, status.st_ino)
            self.refuse_if_taken()
            holder = {"pid": os.getpid(), "host": platform.node(), "since": datetime.now(UTC).isoformat("T", "seconds")}
            self.fs.overwrite(fd, msgspec.json.encode(holder) + b"\n", path)
            yield
        finally:
            self._held = None
            self.fs.close(fd)

    def refuse_if_taken(self) -> None:
        """Raise StoreError if the lock that this run holds is not the folder's any more.

        A hand may have removed it, or the whole folder. Whoever begins there then makes a lock of its own before it
        looks at the journal: what was flushed before this returns is seen by the next run.
        """
        if self._held is None:
            return
        path = self.path / "_lock"
        try:
            with looking(path):
                status = path.lstat()
        except FolderUnusable as error:
            remedy = "let the run folder be while a run is going on; run the same command again to go on"
            raise StoreError(f"{path}: has been taken away while the run was going on", remedy=remedy) from error
        if (status.st_dev, status.st_ino) != self._held:
            raise FolderBusy(
                f"{self}: another run has taken it over ({_holder(path)})", remedy="wait for it to end, then look again"
            )


def repair_command(path: Path) -> str:
    """What to type where the run folder `path` is damaged."""
    return f"batchrun verify {shlex.quote(str(path))} --repair salvage"


def part_name(epoch: int, segment: int) -> str:
    """The name of the part that a journal segment becomes."""
    return f"part-{epoch:06d}-{segment:06d}.parquet"


def segment_name(epoch: int, segment: int) -> str:
    """The name of a journal segment."""
    return f"{epoch:06d}-{segment:06d}.jl"


def segment_numbers(name: str) -> tuple[int, int] | None:
    """Epoch and segment of a segment's or a part's name, None for any other name."""
    match = re.fullmatch(r"(?:part-)?(\d{6,})-(\d{6,})\.(?:jl|parquet)", name)
    return (int(match[1]), int(match[2])) if match else None


def _holder(path: Path) -> str:
    try:
        holder = msgspec.json.decode(read(path))
        return f"process {holder['pid']} on {holder['host']} since {holder['since']}"
    except (FolderUnusable, msgspec.DecodeError, KeyError, TypeError):
        return "its process could not be read"
