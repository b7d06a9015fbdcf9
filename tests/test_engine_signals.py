"""Signals: the first lets what is in flight be answered, the second cancels it."""

from __future__ import annotations

import asyncio
import os
import signal
import threading

import pytest
from engines import Engine, completion
from waiting import until

from batchrun.engine.signals import stopped_by_signals
from batchrun.errors import Interrupted


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_first_signal_lets_what_is_in_flight_be_answered(number, exit_code):
    """Nothing new is sent; the exit code is the signal's."""

    async def main():
        engine = Engine(lambda _: (0.05, completion()), 1000, limits={"concurrency": 3})
        with stopped_by_signals(engine.pool):
            running = asyncio.create_task(engine.run())
            await until(lambda: engine.endpoint.in_flight == 3)
            os.kill(os.getpid(), number)
            await running
        return engine

    engine = asyncio.run(main())
    assert isinstance(engine.pool.cause, Interrupted)
    assert engine.pool.exit_code == exit_code
    assert len(engine.records) == len(engine.endpoint.sent)
    assert not engine.pool.hurried


def test_the_second_signal_cancels_what_is_in_flight():
    """And the run is in a hurry from then on."""

    async def main():
        engine = Engine(lambda _: (3600.0, completion()), 1000, limits={"concurrency": 3})
        with stopped_by_signals(engine.pool):
            running = asyncio.create_task(engine.run())
            await until(lambda: engine.endpoint.in_flight == 3)
            os.kill(os.getpid(), signal.SIGTERM)
            await until(lambda: engine.pool.cause is not None)
            os.kill(os.getpid(), signal.SIGINT)
            async with asyncio.timeout(10):
                await running
        return engine

    engine = asyncio.run(main())
    assert engine.pool.hurried
    assert engine.pool.exit_code == 143
    assert engine.pool.abandoned == {0, 1, 2}


def test_handlers_are_as_before_afterwards():
    """Whoever embeds a run keeps his own."""
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:

        async def main():
            with stopped_by_signals(Engine(lambda _: (0.0, completion()), 1).pool):
                assert signal.getsignal(signal.SIGTERM) is not signal.SIG_IGN

        asyncio.run(main())
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)


def test_outside_the_main_thread_no_handler_is_set():
    """There no signal arrives, and a run works all the same."""
    engines = []

    async def main():
        engine = Engine(lambda _: (0.0, completion()), 3)
        with stopped_by_signals(engine.pool):
            engines.append(await engine.run())

    thread = threading.Thread(target=lambda: asyncio.run(main()))
    thread.start()
    thread.join(10)
    assert len(engines[0].records) == 3
