"""What a streamed request costs us: `batchrun run` against a bare aiohttp loop that reads the same bytes, unparsed.

An answer is 50 tokens, an event each, which arrive two milliseconds apart.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from benchmarks.pairs import Work, in_pairs

if TYPE_CHECKING:
    from benchmarks.process import Figure


MOST_CPU_RATIO = 1.5


def measure(rows: int = 5_000, pairs: int = 5) -> list[Figure]:
    work = Work(rows, server=["stream"], ours=["--stream", "always"])
    return in_pairs(work, pairs).figures("streams of 50 tokens", MOST_CPU_RATIO)


if __name__ == "__main__":
    for figure in measure(*map(int, sys.argv[1:])):
        print(*figure)
