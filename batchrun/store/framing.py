"""A line that can prove it is whole: `crc32 json`, the checksum seeded with where the line belongs.

Because of the seed a line of another run, epoch or segment (a stale disk block, a copied file) does not pass as ours.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_CRC_CHARS = 8


def seed_of(*place: object) -> int:
    """The checksum's start value for a place, e.g. `seed_of(run_id, epoch, segment)`."""
    return zlib.crc32("/".join(map(str, place)).encode())


def frame(line: bytes, seed: int) -> bytes:
    """Put the checksum before a line and a newline behind it; the line itself must hold no newline."""
    return frames([line], seed)


def frames(lines: Iterable[bytes], seed: int) -> bytes:
    """Frame lines of one place, one behind the other; each is copied once."""
    pieces: list[bytes] = []
    for line in lines:
        pieces += (b"%08x " % zlib.crc32(line, seed), line, b"\n")
    return b"".join(pieces)


def unframe(framed: bytes, seed: int) -> bytes | None:
    """Take the line out of its frame (newline included or not), or None if it is not whole or not ours."""
    line = framed[_CRC_CHARS + 1 : -1 if framed.endswith(b"\n") else None]
    return line if framed[: _CRC_CHARS + 1] == b"%08x " % zlib.crc32(line, seed) else None
