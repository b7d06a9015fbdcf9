"""Server-sent events, cut out of bytes: whatever the chunking, the line ends and the manners of the server."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrun.endpoint.events import MOST_EVENT_BYTES, EventParser, EventTooLarge

WHOLE = {
    "one": (b"data: a\n\n", [(b"", b"a")]),
    "no space after the colon": (b"data:a\n\n", [(b"", b"a")]),
    "only the first space goes": (b"data:  a \n\n", [(b"", b" a ")]),
    "two": (b"data: a\n\ndata: b\n\n", [(b"", b"a"), (b"", b"b")]),
    "CRLF": (b"data: a\r\n\r\ndata: b\r\n\r\n", [(b"", b"a"), (b"", b"b")]),
    "CR": (b"data: a\r\rdata: b\r\r", [(b"", b"a"), (b"", b"b")]),
    "all ends mixed": (b"data: a\r\n\ndata: b\r\r\ndata: c\n\r\n", [(b"", b"a"), (b"", b"b"), (b"", b"c")]),
    "many blank lines": (b"\n\n\ndata: a\n\n\n\n", [(b"", b"a")]),
    "a byte-order mark": (b"\xef\xbb\xbfdata: a\n\n", [(b"", b"a")]),
    "comments": (b": keep-alive\n\n:\n\ndata: a\n: in between\n\n", [(b"", b"a")]),
    "an event of two lines": (b"data: a\ndata: b\n\n", [(b"", b"a\nb")]),
    "data without a colon": (b"data\ndata: b\n\n", [(b"", b"\nb")]),
    "a type": (b"event: error\ndata: a\n\ndata: b\n\n", [(b"error", b"a"), (b"", b"b")]),
    "a type without data": (b"event: ping\n\ndata: b\n\n", [(b"", b"b")]),
    "other fields": (b"id: 7\nretry: 3000\nnonsense\ndata: a\n\n", [(b"", b"a")]),
    "NUL and what is not UTF-8": (b"data: \x00\xff\n\n", [(b"", b"\x00\xff")]),
}


def parsed(*pieces: bytes) -> list:
    """All events of a stream that came in these pieces, with what its end left."""
    parser = EventParser()
    return [event for piece in pieces for event in parser.feed(piece)] + parser.rest()


@pytest.mark.parametrize("name", WHOLE)
def test_events_are_cut_out(name):
    """As the standard says."""
    content, events = WHOLE[name]
    assert parsed(content) == events


@pytest.mark.parametrize("name", WHOLE)
def test_bytes_may_come_one_by_one(name):
    """Line ends of two bytes and the mark at the beginning included."""
    content, events = WHOLE[name]
    assert parsed(*(content[at : at + 1] for at in range(len(content)))) == events


@given(
    st.sampled_from(sorted(WHOLE)),
    st.sampled_from(sorted(WHOLE)),
    st.lists(st.integers(0, 120), max_size=8),
)
def test_no_chunking_changes_what_is_read(first, second, cuts):
    """Two texts in a row, cut anywhere."""
    content = WHOLE[first][0] + WHOLE[second][0].removeprefix(b"\xef\xbb\xbf")
    places = [0, *sorted(cut for cut in cuts if cut < len(content)), len(content)]
    pieces = [content[start:end] for start, end in pairwise(places)]
    assert parsed(*pieces) == parsed(content)


@pytest.mark.parametrize("content", [b"data: a", b"data: a\n", b"data: a\r"])
def test_the_end_gives_an_event_without_its_blank_line(content):
    """Some servers end so."""
    assert parsed(content) == [(b"", b"a")]


def test_an_event_is_given_as_soon_as_its_blank_line_is_there():
    """Nothing waits for the next one."""
    parser = EventParser()
    assert parser.feed(b"data: a\n") == []
    assert parser.feed(b"\ndata: b") == [(b"", b"a")]


@pytest.mark.parametrize(
    "piece",
    [b"x" * 4096, b"data: " + b"x" * 4096 + b"\n", b": " + b"x" * 40],
    ids=["a line", "an event of many lines", "a comment"],
)
def test_what_never_ends_is_cut(piece):
    """A line and an event have the same bound; a comment line that goes on is a line."""
    with pytest.raises(EventTooLarge):
        parsed(*[piece] * (2 * MOST_EVENT_BYTES // len(piece)))


def test_a_megabyte_in_bytes_takes_no_quadratic_time():
    """The unfinished line grows in place: its buffer is not copied for every byte."""
    parser = EventParser()
    buffer = parser._line
    for _ in range(1000):
        parser.feed(b"x")
    assert parser._line is buffer
