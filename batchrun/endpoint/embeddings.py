"""The vector of an embeddings answer: a list of numbers, or base64 of little-endian 32-bit floats.

Source: OpenAI's embeddings reference, `encoding_format`; Fireworks answers with lists.
"""

from __future__ import annotations

import base64
import binascii
import struct

import msgspec

_FLOAT_BYTES = 4
_MOST = 3.4028234e38
"""What a 32-bit float, the column's type, can hold."""


class _Vector(msgspec.Struct):
    embedding: list[float] | str


_decode = msgspec.json.Decoder(list[_Vector]).decode


def first_vector(data: msgspec.Raw) -> list[float | None] | None:
    """The first vector of `data`; None where there is none, or it is empty or holds what is no number."""
    try:
        vectors = _decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if not vectors:
        return None
    vector = vectors[0].embedding
    numbers = _unpacked(vector) if isinstance(vector, str) else vector
    return [*numbers] if numbers and all(abs(number) <= _MOST for number in numbers) else None


def _unpacked(text: str) -> list[float]:
    try:
        content = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return []
    if len(content) % _FLOAT_BYTES:
        return []
    return [*struct.unpack(f"<{len(content) // _FLOAT_BYTES}f", content)]
