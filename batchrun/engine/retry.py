"""Which outcome is worth another try, and how long to wait before it. Pure: no clock, no state."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import msgspec

from batchrun.errors import Ambiguous, AnswerInvalid, EndpointError, EndpointUnusable, NotSent, Throttled

if TYPE_CHECKING:
    from batchrun.config import RetryConfig

TRANSIENT_BASE_S, THROTTLED_BASE_S, CAP_S = 0.5, 1.0, 60.0
_MOST_DOUBLINGS = 16
MOST_INVALID = 2
MOST_ALIKE = 3


class Tally(msgspec.Struct):
    """What one request has been through so far, by kind of outcome."""

    ambiguous: int = 0
    throttled: int = 0
    not_sent: int = 0
    invalid: int = 0
    too_long: int = 0
    alike: int = 0
    last_error: tuple[object, ...] = ()

    def note(self, error: tuple[object, ...]) -> None:
        """Count how often in a row the same has happened."""
        self.alike = self.alike + 1 if error == self.last_error else 1
        self.last_error = error


class Again(msgspec.Struct, frozen=True):
    """Try it again after a wait."""

    wait_s: float


class GiveUp(msgspec.Struct, frozen=True):
    """Another try cannot help, or none is left: the row fails."""


class EndRun(msgspec.Struct, frozen=True):
    """No row of this run can succeed."""


Verdict = Again | GiveUp | EndRun


def judge(error: EndpointError, tally: Tally, config: RetryConfig, *, any_succeeded: bool) -> Verdict:
    """What follows from an attempt's error; `tally` already counts it.

    A 404 ends the run only while no row has succeeded: afterwards it is one row's wrong model.
    """
    if isinstance(error, EndpointUnusable):
        return GiveUp() if any_succeeded and _may_be_one_rows(error) else EndRun()
    if isinstance(error, NotSent):
        return Again(backoff_s(tally.not_sent, TRANSIENT_BASE_S))
    if isinstance(error, Throttled):
        return _after_patience(error, tally, config)
    if isinstance(error, Ambiguous):
        return _after_doubt(error, tally, config)
    if isinstance(error, AnswerInvalid) and tally.invalid < MOST_INVALID:
        return Again(0.0)
    return GiveUp()


def backoff_s(times: int, base_s: float) -> float:
    """Full jitter: anything between nothing and `base_s` doubled for every time before, at most a minute."""
    return random.uniform(0, min(CAP_S, base_s * 2 ** min(times - 1, _MOST_DOUBLINGS)))


def _after_doubt(error: Ambiguous, tally: Tally, config: RetryConfig) -> Verdict:
    """The same broken answer three times over is the request's doing, and no bad moment."""
    floor_s = error.retry_after_s or 0.0
    hopeless = tally.alike >= MOST_ALIKE and error.error_type.startswith("response_")
    if hopeless or tally.ambiguous >= config.max_attempts or floor_s > config.max_wait_s:
        return GiveUp()
    return Again(floor_s + backoff_s(tally.ambiguous, TRANSIENT_BASE_S))


def _after_patience(error: Throttled, tally: Tally, config: RetryConfig) -> Verdict:
    """A Retry-After is a floor with the jitter on top of it; nobody waits for hours, but once for `max_wait_s`."""
    floor_s = error.retry_after_s or 0.0
    if floor_s > config.max_wait_s:
        tally.too_long += 1
        if tally.too_long > 1:
            error.error_type = "rate_limited"  # also for a 503: it is the wait that it fails for
            return GiveUp()
    return Again(min(floor_s, config.max_wait_s) + backoff_s(tally.throttled, THROTTLED_BASE_S))


def _may_be_one_rows(error: EndpointUnusable) -> bool:
    redirected = error.status_code is not None and 300 <= error.status_code < 400  # noqa: PLR2004
    return error.error_type == "not_found" and not redirected
