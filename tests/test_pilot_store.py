"""Rows that are sent before others of a lower index: what a crash exposed is named all the same."""

from __future__ import annotations

import asyncio

from stores import opened, record

from batchrun.config import StoreConfig
from batchrun.store.manifest import Session

ENDED = Session(exit_code=4, cause="the pilot is done")


def pilot(store, kept=(), *, then=()):
    """A start that sends rows 3, 50 and 90 early, and rows after them, and keeps some of all these."""

    async def go():
        store.start(StoreConfig(flush_ms=1), lambda error: None, early=frozenset({3, 50, 90}))
        for index in (3, 50, 90, *then):
            await store.may_send(index)
        for index in kept:
            store.keep(record(index))
        await store.journal.settled()

    asyncio.run(go())


def exposed_after(path, *, rows=5000):
    """What the next start finds exposed."""
    with opened(path, rows) as store:
        return store.recovered.exposed


def test_a_crash_in_the_pilot_names_its_rows_alone(tmp_path):
    """Not those between them, none of which was sent."""
    with opened(tmp_path / "run", 5000) as store:
        pilot(store, [50])
        store.abandon()
    assert exposed_after(tmp_path / "run") == [3, 90]


def test_a_crash_after_the_pilot_names_rows_in_their_order(tmp_path):
    """Up to the mark, which is no further ahead for the pilot's rows."""
    with opened(tmp_path / "run", 5000) as store:
        pilot(store, [3, 50, 90], then=[0])
        store.abandon()
    exposed = exposed_after(tmp_path / "run")
    assert exposed[0] == 0
    assert exposed[-1] < 90
    assert not {3, 50} & set(exposed)


def test_a_clean_end_exposes_nothing(tmp_path):
    """But for what was in flight then."""
    with opened(tmp_path / "run", 5000) as store:
        pilot(store, [50, 90])
        store.close(ENDED, [3])
    assert exposed_after(tmp_path / "run") == [3]
    with opened(tmp_path / "run", 5000) as store:
        pilot(store, [3])
        store.close(ENDED, [])
    assert exposed_after(tmp_path / "run") == []


def test_what_was_exposed_before_stays_named(tmp_path):
    """A second crash forgets nothing of the first."""
    with opened(tmp_path / "run", 5000) as store:
        pilot(store, [3, 50, 90], then=[0])
        store.abandon()
    before = exposed_after(tmp_path / "run")
    with opened(tmp_path / "run", 5000) as store:
        asyncio.run(_start(store, {4000}))
        store.abandon()
    assert exposed_after(tmp_path / "run") == [*before, 4000]


async def _start(store, early):
    store.start(StoreConfig(flush_ms=1), lambda error: None, early=frozenset(early))
