"""Rows of a program, kept in a file beside their run folder: whatever ends the program, the run can go on.

The file is named for what is in it, so other rows never take the place of those that a run is reading.
"""

from __future__ import annotations

import os
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING

from batchrun.errors import FolderUnusable
from batchrun.store.folder import RunFolder
from batchrun.store.fs import Fs

if TYPE_CHECKING:
    from collections.abc import Iterable

_PIECE_BYTES = 1 << 20


def keep_input(folder: str, lines: Iterable[bytes]) -> Path | None:
    """Write lines into `FOLDER.input-<hash>.jsonl`, whole or not at all; None, and no file, if there are none.

    Raises:
        StoreError: the disk failed or is full.
    """
    path, fs = Path(folder).absolute(), Fs()
    _make_above(path, fs)
    aside = path.with_name(f".{path.name}.input.{os.urandom(4).hex()}.tmp")
    digest, waiting, size = blake2b(digest_size=8), bytearray(), 0
    fd = fs.create(aside)
    try:
        for line in lines:
            digest.update(line)
            waiting += line
            size += len(line)
            if len(waiting) > _PIECE_BYTES:
                fs.write(fd, bytes(waiting), aside)
                waiting.clear()
        fs.write(fd, bytes(waiting), aside)
        fs.flush(fd, aside)
        kept = path.with_name(f"{_start_of(path)}{digest.hexdigest()}.jsonl") if size else None
        if kept:
            fs.rename(aside, kept)
            fs.flush_dir(path.parent)
    finally:
        fs.close(fd)
        fs.unlink(aside)
    return kept


def input_of(folder: str) -> Path | None:
    """The file that `keep_input` made for the run in a folder, if there is one."""
    path = Path(folder).absolute()
    with suppress(FolderUnusable):
        source = Path(RunFolder(path).read_run_file().config.get("input", ""))
        if source.parent == path.parent and source.name.startswith(_start_of(path)):
            return source
    return None


def drop_input(path: Path) -> None:
    """Take away rows that no run asks for any more."""
    fs = Fs()
    fs.unlink(path)
    fs.flush_dir(path.parent)


def _start_of(path: Path) -> str:
    return f"{path.name}.input-"


def _make_above(path: Path, fs: Fs) -> None:
    for parent in reversed([parent for parent in path.parents if not parent.exists()]):
        fs.make_dir(parent, 0o777)
        fs.flush_dir(parent.parent)
