"""The only file that opens for writing, renames, links, unlinks and flushes: every way a run changes the disk.

All of it goes through one `Fs` object, so that a rig can count the operations, fail the N-th, or stop the process
there. An `OSError` leaves here as a `StoreError` that names the path. No link is followed, neither for writing nor for
reading, and nothing but a plain file is opened.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from batchrun.errors import FolderUnusable, StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

_AS_IT_IS = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL
_READ_BYTES = 1024 * 1024
_FULL_FLUSH: int = getattr(fcntl, "F_FULLFSYNC", 0)
"""On macOS only this reaches the disk: its fsync leaves data in the drive's own memory."""

_ELSEWHERE = "name another folder with -o"
_REMEDIES = {
    errno.EACCES: f"make the folder writable for you, or {_ELSEWHERE}",
    errno.EPERM: f"make the folder writable for you, or {_ELSEWHERE}",
    errno.EROFS: f"make the disk writable, or {_ELSEWHERE}",
    errno.EDQUOT: "free some of your quota, then run the same command again",
    errno.EMFILE: "allow more open files (`ulimit -n`), then run the same command again",
    errno.ENOENT: f"let the run folder be while a run is going on; put it back, or {_ELSEWHERE}",
    **dict.fromkeys((errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.ELOOP), _ELSEWHERE),
    **dict.fromkeys(
        (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS),
        "this disk lacks what keeps two runs apart: name a folder on a local one with -o",
    ),
}


class Fs:
    """Operations on a run folder. Folders are made 0700, files 0600."""

    def make_dir(self, path: Path, mode: int = 0o700) -> None:
        """Make a folder; one that is there is left as it is."""
        with _naming(path):
            with suppress(FileExistsError):
                path.mkdir(mode)
                _grant(path, 0o700)
            if not path.is_dir():
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))

    def create(self, path: Path) -> int:
        """Open a file that must not exist yet, for writing; returns its descriptor."""
        with _naming(path):
            return _opened(path, _NEW)

    def write(self, fd: int, data: bytes, path: Path) -> None:
        """Write all of `data`; a short write is continued."""
        with _naming(path):
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view) :]

    def flush(self, fd: int, path: Path) -> None:
        """Return when the file's data is on disk. Never call it again on a descriptor where it has failed."""
        with _naming(path):
            fcntl.fcntl(fd, _FULL_FLUSH) if _FULL_FLUSH else os.fdatasync(fd)

    def reserve(self, fd: int, size: int, path: Path) -> None:
        """Claim disk space for a file, where the system can."""
        with _naming(path):
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(fd, 0, size)
            else:
                self.write(fd, bytes(size), path)

    def close(self, fd: int) -> None:
        """Let go of a descriptor. What counts was flushed before: that closing fails says nothing about it."""
        try:
            os.close(fd)
        except OSError as error:
            if error.errno == errno.EBADF:
                raise

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
                self.close(fd)

    def replace(self, path: Path, data: bytes) -> None:
        """Put a whole file in place of another, so that a reader sees the old one or the new one."""
        aside = path.with_name(f".{path.name}.tmp")
        self.unlink(aside)
        self._write_new(aside, data)
        self.rename(aside, path)
        self.flush_dir(path.parent)

    def put_if_absent(self, path: Path, data: bytes) -> None:
        """Write a whole file under a name that must be free; raises FileExistsError if it is taken."""
        aside = path.with_name(f".{path.name}.{os.urandom(4).hex()}.tmp")  # of two writers each has its own
        try:
            self._write_new(aside, data)
            self.link(aside, path)
        finally:
            self.unlink(aside)
        self.flush_dir(path.parent)

    def lock(self, path: Path) -> int:
        """Take the kernel's lock on a file; raises BlockingIOError if another process has it. Closing frees it."""
        with _naming(path):
            fd = _opened(path, os.O_RDWR | os.O_CREAT)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BaseException:
                self.close(fd)
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
def reading(path: Path) -> Iterator[BinaryIO]:
    """Open a file to be read; raises FolderUnusable where that is not possible, or where it is no plain file."""
    with looking(path):
        refuse_special(path, path.lstat().st_mode)  # a pipe would wait, a device may act when it is opened
        with os.fdopen(os.open(path, os.O_RDONLY | _AS_IT_IS), "rb", _READ_BYTES) as file:
            yield file


def read(path: Path) -> bytes:
    """All that is in a file; see `reading`."""
    with reading(path) as file:
        return file.read()


@contextmanager
def looking(path: Path, *, remedy: str = "") -> Iterator[None]:
    """Turn what the system says where something cannot be looked at, or listed, into an `unreadable`."""
    try:
        yield
    except OSError as error:
        raise unreadable(path, error, remedy=remedy) from error


def unreadable(path: Path, error: OSError, *, remedy: str = "") -> StoreError:
    """What to raise where a file cannot be read: a disk that fails is no damage of the folder."""
    path = Path(error.filename) if isinstance(error.filename, str) else path
    if error.errno == errno.EIO:
        return StoreError(f"{path}: {_why(error)}", remedy="repair the disk, then run the same command again")
    remedy = remedy or "restore the file from a copy, or start a new folder with -o"
    return FolderUnusable(f"{path}: cannot be read: {_why(error)}", remedy=remedy)


def refuse_special(path: Path, mode: int) -> None:
    """Raise FolderUnusable for a link, a folder, a pipe or a device (by its `st_mode`) where a file should be."""
    if stat.S_ISREG(mode):
        return
    kinds = {
        stat.S_IFLNK: "a symbolic link",
        stat.S_IFDIR: "a folder",
        stat.S_IFIFO: "a pipe",
        stat.S_IFSOCK: "a socket",
    }
    raise FolderUnusable(
        f"{path}: is {kinds.get(stat.S_IFMT(mode), 'a device')} where a file of the run should be; nothing was changed",
        remedy="put the file itself in its place, or start a new folder with -o",
    )


def _opened(path: Path, flags: int) -> int:
    fd = os.open(path, flags | _AS_IT_IS, 0o600)
    _grant(fd, 0o600)
    return fd


def _grant(path: Path | int, mode: int) -> None:
    """Give the owner what an odd umask has taken from what was just made."""
    if os.stat(path).st_mode & mode != mode:  # noqa: PTH116 (a path or a descriptor)
        os.chmod(path, mode)  # noqa: PTH101


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Turn what the system refuses into a `StoreError`; the two refusals that are answers pass as they are."""
    try:
        yield
    except (FileExistsError, BlockingIOError):
        raise
    except OSError as error:
        remedy = _REMEDIES.get(error.errno or 0, "free or repair the disk, then run the same command again")
        raise StoreError(f"{path}: {_why(error)}", remedy=remedy) from error


def _why(error: OSError) -> str:
    return error.strerror or type(error).__name__
