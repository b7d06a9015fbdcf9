"""An HTTP answer as it came, and its JSON as a lenient reader takes it."""

from __future__ import annotations

import json
import math
from typing import Any

import msgspec

MOST_MENDED_BYTES = 4 * 1024 * 1024
"""JSON that only a lenient reader understands is taken up to this size: each value becomes an object in memory."""

_HEAD_CHARS = 500


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """An HTTP answer as it came: header names in lower case, content unpacked, the key taken out."""

    status: int
    headers: dict[str, str]
    content: bytes
    latency_s: float

    @property
    def text(self) -> str:
        r"""The content as text; a byte that is not UTF-8 is written as `\xff`, which is in no valid JSON."""
        return self.content.decode("utf-8", "backslashreplace")


def is_success(status: int) -> bool:
    """Whether a status says success; the content may still say otherwise."""
    return 200 <= status < 300  # noqa: PLR2004


def lenient_json(content: bytes) -> Any:
    """A JSON value in spite of a byte-order mark, NaN, numbers that no float holds, or half a surrogate pair.

    Raises:
        ValueError: it is no JSON even so, or too large or too deep for a second look.
    """
    if len(content) > MOST_MENDED_BYTES:
        raise ValueError("too large")
    try:
        return _mended(json.loads(content.decode("utf-8-sig", "replace"), parse_constant=lambda _: None))
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def head(text: str) -> str:
    """The beginning of a foreign text on one line, without control characters."""
    return "".join(c if c.isprintable() else " " for c in text[:_HEAD_CHARS]).strip()


def _mended(value: Any) -> Any:
    """A value that can be written as JSON again: half a surrogate pair becomes U+FFFD, an infinite number null."""
    if isinstance(value, str):
        return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list):
        return [_mended(item) for item in value]
    if isinstance(value, dict):
        return {_mended(key): _mended(item) for key, item in value.items()}
    return value
