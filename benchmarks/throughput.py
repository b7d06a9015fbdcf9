"""What a request costs us: `batchrun run` against a bare aiohttp loop over the same prompts, in alternating pairs.

Only the ratios travel from machine to machine. The CPU time is that of the whole client process, from its start to its
end: checking the input, sending, keeping, sealing and the report are all in it.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from statistics import median

from benchmarks.process import Figure, Took, run, serving
from benchmarks.work import CONCURRENCY, batchrun_command, write_rows

MOST_CPU_RATIO = 1.6


def measure(rows: int = 20_000, pairs: int = 5) -> list[Figure]:
    pair_times: list[tuple[Took, Took]] = []
    with tempfile.TemporaryDirectory() as folder:
        prompts = Path(folder) / "prompts.jsonl"
        write_rows(prompts, rows)
        with serving() as server:
            for number in range(pairs):
                bare = run("benchmarks.bare", str(prompts), server.base_url, str(CONCURRENCY))
                ours = run(*batchrun_command(prompts, Path(folder) / f"out-{number}", server.base_url))
                pair_times.append((bare, ours))
    us = 1e6 / rows
    ratios = [ours.cpu_s / bare.cpu_s for bare, ours in pair_times]
    return [
        Figure("CPU per request, batchrun : bare loop", median(ratios), "x", MOST_CPU_RATIO),
        Figure("the same, lowest of the pairs", min(ratios), "x"),
        Figure("the same, highest of the pairs", max(ratios), "x"),
        Figure(
            "time per request, batchrun : bare loop",
            median(ours.wall_s / bare.wall_s for bare, ours in pair_times),
            "x",
        ),
        Figure("CPU per request, batchrun", median(ours.cpu_s for _, ours in pair_times) * us, "µs"),
        Figure("CPU per request, bare loop", median(bare.cpu_s for bare, _ in pair_times) * us, "µs"),
        Figure("CPU per request, server", server.took.cpu_s / pairs / 2 * us, "µs"),
        Figure("requests a second, batchrun", rows / median(ours.wall_s for _, ours in pair_times), ""),
        Figure("requests a second, bare loop", rows / median(bare.wall_s for bare, _ in pair_times), ""),
    ]


if __name__ == "__main__":
    for figure in measure(*map(int, sys.argv[1:])):
        print(*figure)
