"""What closing a stream early saves: the tokens that the simulated endpoint's own count says it generated.

The same prompts are asked twice, streamed both times; the second time each stream is closed after 60 characters.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

from benchmarks.process import Figure, run
from benchmarks.work import batchrun_command, write_rows

SCENARIO = {"latency": {"ttft_s": 0.02, "per_token_s": 0.005, "sigma": 0}, "answers": {"tokens": 200}}


def measure(rows: int = 100) -> list[Figure]:
    whole, _ = _generated(rows)
    stopped, kept = _generated(rows, "--set", "request.stop_stream={max_chars: 60}")
    return [
        Figure("completion tokens generated, streams read to their end", whole, ""),
        Figure("completion tokens generated, streams closed after 60 characters", stopped, ""),
        Figure("completion tokens generated, closed : read to the end", stopped / whole, "x"),
        Figure("completion tokens as batchrun estimated them : as generated", kept / stopped, "x"),
    ]


def _generated(rows: int, *options: str) -> tuple[int, int]:
    """The completion tokens of a run, by the endpoint's ledger and by the run's own report."""
    with tempfile.TemporaryDirectory() as folder:
        scenario, out = Path(folder, "scenario.yaml"), Path(folder, "out")
        scenario.write_text(json.dumps(SCENARIO))
        prompts = Path(folder, "prompts.jsonl")
        write_rows(prompts, rows)
        command = [sys.executable, "-m", "batchrun", "simulate", "--scenario", str(scenario), "--exit-with-stdin"]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
            base_url = server.stdout.readline().strip()
            run(*batchrun_command(prompts, out, base_url, "--stream", "always", *options))
            with urllib.request.urlopen(base_url.removesuffix("/v1") + "/ledger") as answer:
                generated = json.load(answer)["completion_tokens"]
            server.stdin.close()
        summary = json.loads((out / "report" / "summary.json").read_text())
        return generated, summary["tokens"]["completion_tokens"]


if __name__ == "__main__":
    for figure in measure(*map(int, sys.argv[1:])):
        print(*figure)
