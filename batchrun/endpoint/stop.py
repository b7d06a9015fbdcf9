"""When a stream is closed early: the text says something, is long enough, has ended its JSON, or goes round in circles.

Every rule takes time in proportion to the text, whatever the text: patterns run on RE2, the rest on a bounded tail.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from batchrun.config import StopStreamConfig

MATCH_CHARS = 8192
"""A pattern sees so much of the text before what is new: a longer match is not found."""

LOOP_CHARS = 200
"""A repetition of less than this is style: rulers, indentation, short lists."""

_LONGEST_UNIT_CHARS = 256
_LOOK_EVERY_CHARS = 64
_OPENING, _CLOSING = "{[", "}]"


class Stop:
    """The rules of one configuration, watching one stream."""

    def __init__(self, config: StopStreamConfig) -> None:
        self._chars, self._most_chars = 0, config.max_chars
        self._pattern = _Pattern(config.pattern) if config.pattern else None
        self._json = _Json() if config.json_complete else None
        self._loops = (_Loop(config.repetition), _Loop(config.repetition)) if config.repetition else None

    def strikes(self, visible: str, reasoning: str) -> bool:
        """Whether the stream is to be closed, given the text that is new; call it until it says so."""
        self._chars += len(visible)
        return (
            (self._most_chars is not None and self._chars >= self._most_chars)
            or (self._pattern is not None and self._pattern.strikes(visible))
            or (self._json is not None and self._json.ended(visible))
            or (self._loops is not None and (self._loops[0].strikes(visible) or self._loops[1].strikes(reasoning)))
        )


class _Pattern:
    """A regular expression over the end of the text."""

    def __init__(self, pattern: str) -> None:
        import pyarrow as pa
        from pyarrow import compute

        self._scalar, self._match = pa.scalar, compute.match_substring_regex
        self._pattern, self._tail = pattern, ""

    def strikes(self, text: str) -> bool:
        if not text:
            return False
        seen = self._tail + text
        self._tail = seen[-MATCH_CHARS:]
        return bool(self._match(self._scalar(seen.encode("utf-8", "replace").decode()), self._pattern).as_py())


class _Json:
    """Follows brackets and strings to the end of the first object or list; what stands before it is passed over."""

    def __init__(self) -> None:
        self._depth, self._in_string, self._escaped = 0, False, False

    def ended(self, text: str) -> bool:
        for char in text:
            if self._escaped:
                self._escaped = False
            elif self._in_string:
                self._escaped = char == "\\"
                self._in_string = char != '"'
            elif char in _OPENING:
                self._depth += 1
            elif self._depth and char == '"':
                self._in_string = True
            elif self._depth and char in _CLOSING:
                self._depth -= 1
                if not self._depth:
                    return True
        return False


class _Loop:
    """Whether the text ends in one piece, of at most 256 characters, many times over."""

    def __init__(self, times: int) -> None:
        self._times, self._tail, self._unseen = times, "", 0
        self._units = range(-(-LOOP_CHARS // times), _LONGEST_UNIT_CHARS + 1)

    def strikes(self, text: str) -> bool:
        self._unseen += len(text)
        self._tail += text
        if self._unseen < _LOOK_EVERY_CHARS:
            return False
        self._unseen = 0
        self._tail = tail = self._tail[-_LONGEST_UNIT_CHARS * self._times :]
        return any(
            tail[-unit:] == tail[-2 * unit : -unit] and tail.endswith(tail[-unit:] * self._times)
            for unit in self._units
        )
