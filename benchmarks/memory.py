"""Whether the configuration bounds memory: the peak of `batchrun run` over few rows and a hundred times as many."""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks.process import Figure, run, serving
from benchmarks.work import batchrun_command, write_rows

MOST_GROWTH_MB = 60


def measure(few: int = 10_000) -> list[Figure]:
    many = 100 * few
    few_mb, many_mb = (peak_mb(rows) for rows in (few, many))
    return [
        Figure(f"peak memory, {few:,} rows", few_mb, "MB"),
        Figure(f"peak memory, {many:,} rows", many_mb, "MB"),
        Figure("memory that a hundred times the rows take more", many_mb - few_mb, "MB", MOST_GROWTH_MB),
    ]


def peak_mb(rows: int) -> float:
    with tempfile.TemporaryDirectory() as folder, serving() as server:
        prompts = Path(folder) / "prompts.jsonl"
        write_rows(prompts, rows)
        return run(*batchrun_command(prompts, Path(folder) / "out", server.base_url)).peak_mb


if __name__ == "__main__":
    for figure in measure():
        print(*figure)
