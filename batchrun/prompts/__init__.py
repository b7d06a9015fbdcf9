"""Where rows come from: JSON lines, CSV and Parquet files, globs of them, and standard input."""

from __future__ import annotations

import difflib
import glob
import io
import os
import shutil
import stat
import sys
import tempfile
import weakref
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, cast

from batchrun.errors import PromptError
from batchrun.prompts import csv, jsonl

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import BinaryIO

    from batchrun.prompts.row import Rows, Skip
    from batchrun.types import Prompt

STDIN = "stdin"
KNOWN_SUFFIXES = ".jsonl .ndjson .json .csv (each also with .gz or .zst) and .parquet"

_READERS = {".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".csv": "csv", ".parquet": "parquet"}
_COMPRESSED = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_BUFFER_BYTES = 1 << 20


class Prompts:
    """The rows of some files in order, as often as they are asked for; one reading at a time.

    `files` are the paths, sorted for a glob (`stdin` alone for standard input); `size_bytes` is what they take on disk.
    """

    def __init__(self, files: list[str], *, spooled: BinaryIO | None = None) -> None:
        self.files = files
        self._spooled = spooled
        if spooled is None:
            self.size_bytes = sum(Path(name).stat().st_size for name in files)
        else:
            self.size_bytes = os.fstat(spooled.fileno()).st_size
            weakref.finalize(self, spooled.close)

    def read(self, skip: Callable[[int], bool] | None = None) -> Iterator[Prompt | PromptError]:
        """Yield every row in order, an unusable one as a PromptError, so that reading goes on after it.

        Args:
            skip: told a row's index (from 0 over all files, unusable rows count), whether to leave it out, undecoded.

        Raises:
            PromptError: a file as a whole cannot be read (permission, truncated compression, damaged Parquet).
        """
        index = 0
        for name in self.files:
            try:
                index = yield from self._read_file(name, index, skip)
            except OSError as error:
                why = error.strerror or str(error)
                remedy = "check that the file is whole and readable, then run it again"
                raise PromptError(f"cannot be read to its end: {why}", where=name, remedy=remedy) from error

    def _read_file(self, name: str, index: int, skip: Skip) -> Rows:
        with self._open(name) as file:
            head = file.read(4)
            file.seek(0)
            kind = _kind(name, head)
            if kind == "parquet":
                from batchrun.prompts import parquet

                return (yield from parquet.read(file, name, index, skip))
            read = csv.read if kind == "csv" else jsonl.read
            return (yield from read(_decompressed(file, name, head), name, index, skip))

    @contextmanager
    def _open(self, name: str) -> Iterator[BinaryIO]:
        if self._spooled is not None:
            self._spooled.seek(0)
            yield self._spooled
        else:
            with Path(name).open("rb", buffering=_BUFFER_BYTES) as file:
                yield file


def open_prompts(source: str) -> Prompts:
    """Find the files of an input.

    Args:
        source: a path, a glob, or `-` for standard input, which is kept in an unlinked temporary file, as it is read
            more than once (and so is any other pipe).

    Raises:
        PromptError: there is no such file, it is a folder or empty, or nobody knows how to read it.
    """
    if source == "-":
        return _spool(sys.stdin.buffer if sys.stdin else io.BytesIO())
    source = os.path.expanduser(source)  # noqa: PTH111 (Path's own raises for an unknown user)
    try:
        files = _files(source)
        if stat.S_ISFIFO(Path(files[0]).stat().st_mode):
            with Path(files[0]).open("rb") as pipe:
                return _spool(pipe)
        for name in files:
            _kind(name)
        prompts = Prompts(files)
    except OSError as error:
        raise PromptError(f"cannot be read: {error.strerror}", where=source, remedy="name a file to be read") from error
    if prompts.size_bytes == 0:
        raise PromptError("is empty", where=source, remedy="write one row a line into it, or name another input")
    return prompts


def _files(source: str) -> list[str]:
    path = Path(source)
    if path.is_dir():
        suffixes = sorted({_suffix(file.name) for file in path.iterdir()} & set(_READERS)) or [".jsonl"]
        remedy = f"name its files with a glob, in quotes: '{path / ('*' + suffixes[0] + '*')}'"
        raise PromptError("is a folder, not a file", where=source, remedy=remedy)
    if path.exists():
        return [source]
    if glob.has_magic(source):
        if files := sorted(name for name in glob.glob(source, recursive=True) if not Path(name).is_dir()):  # noqa: PTH207
            return files
        raise PromptError("matches no file", where=source, remedy=f"look at `ls {path.parent}`; quote the glob")
    raise PromptError("there is no such file", where=source, remedy=_nearest(path))


def _nearest(path: Path) -> str:
    if not path.parent.is_dir():
        return f"there is no folder {path.parent} either; give the path from here ({Path.cwd()}) or from /"
    names = os.listdir(path.parent)  # noqa: PTH208 (names are all that is needed)
    if near := difflib.get_close_matches(path.name, names, n=1):
        return f"did you mean {path.parent / near[0]}?"
    return f"look at `ls {path.parent}`"


def _suffix(name: str) -> str:
    return Path(name.lower().removesuffix(".gz").removesuffix(".zst")).suffix


def _kind(name: str, head: bytes = b"") -> str:
    if name == STDIN:
        return "parquet" if head == b"PAR1" else "jsonl"
    kind = _READERS.get(_suffix(name))
    if kind is None or (kind == "parquet" and not name.lower().endswith(".parquet")):
        remedy = f"known are {KNOWN_SUFFIXES}; rename it if it is one of them"
        raise PromptError("the suffix does not say what it holds", where=name, remedy=remedy)
    return kind


def _decompressed(file: BinaryIO, name: str, head: bytes) -> BinaryIO:
    """Look at the first bytes, not at the suffix: browsers and proxies unpack files without renaming them."""
    if head.startswith(_UTF16):
        remedy = "convert it: `iconv -f UTF-16 -t UTF-8 IN > OUT`"
        raise PromptError("is UTF-16, not UTF-8", where=name, remedy=remedy)
    for magic, codec in _COMPRESSED.items():
        if head.startswith(magic):
            import pyarrow as pa

            return cast("BinaryIO", io.BufferedReader(pa.CompressedInputStream(file, codec), _BUFFER_BYTES))
    return file


def _spool(pipe: BinaryIO) -> Prompts:
    file = cast("BinaryIO", tempfile.TemporaryFile(buffering=_BUFFER_BYTES))  # noqa: SIM115 (Prompts closes it)
    try:
        shutil.copyfileobj(pipe, file, _BUFFER_BYTES)
        file.flush()
    except OSError as error:
        with suppress(OSError):  # closing tries once more to write what did not fit
            file.close()
        remedy = "save it to a file and name that, or set TMPDIR to a larger disk"
        raise PromptError(f"cannot be kept: {error.strerror}", where=STDIN, remedy=remedy) from error
    if file.tell() == 0:
        file.close()
        raise PromptError("is empty", where=STDIN, remedy="pipe one JSON object a line into it")
    return Prompts([STDIN], spooled=file)
