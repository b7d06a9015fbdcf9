"""Five thousand requests in flight for a minute: is a row lost, and does our own loop keep up?

An answer takes five seconds, so that five thousand at once are a thousand a second.
"""

from __future__ import annotations

import sys

from benchmarks.limits import run
from benchmarks.process import Figure, serving

AT_ONCE, ANSWER_S = 5_000, 5
MOST_LAG_MS = 50


def measure(seconds: int = 60, at_once: int = AT_ONCE) -> list[Figure]:
    rows = at_once * seconds // ANSWER_S
    with serving("late", str(1_000 * ANSWER_S)) as server:
        ran = run(server.base_url, rows, "-c", str(at_once))
    client = ran.summary["client"]
    most_lag_ms = None if client["client_bound"] else MOST_LAG_MS  # the report says that the client binds
    what = f"{at_once:,} at once"
    return [
        Figure(f"{what}: rows lost of {rows:,}", ran.lost, "", 0),
        Figure(f"{what}: loop lag p99", 1e3 * client["loop_lag_p99_s"], "ms", most_lag_ms),
        Figure(f"{what}: longest loop lag", 1e3 * client["loop_lag_max_s"], "ms"),
        Figure(f"{what}: places that were not used, or too many", abs(at_once - server.most_at_once), "", 0),
        Figure(f"{what}: time for them all", ran.wall_s, "s"),
    ]


if __name__ == "__main__":
    for figure in measure(*map(int, sys.argv[1:])):
        print(*figure)
