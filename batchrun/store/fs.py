"""The only file that opens for writing, renames, links, unlinks and flushes: every way a run changes the disk.

All of it goes through one `Fs` object, so that a rig can count the operations, fail the N-th, or stop the process
there. An `OSError` leaves here as a `StoreError` that names the path.
"""

from __future__ import annotations

import fcntl
import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from batchrun.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Fs:
    """Operations on a run folder. Folders are made 0700, files 0600."""

    def make_dir(self, path: Path) -> None:
        """Make a folder and its parents; one that is there is left as it is."""
        with _naming(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.mkdir(mode=0o700, exist_ok=True)

    def create(self, path: Path) -> int:
        """Open a file that must not exist yet, for writing; returns its descriptor."""
        with _naming(path):
            return os.open(path, _NEW, 0o600)

    def write(self, fd: int, data: bytes, path: Path) -> None:
        """Write all of `data`; a short write is continued."""
        with _naming(path):
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view) :]

    def flush(self, fd: int, path: Path) -> None:
        """Return when the file's data is on disk. Never call it again on a descriptor where it has failed."""
        with _naming(path):
            if sys.platform == "darwin":
                fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
            else:
                os.fdatasync(fd)

    def reserve(self, fd: int, size: int, path: Path) -> None:
        """Claim disk space for a file, where the system can."""
        with _naming(path):
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(fd, 0, size)
            else:
                self.write(fd, bytes(size), path)

    def close(self, fd: int) -> None:
        """Close a descriptor."""
        os.close(fd)

    def rename(self, source: Path, target: Path) -> None:
        """Give a finished file its name, in place of one that is there."""
        with _naming(target):
            os.rename(source, target)  # noqa: PTH104 (the call by its name)

    def link(self, source: Path, target: Path) -> None:
        """Give a file a second name; raises FileExistsError if the name is taken."""
        with _naming(target):
            os.link(source, target)

    def unlink(self, path: Path) -> None:
        """Take a name away; one that is gone already is fine."""
        with _naming(path):
            path.unlink(missing_ok=True)

    def flush_dir(self, path: Path) -> None:
        """Return when the names in a folder are on disk."""
        with _naming(path):
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)

    def replace(self, path: Path, data: bytes) -> None:
        """Put a whole file in place of another, so that a reader sees the old one or the new one."""
        aside = path.with_name(f".{path.name}.tmp")
        self.unlink(aside)
        self._write_new(aside, data)
        self.rename(aside, path)
        self.flush_dir(path.parent)

    def put_if_absent(self, path: Path, data: bytes) -> None:
        """Write a whole file under a name that must be free; raises FileExistsError if it is taken."""
        aside = path.with_name(f".{path.name}.tmp")
        self.unlink(aside)
        self._write_new(aside, data)
        self.link(aside, path)
        self.unlink(aside)
        self.flush_dir(path.parent)

    def lock(self, path: Path) -> int:
        """Take the kernel's lock on a file; raises BlockingIOError if another process has it. Closing frees it."""
        with _naming(path):
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BaseException:
                os.close(fd)
                raise
            return fd

    def overwrite(self, fd: int, data: bytes, path: Path) -> None:
        """Put `data` in place of all that a small open file holds."""
        with _naming(path):
            os.ftruncate(fd, 0)
            os.pwrite(fd, data, 0)

    def _write_new(self, path: Path, data: bytes) -> None:
        fd = self.create(path)
        try:
            self.write(fd, data, path)
            self.flush(fd, path)
        finally:
            self.close(fd)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Turn what the system refuses into a `StoreError`; the two refusals that are answers pass as they are."""
    try:
        yield
    except (FileExistsError, BlockingIOError):
        raise
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise StoreError(f"{path}: {why}", remedy="free or repair the disk, then run the same command again") from error
