"""Records as they come: batchrun.stream."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest
from commands import asked
from servers import simulated

import batchrun
from batchrun import mapping
from batchrun.errors import EndpointUnusable
from batchrun.types import Record


def keys(server, out):
    """A configuration that sends to a server."""
    base = {"base_url": server.base_url}
    return {"endpoint": base, "request": {"model": "simulated/small"}, "output": str(out)}


@pytest.fixture(scope="module")
def server():
    with simulated() as endpoint:
        yield endpoint


def streamed(rows, config, **how):
    """All records of a stream."""

    async def collect():
        return [record async for record in batchrun.stream(rows, config, **how)]

    return asyncio.run(collect())


def test_each_row_once(server, tmp_path):
    """Answered or failed, with its position."""
    records = streamed(["q0", None, "q2"], keys(server, tmp_path / "out"))
    assert {record.index: record.error_type for record in records} == {0: None, 1: "input_invalid", 2: None}


def test_no_rows(server, tmp_path):
    """Nothing comes, and nothing is written."""
    assert streamed([], keys(server, tmp_path / "out")) == []
    assert list(tmp_path.iterdir()) == []


def test_again(server, tmp_path):
    """The same call brings the same records, and sends nothing."""
    config = keys(server, tmp_path / "out")
    first = streamed(["again0", "again1"], config)
    sent = len(server.ledger())
    assert sorted(streamed(["again0", "again1"], config), key=_index) == sorted(first, key=_index)
    assert len(server.ledger()) == sent


def _index(record):
    return record.index


def test_failures_that_are_left_alone_come_too(tmp_path):
    """Each row is there once, whichever call has settled it."""
    with simulated({"faults": [{"kind": "server_error", "status": 400, "match": "q0"}]}) as server:
        config = keys(server, tmp_path / "out")
        streamed(["q0", "q1"], config)
        again = streamed(["q0", "q1"], config)
    assert {record.index: record.error_type for record in again} == {0: "request_rejected", 1: None}


def test_leaving_the_loop(tmp_path):
    """It ends the run; what was answered is kept, and the same call sends the rest alone."""
    rows = [f"q{number}" for number in range(3)]
    with simulated({"faults": [{"kind": "slow", "seconds": 3600, "match": "q2", "first": 1}]}) as server:
        config = keys(server, tmp_path / "out")

        async def look():
            async with aclosing(batchrun.stream(rows, config)) as records:
                return {(await anext(records)).index, (await anext(records)).index}

        assert asyncio.run(look()) == {0, 1}
        assert len(batchrun.read(tmp_path / "out").to_pandas()) == 2
        assert sorted(record.index for record in streamed(rows, config)) == [0, 1, 2]
        assert sorted(asked(server.ledger())) in (rows, [*rows, "q2"])


def test_what_ends_the_run_is_raised(tmp_path):
    """Where the next record would have come."""
    with simulated({"faults": [{"kind": "auth"}]}) as server, pytest.raises(EndpointUnusable) as ended:
        streamed(["q0"], keys(server, tmp_path / "out"))
    assert "is kept in" in ended.value.__notes__[-1]


def test_what_the_loop_body_raises_is_the_callers(server, tmp_path):
    """And the run is over when it arrives."""

    async def fail():
        async with aclosing(batchrun.stream(["q0", "q1"], keys(server, tmp_path / "out"))) as records:
            async for record in records:
                raise LookupError(record.index)

    with pytest.raises(LookupError):
        asyncio.run(fail())
    streamed(["q0", "q1"], keys(server, tmp_path / "out"))  # nobody holds the folder


def test_a_slow_loop_body_gets_every_record(server, tmp_path, monkeypatch):
    """The run waits for it, and goes on."""
    monkeypatch.setattr(mapping, "MOST_WAITING", 2)
    monkeypatch.setattr(mapping, "GO_ON_BELOW", 1)
    rows, config = [f"q{number}" for number in range(12)], keys(server, tmp_path / "out")
    records = streamed(rows, {**config, "limits": {"concurrency": 4}})
    assert sorted(record.index for record in records) == list(range(12))


class Hand:
    """Stands in for the controls of a run: who pauses it."""

    def __init__(self):
        self.paused_by = []

    def pause(self, who):
        self.paused_by.append(who)

    def resume(self, who):
        self.paused_by.remove(who)


def test_records_that_wait_pause_the_run():
    """More than 512 do, and it goes on when fewer than 128 are left."""

    async def slow():
        hand, flow = Hand(), mapping._Flow()
        flow.seen = bytearray(600)
        flow.steer(hand)
        paused = []
        for index in range(600):
            flow.row(Record(index=index, custom_id="c"))
            paused.append(bool(hand.paused_by))
        for _ in range(600):
            await flow.next()
            paused.append(bool(hand.paused_by))
        return paused

    assert asyncio.run(slow()) == [False] * 512 + [True] * (88 + 472) + [False] * 128
