"""What the check before the first request costs a row, and what it costs to skip a row that is done."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from batchrun.config import check_config
from batchrun.prompts import open_prompts
from batchrun.prompts.check import check
from batchrun.prompts.render import Renderer
from benchmarks.process import Figure, own_peak_mb
from benchmarks.work import write_rows

MOST_CHECK_US = 15


def measure(rows: int = 200_000) -> list[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "prompts.jsonl"
        write_rows(path, rows)
        renderer = Renderer(check_config({"input": str(path), "request": {"model": "m"}}))
        prompts = open_prompts(str(path))
        before_mb, started = own_peak_mb(), time.perf_counter()
        check(prompts, renderer)
        check_s, check_mb, started = time.perf_counter() - started, own_peak_mb() - before_mb, time.perf_counter()
        for _ in prompts.read(lambda _: True):
            pass
        skip_s = time.perf_counter() - started
    return [
        Figure("checking a row before the first request", check_s / rows * 1e6, "µs", MOST_CHECK_US),
        Figure("skipping a row that is done", skip_s / rows * 1e6, "µs"),
        Figure(f"memory that checking {rows:,} rows takes more", check_mb, "MB"),
    ]


if __name__ == "__main__":
    for figure in measure(*map(int, sys.argv[1:])):
        print(*figure)
