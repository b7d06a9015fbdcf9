"""What `batchrun plan` costs a row and takes of memory, the whole command; and what counting with a tokenizer does."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from benchmarks.process import Figure, Took, run
from benchmarks.work import write_rows

MOST_PLAN_US = 25
MOST_GROWTH_MB_A_MILLION_ROWS = 100


def measure(rows: int = 200_000, tokenizer: str | None = None) -> list[Figure]:
    few = rows // 10
    with tempfile.TemporaryDirectory() as folder:
        small, large = planned(folder, few), planned(folder, rows)
        figures = [
            Figure(f"planning a row (`batchrun plan`), {rows:,} rows", large.cpu_s / rows * 1e6, "µs", MOST_PLAN_US),
            Figure(
                f"memory that planning {rows - few:,} more rows takes",
                large.peak_mb - small.peak_mb,
                "MB",
                max(MOST_GROWTH_MB_A_MILLION_ROWS * rows / 1e6, 10),
            ),
        ]
        if tokenizer:
            counted = planned(folder, rows, f"tokenizer={tokenizer}")
            figures += [
                Figure("CPU of counting a row's tokens, more", (counted.cpu_s - large.cpu_s) / rows * 1e6, "µs"),
                Figure("seconds that it takes, more", counted.wall_s - large.wall_s, "s"),
            ]
    return figures


def planned(folder: str, rows: int, *sets: str) -> Took:
    prompts = Path(folder) / f"{rows}.jsonl"
    if not prompts.exists():
        write_rows(prompts, rows)
    options = [word for one in ("endpoint.base_url=simulated", *sets) for word in ("--set", one)]
    out = Path(folder) / "out"
    return run("batchrun", "plan", str(prompts), "-m", "simulated/small", "-o", str(out), *options)


if __name__ == "__main__":
    for figure in measure(int(sys.argv[1]) if sys.argv[1:] else 200_000, *sys.argv[2:3]):
        print(*figure)
