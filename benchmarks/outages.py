"""A server that is gone for a while in the middle of a run: what is lost, and how soon all is as before.

`python -m benchmarks.outages [SECONDS]` has three kinds of it: the server is silent (it is stopped, but connections
come about), it refuses connections, it answers 500 to everything. Without nginx only the first can be had.
"""

from __future__ import annotations

import sys
import time
from bisect import bisect_left
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from benchmarks import nginx
from benchmarks.limits import Run, run
from benchmarks.process import Figure
from benchmarks.simulated import Simulated, simulated
from benchmarks.work import CONCURRENCY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future

ANSWER_S = 0.3
SCENARIO = {"latency": {"ttft_s": ANSWER_S, "per_token_s": 0, "sigma": 0}}
BEFORE_S, AFTER_S = 8, 20
RAMP_S = 3
WINDOW_S = 3
AS_BEFORE = 0.9
MOST_RECOVERY_S = 10
POLL_S = 0.1


class Rig(NamedTuple):
    """What is asked, and how it fails and comes back."""

    endpoint: Simulated
    base_url: str
    fail: Callable[[], None]
    recover: Callable[[], None]


def silent(seconds: float = 20) -> list[Figure]:
    """The server's process stands still."""
    with simulated(SCENARIO) as endpoint:
        return _figures("silent", seconds, Rig(endpoint, endpoint.base_url, endpoint.freeze, endpoint.thaw))


def refusing(seconds: float = 20) -> list[Figure]:
    """Nobody listens, and what was in flight is cut off."""
    if not nginx.there():
        return []
    with _behind_nginx() as (endpoint, proxy):
        return _figures("refusing", seconds, Rig(endpoint, proxy.base_url, proxy.stop, proxy.start))


def failing(seconds: float = 20) -> list[Figure]:
    """Every request is answered with 500, at once."""
    if not nginx.there():
        return []
    with _behind_nginx() as (endpoint, proxy):
        return _figures("failing", seconds, Rig(endpoint, proxy.base_url, proxy.break_down, proxy.repair))


@contextmanager
def _behind_nginx() -> Iterator[tuple[Simulated, nginx.Nginx]]:
    with simulated(SCENARIO) as endpoint, nginx.standing_before(endpoint.address) as proxy:
        yield endpoint, proxy


def _figures(kind: str, seconds: float, rig: Rig) -> list[Figure]:
    rows = int((BEFORE_S + AFTER_S) * CONCURRENCY / ANSWER_S)
    with ThreadPoolExecutor() as thread:
        running = thread.submit(run, rig.base_url, rows)
        failed_at, recovered_at = _outage(seconds, rig, running)
    answers = [charge.at for charge in rig.endpoint.charges()]
    name = f"server {kind} for {seconds:g} s"
    ran = running.result()
    return [
        Figure(f"rows lost of {rows:,}, {name}", ran.lost, "", 0),
        Figure(f"back at 90 % of the speed, {name}", back_s(answers, failed_at, recovered_at), "s", MOST_RECOVERY_S),
        Figure(f"attempts that brought nothing, {name}", ran.summary["retries"]["attempts_wasted"], ""),
    ]


def _outage(seconds: float, rig: Rig, running: Future[Run]) -> tuple[float, float]:
    """Let it fail `BEFORE_S` after the first answer; when it failed and came back, in seconds since 1970."""
    while not rig.endpoint.totals()["charged"] and not running.done():
        time.sleep(POLL_S)
    time.sleep(BEFORE_S)
    failed_at = time.time()
    rig.fail()
    try:
        time.sleep(seconds)
    finally:
        recovered_at = time.time()
        rig.recover()
    return failed_at, recovered_at


def back_s(answers: list[float], failed_at: float, recovered_at: float) -> float:
    """Seconds from the recovery to the first three that bring nearly as many answers as those before the outage."""
    begin = failed_at - BEFORE_S + RAMP_S
    wanted = AS_BEFORE * WINDOW_S * sum(begin <= at < failed_at for at in answers) / (failed_at - begin)
    after = [at for at in answers if at >= recovered_at]
    for number, at in enumerate(after):
        if bisect_left(after, at + WINDOW_S) - number >= wanted:
            return at - recovered_at
    return max(AFTER_S, answers[-1] - recovered_at)  # or never


MEASUREMENTS = {"silent": silent, "refusing": refusing, "failing": failing}


def measure(seconds: float = 20) -> list[Figure]:
    """The quick form: the first kind only."""
    return silent(seconds)


if __name__ == "__main__":
    for measurement in MEASUREMENTS.values():
        for figure in measurement(*map(float, sys.argv[1:])):
            print(*figure)
