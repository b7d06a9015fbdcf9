"""The file behind a Parquet writer: written in large pieces, counted and hashed on the way."""

from __future__ import annotations

import hashlib
import zlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from batchrun.store.folder import RunFolder

_WRITE_BYTES = 1024 * 1024


class Sink:
    """The file that pyarrow writes to, in many small pieces: counts and hashes what passes, writes in large ones."""

    def __init__(self, folder: RunFolder, path: Path) -> None:
        self._fs, self._path = folder.fs, path
        self._fs.unlink(path)
        self._fd = self._fs.create(path)
        self._sha256 = hashlib.sha256()
        self._held = bytearray()
        self._crc32 = 0
        self.bytes = 0
        self.checksums: list[tuple[int, int]] = []
        self.closed = False

    def write(self, data: bytes) -> int:
        """Take some bytes; they reach the file when there are enough of them."""
        self._held += data
        self._crc32 = zlib.crc32(data, self._crc32)
        self.bytes += len(data)
        if len(self._held) >= _WRITE_BYTES:
            self._write_held()
        return len(data)

    def _write_held(self) -> None:
        data, self._held = bytes(self._held), bytearray()
        self._sha256.update(data)
        self._fs.write(self._fd, data, self._path)

    def mark(self) -> None:
        """Say that a piece ends here that can be used without those after it."""
        self.checksums.append((self.bytes, self._crc32))
        self._crc32 = 0

    def flush(self) -> None:
        """Nothing needs to be on disk before `finish`."""

    def close(self) -> None:
        """Close the file, whatever has reached it; it may be said twice."""
        if not self.closed:
            self.closed = True
            self._fs.close(self._fd)

    def finish(self) -> str:
        """Flush to disk, close, and return the SHA-256 of all that was written."""
        self._write_held()
        self._fs.flush(self._fd, self._path)
        self.close()
        return self._sha256.hexdigest()
