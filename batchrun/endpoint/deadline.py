"""The end of waiting for one attempt: one timer, however often the deadline moves, and fair to answers that have come.

A timer that fires late says that our own loop was stalled, not that the peer was slow: what arrived meanwhile is
still in the socket. Such a deadline waits a moment longer, so that the loop can read it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

_STALL_S = 0.1
_GRACE_S = 0.5


class Deadline:
    """`with Deadline(first_s=…, total_s=…) as deadline:` ends the block with TimeoutError when time is up.

    The first sign of life must come within `first_s`; each call of `moved(idle_s)` says that one came, and that the
    next one must come within `idle_s`. The whole block must end within `total_s`.
    """

    __slots__ = ("_due", "_end", "_expired", "_grace", "_handle", "_loop", "_task", "what")

    def __init__(self, *, first_s: float, total_s: float) -> None:
        self._loop = asyncio.get_running_loop()
        now = self._loop.time()
        self._end = now + total_s
        self._due = min(now + first_s, self._end)
        self._expired = False
        self._grace = False
        self.what = f"no answer began within {first_s:g} s" if first_s < total_s else f"no answer within {total_s:g} s"

    def moved(self, idle_s: float) -> None:
        """The peer has sent something; costs no timer."""
        due = self._loop.time() + idle_s
        if due < self._end:
            self._due, self.what = due, f"nothing came for {idle_s:g} s"
        else:
            self._due, self.what = self._end, "the answer took longer than timeouts.attempt_s"

    def __enter__(self) -> Self:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a deadline needs a task to end")
        self._task = task
        self._handle = self._loop.call_at(self._due, self._fire, self._due)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._handle.cancel()
        if self._expired and self._task.uncancel() == 0 and kind is asyncio.CancelledError:
            raise TimeoutError(self.what) from error

    def _fire(self, expected_at: float) -> None:
        now = self._loop.time()
        if now < self._due:
            self._handle = self._loop.call_at(self._due, self._fire, self._due)
        elif now - expected_at > _STALL_S and not self._grace:
            self._grace = True
            self._handle = self._loop.call_at(now + _GRACE_S, self._fire, now + _GRACE_S)
        else:
            self._expired = True
            self._task.cancel()
