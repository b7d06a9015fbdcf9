"""What is looked at before anything in a run folder is believed: who may write there, and whether all is what it seems.

A link, a pipe or a device in place of a file of ours would have a run write elsewhere, or wait for ever. Where others
may write they could lay one at any moment, so such a folder is refused; where only its owner may, one look is enough.
"""

from __future__ import annotations

import os
import shlex
import stat
from typing import TYPE_CHECKING

from batchrun.errors import FolderUnusable
from batchrun.store.fs import looking, refuse_special

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from contextlib import AbstractContextManager
    from pathlib import Path

_ELSEWHERE = "name another folder with -o"
_OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH


def is_folder(path: Path) -> bool:
    """Whether a folder is there, or a link to one; raises FolderUnusable if it is something else."""
    with _looking(path):
        try:
            mode = path.stat().st_mode
        except FileNotFoundError:
            if not path.is_symlink():
                return False
            raise
    if not stat.S_ISDIR(mode):
        raise FolderUnusable(f"{path}: is not a folder", remedy=_ELSEWHERE)
    return True


def look_into(rooms: Iterable[Path], files: Iterable[Path]) -> Mapping[Path, list[str]]:
    """The names of what is in each of the rooms that are there.

    Raises:
        FolderUnusable: a room is a link or no folder, one of the files is a link or no file, or a room holds either.
    """
    for path in files:
        _refuse_unless_file(path)
    return {room: list(_names(room)) for room in rooms if _is_room(room)}


def refuse_open_to_others(folder: Path, rooms: Iterable[Path]) -> None:
    """Raise FolderUnusable for a folder, or a room in it, that somebody else owns or may write to."""
    with _looking(folder):
        if folder.is_symlink() and folder.lstat().st_uid not in {0, os.geteuid()}:
            raise FolderUnusable(f"{folder}: is a link that somebody else has made", remedy=_ELSEWHERE)
        found = {path: path.stat() for path in (folder, *rooms)}
    for path, status in found.items():
        if status.st_uid != os.geteuid():
            remedy = f"run it as the user who owns the folder, or {_ELSEWHERE}"
            raise FolderUnusable(f"{path}: belongs to another user, who could change it during a run", remedy=remedy)
    if others := [str(path) for path, status in found.items() if status.st_mode & _OTHERS_MAY_WRITE]:
        raise FolderUnusable(
            f"{', '.join(others)}: other users may write there, and could change what a run keeps",
            remedy=shlex.join(["chmod", "go-w", *others]),
        )


def _is_room(path: Path) -> bool:
    with _looking(path):
        mode = _mode(path)
    if mode is None or stat.S_ISDIR(mode):
        return mode is not None
    problem = "is a symbolic link" if stat.S_ISLNK(mode) else "is not a folder"
    raise FolderUnusable(
        f"{path}: {problem}, where a folder of the run should be; nothing was changed",
        remedy=f"put the folder itself in its place, or {_ELSEWHERE}",
    )


def _names(room: Path) -> Iterator[str]:
    with _looking(room), os.scandir(room) as entries:
        for entry in entries:
            if not entry.is_file(follow_symlinks=False):
                _refuse_unless_file(room / entry.name, may_be_folder=True)
            yield entry.name


def _refuse_unless_file(path: Path, *, may_be_folder: bool = False) -> None:
    """A folder within a room is let be if its name is none of ours: desktops and notebooks leave such."""
    with _looking(path):
        mode = _mode(path)
    ours = path.name.startswith("part-") or path.name.endswith((".tmp", ".jl", ".json", ".reserve"))
    if mode is not None and not (may_be_folder and stat.S_ISDIR(mode) and not ours):
        refuse_special(path, mode)


def _mode(path: Path) -> int | None:
    try:
        return path.lstat().st_mode
    except FileNotFoundError:
        return None


def _looking(path: Path) -> AbstractContextManager[None]:
    return looking(path, remedy=f"look at `ls -ld {shlex.quote(str(path))}`, or {_ELSEWHERE}")
