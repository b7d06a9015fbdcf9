"""Content encodings, with a bound on what comes out and a demand for their end.

We ask for none (`Accept-Encoding: identity`); some peers encode all the same. A 200 KB body can inflate to 200 MB,
and a truncated gzip body of the right length looks whole to a decoder that does not insist on the end of the stream.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from batchrun.types import ErrorType

_GZIP, _ZLIB, _RAW = 16 + zlib.MAX_WBITS, zlib.MAX_WBITS, -zlib.MAX_WBITS


class UnpackError(Exception):
    """The content cannot be unpacked; `error_type` says how it counts."""

    def __init__(self, message: str, error_type: ErrorType) -> None:
        super().__init__(message)
        self.error_type: ErrorType = error_type


def unpack(content: bytes, encoding: str, most_bytes: int) -> bytes:
    """Undo a Content-Encoding (`identity`, `gzip`, `deflate`); raises UnpackError for others, damage and excess."""
    encoding = encoding.strip().lower()
    if encoding in {"", "identity"}:
        return content
    if encoding in {"gzip", "x-gzip"}:
        return _inflate(content, _GZIP, most_bytes)
    if encoding == "deflate":  # zlib by the standard; some peers send the bare stream
        try:
            return _inflate(content, _ZLIB, most_bytes)
        except UnpackError as error:
            if error.error_type != "response_unreadable":
                raise
            return _inflate(content, _RAW, most_bytes)
    raise UnpackError("the answer is encoded in a way that was not asked for", "response_unreadable")


def _inflate(content: bytes, window: int, most_bytes: int) -> bytes:
    pieces: list[bytes] = []
    room = most_bytes
    while True:
        inflater = zlib.decompressobj(window)
        try:
            piece = inflater.decompress(content, room + 1)
        except zlib.error as error:
            raise UnpackError("the answer is not in its stated encoding", "response_unreadable") from error
        room -= len(piece)
        if room < 0:
            raise UnpackError(f"the answer unpacks to more than {most_bytes >> 20} MiB", "response_too_large")
        pieces.append(piece)
        if not inflater.eof:
            raise UnpackError("the answer breaks off inside its encoding", "response_truncated")
        content = inflater.unused_data
        if not content or window != _GZIP:
            return b"".join(pieces)
