"""The calls by which this process changes a folder, each handed to a rig before it reaches the system.

It is the system that fails here, below everything of ours: `store/fs.py` is under test like the rest. Only what goes
through `os` is seen, which is all that `store/fs.py` uses; calls about other folders pass as they are.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

CRASHED = 99
"""The exit code of a process that a rig has ended."""

UNKNOWN = ("copy_file_range", "pwritev", "rmdir", "symlink", "truncate", "writev")
"""Calls that change a disk, and that no rig knows."""


class Call(NamedTuple):
    """One call: `name` is create, write, resize, reserve, flush, flush_dir, rename, link, unlink or make_dir."""

    name: str
    path: Path
    target: Path | None = None
    data: bytes = b""
    offset: int = 0


Act = Callable[..., object]
"""Does the call; that of a write takes what to write in place of the call's data."""


class _Calls:
    def __init__(self, root: Path, handle: Callable[[Call, Act], object]) -> None:
        self.root, self.handle = f"{root}{os.sep}", handle
        self.mutex = threading.RLock()
        self.open_files: dict[int, tuple[Path, bool]] = {}
        self.real = {name: getattr(os, name) for name in SEEN if hasattr(os, name)}

    def _ours(self, path) -> bool:
        return not isinstance(path, int) and f"{os.fspath(path)}{os.sep}".startswith(self.root)

    def _hand(self, act, name, path, **more):
        with self.mutex:
            return self.handle(Call(name, Path(path), **more), act)

    def open(self, path, flags, mode=0o777, *, dir_fd=None):
        def act():
            return self.real["open"](path, flags, mode, dir_fd=dir_fd)

        if not self._ours(path) or dir_fd is not None:
            return act()
        creates = flags & os.O_CREAT and not os.path.lexists(path)
        fd = self._hand(act, "create", path) if creates else act()
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_DIRECTORY):
            self.open_files[fd] = (Path(path), bool(flags & os.O_DIRECTORY))
        return fd

    def close(self, fd):
        self.open_files.pop(fd, None)
        self.real["close"](fd)

    def write(self, fd, data):
        offset = os.lseek(fd, 0, os.SEEK_CUR) if fd in self.open_files else 0
        return self._write(fd, data, offset, lambda part: self.real["write"](fd, part))

    def pwrite(self, fd, data, offset):
        return self._write(fd, data, offset, lambda part: self.real["pwrite"](fd, part, offset))

    def _write(self, fd, data, offset, do):
        whole = bytes(data)
        return self._about(fd, "write", lambda part=whole: do(part), data=whole, offset=offset)

    def ftruncate(self, fd, size):
        return self._about(fd, "resize", lambda: self.real["ftruncate"](fd, size), offset=size)

    def posix_fallocate(self, fd, offset, size):
        return self._about(fd, "reserve", lambda: self.real["posix_fallocate"](fd, offset, size))

    def fdatasync(self, fd):
        return self._about(fd, "flush", lambda: self.real["fdatasync"](fd))

    def fsync(self, fd):
        name = "flush_dir" if self.open_files.get(fd, (None, False))[1] else "flush"
        return self._about(fd, name, lambda: self.real["fsync"](fd))

    def _about(self, fd, name, act, **more):
        return self._hand(act, name, self.open_files[fd][0], **more) if fd in self.open_files else act()

    def rename(self, source, target, **more):
        return self._named(source, "rename", lambda: self.real["rename"](source, target, **more), Path(target))

    def replace(self, source, target, **more):
        return self._named(source, "rename", lambda: self.real["replace"](source, target, **more), Path(target))

    def link(self, source, target, **more):
        return self._named(source, "link", lambda: self.real["link"](source, target, **more), Path(target))

    def unlink(self, path, **more):
        return self._named(path, "unlink", lambda: self.real["unlink"](path, **more))

    def mkdir(self, path, *mode, **more):
        return self._named(path, "make_dir", lambda: self.real["mkdir"](path, *mode, **more))

    def _named(self, path, name, act, target=None):
        return self._hand(act, name, path, target=target) if self._ours(path) else act()

    def refuse(self, name):
        def call(*arguments, **more):
            raise NotImplementedError(f"os.{name}: teach tests/system_calls.py what it does to the disk")

        return call


SEEN = [name for name in vars(_Calls) if not name.startswith("_") and name != "refuse"]


@contextmanager
def intercepted(root: Path, handle: Callable[[Call, Act], object]) -> Iterator[None]:
    """Hand each call that changes something below `root` to `handle(call, act)`, one at a time."""
    calls = _Calls(root, handle)
    unknown = {name: getattr(os, name) for name in UNKNOWN if hasattr(os, name)}
    for name in calls.real:
        setattr(os, name, getattr(calls, name))
    for name in unknown:
        setattr(os, name, calls.refuse(name))
    try:
        yield
    finally:
        for name, real in {**calls.real, **unknown}.items():
            setattr(os, name, real)


def names_of(root: Path, run: Callable[[], object]) -> list[str]:
    """The names of the calls that something takes, in order."""
    names: list[str] = []

    def note(call, act):
        names.append(call.name)
        return act()

    with intercepted(root, note):
        run()
    return names


_SPACE = {"create", "write", "reserve", "rename", "link", "make_dir"}
_ANY = {"create", "write", "reserve", "rename", "link", "make_dir", "flush", "flush_dir", "unlink", "resize"}

STRIKES = {
    "kill before": _ANY,
    "kill after": _ANY,
    "torn write": {"write"},
    "short write": {"write"},
    "interrupted": _ANY - {"rename", "link", "unlink", "make_dir"},
    "no space": _SPACE,
    "no space left": _SPACE,
    "input/output error": _ANY,
    "input/output errors": _ANY,
}
"""What each fault strikes. `no space` and `input/output error` pass, `no space left` and `… errors` stay."""

_ERRORS = {
    "interrupted": errno.EINTR,
    "no space": errno.ENOSPC,
    "no space left": errno.ENOSPC,
    "input/output error": errno.EIO,
    "input/output errors": errno.EIO,
}


class Fault:
    """Strikes the first call that it can strike from number `at` on: the process ends there, or the system says no."""

    def __init__(self, kind: str, at: int) -> None:
        self.kind, self.at = kind, at
        self.count = 0
        self.struck = False

    def __call__(self, call: Call, act: Act) -> object:
        self.count += 1
        stays = self.kind in {"no space left", "input/output errors"}
        if self.count < self.at or call.name not in STRIKES[self.kind] or (self.struck and not stays):
            return act()
        self.struck = True
        if self.kind in _ERRORS:
            raise OSError(_ERRORS[self.kind], os.strerror(_ERRORS[self.kind]))
        if self.kind == "short write":
            return act(call.data[: (len(call.data) + 1) // 2])
        if self.kind == "torn write":
            act(call.data[: len(call.data) // 2])
        elif self.kind == "kill after":
            act()
        os._exit(CRASHED)
