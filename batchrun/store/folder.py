"""Names in a run folder, `run.json` that says what is being run, and the lock that keeps a second run out."""

from __future__ import annotations

import os
import platform
import re
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from batchrun.errors import FolderBusy, FolderUnusable
from batchrun.store.fs import Fs
from batchrun.store.schema import SCHEMA_VERSION

if TYPE_CHECKING:
    from collections.abc import Iterator

_OURS = {"run.json", "results", "failures", "report", "_journal", "_manifest", "_lock", ".run.json.tmp"}


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

    def __str__(self) -> str:
        return str(self.path)

    def exists(self) -> bool:
        """Whether a run lives here; raises FolderUnusable if something else does."""
        if self.path.is_symlink() or (self.path.exists() and not self.path.is_dir()):
            raise FolderUnusable(f"{self}: is not a folder", remedy="name another folder with -o")
        if self.run_file.exists():
            return True
        foreign = sorted({entry.name for entry in self.path.iterdir()} - _OURS) if self.path.exists() else []
        if foreign:
            raise FolderUnusable(
                f"{self}: holds files that are not a run's: {', '.join(foreign[:3])}",
                remedy="name an empty or a new folder with -o",
            )
        return False

    def make(self) -> None:
        """Make the folder and the rooms in it; what is there stays."""
        self.fs.make_dir(self.path)
        for folder in (self.results, self.failures, self.report, self.journal, self.manifest):
            self.fs.make_dir(folder)
        self.fs.flush_dir(self.path)
        self.fs.flush_dir(self.path.parent)

    def read_run_file(self) -> RunFile:
        """What `run.json` says; raises FolderUnusable if it is missing, damaged, or of a newer batchrun."""
        try:
            data = self.run_file.read_bytes()
        except OSError as error:
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
            return msgspec.json.decode(data, type=RunFile)
        except (msgspec.DecodeError, UnicodeDecodeError, AttributeError) as error:
            raise FolderUnusable(
                f"{self.run_file}: is damaged: {error}", remedy="restore it from a copy, or start a new folder with -o"
            ) from error

    def write_run_file(self, run: RunFile) -> None:
        """Put `run.json` in place, whole or not at all."""
        self.fs.replace(self.run_file, msgspec.json.format(msgspec.json.encode(run), indent=2) + b"\n")

    def write_report(self, name: str, data: bytes) -> None:
        """Put a file into `report/`, whole or not at all."""
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
            holder = {"pid": os.getpid(), "host": platform.node(), "since": datetime.now(UTC).isoformat("T", "seconds")}
            self.fs.overwrite(fd, msgspec.json.encode(holder) + b"\n", path)
            yield
        finally:
            self.fs.close(fd)


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
        holder = msgspec.json.decode(path.read_bytes())
        return f"process {holder['pid']} on {holder['host']} since {holder['since']}"
    except (OSError, msgspec.DecodeError, KeyError, TypeError):
        return "its process could not be read"
