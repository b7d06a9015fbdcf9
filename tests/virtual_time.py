"""An event loop whose clock jumps to the next timer when nothing is ready: an hour of pacing takes milliseconds."""

from __future__ import annotations

import asyncio
import selectors
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine

T = TypeVar("T")


class Deadlock(Exception):
    """Everybody waits, and nothing will ever happen."""


TURN_S = 1e-9


class _Selector(selectors.DefaultSelector):
    """Never waits: the time that it was to wait for passes at once. A turn of the loop takes a nanosecond."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout=None):
        ready = super().select(0)
        if not ready and timeout is None:
            raise Deadlock
        self.now += TURN_S + (0 if ready else timeout)
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop in virtual time, beginning at 0."""

    def __init__(self) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)

    def time(self) -> float:
        """Seconds since the loop was made, none of which anybody waited for."""
        return self._virtual.now


def run(coroutine: Coroutine[object, object, T]) -> T:
    """Run to the end in virtual time.

    Raises:
        Deadlock: everybody waits for something that never comes.
    """
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(coroutine)
