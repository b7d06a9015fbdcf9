"""SIGINT and SIGTERM: the first lets what is in flight be answered, the second cancels it, a third kills."""

from __future__ import annotations

import asyncio
import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from batchrun.errors import Interrupted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from batchrun.engine.pool import Pool


@contextmanager
def stopped_by_signals(pool: Pool) -> Iterator[None]:
    """While the block runs, signals stop the pool. Does nothing outside the main thread, where none arrive."""
    loop = asyncio.get_running_loop()
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    watched = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in watched}

    def stop(number: signal.Signals) -> None:
        if pool.cause is None:
            pool.stop(Interrupted(number, number.name))
        else:
            pool.stop(pool.cause, grace_s=0)
            pool.hurried = True
            restore()

    def restore() -> None:
        for number, handler in before.items():
            loop.remove_signal_handler(number)
            signal.signal(number, handler or signal.SIG_DFL)

    for number in watched:
        loop.add_signal_handler(number, stop, number)
    try:
        yield
    finally:
        restore()
