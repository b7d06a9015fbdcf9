"""A journal segment after a crash: the torn tail is passed over, damage to what was committed is named."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stores import opened, record

from batchrun.config import StoreConfig
from batchrun.errors import FolderUnusable
from batchrun.store.folder import segment_name
from batchrun.store.framing import frame, seed_of, unframe
from batchrun.store.replay import SegmentReader

RUN_ID = "0" * 32


@pytest.fixture(scope="module")
def segment(tmp_path_factory):
    """A segment of six rows in three groups, as a killed process left it."""
    path = tmp_path_factory.mktemp("run") / "out"

    async def leave(store):
        store.start(StoreConfig(flush_ms=1), lambda error: None)
        for index in range(6):
            store.keep(record(index))
            if index % 2:
                await store.journal.settled()
        await asyncio.to_thread(store.abandon)

    with opened(path, 6) as store:
        asyncio.run(leave(store))
    return path / "_journal" / segment_name(0, 1)


def rows_of(path, data: bytes, **options) -> list[int]:
    path.write_bytes(data)
    reader = SegmentReader(path, RUN_ID, 0, 1)
    return [one.index for block in reader.blocks(10_000, **options) for one in block]


def groups(data: bytes) -> list[int]:
    """Where each group begins."""
    return [
        at for at in range(len(data)) if data[at - 1 : at] == b"\n" and data[at:].split(b"\n")[0].find(b'"group"') > 0
    ]


def test_a_whole_segment_gives_all_its_rows(segment, tmp_path):
    """The fixture itself."""
    assert rows_of(tmp_path / "copy", segment.read_bytes()) == [0, 1, 2, 3, 4, 5]


def test_a_segment_cut_anywhere_gives_the_rows_before_the_cut(segment, tmp_path):
    """A torn tail, whatever its length, costs only the rows in it."""
    data = segment.read_bytes()
    ends = [at + 1 for at in range(len(data)) if data[at : at + 1] == b"\n"]
    for cut in range(0, len(data), 7):
        whole = sum(b'"index"' in data[start:end] for start, end in zip([0, *ends], ends, strict=False) if end <= cut)
        assert rows_of(tmp_path / "copy", data[:cut]) == list(range(whole))


def test_zeroes_in_the_last_group_are_a_torn_tail(segment, tmp_path):
    """Blocks of an unfinished write may come out of order: what is whole behind a hole in the last group is kept."""
    data = segment.read_bytes()
    at = groups(data)[-1]
    first = data.index(b"\n", at) + 1
    second = data.index(b"\n", first) + 1
    assert rows_of(tmp_path / "copy", data[:first] + bytes(second - first - 1) + b"\n" + data[second:]) == [
        0,
        1,
        2,
        3,
        5,
    ]


def test_damage_before_a_group_that_was_confirmed_is_refused(segment, tmp_path):
    """A later group line says that those bytes were on disk: this is damage, and it is named with its byte."""
    data = segment.read_bytes()
    at = groups(data)[1] + 150
    with pytest.raises(FolderUnusable, match="damaged at byte"):
        rows_of(tmp_path / "copy", data[:at] + b"~" + data[at + 1 :])


def test_damage_within_the_bytes_that_count_is_refused(segment, tmp_path):
    """What the next segment says of this one decides also about its last group, and about missing bytes."""
    data = segment.read_bytes()
    at = groups(data)[-1] + 150
    for broken in (data[:at] + b"~" + data[at + 1 :], data[:-10]):
        with pytest.raises(FolderUnusable, match="damaged at byte"):
            rows_of(tmp_path / "copy", broken, limit=len(data))


def test_bytes_beyond_those_that_count_are_ignored(segment, tmp_path):
    """A group that was written again into the next segment is not taken twice."""
    data = segment.read_bytes()
    assert rows_of(tmp_path / "copy", data, limit=groups(data)[-1]) == [0, 1, 2, 3]


def test_a_segment_of_another_place_gives_nothing(segment):
    """The checksum is seeded with run, epoch and segment; a file without its first line is damaged."""
    for place in (("1" * 32, 0, 1), (RUN_ID, 1, 1), (RUN_ID, 0, 2)):
        assert list(SegmentReader(segment, *place, lenient=True).blocks(10_000)) == []
        with pytest.raises(FolderUnusable, match="damaged at byte 0"):
            list(SegmentReader(segment, *place).blocks(10_000))


@settings(max_examples=200)
@given(st.binary().filter(lambda line: b"\n" not in line), st.integers(0, 2**32 - 1), st.data())
def test_no_single_changed_byte_passes_a_frame(line, seed, data):
    """A framed line is itself again, and nothing else is."""
    framed = frame(line, seed)
    assert unframe(framed, seed) == line
    at = data.draw(st.integers(0, len(framed) - 2))
    other = data.draw(st.integers(0, 255).filter(lambda byte: byte != framed[at]))
    assert unframe(framed[:at] + bytes([other]) + framed[at + 1 :], seed) is None


def test_the_seed_tells_places_apart():
    """Neighbouring epochs and segments do not share a seed."""
    assert len({seed_of("run", epoch, segment) for epoch in range(30) for segment in range(30)}) == 900
