"""Whether the times that a run keeps are the server's: a thousand streams at once, row by row beside its own ledger.

A stream has ten tokens in about four seconds, so a thousand of them are 250 requests a second; at twice as many the
client binds on two busy cores, and what is measured is that. Both sides read the same clock; what a client measures
more is the way through the kernel, and the lag of its own loop and the server's.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from benchmarks.process import Figure, run, serving
from benchmarks.work import batchrun_command, write_rows

AT_ONCE = 1_000
MOST_MS = {50: 5, 99: 25}


def measure(rows: int = 10_000, at_once: int = AT_ONCE) -> list[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        prompts, out, ledger = Path(folder, "prompts.jsonl"), Path(folder, "out"), Path(folder, "ledger.json")
        write_rows(prompts, rows)
        with serving("timed", str(ledger)) as server:
            run(*batchrun_command(prompts, out, server.base_url, "-c", str(at_once), "--stream", "always"))
        ours = pq.read_table(out / "results", columns=["index", "ttft_s", "latency_s"]).sort_by("index")
        theirs = np.array(sorted(json.loads(ledger.read_text())))
        client = json.loads((out / "report" / "summary.json").read_text())["client"]
    figures = [Figure(f"{at_once:,} streams at once: loop lag p99", 1e3 * client["loop_lag_p99_s"], "ms")]
    for column, name in (("ttft_s", "time to first token"), ("latency_s", "latency")):
        apart_ms = 1e3 * np.abs(ours[column].to_numpy() - theirs[:, 1 if column == "ttft_s" else 2])
        for percent, most_ms in MOST_MS.items():
            most = None if client["client_bound"] else most_ms  # where it can't be so, the report says it
            what = f"{at_once:,} streams at once: {name}, batchrun and the server apart, p{percent}"
            figures.append(Figure(what, float(np.percentile(apart_ms, percent)), "ms", most))
    return figures


if __name__ == "__main__":
    for figure in measure(*map(int, sys.argv[1:])):
        print(*figure)
