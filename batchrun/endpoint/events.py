"""Server-sent events, cut out of raw bytes as they arrive: any chunking, any line ends, comments, events of many lines.

Source: the WHATWG HTML standard, "Server-sent events". Where it says to drop what the end of the stream leaves
unfinished, `rest` gives it: some servers end without a last line break.
"""

from __future__ import annotations

MOST_EVENT_BYTES = 1024 * 1024
_BOM = b"\xef\xbb\xbf"

Event = tuple[bytes, bytes]
"""The event's type (b"" for the usual kind, a message) and its data."""


class EventTooLarge(ValueError):
    """A line or an event is longer than MOST_EVENT_BYTES."""


class EventParser:
    """Takes the bytes of a stream piece by piece, and gives the events that are complete by then."""

    def __init__(self) -> None:
        self._line = bytearray()  # a line without its end; grows in place, as a peer may send it byte by byte
        self._type = b""
        self._data: list[bytes] = []
        self._data_bytes = 0
        self._begun = self._after_cr = False

    def feed(self, piece: bytes) -> list[Event]:
        """The events that this piece completes; raises EventTooLarge."""
        if self._after_cr or b"\r" in piece:
            piece = self._with_plain_ends(piece)
        if b"\n" not in piece:
            self._line += piece
            self._check(len(self._line))
            return []
        if self._line:
            piece = bytes(self._line) + piece
        *lines, unfinished = piece.split(b"\n")
        self._line = bytearray(unfinished)
        self._check(len(unfinished))
        if not self._begun:
            self._begun, lines[0] = True, lines[0].removeprefix(_BOM)
        return self._events(lines)

    def rest(self) -> list[Event]:
        """What the end of the stream leaves: an event without its blank line, perhaps without a whole line."""
        lines, self._line = [bytes(self._line), b""], bytearray()
        if not self._begun:
            lines[0] = lines[0].removeprefix(_BOM)
        return self._events(lines)

    def _events(self, lines: list[bytes]) -> list[Event]:
        events: list[Event] = []
        data = self._data
        for line in lines:
            if line.startswith(b"data:"):
                value = line[6:] if line.startswith(b"data: ") else line[5:]
                data.append(value)
                self._data_bytes += len(value)
                self._check(self._data_bytes)
            elif not line:
                if data:
                    events.append((self._type, data[0] if len(data) == 1 else b"\n".join(data)))
                    data.clear()
                self._type, self._data_bytes = b"", 0
            elif line.startswith(b"event:"):
                self._type = line[6:].strip()
            elif line == b"data":
                data.append(b"")
        return events

    def _with_plain_ends(self, piece: bytes) -> bytes:
        """CRLF and CR become LF; of a pair that two pieces share the first makes the line end."""
        if self._after_cr and piece.startswith(b"\n"):
            piece = piece[1:]
        self._after_cr = piece.endswith(b"\r")
        return piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    @staticmethod
    def _check(size: int) -> None:
        if size > MOST_EVENT_BYTES:
            raise EventTooLarge(f"an event of the stream is longer than {MOST_EVENT_BYTES >> 20} MiB")
