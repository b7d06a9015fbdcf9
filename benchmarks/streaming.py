"""What a streamed request costs us: `batchrun run` against a bare aiohttp loop that reads the same bytes, unparsed.

An answer is 50 tokens, an event each, which arrive two milliseconds apart. As in `throughput` the CPU time is that of
the whole process, and everything is parsed, timed, kept and reported.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from statistics import median

from benchmarks.process import Figure, Took, run, serving
from benchmarks.work import CONCURRENCY, batchrun_command, write_rows

MOST_CPU_RATIO = 2.0


def measure(rows: int = 5_000, pairs: int = 5) -> list[Figure]:
    pair_times: list[tuple[Took, Took]] = []
    with tempfile.TemporaryDirectory() as folder:
        prompts = Path(folder) / "prompts.jsonl"
        write_rows(prompts, rows)
        with serving("stream") as server:
            for number in range(pairs):
                bare = run("benchmarks.bare", str(prompts), server.base_url, str(CONCURRENCY), "stream")
                out = Path(folder) / f"out-{number}"
                ours = run(*batchrun_command(prompts, out, server.base_url, "--stream", "always"))
                pair_times.append((bare, ours))
    us = 1e6 / rows
    ratios = [ours.cpu_s / bare.cpu_s for bare, ours in pair_times]
    return [
        Figure("CPU per streamed request, batchrun : bare loop", median(ratios), "x", MOST_CPU_RATIO),
        Figure("streamed, lowest of the pairs", min(ratios), "x"),
        Figure("streamed, highest of the pairs", max(ratios), "x"),
        Figure("CPU per streamed request, batchrun", median(ours.cpu_s for _, ours in pair_times) * us, "µs"),
        Figure("CPU per streamed request, bare loop", median(bare.cpu_s for bare, _ in pair_times) * us, "µs"),
        Figure("streamed requests a second, batchrun", rows / median(ours.wall_s for _, ours in pair_times), ""),
        Figure("streamed requests a second, bare loop", rows / median(bare.wall_s for bare, _ in pair_times), ""),
    ]


if __name__ == "__main__":
    for figure in measure(*map(int, sys.argv[1:])):
        print(*figure)
