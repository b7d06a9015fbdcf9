"""What a request costs us: short answers at 64 in flight and at 1,000, and answers of 100 KB.

The short ones come at once, so that nothing but the client sets the pace; at 1,000 in flight each takes 100 ms, and the
server counts how many were really out.
"""

from __future__ import annotations

import sys

from benchmarks.pairs import Work, in_pairs
from benchmarks.process import Figure

MOST_CPU_RATIO, MOST_TIME_RATIO = 1.0, 1.0
MANY = 1_000


def measure(rows: int = 20_000, pairs: int = 5) -> list[Figure]:
    return [*short(rows, pairs), *many(rows, pairs), *large(rows // 4, pairs)]


def short(rows: int = 20_000, pairs: int = 5) -> list[Figure]:
    return in_pairs(Work(rows), pairs).figures("64 at once", MOST_CPU_RATIO, MOST_TIME_RATIO)


def many(rows: int = 20_000, pairs: int = 5) -> list[Figure]:
    done = in_pairs(Work(rows, MANY, server=["late"]), pairs)
    missed = abs(MANY - done.server.most_at_once)
    return [
        *done.figures("1,000 at once, 100 ms each", MOST_CPU_RATIO, MOST_TIME_RATIO),
        Figure("1,000 at once: places that were not used, or too many", missed, "", 0),
    ]


def large(rows: int = 5_000, pairs: int = 5) -> list[Figure]:
    return in_pairs(Work(rows, server=["large"]), pairs).figures("answers of 100 KB")


PARTS = {"short": short, "many": many, "large": large}

if __name__ == "__main__":
    part = PARTS.get("".join(sys.argv[1:2]))
    for figure in part(*map(int, sys.argv[2:])) if part else measure(*map(int, sys.argv[1:])):
        print(*figure)
