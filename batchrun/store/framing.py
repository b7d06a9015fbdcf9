"""A line that can prove it is whole: `crc32 json`, the checksum seeded with where the line belongs.

Because of the seed a line of another run, epoch or segment (a stale disk block, a copied file) does not pass as ours.
"""

from __future__ import annotations

import zlib

_CRC_CHARS = 8


def seed_of(*place: object) -> int:
    """The checksum's start value for a place, e.g. `seed_of(run_id, epoch, segment)`."""
    return zlib.crc32("/".join(map(str, place)).encode())


def frame(line: bytes, seed: int) -> bytes:
    """Put the checksum before a line and a newline behind it; the line itself must hold no newline."""
    return b"%08x %s\n" % (zlib.crc32(line, seed), line)


def unframe(framed: bytes, seed: int) -> bytes | None:
    """Take the line out of its frame (newline included or not), or None if it is not whole or not ours."""
    framed = framed.removesuffix(b"\n")
    line = framed[_CRC_CHARS + 1 :]
    return line if framed[: _CRC_CHARS + 1] == b"%08x " % zlib.crc32(line, seed) else None
