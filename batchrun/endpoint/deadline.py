"""The end of waiting for one answer: one timer, however often the deadline moves, and fair to answers that have come.

A timer that fires late says that our own loop was stalled, not that the peer was slow: what arrived meanwhile is
still in the socket. Such a deadline waits a moment longer, so that the loop can read it.
"""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

_STALL_S = 0.1
_GRACE_S = 0.5
_MOST_GRACES = 20


class Deadline:
    """`with deadline:` ends the block with TimeoutError when time is up. It may be used again, with the same timer.

    Time runs from `start`, which says that a request is being sent. The first sign of life must come within `first_s`;
    each call of `moved(idle_s)` says that one came, and that the next one must come within `idle_s`. The whole answer
    must come within `total_s`.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.began_at = 0.0
        self._due = self._end = math.inf
        self._handle: asyncio.TimerHandle | None = None
        self._graces = 0
        self._expired = False

    def start(self, *, first_s: float, total_s: float) -> None:
        """A request is being sent."""
        self.began_at = self._loop.time()
        self._end, self._total_s = self.began_at + total_s, total_s
        self._wait(self.began_at, first_s, "no answer began within {:g} s")

    def moved(self, idle_s: float) -> None:
        """The peer has sent something; costs no timer unless the deadline comes nearer."""
        self._wait(self._loop.time(), idle_s, "nothing came for {:g} s")

    def close(self) -> None:
        """Let go of the timer."""
        if self._handle:
            self._handle.cancel()
            self._handle = None

    def _wait(self, now: float, seconds: float, why: str) -> None:
        due = now + seconds
        if due < self._end:
            self._due, self._why = due, (why, seconds)
        else:
            self._due, self._why = self._end, ("no whole answer within {:g} s", self._total_s)
        if self._handle is None or self._due < self._handle.when():
            self._set(self._due)

    def _set(self, at: float) -> None:
        self.close()
        self._handle = self._loop.call_at(at, self._fire, at)

    def _fire(self, expected_at: float) -> None:
        self._handle, now = None, self._loop.time()
        if self._due == math.inf:  # nobody waits
            return
        if now < self._due:
            self._set(self._due)
        elif now - expected_at > _STALL_S and self._graces < _MOST_GRACES:
            self._graces += 1
            self._due = now + _GRACE_S
            self._end = max(self._end, self._due)
            self._set(self._due)
        else:
            self._expired = True
            self._task.cancel()

    def __enter__(self) -> Self:
        task = asyncio.current_task(self._loop)
        if task is None:
            raise RuntimeError("a deadline needs a task to end")
        self._task, self._cancelling = task, task.cancelling()
        self._expired, self._graces = False, 0
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._due = self._end = math.inf  # the timer stays: the next request will be glad of it
        if self._expired and self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            why, seconds = self._why
            raise TimeoutError(why.format(seconds)) from error
