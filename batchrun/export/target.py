"""Where an export is written to: standard output, or the user's file, which is seen whole or not at all."""

from __future__ import annotations

import codecs
import json
import os
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from batchrun.errors import ConfigError, StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator


class Sink:
    """A file that bytes go to, without a buffer; after a failure it takes everything and keeps nothing.

    A writer that is let go of would else try once more, and complain where nobody can catch it.
    """

    closed = False

    def __init__(self, file: BinaryIO, name: str) -> None:
        self._file, self._name = file, name
        self._broken = False
        self._bytes = 0

    def write(self, data: bytes) -> int:
        """Write all of it; raises StoreError, or BrokenPipeError if the reader has left."""
        self._bytes += len(data)
        try:
            view = memoryview(b"" if self._broken else self._shaped(data))
            while view:
                view = view[self._file.write(view) :]
        except BaseException as error:
            self._broken = True
            if not isinstance(error, OSError) or isinstance(error, BrokenPipeError):
                raise
            raise StoreError(f"{self._name}: {error.strerror}", remedy="free the disk, then type it again") from error
        return len(data)

    def _shaped(self, data: bytes) -> bytes:
        return data

    def tell(self) -> int:
        """How many bytes were written."""
        return self._bytes

    def flush(self) -> None:
        """There is nothing to flush."""

    def close(self) -> None:
        """Who opened the file closes it."""


class Terminal(Sink):
    """What could steer a terminal is shown there as JSON would write it."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        super().__init__(file, name)
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode

    def _shaped(self, data: bytes) -> bytes:
        text = self._decode(bytes(data))
        return "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text).encode()


@contextmanager
def opened(name: str, *, binary: bool) -> Iterator[Sink]:
    """Open a file for an export, `-` for standard output; a file that is there is replaced at the end of the block.

    Args:
        name: what the user typed.
        binary: whether what is written is nothing for a terminal.

    Raises:
        ConfigError: it cannot be written there.
        StoreError: the disk failed or is full.
    """
    path = Path(name).resolve()
    if name == "-":
        if sys.stdout is None:
            raise ConfigError("stdout is closed", remedy="name a file with -o")
        if binary and sys.stdout.isatty():
            raise ConfigError("Parquet is nothing for a terminal", remedy="name a file: -o answers.parquet")
        with open(sys.stdout.fileno(), "wb", buffering=0, closefd=False) as file:
            yield (Terminal if sys.stdout.isatty() else Sink)(file, "stdout")
    elif path.exists() and not path.is_file() and not path.is_dir():  # a pipe, /dev/null
        with _naming(name), path.open("wb", buffering=0) as file:
            yield Sink(file, name)
    else:
        with _replaced(path, name) as file:
            yield Sink(file, name)


@contextmanager
def _replaced(path: Path, name: str) -> Iterator[BinaryIO]:
    """A file aside that takes the place of `path` at the end of the block, if that ends well."""
    if path.is_dir():
        raise ConfigError(f"{name}: is a folder", remedy=f"name a file in it: -o {Path(name, 'answers.jsonl')}")
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with _naming(name):
        file = aside.open("wb", buffering=0)
    try:
        with file:
            yield file
            with _naming(name):
                os.fsync(file.fileno())
        with _naming(name):
            aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


@contextmanager
def _naming(name: str) -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        remedy = "name a file in a folder that is there and yours"
        raise ConfigError(f"{name}: cannot be written: {error.strerror}", remedy=remedy) from error
